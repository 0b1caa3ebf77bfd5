"""Evidence: copies count once, order does not matter."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.evidence import TELLING, corroborated, gather
from crosswind.stream.domain.series import MINUTE, Counting, Mention
from tests.unit.alerts.feeds import START

MENTIONS = st.lists(
    st.builds(
        Mention,
        minute=st.integers(0, 59).map(lambda minute: START + minute * MINUTE),
        article_id=st.integers(0, 99).map(str),
        source=st.sampled_from("abcd"),
        title_key=st.sampled_from("tuvwxyz"),
        topic=st.just("credit"),
        lang=st.sampled_from(["en", "de"]),
        negative_ppm=st.integers(0, 10**6),
        model=st.sampled_from(["m1", "m2"]),
    ),
    max_size=20,
    unique_by=lambda mention: mention.article_id,
)


@given(MENTIONS, st.randoms())
def test_order_does_not_matter(mentions, order) -> None:
    shuffled = mentions.copy()
    order.shuffle(shuffled)
    assert gather(shuffled) == gather(mentions)


@given(MENTIONS.filter(bool))
def test_copies_from_the_same_source_change_nothing_but_the_best_article(mentions) -> None:
    copies = [replace(mention, article_id=f"copy-{mention.article_id}", negative_ppm=0) for mention in mentions]
    found, again = gather(mentions), gather(mentions + copies)
    assert (again.sources, again.headlines, again.languages) == (found.sources, found.headlines, found.languages)


@given(MENTIONS)
def test_the_most_telling_come_first_one_per_headline(mentions) -> None:
    by_id = {mention.article_id: mention for mention in mentions}
    chosen = [by_id[article] for article in gather(mentions).articles]
    assert [m.negative_ppm for m in chosen] == sorted((m.negative_ppm for m in chosen), reverse=True)
    assert len({m.title_key for m in chosen}) == len(chosen) <= TELLING


STORIES = st.lists(st.sampled_from(["", "s1", "s2", "s3"]), min_size=20, max_size=20)


def with_stories(mentions: list[Mention], stories: list[str]) -> list[Mention]:
    return [replace(mention, story=story) for mention, story in zip(mentions, stories, strict=False)]


@given(MENTIONS, STORIES)
def test_headlines_and_articles_corroborate_by_their_number(mentions, stories) -> None:
    told = with_stories(mentions, stories)
    for counting in (Counting.HEADLINES, Counting.ARTICLES):
        assert corroborated(told, counting) == gather(told, counting).headlines
    assert (
        corroborated(mentions, Counting.STORIES) == gather(mentions, Counting.HEADLINES).headlines
    )  # none has a story


@given(MENTIONS.filter(bool), STORIES)
def test_a_story_corroborates_in_full_in_one_language_and_by_half_beyond(mentions, stories) -> None:
    mentions = with_stories(mentions, stories)
    found = corroborated(mentions)
    every, one = gather(mentions).headlines, corroborated([replace(mention, lang="en") for mention in mentions])
    assert one == every
    assert every / 2 < found <= every
    copies = [replace(mention, article_id=f"copy-{mention.article_id}") for mention in mentions]
    assert corroborated(mentions + copies) == found


def test_one_event_in_eight_languages_that_is_taken_for_eight_stories_is_no_evidence_of_eight() -> None:
    languages = ("en", "de", "fr", "es", "pt", "zh", "ja", "ar")
    apart = [Mention(START, lang, "s", f"title-{lang}", "credit", lang, 900_000, "m", (), f"story-{lang}")
             for lang in languages]  # fmt: skip
    assert (gather(apart).headlines, corroborated(apart)) == (8, 4.5)
