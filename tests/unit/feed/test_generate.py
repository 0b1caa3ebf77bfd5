"""The sample feed is what its scenario says, the same each time, and varied enough to be read."""

import gzip
import unicodedata
from collections import Counter
from datetime import timedelta

import msgspec
import pytest

from crosswind.models.taxonomy import TAXONOMY_FILE, TOPICS
from crosswind.stream.domain.contract import decode_raw
from crosswind.stream.feed.sample import NEWS, TRUTH
from crosswind.stream.feed.sample.generate import (
    Phrases,
    Piece,
    Scenario,
    generate,
    load_phrases,
    load_scenario,
    to_jsonl,
    truth,
)

LANGUAGES = {"en", "zh", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar", "hi", "id", "tr"}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return load_scenario()


@pytest.fixture(scope="module")
def phrases() -> dict[str, Phrases]:
    return load_phrases()


@pytest.fixture(scope="module")
def pieces(scenario: Scenario, phrases: dict[str, Phrases]) -> list[Piece]:
    return generate(scenario, phrases)


def test_committed_feed_is_what_the_generator_makes(pieces: list[Piece]) -> None:
    assert gzip.decompress(NEWS.read_bytes()) == to_jsonl(pieces)


def test_committed_truth_is_what_the_generator_makes(scenario: Scenario, pieces: list[Piece]) -> None:
    made = msgspec.json.decode(msgspec.json.encode(truth(scenario, pieces)))
    assert msgspec.json.decode(TRUTH.read_bytes()) == made


def test_packed_file_carries_no_clock() -> None:
    assert NEWS.read_bytes()[4:8] == bytes(4)


def test_another_seed_is_another_feed(scenario: Scenario, phrases: dict[str, Phrases], pieces: list[Piece]) -> None:
    other = generate(msgspec.structs.replace(scenario, seed=1), phrases)
    assert to_jsonl(other) != to_jsonl(pieces)


def test_every_row_is_a_valid_message(pieces: list[Piece]) -> None:
    rows = to_jsonl(pieces).splitlines()
    assert [decode_raw(row, 1_048_576) for row in rows] == [piece.news for piece in pieces]


def test_size_and_languages(pieces: list[Piece]) -> None:
    counts = Counter(piece.lang for piece in pieces)
    assert len(pieces) >= 3000
    assert set(counts) == LANGUAGES
    assert min(counts.values()) >= 100


def test_rows_come_in_event_time_order_within_the_plot(scenario: Scenario, pieces: list[Piece]) -> None:
    firsts = list({piece.news.id: piece.news.published_at for piece in pieces}.values())
    assert firsts == sorted(firsts)
    assert scenario.start <= firsts[0] < firsts[-1] < scenario.start + timedelta(hours=scenario.hours)


def test_shares_of_sentiment_topic_and_missing_language(scenario: Scenario, pieces: list[Piece]) -> None:
    ordinary = [piece for piece in pieces if not piece.event]
    for label, share in scenario.sentiment.items():
        assert sum(piece.sentiment == label for piece in ordinary) / len(ordinary) == pytest.approx(share, abs=0.03)
    for topic, share in scenario.topics.items():
        assert sum(piece.topic == topic for piece in ordinary) / len(ordinary) == pytest.approx(share / 100, abs=0.03)
    assert sum(piece.news.lang is None for piece in pieces) / len(pieces) == pytest.approx(0.15, abs=0.02)


@pytest.mark.parametrize("name", ["bank_run", "profit_warnings", "payments_attack"])
def test_crisis_is_broad_bad_and_about_its_entity(name: str, scenario: Scenario, pieces: list[Piece]) -> None:
    event = next(event for event in scenario.events if event.name == name)
    found = [piece for piece in pieces if piece.event == name]
    assert len(found) == event.articles
    assert 100 <= len(found) <= 160
    assert len({piece.lang for piece in found}) >= 8
    assert len({piece.news.source for piece in found}) >= 20
    assert all(event.entity in piece.news.entities for piece in found)
    assert sum(piece.sentiment == "negative" for piece in found) / len(found) > 0.8
    assert len({piece.news.title for piece in found}) > 0.9 * len(found)


@pytest.mark.parametrize("name", ["bank_run", "profit_warnings", "payments_attack", "merger"])
def test_event_begins_at_its_onset_and_rises(name: str, scenario: Scenario, pieces: list[Piece]) -> None:
    event = next(event for event in scenario.events if event.name == name)
    hours = [(p.news.published_at - scenario.start) / timedelta(hours=1) for p in pieces if p.event == name]
    assert min(hours) == pytest.approx(event.onset)
    assert max(hours) <= event.onset + event.hours
    peak = event.onset + event.ramp
    assert sum(h < event.onset + event.ramp / 2 for h in hours) < sum(peak - event.ramp / 2 <= h < peak for h in hours)


def test_decoy_is_one_story_in_fifty_newspapers(scenario: Scenario, pieces: list[Piece]) -> None:
    copies = [piece.news for piece in pieces if piece.event == scenario.decoy.name]
    assert len(copies) == 50
    assert len({(copy.title, copy.body) for copy in copies}) == 1
    assert len({copy.source for copy in copies}) == len({copy.id for copy in copies}) == 50
    assert len({copy.url for copy in copies}) == 50


def test_duplicates_are_the_same_bytes(scenario: Scenario, pieces: list[Piece]) -> None:
    rows = Counter(to_jsonl([piece]) for piece in pieces)
    assert sum(count - 1 for count in rows.values()) == scenario.duplicates
    assert len({piece.news.id for piece in pieces}) == len(rows)


def test_nights_and_weekends_are_quiet(scenario: Scenario, pieces: list[Piece]) -> None:
    local = [p.news.published_at + timedelta(hours=9) for p in pieces if p.lang in ("ja", "ko") and not p.event]
    friday = [moment for moment in local if moment.weekday() == 4]
    saturday = [moment for moment in local if moment.weekday() == 5 and moment.hour >= 15]
    night = [moment for moment in local if moment.hour < 5]
    assert len(friday) > 1.5 * len(saturday)
    assert len(night) / 10 < len(local) / 48 / 2


def test_headlines_seldom_repeat(pieces: list[Piece]) -> None:
    told = [piece for piece in pieces if piece.event != "syndicated_story"]
    assert len({piece.news.title for piece in told}) > 0.95 * len(told)


@pytest.mark.parametrize("lang", sorted(LANGUAGES))
def test_phrases_cover_every_topic_and_sentiment(lang: str, phrases: dict[str, Phrases]) -> None:
    mine = phrases[lang]
    lines = [line for cells in mine.ordinary.values() for cell in cells.values() for line in cell]
    assert set(mine.ordinary) == set(TOPICS)
    assert all(set(cells) == {"positive", "neutral", "negative"} for cells in mine.ordinary.values())
    assert all(cell for cells in mine.ordinary.values() for cell in cells.values())
    assert len(set(lines)) == len(lines) >= 60
    assert len(mine.events["bank_run"].loud) >= 8


@pytest.mark.parametrize("lang", sorted(LANGUAGES))
def test_phrases_are_nfc_and_name_only_slots_that_exist(lang: str, phrases: dict[str, Phrases]) -> None:
    mine = phrases[lang]
    told = [line for event in mine.events.values() for line in (*event.loud, *event.quiet, *event.bodies)]
    lines = told + [line for cells in mine.ordinary.values() for cell in cells.values() for line in cell]
    lines += [value for values in mine.slots.values() for value in values] + mine.bodies
    filled = {name: values[0] for name, values in mine.slots.items()}
    assert all("{" not in line.format_map(filled) for line in lines)
    assert all(unicodedata.is_normalized("NFC", line) for line in lines)


def test_phrases_are_not_the_training_corpus(phrases: dict[str, Phrases]) -> None:
    """The demo would flatter the model if it had learnt these very lines."""
    corpus = "\n".join(file.read_text("utf-8") for file in TAXONOMY_FILE.parent.glob("corpus/*.yaml"))
    assert corpus
    mine = [line for p in phrases.values() for cells in p.ordinary.values() for cell in cells.values() for line in cell]
    assert [line for line in mine if f'"{line}"' in corpus] == []
