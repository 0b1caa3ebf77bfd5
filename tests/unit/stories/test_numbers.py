"""Stories by number: as a dict would have it, whatever comes, moves and goes."""

from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.stories import numbers
from crosswind.stream.domain.stories.numbers import Numbers
from crosswind.stream.domain.stories.story import Story

AT = datetime(2026, 3, 2, tzinfo=UTC)


@given(st.data())
def test_it_answers_as_a_dict_does(data: st.DataObject) -> None:
    kept, before = {}, numbers._SMALLEST
    numbers._SMALLEST = 3  # so that short runs cut, too
    try:
        found, following = Numbers(), 0
        for step in data.draw(st.lists(st.sampled_from(["begin", "skip", "drop", "merge"]), max_size=60)):
            if step == "skip":
                following += 2
            elif step == "begin":
                kept[following] = Story(str(following), following, AT, AT)
                found.begin(following, kept[following])
                following += 1
            elif kept:
                number = data.draw(st.sampled_from(sorted(kept)[:4] if step == "drop" else sorted(kept)))
                story = kept.pop(number)
                found.drop(number)
                if step == "merge" and kept:
                    kept[number] = kept[min(kept)]
                    found.give(number, kept[number])
                assert story is not None
            assert [found.get(number) for number in range(following)] == [kept.get(n) for n in range(following)]
        asked = np.arange(following + 3, dtype=np.uint32)
        assert found.alive(asked).tolist() == [int(number) in kept for number in asked]
        assert all(number in found and found[number] is story for number, story in kept.items())
    finally:
        numbers._SMALLEST = before


def test_what_is_over_takes_no_room() -> None:
    found = Numbers()
    for number in range(50_000):
        found.begin(number, Story(str(number), number, AT, AT))
        if number >= 1_000:
            found.drop(number - 1_000)
    assert len(found._held) < 4_000
    assert 48_999 not in found
    assert 49_000 in found
