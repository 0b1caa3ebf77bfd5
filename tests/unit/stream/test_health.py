"""When a worker counts as alive."""

from typing import Any

import pytest
from faust.types import TP

from crosswind.stream.health import Liveness, Look

PART, OTHER = TP("news.raw", 0), TP("news.raw", 1)
STILL = Look({PART: 5}, {PART: 9})


@pytest.mark.parametrize(
    ("name", "then", "alive"),
    [
        ("nothing moves", STILL, False),
        ("more and more waits", Look({PART: 5}, {PART: 900}), False),
        ("an offset was committed", Look({PART: 6}, {PART: 9}), True),
        ("everything is done", Look({PART: 9}, {PART: 9}), True),
        ("the database is away", Look({PART: 5}, {PART: 9}, waits=3), True),
        ("the broker is away", Look({PART: 5}, {PART: 9}, broker=False), True),
        ("partitions came", Look({PART: 5, OTHER: 0}, {PART: 9, OTHER: 0}), True),
    ],
)
def test_after_a_minute(name: str, then: Look, alive: bool) -> None:
    liveness = Liveness(patience=60)
    assert liveness.alive(STILL, 0.0)
    assert liveness.alive(then, 61.0) is alive, name


def test_a_worker_without_partitions_is_idle_not_stuck() -> None:
    liveness = Liveness(patience=60)
    assert all(liveness.alive(Look({}, {}), now) for now in (0.0, 100.0, 200.0))


def test_an_end_behind_the_commit_is_no_lag() -> None:
    look: Any = Look({PART: 9, OTHER: 1}, {PART: 2, OTHER: 4})
    assert look.lag == 3
