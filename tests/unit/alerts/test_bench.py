"""The benchmark's own arithmetic: what it counts, and what its rivals see."""

import numpy as np
import pytest

from bench.calibrate_alerts import GRID, counted
from bench.judged import Past, alarms
from bench.scenarios import TEST_SEEDS, WARM, YOUTH, newsroom


@pytest.mark.parametrize("seed", range(3))
def test_alarms_are_counted_alike_at_every_height(seed: int) -> None:
    random = np.random.default_rng(seed)
    row = np.where(random.random(3000) < 0.05, random.gamma(2.0, 2.0, 3000), 0.0)
    assert counted(row).tolist() == [len(alarms(row >= height)) for height in GRID]


def test_moments_of_the_rivals_are_those_of_the_hours_before() -> None:
    past = Past(newsroom(1))
    mean, spread = past.moments(0, 2)
    hours = np.stack([past.sum(0, 60, 60 * lag) for lag in range(1, 49)])
    np.testing.assert_allclose(mean, hours.mean(axis=0), atol=1e-9)
    np.testing.assert_allclose(spread, hours.std(axis=0), atol=1e-6)


def test_a_young_newsroom_has_no_past() -> None:
    room = newsroom(TEST_SEEDS, weeks=1, young=True)
    birth = WARM - YOUTH
    assert not room.hours.any()
    assert not room.run[:birth].any()
    assert not room.fresh[:, :birth].any()
    assert room.run[birth : birth + 60].any()


def test_one_seed_is_one_newsroom() -> None:
    first, second = newsroom(7, weeks=1, crises=True), newsroom(7, weeks=1, crises=True)
    assert np.array_equal(first.fresh, second.fresh)
    assert first.crises == second.crises
    assert len(first.crises) == 40
