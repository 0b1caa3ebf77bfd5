"""The negative binomial: counts that come in clusters, as news does."""

import math

from crosswind.stream.domain.tails import upper_tail

LARGE = 1e4
"""From this size on the difference of two log gammas loses digits (seen: tails that rose with the count)."""


def negative_binomial_tail(count: int, mean: float, dispersion: float) -> float:
    """P(X >= count) for a count with the given mean and variance `dispersion * mean`; Poisson at dispersion 1.

    The NB1 parametrisation of Cameron and Trivedi, Regression Analysis of Count Data (2013), section 3.3.

    Args:
        mean: above 0.
        dispersion: variance over mean, at least 1.

    >>> round(negative_binomial_tail(8, 1.2, 1.0), 7)  # Poisson
    3.7e-05
    >>> round(negative_binomial_tail(1, 2.0, 2.0), 6)  # 1 - (1/2)^2
    0.75
    """
    if count <= 0:
        return 1.0
    excess = dispersion - 1.0
    if excess < 1e-9:
        log_mass = count * math.log(mean) - mean - math.lgamma(count + 1)
        return upper_tail(log_mass, count, lambda k: mean / (k + 1))
    size, odds = mean / excess, excess / dispersion
    log_mass = (
        _log_rising(size, count) - math.lgamma(count + 1) - size * math.log1p(excess) + count * math.log(odds)
    )  # fmt: skip
    return upper_tail(log_mass, count, lambda k: odds * (k + size) / (k + 1))


def _log_rising(size: float, count: int) -> float:
    """The logarithm of size * (size + 1) * … * (size + count - 1)."""
    if size < LARGE:
        return math.lgamma(count + size) - math.lgamma(size)
    return count * math.log(size) + math.fsum(math.log1p(k / size) for k in range(count))
