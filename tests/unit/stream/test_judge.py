"""One micro-batch: every message ends as an article or as a dead letter, and watched names become entities."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from crosswind.stream.domain.article import Origin, Score, Sentiment
from crosswind.stream.domain.validate import Limits
from crosswind.stream.domain.watchlist import Alias, Watchlist
from crosswind.stream.service.scoring import AHEAD, Message, judge, moment, received

NOW = datetime(2026, 3, 1, tzinfo=UTC)
LIMITS = Limits(2**20, timedelta(hours=1))


def at(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


@pytest.mark.parametrize("seen", [NOW, NOW + AHEAD, NOW - timedelta(days=20_000)])
def test_a_record_was_received_when_it_says(seen: datetime) -> None:
    assert received(at(seen), NOW) == seen


@pytest.mark.parametrize("stamp", [None, -1, 0, at(NOW) // 1000, at(NOW) * 1000, 2**63 - 1, at(NOW + AHEAD) + 1])
def test_a_record_whose_time_cannot_be_was_received_now(stamp: int | None) -> None:
    assert received(stamp, NOW) == NOW


def test_any_number_is_a_moment() -> None:
    assert (moment(None), moment(-(2**63))) == (datetime(1970, 1, 1, tzinfo=UTC),) * 2
    assert moment(2**63 - 1) == datetime(9999, 1, 1, tzinfo=UTC)


class Plain:
    """Finds every text neutral business."""

    version = "plain"
    provider = "none"

    def score(self, texts: list[str]) -> list[Score]:
        return [Score("business", Sentiment.NEUTRAL, 0, 1_000_000, 0, 1_000_000, False, "plain") for _ in texts]


def message(offset: int, value: bytes) -> Message:
    return Message(Origin("news.raw", 0, offset), NOW, None, value)


def article(title: str, lang: str, entities: list[str]) -> bytes:
    row = {"title": title, "lang": lang, "source": "wire", "published_at": NOW.isoformat(), "entities": entities}
    return json.dumps(row).encode()


def test_a_watched_name_in_any_script_becomes_an_entity_and_the_given_ones_stay() -> None:
    batch = [
        message(0, article("特斯拉股价下跌", "zh", ["上海"])),
        message(1, b"{"),
        message(2, article("Rain in Leeds", "en", [])),
    ]
    names = Watchlist([Alias("特斯拉", "Tesla")])
    judged = judge(batch, scorer=Plain(), detect=lambda text: "und", limits=LIMITS, watchlist=names)
    assert [scored.article.entities for scored in judged.scored] == [("上海", "Tesla"), ()]
    assert [letter.message.origin.offset for letter in judged.dead] == [1]
    without = judge(batch, scorer=Plain(), detect=lambda text: "und", limits=LIMITS)
    assert without.scored[0].article.entities == ("上海",)
