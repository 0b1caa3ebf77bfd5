"""Summing the upper tail of a discrete distribution: how unlikely is a count this high?"""

import math
from collections.abc import Callable

TINIEST = 1e-300
"""Tails are cut here: smaller ones say nothing more, and this one travels through any database."""


def upper_tail(log_mass: float, count: int, ratio: Callable[[int], float]) -> float:
    """Sums mass(count) + mass(count + 1) + …, where mass(k + 1) = mass(k) * ratio(k).

    Summed upwards from the count, so that tiny tails keep their precision.

    Args:
        log_mass: natural logarithm of mass(count).
        ratio: falls below 1 for good, or reaches 0, somewhere.

    >>> upper_tail(0.0, 0, lambda k: 0.5 if k < 1 else 0.0)  # masses 1 and 1/2: cut to a probability
    1.0
    """
    term, total = 1.0, 0.0
    while term > total * 1e-15:
        total += term
        term *= ratio(count)
        count += 1
    # `total` is in units of the first mass, which alone may be too small for a float.
    return min(1.0, max(TINIEST, math.exp(log_mass + math.log(total))))
