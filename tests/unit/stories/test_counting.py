"""What rules count: stories, headlines or articles."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from crosswind.errors import SettingsError
from crosswind.stream.domain.evidence import gather
from crosswind.stream.domain.panel import copies
from crosswind.stream.domain.series import MINUTE, Counting, Mention
from crosswind.stream.service.rules import load_rules, parse_rules, rule_set
from tests.builders import START
from tests.unit.alerts.feeds import Item, Writer, transitions

RULES = b"version: 1\nrules: [{name: surge, count: %s}]\n"


def mention(number: int, story: str, key: str) -> Mention:
    at = START + number * MINUTE
    return Mention(at, f"{number}", f"source-{number}", key, "credit", "en", 900_000, "m", (), story)


TOLD = [mention(0, "s", "a"), mention(1, "s", "b"), mention(2, "s", "b"), mention(3, "", "c"), mention(4, "", "c")]
"""One story in two headlines, and a headline without a story, printed twice."""


@pytest.mark.parametrize(
    ("counting", "distinct"), [(Counting.STORIES, 2), (Counting.HEADLINES, 3), (Counting.ARTICLES, 5)]
)
def test_what_counts_once(counting: Counting, distinct: int) -> None:
    found = gather(TOLD, counting)
    assert (found.headlines, found.sources) == (distinct, 5)
    assert len(copies(TOLD, counting)) == 5 - distinct


def test_a_rule_counts_stories_unless_it_says_otherwise() -> None:
    unsaid = (RULES % b"stories").replace(b"count: stories", b"")
    assert [rule.count for rule in rule_set(parse_rules(unsaid)).rules] == [Counting.STORIES]
    assert [rule.count for rule in load_rules().rules] == [Counting.HEADLINES]  # see decision 8
    assert rule_set(parse_rules(RULES % b"articles")).rules[0].count is Counting.ARTICLES
    with pytest.raises(SettingsError, match="count"):
        parse_rules(RULES % b"words")


def test_the_version_of_a_rule_changes_with_what_it_counts() -> None:
    versions = {rule_set(parse_rules(RULES % name.encode())).rules[0].version for name in Counting}
    assert len(versions) == len(Counting)


def _fired(items: Sequence[Item], count: bytes) -> int:
    return sum(change.cause == "fired" for change in transitions(items, rule_set(parse_rules(RULES % count))))


def test_one_story_in_ninety_headlines_fires_a_rule_on_headlines_only() -> None:
    writer = Writer(3)
    writer.background()
    quiet = len(writer.items)
    writer.crisis("credit", 24, 2, 90)
    retold = [
        item if n < quiet else replace(item, mention=replace(item.mention, story="the-story"))
        for n, item in enumerate(writer.items)
    ]
    assert _fired(retold, b"stories") == _fired(writer.items[:quiet], b"stories") == 0
    assert _fired(retold, b"headlines") > 0
    assert _fired(writer.items, b"stories") > 0


def test_one_headline_in_ninety_papers_fires_a_rule_on_articles_only() -> None:
    writer = Writer(3)
    writer.background()
    writer.copies("credit", 24, 90)
    assert _fired(writer.items, b"headlines") == 0
    assert _fired(writer.items, b"articles") > 0
