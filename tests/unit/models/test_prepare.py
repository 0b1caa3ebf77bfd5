import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from crosswind.errors import CrosswindError, DataError, SettingsError
from crosswind.models import dataset, prepare
from crosswind.models.cli import app
from crosswind.models.duplicates import fold
from crosswind.models.inputs import Inputs
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
        ("&lt;p&gt;Profit rises&lt;/p&gt;", "Profit rises"),
        ("&lt;a href=&quot;/x&quot;&gt;Profit&lt;/a&gt;<BR/>rises", "Profit rises"),
        ("EPS<Peer average but P/E>20", "EPS<Peer average but P/E>20"),
        ("Margin A<B and C>D", "Margin A<B and C>D"),
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


def test_a_broken_parquet_file_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(DataError, match=r"x\.parquet cannot be read to its end"):
        list(prepare.read_table(tmp_path / "x.parquet"))


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("damage", ["cut", "altered", "no gzip"])
def test_a_damaged_gzip_file_is_a_data_error(tmp_path: Path, kind: str, damage: str) -> None:
    plain = b"".join(b'{"text": "a%d", "lang": "en"}\n' % i for i in range(5000))
    packed = gzip.compress(plain if kind == "jsonl" else b"text,lang\n" + b"a,en\n" * 9000)
    path = tmp_path / f"x.{kind}.gz"
    damaged = {"cut": packed[: len(packed) // 2], "altered": packed[:10] + b"\xff" * 99, "no gzip": plain}
    path.write_bytes(damaged[damage])
    with pytest.raises(DataError, match=rf"x\.{kind}\.gz cannot be read to its end: .*complete"):
        list(prepare.read_table(path))


@pytest.mark.parametrize(
    ("mapping", "match"), [({"text": "title"}, "no column"), ({"mood": "tone"}, "cannot map"), ({}, "no language")]
)
def test_a_wrong_mapping_is_a_data_error(mapping: dict[str, str], match: str) -> None:
    with pytest.raises(DataError, match=match):
        list(prepare.to_rows([{"text": "News", "tone": "good"}], mapping))


def test_a_csv_row_longer_than_its_head_does_not_hide_which_column_is_missing(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text,lang\nNews,en,more\n", encoding="utf-8")
    with pytest.raises(DataError, match="no column"):
        list(prepare.to_rows(prepare.read_table(tmp_path / "x.csv"), {"text": "title"}))


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
    with pytest.raises(DataError, match="add up"):
        prepare.prepare([row("x")], (float("nan"), 0.5, 0.5))


def test_what_is_written_reads_back_and_has_a_card(tmp_path: Path) -> None:
    labels = {"good": "positive", "bad": "negative"}
    rows = list(prepare.to_rows(RECORDS, {"text": "headline", "sentiment": "tone"}, labels=labels))
    prepared = prepare.prepare(rows)
    prepare.write(prepared, tmp_path, "CC0")
    again = prepare.read_prepared(tmp_path / "train.jsonl")
    assert [(r.text, r.sentiment, r.lang) for r in again] == [
        (r.text, r.sentiment, r.lang) for r in prepared.parts["train"]
    ]
    card = (tmp_path / "card.md").read_text(encoding="utf-8")
    assert "Licence: CC0" in card
    assert "| de |" in card


def run(*arguments: str | Path) -> str:
    """What a command prints; errors of ours are raised, and anything else too."""
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    if found.exception:
        raise found.exception
    return found.output


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    path = tmp_path / "in.csv"
    lines = [f"bank profit {chr(97 + i) * 5} rises,en,{'positive' if i % 2 else 'gut'}\n" for i in range(20)]
    path.write_text("text,lang,sentiment\n" + "".join(lines), encoding="utf-8")
    return path


def test_a_label_that_is_not_in_the_taxonomy_ends_prepare_unless_it_is_mapped(labelled: Path, tmp_path: Path) -> None:
    said = r"row 1: sentiment 'gut' is not among positive, neutral, negative; .* --label 'gut='"
    with pytest.raises(DataError, match=said):
        run("data", "prepare", labelled, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "| negative |" in run("data", "prepare", labelled, "--out", tmp_path / "out", "--label", "gut=negative")
    run("data", "prepare", labelled, "--out", tmp_path / "out", "--label", "gut=")
    parts = [tmp_path / f"out/{part}.jsonl" for part in ("train", "validation", "test")]
    again = [r for path in parts for r in prepare.read_prepared(path)]
    assert {r.sentiment for r in again} == {"positive", None}


def test_a_label_that_is_not_in_the_taxonomy_is_named_with_its_file_and_row(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"text": "News", "lang": "en", "topic": topic}) + "\n"
                            for topic in (None, "other", "weather")), encoding="utf-8")  # fmt: skip
    with pytest.raises(DataError, match=r"own\.jsonl: row 3: topic 'weather' is not among .*other"):
        prepare.read_prepared(path)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (("data", "prepare", "IN", "--out", "OUT", "--shares", "a,b,c"), DataError, "--shares 'a,b,c': expected"),
        (("train", "--out", "OUT", "--cap", "demo=many"), DataError, "--cap 'demo=many': expected KEY=NUMBER"),
        (("train", "--out", "OUT", "--cap", "demo=-1"), DataError, "--cap 'demo=-1': expected KEY=NUMBER"),
        (("evaluate", "--data", "IN", "--by", "nonsense"), SettingsError, "--by nonsense: expected lang or source"),
    ],
)
def test_an_option_that_cannot_be_is_an_error_of_ours(
    labelled: Path, tmp_path: Path, arguments: tuple[str, ...], error: type[CrosswindError], match: str
) -> None:
    paths = {"IN": labelled, "OUT": tmp_path / "out"}
    with pytest.raises(error, match=match):
        run(*(paths.get(a, a) for a in arguments))


