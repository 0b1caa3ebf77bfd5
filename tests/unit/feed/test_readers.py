"""Readers keep every row: an article, or what was wrong with it and where."""

import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import DataError, Reason
from crosswind.stream.domain.contract import RawNews, decode_raw, encode
from crosswind.stream.feed import readers
from crosswind.stream.feed.readers import count_rows, read
from crosswind.stream.feed.rows import MAX_KEY, AnyRow, BadRow, Row, from_line

GOOD = b'{"source":"wire","title":"Profit rises","published_at":"2026-03-02T09:00:00Z"}'
AT = datetime(2026, 3, 2, 9, tzinfo=UTC)


def _read(path: Path, content: bytes) -> list[AnyRow]:
    path.write_bytes(content)
    return list(read(path))


def test_jsonl_keeps_the_original_bytes(tmp_path: Path) -> None:
    odd = b'{ "published_at":"2026-03-02T10:00:00+01:00", "title":"\\u0050rofit", "source":"w", "extra":[1] }'
    rows = _read(tmp_path / "f.jsonl", GOOD + b"\r\n\n" + odd)
    assert rows == [Row(1, GOOD, b"wire", AT), Row(3, odd, b"w", AT)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", Reason.BAD_JSON),
        (b"null", Reason.BAD_FIELD),
        (b"\xff", Reason.BAD_UTF8),
        (b"{}", Reason.MISSING_FIELD),
        (GOOD.replace(b"Z", b""), Reason.BAD_FIELD),
        (GOOD.replace(b"{", b'{"v":2,'), Reason.UNKNOWN_VERSION),
        (GOOD.replace(b"2026-03-02", b"0001-01-01").replace(b"Z", b"+20:00"), Reason.BAD_FIELD),
    ],
)
def test_bad_json_line_is_reported_with_its_line_and_goes_on_as_it_is(
    tmp_path: Path, line: bytes, reason: Reason
) -> None:
    first, bad, last = _read(tmp_path / "f.ndjson", b"\n".join((GOOD, line, GOOD)))
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.value, bad.error.reason, bad.is_message) == (2, line, reason, True)


def test_packed_file_is_unpacked_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl.gz"
    assert _read(path, gzip.compress(GOOD + b"\n" + GOOD)) == [Row(1, GOOD, b"wire", AT), Row(2, GOOD, b"wire", AT)]
    assert count_rows(path) == 2


def test_damaged_gzip_says_so_after_the_rows_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(gzip.compress(GOOD + b"\n")[:-6])
    with pytest.raises(DataError, match="is it complete"):
        list(read(path))


def test_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    assert _read(tmp_path / "f.jsonl", b"\xef\xbb\xbf" + GOOD) == [Row(1, GOOD, b"wire", AT)]


@pytest.mark.parametrize("content", [gzip.compress(GOOD + b"\n")[:-6], b"no gzip"])
def test_damaged_file_is_not_counted(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "f.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is it complete"):
        count_rows(path)


def test_endless_line_is_counted_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class File(io.BytesIO):
        def readline(self, size: int | None = -1) -> bytes:
            asked.append(size or -1)
            return super().readline(size)

    monkeypatch.setattr(readers, "open_binary", lambda path: File(b"x" * 1000 + b"\n\n" + GOOD))
    (tmp_path / "f.jsonl").touch()
    assert count_rows(tmp_path / "f.jsonl") == 2
    assert set(asked) == {readers.MAX_LINE}


@pytest.mark.parametrize("name", ["f.txt", "f.parquet.gz", "f"])
def test_unknown_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(DataError, match="unknown kind"):
        read(tmp_path / name)


def test_missing_file_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a file"):
        read(tmp_path / "f.jsonl")


def test_endless_line_is_cut_and_its_follower_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "MAX_LINE", 200)
    long, after = _read(tmp_path / "f.jsonl", b"x" * 1000 + b"\n" + GOOD)
    assert len(long.value) == 200
    assert after == Row(2, GOOD, b"wire", AT)


def test_key_is_the_id_and_bounded() -> None:
    news = RawNews(source="w", title="t", published_at=AT, id="i" * 1000)
    row = from_line(1, encode(news))
    assert isinstance(row, Row)
    assert row.key == b"i" * MAX_KEY


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
articles = st.builds(
    RawNews,
    source=texts,
    title=texts,
    published_at=st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)),
    id=st.none() | texts,
    url=st.none() | texts,
    body=st.none() | texts,
    lang=st.none() | texts,
    entities=st.lists(texts, max_size=3),
)


@given(articles)
def test_any_article_survives_jsonl(news: RawNews) -> None:
    value = encode(news)
    row = from_line(7, value)
    assert isinstance(row, Row)
    assert (row.value, row.at) == (value, news.published_at)
    assert decode_raw(row.value, 10_000) == news


@given(st.binary(max_size=80))
def test_any_bytes_give_a_row(value: bytes) -> None:
    assert from_line(1, value).value == value


