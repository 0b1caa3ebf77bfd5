"""Signed roots of deviances: how many standard deviations a count or a share lies above what is expected."""

import numpy as np

from crosswind.stream.domain.detect.season import Floats


def count_spreads(count: Floats, mean: Floats, excess: Floats) -> Floats:
    """Square root of the likelihood ratio of a negative binomial count against its mean, 0 below the mean.

    The generalised likelihood ratio over all higher means: McCullagh and Nelder, Generalized Linear Models (1989),
    section 11.2, for variance mean + excess·mean².

    >>> [round(float(z), 2) for z in count_spreads(np.array([1.0, 4.0, 10.0]), np.ones(3), np.full(3, 0.1))]
    [0.0, 2.08, 4.71]
    """
    size = 1.0 / np.maximum(excess, 1e-9)
    mean = np.maximum(mean, 1e-9)
    above = np.maximum(count, mean)
    half = above * np.log(above / mean) - (above + size) * np.log((above + size) / (mean + size))
    return np.asarray(np.sqrt(np.maximum(2.0 * half, 0.0)))


def share_spreads(count: Floats, trials: Floats, share: Floats, rho: Floats) -> Floats:
    """The same for `count` of `trials` against an expected share, 0 below it.

    Deviance of the binomial over the beta-binomial's variance inflation 1 + (n - 1)·rho (Williams, Applied Statistics
    31, 1982).

    >>> some = share_spreads(np.array([2.0, 8.0]), np.full(2, 10.0), np.full(2, 0.25), np.zeros(2))
    >>> [round(float(z), 2) for z in some]
    [0.0, 3.65]
    """
    trials = np.maximum(trials, np.maximum(count, 1.0))
    above = np.maximum(count, trials * share)
    rest = np.maximum(trials - above, 0.0)
    some = np.where(rest > 0, rest, 1.0) / (trials * (1.0 - share))
    half = above * np.log(above / (trials * share)) + rest * np.log(some)
    inflation = 1.0 + (trials - 1.0) * rho
    return np.asarray(np.sqrt(np.maximum(2.0 * half / inflation, 0.0)))
