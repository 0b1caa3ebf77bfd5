import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.errors import DataError
from crosswind.models import prepare
from crosswind.models.duplicates import fold
from crosswind.models.rows import Row

RECORDS = [{"headline": f"Firm {chr(65 + i % 26)}{chr(97 + i // 26)} tells about item {'xyz'[i % 3] * (i % 7 + 1)}",
            "tone": ("good", "bad")[i % 2], "lang": "en" if i % 4 else "de"} for i in range(200)]  # fmt: skip


@pytest.mark.parametrize(
    ("dirty", "expected"),
    [
        ("<b>Profit</b>&nbsp;rises&amp;falls", "Profit rises&falls"),
        ("A\u200b  B\n C\ufeff", "A B C"),
        ("Cafe\u0301 opens", "Café opens"),
        ("(Reuters) - Oil falls", "Oil falls"),
        ("Oil falls. Read more »", "Oil falls."),
        ("x < y and y > z", "x < y and y > z"),
        ("<script>alert(1)</script>News", "News"),
    ],
)
def test_cleaning(dirty: str, expected: str) -> None:
    assert prepare.clean(dirty) == expected


@pytest.mark.parametrize("joined", ["می\u200cخواهد", "क्\u200dष"])
def test_joiners_that_shape_words_stay(joined: str) -> None:
    assert prepare.clean(joined) == joined


@given(st.text(max_size=80))
@settings(deadline=None)
def test_cleaned_text_has_single_spaces_and_no_ends(text: str) -> None:
    cleaned = prepare.clean(text)
    assert cleaned == " ".join(cleaned.split())


def write(folder: Path, kind: str) -> Path:
    path = folder / f"news.{kind}"
    lines = "".join(json.dumps(r) + "\n" for r in RECORDS)
    table = "headline,tone,lang\n" + "".join(f"{r['headline']},{r['tone']},{r['lang']}\n" for r in RECORDS)
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), path)
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress(lines.encode()))
    else:
        path.write_text({"jsonl": lines, "csv": table, "tsv": table.replace(",", "\t")}[kind], encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    mapping, labels = {"text": "headline", "sentiment": "tone"}, {"good": "positive", "bad": "negative"}
    rows = list(prepare.to_rows(prepare.read_table(write(tmp_path, kind)), mapping, {"source": "mine"}, labels))
    assert [r.text for r in rows] == [r["headline"] for r in RECORDS]
    assert {r.sentiment for r in rows} == {"positive", "negative"}
    assert {r.source for r in rows} == {"mine"}


@pytest.mark.parametrize(("name", "content"), [("x.jsonl", "{"), ("x.xls", ""), ("absent.csv", None)])
def test_an_unreadable_file_is_a_data_error(tmp_path: Path, name: str, content: str | None) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError):
        list(prepare.read_table(tmp_path / name))


@pytest.mark.parametrize(
    ("mapping", "match"), [({"text": "title"}, "no column"), ({"mood": "tone"}, "cannot map"), ({}, "no language")]
)
def test_a_wrong_mapping_is_a_data_error(mapping: dict[str, str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        list(prepare.to_rows([{"text": "News", "tone": "good"}], mapping))


def row(text: str, sentiment: str | None = "positive", lang: str = "en") -> Row:
    return Row(text=text, lang=lang, source="s", sentiment=sentiment, group=fold(text))


def test_conflicts_and_duplicates_are_dropped_and_counted() -> None:
    rows = [row("Profit rises 3 %"), row("PROFIT RISES 4 %"), row("Sales fall"), row("Sales fall!", "negative")]
    prepared = prepare.prepare(rows, (1, 0, 0))
    assert [r.text for r in prepared.parts["train"]] == ["Profit rises 3 %"]
    assert prepared.counts["dropped: conflicting labels"] == 2
    assert prepared.counts["dropped: exact duplicates"] == 1


@given(st.lists(st.tuples(st.text("abc ", min_size=3, max_size=30), st.sampled_from(["positive", "negative", None])),
                min_size=1, max_size=60), st.integers(0, 5))  # fmt: skip
@settings(deadline=None)
def test_no_group_is_in_two_parts(texts: list[tuple[str, str | None]], seed: int) -> None:
    rows = [row(t, s) for t, s in texts]
    try:
        prepared = prepare.prepare(rows, seed=seed)
    except DataError:
        return
    groups = [{r.group for r in part} for part in prepared.parts.values()]
    assert len(set().union(*groups)) == sum(len(g) for g in groups)
    kept = sum(len(part) for part in prepared.parts.values())
    assert kept + sum(n for step, n in prepared.counts.items() if step.startswith("dropped")) == len(rows)


def test_the_split_keeps_the_shares_of_languages_and_labels() -> None:
    rows = [row(chr(97 + i % 26) * 3 + chr(97 + i // 26) * 4, ("positive", "negative")[i % 2], "de" if i % 4 else "en")
            for i in range(400)]  # fmt: skip
    parts = prepare._deal(rows, (0.8, 0.1, 0.1), __import__("random").Random(0))
    assert [len(p) for p in parts.values()] == [320, 40, 40]
    for part in parts.values():
        assert sum(r.lang == "en" for r in part) == pytest.approx(len(part) / 4, abs=2)


def test_shares_must_add_up() -> None:
    with pytest.raises(DataError, match="add up"):
        prepare.prepare([row("x")], (0.5, 0.1, 0.1))


def test_what_is_written_reads_back_and_has_a_card(tmp_path: Path) -> None:
    rows = list(prepare.to_rows(RECORDS, {"text": "headline", "sentiment": "tone"}))
    prepared = prepare.prepare(rows)
    prepare.write(prepared, tmp_path, "CC0")
    again = prepare.read_prepared(tmp_path / "train.jsonl")
    assert [(r.text, r.sentiment, r.lang) for r in again] == [
        (r.text, r.sentiment, r.lang) for r in prepared.parts["train"]
    ]
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "Licence: CC0" in card
    assert "| de |" in card
