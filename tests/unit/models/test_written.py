import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crosswind.errors import DataError
from crosswind.models import written
from crosswind.models.recipe import COVERED
from crosswind.models.sources import read_jsonl
from crosswind.models.taxonomy import SENTIMENTS, TOPICS

SLOTS = {"company": ["Nord", "Süd"], "pct": ["3 %", "4 %", "5 %"]}
MINIMAL = """
lang: xx
slots: {company: ["A", "B"]}
patterns: {earnings: {positive: ["{company} gains"], neutral: [], negative: ["It loses"]}, other: {positive: [Cup won]}}
test: {deals: {neutral: ["{company} to buy"]}}
hard: [{topic: macro, sentiment: positive, text: "Losses narrow"}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "xx.yaml").write_text(MINIMAL, encoding="utf-8")
    return tmp_path


def test_every_covered_language_has_a_file() -> None:
    assert set(COVERED) == set(written.languages())


@pytest.mark.parametrize("lang", COVERED)
def test_a_shipped_file_is_valid_and_fills_every_cell(lang: str) -> None:
    corpus = written.read_corpus(lang)
    at_least = 12 if lang == "en" else 3
    assert corpus.lang == lang
    for topic in TOPICS:
        for sentiment in SENTIMENTS:
            assert len(corpus.patterns[topic][sentiment]) >= at_least, (topic, sentiment)
            assert corpus.test[topic][sentiment], (topic, sentiment)


@pytest.mark.parametrize("lang", COVERED)
def test_later_files_are_valid_fill_every_cell_and_repeat_nothing(lang: str) -> None:
    seen = written.read_corpus(lang).patterns
    later = written.read_more(lang)
    assert list(later) == [path.stem for path in written.more_files(lang)]
    assert lang in later
    for more in later.values():
        for topic in TOPICS:
            for sentiment in SENTIMENTS:
                lines = more.patterns[topic][sentiment]
                assert len(lines) >= 3, (topic, sentiment)
                assert not set(lines) & set(seen[topic][sentiment]), (topic, sentiment)
                seen[topic][sentiment].extend(lines)


@pytest.mark.parametrize("lang", COVERED)
def test_no_shipped_test_line_or_pair_trains(lang: str) -> None:
    trained = {row.text for row in written.training_rows(lang, fillings=5)}
    held_out = {row.text for row in written.check_rows(lang)}
    held_out |= {text for pair in written.read_pairs(lang) for text in (pair.positive, pair.negative)}
    assert not trained & held_out


def test_no_training_line_shares_eight_words_in_a_row_with_a_benchmark() -> None:
    benchmarks = sorted((Path(__file__).parents[4] / "shared/data/benchmark").glob("*.jsonl.gz"))
    if not benchmarks:
        pytest.skip("the benchmark files are not here: their overlap with the written corpus cannot be looked for")
    theirs = {run for path in benchmarks for raw in read_jsonl(path) for run in _runs(str(raw["text"]))}
    for lang in COVERED:
        shared = [row.text for row in written.training_rows(lang) if _runs(row.text) & theirs]
        assert not shared, lang


def _runs(text: str, words: int = 8) -> set[str]:
    found = re.findall(r"\w+", text.casefold())
    return {" ".join(found[i : i + words]) for i in range(len(found) - words + 1)}


def test_counterfactual_pairs_cover_eight_languages_with_120_pairs_each() -> None:
    full = [lang for lang in written.pair_languages() if len(written.read_pairs(lang)) >= 120]
    assert len(full) >= 8


@given(st.integers(1, 6), st.integers(0, 1000))
@settings(deadline=None)
def test_filling_leaves_no_slot_and_gives_distinct_texts(count: int, seed: int) -> None:
    texts = written.fill("{company} up {pct}", SLOTS, count, random.Random(seed))
    assert 1 <= len(texts) <= count
    assert len(set(texts)) == len(texts)
    assert not any("{" in text for text in texts)


def test_a_slot_used_twice_in_a_line_gets_two_values() -> None:
    for text in written.fill("{company} buys {company}", SLOTS, 2, random.Random(1)):
        assert text in ("Nord buys Süd", "Süd buys Nord")


def test_a_pattern_without_slots_is_itself() -> None:
    assert written.fill("Losses narrow", SLOTS, 5, random.Random(0)) == ["Losses narrow"]


def test_an_unknown_slot_is_refused() -> None:
    with pytest.raises(DataError, match="nowhere"):
        written.fill("{nowhere}", SLOTS, 1, random.Random(0))


def test_the_same_seed_gives_the_same_rows(folder: Path) -> None:
    assert written.training_rows("xx", 2, 7, folder) == written.training_rows("xx", 2, 7, folder)


def test_the_tone_of_other_does_not_train_sentiment(folder: Path) -> None:
    by_text = {row.text: row for row in written.training_rows("xx", folder=folder)}
    assert by_text["Cup won"].topic == "other"
    assert by_text["Cup won"].sentiment is None


def test_fillings_of_one_pattern_share_a_group(folder: Path) -> None:
    rows = [row for row in written.training_rows("xx", 2, folder=folder) if row.text.endswith("gains")]
    assert len(rows) == 2
    assert len({row.group for row in rows}) == 1


def test_a_test_line_that_trains_is_refused(folder: Path) -> None:
    path = folder / "xx.yaml"
    path.write_text(MINIMAL.replace("{company} to buy", "it  LOSES"), encoding="utf-8")
    with pytest.raises(DataError, match="also trains"):
        written.read_corpus("xx", folder)


def test_a_second_file_trains_too_with_slots_of_its_own(folder: Path) -> None:
    before = written.training_rows("xx", 2, folder=folder)
    (folder / written.MORE).mkdir()
    second = folder / written.MORE / "xx.yaml"
    second.write_text('lang: xx\nslots: {company: ["C"]}\npatterns: {deals: {positive: ["{company} sold well"]}}\n')
    rows = written.training_rows("xx", 2, folder=folder)
    assert rows[: len(before)] == before
    assert [row.text for row in rows[len(before) :]] == ["C sold well"]
    third = second.with_name("xx-2.yaml")
    third.write_text('lang: xx\nslots: {}\npatterns: {deals: {positive: ["a third file"]}}\n')
    assert [row.text for row in written.training_rows("xx", 2, folder=folder)] == [
        *(row.text for row in before), "a third file", "C sold well"]  # fmt: skip
    second.write_text('lang: xx\nslots: {}\npatterns: {deals: {neutral: ["{company}  TO buy"]}}\n'.replace(
        "slots: {}", 'slots: {company: ["C"]}'))  # fmt: skip
    with pytest.raises(DataError, match="also trains"):
        written.training_rows("xx", folder=folder)
    second.write_text("lang: yy\nslots: {}\npatterns: {}\n")
    with pytest.raises(DataError, match="lang is 'yy'"):
        written.training_rows("xx", folder=folder)


@pytest.mark.parametrize("change", [("earnings", "weather"), ("neutral: [", "mixed: ["), ("lang: xx", "lang: [")])
def test_a_malformed_file_is_refused(folder: Path, change: tuple[str, str]) -> None:
    path = folder / "xx.yaml"
    path.write_text(MINIMAL.replace(*change), encoding="utf-8")
    with pytest.raises(DataError, match=r"xx\.yaml"):
        written.training_rows("xx", folder=folder)


def test_a_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"xx\.yaml"):
        written.read_corpus("xx", tmp_path)
