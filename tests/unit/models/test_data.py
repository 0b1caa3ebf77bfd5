import gzip
import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.errors import DataError
from crosswind.models import dataset, duplicates, sources
from crosswind.models.rows import Row


def write_source(folder: Path, name: str, records: list[dict[str, object]]) -> None:
    (folder / "train").mkdir(exist_ok=True)
    with gzip.open(folder / f"train/{name}.jsonl.gz", "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)


def record(text: str, sentiment: str, split: str | None = None) -> dict[str, object]:
    return {"id": text, "lang": "en", "text": text, "sentiment": sentiment, "split": split}


SOURCE = sources.Source("demo", ("en",), "MIT", "financial", 1.0, 100, held_out=True)


def test_conflicting_labels_are_dropped_and_repeats_kept_once(tmp_path: Path) -> None:
    write_source(tmp_path, "demo", [record("A  b", "positive"), record("A b", "negative"), record("C", "neutral"),
                                    record("C", "neutral")])  # fmt: skip
    parts = sources.read_source(SOURCE, tmp_path)
    assert [r.text for part in parts.values() for r in part] == ["C"]


def test_the_publishers_held_out_part_is_the_test(tmp_path: Path) -> None:
    records = [record(f"headline {i}", "neutral", "valid" if i % 5 == 0 else "train") for i in range(100)]
    write_source(tmp_path, "demo", records)
    parts = sources.read_source(SOURCE, tmp_path)
    assert {r.text for r in parts["test"]} == {str(r["text"]) for r in records if r["split"] == "valid"}
    assert 0 < len(parts["validation"]) < 20


def test_without_a_published_split_a_tenth_each_is_held_out(tmp_path: Path) -> None:
    write_source(tmp_path, "demo", [record(f"headline {i}", "neutral") for i in range(1000)])
    parts = sources.read_source(SOURCE, tmp_path)
    assert 60 < len(parts["test"]) < 140
    assert 60 < len(parts["validation"]) < 140
    assert parts == sources.read_source(SOURCE, tmp_path)


def test_a_missing_file_says_where_to_point(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="--data"):
        sources.read_source(SOURCE, tmp_path)


def test_no_source_is_non_commercial() -> None:
    for source in sources.SOURCES:
        assert "NC" not in source.licence
        assert source.name not in sources.NON_COMMERCIAL
        assert "benchmark" not in source.file


@pytest.mark.parametrize(
    "other", ["Siemens HEBT Prognose an", "Siemens hebt Prognose an!", "Siemens hebt Prognose 7 an"]
)
def test_case_figures_and_punctuation_do_not_hide_a_duplicate(other: str) -> None:
    assert duplicates.near_duplicates([other], ["Siemens hebt Prognose an"]) == {0}


def test_a_long_text_with_one_word_changed_is_a_near_duplicate() -> None:
    text = "The central bank of Norland kept its key rate unchanged on Thursday after four increases in a row this year"
    assert duplicates.near_duplicates([text.replace("Thursday", "Tuesday")], [text]) == {0}


@pytest.mark.parametrize("seed", range(3))
def test_nearly_all_near_duplicates_are_found(seed: int) -> None:
    rng = random.Random(seed)
    words = ["".join(rng.choices("abcdefghijklmnoprstuvwy", k=rng.randint(2, 9))) for _ in range(900)]
    pairs: list[tuple[str, str]] = []
    while len(pairs) < 400:
        told = rng.choices(words, k=14)
        at = rng.randrange(14)
        again = [*told[:at], rng.choice(words), *told[at + 1 :]]
        pair = " ".join(told), " ".join(again)
        if pair[0] != pair[1] and duplicates.similarity(*pair) >= 0.8:
            pairs.append(pair)
    found = sum(bool(duplicates.near_duplicates([one], [other])) for one, other in pairs)
    assert found >= 0.98 * len(pairs)


@pytest.mark.parametrize(
    ("one", "other"), [("टाटा ने शेयर बेचे", "टाटा ने शेयर बचे"), ("ราคาข้าวขึ้น", "ราคาขาวขน"), ("कि", "की")]
)
def test_vowel_signs_tell_words_apart(one: str, other: str) -> None:
    assert duplicates.fold(one) != duplicates.fold(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("BİRLİK 3", "birlik"), ("جداً", "جدا"), ("שָׁלוֹם", "שלום"), ("Oil up 📈\ufe0f", "OIL UP"),
     ("1\ufe0f\u20e3 oil", "oil"), ("Cafe\u0301", "CAFÉ"), ("टाटा ने 5 शेयर बेचे। https://x.in/टा", "टाटा ने शेयर बेचे")],
)  # fmt: skip
def test_marks_that_spell_nothing_do_not_count(one: str, other: str) -> None:
    assert duplicates.fold(one) == duplicates.fold(other)


