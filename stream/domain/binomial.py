"""The binomial: how many of so many."""

import math

from crosswind.stream.domain.tails import upper_tail


def binomial_tail(count: int, trials: int, share: float) -> float:
    """P(X >= count) among `trials` with probability `share`, strictly between 0 and 1.

    >>> binomial_tail(2, 2, 0.5), binomial_tail(0, 5, 0.1)
    (0.25, 1.0)
    """
    if count <= 0:
        return 1.0
    if count > trials:
        return 0.0
    log_mass = (
        math.lgamma(trials + 1) - math.lgamma(count + 1) - math.lgamma(trials - count + 1)
        + count * math.log(share) + (trials - count) * math.log1p(-share)
    )  # fmt: skip
    return upper_tail(log_mass, count, lambda k: (trials - k) / (k + 1) * share / (1 - share))