def test_a_file_without_the_column_of_the_text_is_an_error_not_no_rows(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("headline,tone,lang\nBank fails,negative,en\n", encoding="utf-8")
    said = r"own\.csv: row 1: no column \['text'\]; the file has \['headline', 'lang', 'tone'\].*--map text=COLUMN"
    with pytest.raises(DataError, match=said):
        Inputs(None, extra=(own,)).own_rows()
    with pytest.raises(DataError, match="no column"):
        run("evaluate", "--data", own)
    with pytest.raises(DataError, match="no column"):
        run("data", "prepare", own, "--out", tmp_path / "out")
    rows = prepare.to_rows([{"text": "News", "lang": "en"}, {"lang": "en"}], {})
    assert len(list(rows)) == 1, "a later row may lack it"


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "own.csv"
    own.write_text("text,lang\n,en\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.csv: there are no rows with text"):
        Inputs(None, extra=(own,)).own_rows()
    with pytest.raises(DataError, match="nothing to measure"):
        run("evaluate", "--data", own)


def test_languages_are_those_of_the_feed_and_leak_under_no_other_name() -> None:
    rows = list(prepare.to_rows([{"text": "Bank fails to pay", "lang": tag} for tag in ("EN", "en-US", "zh_Hans")], {}))
    assert [r.lang for r in rows] == ["en", "en", "zh"]
    held_out = row("Bank fails to pay")
    assert dataset.without_leaks({"train": rows[:2], "validation": [], "test": [held_out]}).train == []
    with pytest.raises(DataError, match="row 1: 'English' is no language; expected a tag"):
        list(prepare.to_rows([{"text": "News", "lang": "English"}], {}))


def test_rows_of_one_text_give_their_labels_together() -> None:
    text = "Bank fails to pay its bonds"
    one_per_task = [{"text": text, "lang": "en", task: label}
                    for task, label in (("topic", "credit"), ("sentiment", "negative"))]  # fmt: skip
    prepared = prepare.prepare(prepare.to_rows(one_per_task, {}), (1, 0, 0))
    assert [(r.topic, r.sentiment) for r in prepared.parts["train"]] == [("credit", "negative")]
    against = [*one_per_task, {"text": text, "lang": "en", "topic": "rates"}]
    with pytest.raises(DataError, match="no row is left"):
        prepare.prepare(prepare.to_rows(against, {}), (1, 0, 0))
