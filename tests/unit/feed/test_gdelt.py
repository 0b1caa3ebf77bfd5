"""GDELT's files: the columns that are used, and what is not an article."""

import gzip
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from crosswind.errors import DataError, Reason
from crosswind.stream.domain.contract import RawNews, decode_raw
from crosswind.stream.feed.gdelt import COLUMNS, read_gdelt
from crosswind.stream.feed.rows import BadRow

TITLE = "<PAGE_LINKS>x</PAGE_LINKS><PAGE_TITLE>Bank &amp; Co f&#xE4;llt</PAGE_TITLE>"


def _line(**cells: str) -> bytes:
    row = {
        0: "20261106061500-T12", 1: "20261106061500", 3: "zeitung.example", 4: "https://zeitung.example/1",
        13: "acme;bolt;acme", 25: "srclc:deu;eng:GT-DEU 1.0", 26: TITLE,
    }  # fmt: skip
    row |= {int(place[1:]): value for place, value in cells.items()}
    return "\t".join(row.get(place, "") for place in range(COLUMNS)).encode()


@pytest.mark.parametrize("name", ["f.csv", "f.gz", "f.zip"])
def test_article_of_each_packing(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "f.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("f.csv", _line() + b"\n")
    else:
        path.write_bytes(gzip.compress(_line()) if name == "f.gz" else _line())
    (row,) = read_gdelt(path)
    assert decode_raw(row.value, 10_000) == RawNews(
        source="zeitung.example",
        title="Bank & Co fällt",
        published_at=datetime(2026, 11, 6, 6, 15, tzinfo=UTC),
        id="20261106061500-T12",
        url="https://zeitung.example/1",
        lang="de",
        entities=["acme", "bolt"],
    )


@pytest.mark.parametrize(
    ("translation", "lang"), [("", "en"), ("srclc:fra;eng:x", "fr"), ("srclc:glg;eng:x", None), ("odd", None)]
)
def test_language(tmp_path: Path, translation: str, lang: str | None) -> None:
    (tmp_path / "f.csv").write_bytes(_line(c25=translation))
    (row,) = read_gdelt(tmp_path / "f.csv")
    assert decode_raw(row.value, 10_000).lang == lang


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"one\ttwo", Reason.BAD_ROW),
        (_line(c26=""), Reason.EMPTY_TEXT),
        (_line(c1="20261399000000"), Reason.BAD_FIELD),
    ],
)
def test_what_is_no_article(tmp_path: Path, line: bytes, reason: Reason) -> None:
    (tmp_path / "f.csv").write_bytes(b"\n".join((_line(), line, _line())))
    _, bad, _ = read_gdelt(tmp_path / "f.csv")
    assert isinstance(bad, BadRow)
    assert (bad.line, bad.value, bad.error.reason) == (2, line, reason)


def test_bytes_that_are_not_utf8_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_bytes(_line().replace(b"Bank", b"B\xe4nk"))
    (row,) = read_gdelt(tmp_path / "f.csv")
    assert decode_raw(row.value, 10_000).title.startswith("B\ufffdnk")


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f.zip").write_bytes(b"not a zip")
    with pytest.raises(DataError, match="GKG"):
        list(read_gdelt(tmp_path / "f.zip"))