def test_different_texts_are_no_duplicates() -> None:
    assert duplicates.near_duplicates(["Oil prices fall sharply"], ["Gold miners expand in Peru"]) == set()


@given(st.text(max_size=40))
@settings(deadline=None)
def test_a_text_is_always_its_own_duplicate(text: str) -> None:
    assert duplicates.similarity(text, text) == 1
    assert duplicates.near_duplicates([text], [text]) == {0}


def test_training_loses_what_the_test_holds() -> None:
    def row(text: str, lang: str = "en") -> Row:
        return Row(text=text, lang=lang, source="s", sentiment="neutral")

    split = dataset.without_leaks({
        "train": [row("Profit rises 3 %"), row("Sales fall"), row("Profit rises 3 %", "de")],
        "validation": [row("Sales fall!"), row("profit RISES 9 %")],
        "test": [row("Profit rises")],
    })  # fmt: skip
    assert [(r.text, r.lang) for r in split.train] == [("Profit rises 3 %", "de")]
    assert [r.text for r in split.validation] == ["Sales fall!"]
    assert split.dropped == {"train": 2, "validation": 1}


def test_an_epoch_takes_no_more_than_the_cap_and_evens_the_labels() -> None:
    rows = [Row(text=str(i), lang="en", source="a", sentiment="negative" if i < 20 else "neutral") for i in range(200)]
    rows += [Row(text="w", lang="en", source="b")] * 7
    order = dataset.epoch_order(rows, {"a": 60}, random.Random(0))
    chosen = [rows[i] for i in order]
    assert len(set(order)) == len(order)
    assert sum(r.source == "a" for r in chosen) == 60
    assert sum(r.sentiment == "negative" for r in chosen) == 20
    assert sum(r.source == "b" for r in chosen) == 7


@given(st.lists(st.integers(1, 90), min_size=1, max_size=300), st.integers(1, 16))
@settings(deadline=None)
def test_batches_hold_every_row_once(lengths: list[int], size: int) -> None:
    made = list(dataset.batches(range(len(lengths)), lengths, size, random.Random(0)))
    assert sorted(i for batch in made for i in batch) == list(range(len(lengths)))
    assert all(len(batch) <= size for batch in made)


def test_pairs_join_by_id_and_only_in_the_languages_asked_for(tmp_path: Path) -> None:
    (tmp_path / "parallel").mkdir()
    lines = [("1", "eng", "Hello"), ("1", "lit", "Labas"), ("1", "xxx", "?"), ("2", "lit", "be poros")]
    for name in ("ntrex128", "tatoeba_laser"):
        with gzip.open(tmp_path / f"parallel/{name}.jsonl.gz", "wt", encoding="utf-8") as out:
            out.writelines(json.dumps({"id": i, "lang": lang, "text": t}) + "\n" for i, lang, t in lines)
    assert set(dataset.read_pairs(tmp_path, ["lt"], 10)) == {dataset.Pair("Hello", "Labas", "lt")}


def test_the_shared_sources_split_without_leaks(shared_data: Path) -> None:
    parts = sources.read_source(sources.SOURCES[0], shared_data)
    folded = {part: {duplicates.fold(r.text) for r in rows} for part, rows in parts.items()}
    split = dataset.without_leaks(parts)
    assert len(folded["train"]) > 5000
    assert not {duplicates.fold(r.text) for r in split.train} & {duplicates.fold(r.text) for r in split.test}
