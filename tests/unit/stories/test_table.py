"""The flat table answers as a dict does, but for what is no longer alive."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.stories.table import Holders, Table

KEYS = st.integers(0, 2**60 - 1) | st.integers(0, 40).map(lambda n: n << 29)  # the second kind all want few slots


@given(st.lists(st.tuples(KEYS, st.integers(0, 2**32 - 1)), max_size=300))
def test_it_answers_as_a_dict(pairs: list[tuple[int, int]]) -> None:
    table, known = Table(lambda values: np.ones(len(values), bool)), dict[int, int]()
    for key, value in pairs:
        table.put(key, value)
        known[key] = value
    assert len(table) == len(known)
    assert {key: table.get(key) for key in known} == known
    assert all(table.get(key + 2**59) in (None, known.get(key + 2**59)) for key in known if key < 2**59)


def test_what_is_no_longer_alive_goes_and_the_rest_stays() -> None:
    oldest = 0
    table = Table(lambda values: values >= oldest)
    rng = np.random.default_rng(0)
    keys = rng.integers(0, 2**60, 200_000).tolist()
    for number, key in enumerate(keys):
        oldest = max(0, number - 5_000)
        table.put(key, number)
    assert [table.get(key) for key in keys[-5_000:]] == list(range(195_000, 200_000))
    assert len(table) < 40_000


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.booleans()), max_size=200))
def test_holders_are_all_that_live_the_last_first(steps: list[tuple[int, int, bool]]) -> None:
    dead, given_to = set[int](), dict[int, list[int]]()
    holders = Holders(lambda value: value not in dead, lambda values: ~np.isin(values, list(dead)))
    for key, value, dies in steps:
        if dies:
            dead.add(value)
        elif value not in dead:
            holders.put(key, value)
            given_to.setdefault(key, []).append(value)
        for asked, values in given_to.items():
            found = list(dict.fromkeys(holders.get(asked)))
            assert found == list(dict.fromkeys(v for v in reversed(values) if v not in dead))
