"""The statistics, against exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.detect.season import WEEK, Normal, learn
from crosswind.stream.domain.negative_binomial import negative_binomial_tail
from crosswind.stream.domain.panel import WEEKS
from crosswind.stream.domain.tails import TINIEST

COUNTS = st.lists(st.integers(0, 500), min_size=1, max_size=60).map(lambda counts: np.array(counts, np.int64))


@given(st.integers(0, 30), st.integers(1, 6), st.integers(2, 5))
def test_the_negative_binomial_tail_is_exact(count: int, size: int, dispersion: int) -> None:
    stop = Fraction(1, dispersion)  # counts the failures before the `size`-th success
    below = sum((math.comb(k + size - 1, k) * stop**size * (1 - stop) ** k for k in range(count)), Fraction(0))
    mean = size * (dispersion - 1)
    assert negative_binomial_tail(count, mean, dispersion) == pytest.approx(float(1 - below), rel=1e-9)


@given(st.integers(0, 200), st.floats(0.01, 50), st.floats(1, 10))
def test_more_is_less_likely(count: int, mean: float, dispersion: float) -> None:
    here, next_ = (negative_binomial_tail(n, mean, dispersion) for n in (count, count + 1))
    assert 0 < next_ <= here * (1 + 1e-9)
    assert here <= 1


@given(st.integers(1, 60), st.floats(0.05, 20))
def test_poisson_is_the_limit_without_dispersion(count: int, mean: float) -> None:
    assert negative_binomial_tail(count, mean, 1 + 1e-8) == pytest.approx(
        negative_binomial_tail(count, mean, 1.0), rel=1e-3
    )


def test_a_hopeless_tail_stays_a_number() -> None:
    assert negative_binomial_tail(100_000, 0.5, 1.2) == TINIEST


def _learn(counts: np.ndarray, run: int = 300) -> Normal:
    """From the last hours only; those before were not heard."""
    padded = np.zeros((1, WEEKS * WEEK), np.int64)
    padded[0, -len(counts) :] = counts
    heard = np.arange(WEEKS * WEEK) >= WEEKS * WEEK - len(counts)
    return learn(padded, padded * 3 + (padded > 0), np.where(heard, run, 0))


@given(COUNTS)
def test_a_baseline_is_sane(counts) -> None:
    found = _learn(counts)
    assert found.hours == len(counts)
    assert (found.mean > 0).all()
    assert (found.excess > 0).all()
    assert ((found.share > 0) & (found.share < 1)).all()
    assert ((found.rho >= 0) & (found.rho < 1)).all()


def test_yesterdays_crisis_does_not_hide_todays() -> None:
    calm = np.array([1, 2, 0, 1, 3, 1] * 20, np.int64)
    scarred = calm.copy()
    scarred[50:54] = 40
    before, after = _learn(calm), _learn(scarred)
    assert after.typical[0] < 1.6 * before.typical[0]


def test_a_silent_feed_teaches_nothing() -> None:
    counts = np.array([4] * 200, np.int64)
    padded = np.zeros((1, WEEKS * WEEK), np.int64)
    padded[0, -200:] = counts
    run = np.where(padded[0] > 0, 100, 0)
    padded[0, -60:-30], run[-60:-30] = 0, 0
    assert learn(padded, padded * 2, run).mean[0, 0] == pytest.approx(4.0, rel=0.05)


def test_weekends_are_learned_in_weeks() -> None:
    week = np.where(np.arange(WEEK) < 120, 10, 2)
    counts = np.tile(week, WEEKS)[None, :]
    found = learn(counts, counts * 4, counts[0] * 50)
    assert found.mean[0, 0] == pytest.approx(10.0, rel=0.15)  # two hours after the weekend's end
    assert found.mean[0, 4] == pytest.approx(2.0, rel=0.3)
