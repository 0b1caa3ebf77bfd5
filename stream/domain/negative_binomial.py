"""The negative binomial: counts that come in clusters, as news does."""

import math

from crosswind.stream.domain.tails import upper_tail


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
        math.lgamma(count + size) - math.lgamma(size) - math.lgamma(count + 1)
        - size * math.log(dispersion) + count * math.log(odds)
    )  # fmt: skip
    return upper_tail(log_mass, count, lambda k: odds * (k + size) / (k + 1))