def test_csv_of_all_columns(tmp_path: Path) -> None:
    content = (
        "\ufefftitle,source,published_at,entities,body,ignored\r\n"
        '"Profit, at last",wire,2026-03-02T09:00:00Z,Acme| Bolt ,"two\nlines",x\r\n'
        "Next,wire,2026-03-02T09:00:00Z,,,\r\n"
    )
    first, second = _read(tmp_path / "f.csv", content.encode())
    assert decode_raw(first.value, 1000) == RawNews(
        source="wire", title="Profit, at last", published_at=AT, entities=["Acme", "Bolt"], body="two\nlines"
    )
    assert (first.line, second.line) == (2, 4)
    assert decode_raw(second.value, 1000) == RawNews(source="wire", title="Next", published_at=AT)


def test_byte_order_mark_before_a_quoted_column_name_is_no_part_of_it(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf"title","source","published_at"\r\n"\xef\xbb\xbfProfit","wire","2026-03-02T09:00:00Z"\r\n'
    (row,) = _read(tmp_path / "f.csv", content)
    assert isinstance(row, Row)
    assert decode_raw(row.value, 1000) == RawNews(source="wire", title="\ufeffProfit", published_at=AT)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a,b", Reason.BAD_ROW),
        (b"a,b,2026-03-02T09:00:00Z,more", Reason.BAD_ROW),
        (b'"a"x,b,2026-03-02T09:00:00Z', Reason.BAD_ROW),
        (b"a,\xff,2026-03-02T09:00:00Z", Reason.BAD_UTF8),
        (b"a,b,yesterday", Reason.BAD_FIELD),
        (b"a,b,2026-03-02T09:00:00", Reason.BAD_FIELD),
        (b"a,,2026-03-02T09:00:00Z", Reason.MISSING_FIELD),
    ],
)
def test_bad_csv_row_is_kept_as_it_was(tmp_path: Path, line: bytes, reason: Reason) -> None:
    good = b"wire,Profit,2026-03-02T09:00:00Z"
    first, bad, last = _read(tmp_path / "f.csv", b"\n".join((b"source,title,published_at", good, line, good)))
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.value, bad.error.reason, bad.is_message) == (3, line, reason, False)


@pytest.mark.parametrize("header", [b"", b"source,title\n"])
def test_csv_without_the_columns_is_refused(tmp_path: Path, header: bytes) -> None:
    with pytest.raises(DataError, match="no column"):
        _read(tmp_path / "f.csv", header)


def _parquet(path: Path, **columns: pa.Array) -> list[AnyRow]:
    pq.write_table(pa.table(columns), path)
    return list(read(path))


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    rows = _parquet(
        path,
        source=pa.array(["wire", None]),
        title=pa.array(["Profit", "Loss"]),
        published_at=pa.array([AT, AT], pa.timestamp("us", tz="UTC")),
        entities=pa.array([["Acme"], None]),
    )
    good, bad = rows
    assert decode_raw(good.value, 1000) == RawNews(source="wire", title="Profit", published_at=AT, entities=["Acme"])
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.error.reason, json.loads(bad.value)["title"]) == (2, Reason.MISSING_FIELD, "Loss")
    assert count_rows(path) == 2


def test_parquet_with_text_times(tmp_path: Path) -> None:
    (row,) = _parquet(
        tmp_path / "f.parquet",
        source=pa.array(["w"]), title=pa.array(["t"]), published_at=pa.array(["2026-03-02T09:00:00Z"]),
    )  # fmt: skip
    assert isinstance(row, Row)
    assert row.at == AT


@pytest.mark.parametrize(
    ("unit", "value", "at"),
    [
        ("ns", 1_772_442_000_000_000_999, AT),
        ("us", 1_772_442_000_000_000, AT),
        ("ms", -1, datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)),
        ("s", 1_772_442_000, AT),
        ("ms", 10**17, None),
        ("us", -(2**62), None),
    ],
)
def test_parquet_times_of_every_unit(tmp_path: Path, unit: str, value: int, at: datetime | None) -> None:
    times = pa.array([value, 0], pa.timestamp(unit, tz="Europe/Berlin"))
    row, after = _parquet(
        tmp_path / "f.parquet", source=pa.array(["w", "w"]), title=pa.array(["t", "t"]), published_at=times
    )
    assert isinstance(after, Row)
    if at is not None:
        assert isinstance(row, Row)
        assert row.at == at
    else:
        assert isinstance(row, BadRow)
        assert (row.error.reason, json.loads(row.value)["published_at"]) == (Reason.BAD_FIELD, value)


def test_parquet_without_time_zone_is_refused(tmp_path: Path) -> None:
    times = pa.array([datetime(2026, 3, 2)], pa.timestamp("us"))
    with pytest.raises(DataError, match="time zone"):
        _parquet(tmp_path / "f.parquet", source=pa.array(["w"]), title=pa.array(["t"]), published_at=times)


def test_what_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        _read(tmp_path / "f.parquet", b"not parquet")
