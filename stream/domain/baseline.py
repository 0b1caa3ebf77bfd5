"""What is normal for a series: a robust mean and spread of its hourly counts, not lifted by an earlier surge."""

import math
from dataclasses import dataclass

import numpy as np

from crosswind.stream.domain.series import Counts

CAP_SPREADS = 3.0
"""Hours above median + 3 spreads are pulled back to it: yesterday's bank run must not hide today's."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """What one hour brings.

    Attributes:
        mean: negatives in an hour, above 0.
        dispersion: variance over mean of a new hour's count, at least 1, the mean's own uncertainty included.
        share: negatives among articles, strictly between 0 and 1.
        hours: hours that it was learned from.
    """

    mean: float
    dispersion: float
    share: float
    hours: int


def learn(negative: Counts, articles: Counts, least_dispersion: float = 1.0) -> Baseline:
    """The baseline of hourly counts, two int64 [hours], at least one hour.

    Winsorised moments (Tukey, The Future of Data Analysis, Ann. Math. Stat. 33, 1962). The mean is the posterior mean
    of a Poisson rate under Jeffreys' prior, so a series that was silent has one above 0. The dispersion is widened by
    1 + 1/hours for the mean's own error, as in Farrington et al., J. R. Stat. Soc. A 159 (1996), section 3.4.

    >>> quiet = learn(np.array([1, 2, 1, 0, 2, 1]), np.array([5, 6, 5, 4, 6, 5]))
    >>> round(quiet.mean, 2), round(quiet.share, 2), quiet.hours
    (1.25, 0.23, 6)
    >>> learn(np.array([1, 2, 1, 0, 2, 90]), np.array([5, 6, 5, 4, 6, 99])).mean < 2.0
    True
    """
    hours = len(negative)
    counts, volume = winsorise(negative), winsorise(articles)
    mean = (float(counts.sum()) + 0.5) / hours
    spread = float(counts.var(ddof=1)) / mean if hours > 1 else 1.0
    dispersion = max(spread, least_dispersion, 1.0) * (1.0 + 1.0 / hours)
    # One negative in four articles, worth four articles: what a series that was silent is taken to be.
    share = (float(counts.sum()) + 1.0) / (max(float(volume.sum()), float(counts.sum())) + 4.0)
    return Baseline(mean, dispersion, share, hours)


def winsorise(counts: Counts) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Counts, float64 [hours], none above the median + `CAP_SPREADS` Poisson spreads.

    >>> [float(value) for value in winsorise(np.array([1, 1, 1, 40]))]
    [1.0, 1.0, 1.0, 4.0]
    """
    middle = float(np.median(counts))
    capped = np.minimum(counts.astype(np.float64), middle + CAP_SPREADS * math.sqrt(max(middle, 1.0)))
    return np.asarray(capped, np.float64)
