"""Properties of versions: they follow from the inputs alone, and what is received later changes none before."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.article import ScoredArticle
from crosswind.stream.domain.versions import Copy, recalled, settle
from tests.versions import chain, place, told

INPUTS = st.lists(st.tuples(st.sampled_from(["calm", "bad", "good"]), st.integers(0, 6)), min_size=1, max_size=9).map(
    lambda drawn: [told(1, word, minutes, offset) for offset, (word, minutes) in enumerate(drawn)]
)


@given(INPUTS, st.randoms())
def test_versions_are_stretches_of_inputs_that_say_the_same(inputs: list[ScoredArticle], order) -> None:
    shuffled = [*inputs, *inputs[:3]]
    order.shuffle(shuffled)
    found = settle(inputs[0], shuffled)
    assert found.versions == chain(inputs)
    assert len(found.edits) == len(found.versions) - 1
    assert len(found.copies) == len(inputs) - 1 - len(found.edits)
    assert inputs[0] not in found.copies


@given(INPUTS, st.data())
def test_it_is_enough_to_keep_versions_and_the_places_of_copies(inputs: list[ScoredArticle], data) -> None:
    """What is kept between two deliveries settles further inputs as all former inputs would."""
    cut = data.draw(st.integers(1, len(inputs)))
    before = settle(inputs[0], inputs[1:cut])
    copies = [Copy(one.article.first_seen_at, one.article.origin) for one in before.copies]
    assert settle(inputs[0], [*recalled(before.versions, copies), *inputs[cut:]]) == settle(inputs[0], inputs[1:])


@given(INPUTS, st.integers(0, 6))
def test_what_is_received_later_changes_no_version_before(inputs: list[ScoredArticle], minute: int) -> None:
    limit = told(1, "calm", minute, 0).article.first_seen_at
    known = [one for one in inputs if one.article.first_seen_at <= limit]
    then = chain(known)
    now = settle(inputs[0], inputs[1:]).versions
    assert list(itertools.takewhile(lambda one: one.article.first_seen_at <= limit, now)) == then


def test_an_edit_back_to_what_was_said_before_is_a_version() -> None:
    inputs = [told(1, word, minute, minute) for minute, word in enumerate(["calm", "bad", "bad", "calm"])]
    found = settle(inputs[0], inputs[1:])
    assert [(one.article.title[:4], place(one)[3]) for one in found.versions] == [("calm", 0), ("bad ", 1), ("calm", 3)]
    assert [one.article.origin.offset for one in found.copies] == [2]


def test_a_copy_noted_before_versions_were_kept_repeats_the_first() -> None:
    first = told(1, "calm", 5, 0)
    early = Copy(told(1, "calm", 1, 7).article.first_seen_at, told(1, "calm", 1, 7).article.origin)
    assert [one.article.title for one in recalled([first], [early])] == [first.article.title] * 2
