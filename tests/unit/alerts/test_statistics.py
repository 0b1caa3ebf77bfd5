"""The statistics, against exact arithmetic."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.baseline import learn, winsorise
from crosswind.stream.domain.binomial import binomial_tail
from crosswind.stream.domain.negative_binomial import negative_binomial_tail
from crosswind.stream.domain.tails import TINIEST

COUNTS = st.lists(st.integers(0, 500), min_size=1, max_size=60).map(lambda counts: np.array(counts, np.int64))


def _exact_binomial(count: int, trials: int, share: Fraction) -> Fraction:
    return sum(
        (math.comb(trials, k) * share**k * (1 - share) ** (trials - k) for k in range(count, trials + 1)), Fraction(0)
    )


@given(st.integers(0, 40), st.integers(1, 40), st.integers(1, 19))
def test_the_binomial_tail_is_exact(count: int, trials: int, twentieths: int) -> None:
    exact = _exact_binomial(count, trials, Fraction(twentieths, 20))
    assert binomial_tail(count, trials, twentieths / 20) == pytest.approx(float(exact), rel=1e-9)


@given(st.integers(0, 30), st.integers(1, 6), st.integers(2, 5))
def test_the_negative_binomial_tail_is_exact(count: int, size: int, dispersion: int) -> None:
    stop = Fraction(1, dispersion)  # counts the failures before the `size`-th success
    below = sum(
        (math.comb(k + size - 1, k) * stop**size * (1 - stop) ** k for k in range(count)), Fraction(0)
    )
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


@given(COUNTS)
def test_winsorising_lowers_only_what_is_far_above_the_median(counts) -> None:
    capped, middle = winsorise(counts), np.median(counts)
    assert (capped <= counts).all()
    near = counts <= middle + 3
    assert (capped[near] == counts[near]).all()


@given(COUNTS, st.data())
def test_a_baseline_is_sane(negative, data: st.DataObject) -> None:
    positive = data.draw(st.lists(st.integers(0, 500), min_size=len(negative), max_size=len(negative)))
    found = learn(negative, negative + np.array(positive, np.int64), 1.2)
    assert found.mean > 0
    assert found.dispersion >= 1.2
    assert 0 < found.share < 1


def test_yesterdays_crisis_does_not_hide_todays() -> None:
    calm = np.array([1, 2, 0, 1, 3, 1] * 4, np.int64)
    scarred = calm.copy()
    scarred[5:9] = 40
    before, after = (learn(counts, counts * 3 + 1) for counts in (calm, scarred))
    assert after.mean < 2 * before.mean
    assert negative_binomial_tail(25, after.mean, after.dispersion) < 1e-5
