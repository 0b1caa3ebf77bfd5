"""What is normal for an hour: level × rhythm of the whole run × the series' own hour of day and hour of week.

Learned from whole hours that ended before the judged one, so it is causal; each hour is capped before it teaches, so
a past crisis does not become normal; each factor is shrunk to the one above it, so one day of data gives a day's
rhythm and five weeks give a week's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

WEEK, DAY = 168, 24
REACH = 12
"""Hours before the judged one that a normal speaks of, too: the longest window of any statistic."""
GAP = 2
"""Whole hours before the judged one that teach nothing: a surge must not explain itself."""
HALF_LIFE = 168.0
"""Hours after which an hour counts half for the level: follows a slow drift, not a day's surge."""
CAP_SPREADS = 3.0
CAP_ROUNDS = 4
PRIOR_EXCESS, PRIOR_EXCESS_WEIGHT = 0.12, 25.0
"""News clusters even where a short history shows none; worth 25 squared expected articles."""
PRIOR_RHO, PRIOR_RHO_WEIGHT = 0.02, 400.0
DAY_WEIGHT, WEEK_WEIGHT = 3.0, 12.0
"""Negatives that an hour's own factor must outweigh before it departs from the factor above it: gamma priors of mean 1
and variance 1/3 and 1/12. What is left of that variance is part of the overdispersion, or the first days of a feed
alarm at every morning that the run does not share (seen: 52 times the budget in the first night)."""
LUMPS = 0.15
"""Overdispersion that fits allow for: a loud hour teaches no more than 1 / LUMPS negatives would."""
USUAL_SHARE, LEAST_LEVEL = 0.25, 0.1
"""Negatives among articles, and negatives per hour, of a series that has shown none yet; worth one negative."""
BLOCKS = (1, 4, 12)
"""Hours of the windows at which overdispersion is measured: clusters last, so long windows are not calmer for free."""


@dataclass(frozen=True, slots=True, eq=False)
class Normal:
    """What `learn` says of one hour, over series.

    Attributes:
        mean: float64 [series, REACH + 1], negatives per hour; column `i` is the hour `i` before the judged one.
        run: float64 [REACH + 1], articles of the whole run per hour, likewise.
        excess: float64 [series, len(BLOCKS)], `a` in variance = mean + a·mean² of a window of so many hours.
        share: float64 [series], negatives among articles, in (0, 1).
        rho: float64 [series], intra-hour correlation of the beta-binomial share, in (0, 1).
        articles: float64 [series], articles per hour.
        typical: float64 [series], negatives per hour over a whole week, a standard deviation above what is known: by it
            thresholds are chosen, and a series that may be louder than it seems needs the higher one.
        hours: whole hours with a running feed that taught it.
    """

    mean: Floats
    run: Floats
    excess: Floats
    share: Floats
    rho: Floats
    articles: Floats
    typical: Floats
    hours: int


def learn(negative: Counts, articles: Counts, run: Counts) -> Normal:
    """The normal of the hour that begins `GAP` hours after the last column.

    Negative binomial counts with variance mean + a·mean² (NB2 of Cameron and Trivedi, Regression Analysis of Count
    Data, 2013, section 3.3), `a` by moments; capping after Tukey, Ann. Math. Stat. 33 (1962); shrinkage of the hourly
    factors is the posterior mean under a gamma prior with mean 1.

    Args:
        negative, articles: int64 [series, hours], hours a multiple of 168, missing ones zero.
        run: int64 [hours], articles of the whole run; where it is 0 the feed was silent and the hour teaches nothing.

    >>> hours = np.tile(np.where(np.arange(24) < 12, 8, 2), 7 * 5)
    >>> normal = learn(hours[None, :], 4 * hours[None, :], 100 * hours)
    >>> [round(float(normal.mean[0, back]), 1) for back in (0, 11)]  # the judged hour is 02:00, eleven before it 15:00
    [8.0, 2.0]
    >>> round(float(normal.share[0]), 2)
    0.25
    """
    heard = run > 0
    age = np.arange(len(run), 0, -1, dtype=np.float64)
    weight = np.where(heard, 0.5 ** (age / HALF_LIFE), 0.0)
    run_level, rhythm = _rhythm(run.astype(np.float64), heard, weight)
    usual = np.maximum(USUAL_SHARE * _level(articles.astype(np.float64), weight, rhythm, 10.0), LEAST_LEVEL)
    capped, expected, factor, doubt = _fit(negative.astype(np.float64), heard, weight, rhythm, usual)
    share, rho = _share(capped, articles.astype(np.float64), weight)
    columns = (GAP - np.arange(REACH + 1)) % WEEK
    excess = _excess(capped, expected, heard) + np.stack([doubt[:, columns[:n]].mean(axis=1) for n in BLOCKS], axis=1)
    unsure = 1.0 / ((_lumped(expected) * expected * weight).sum(axis=1) + 1.0)  # of the level
    excess += unsure[:, None]
    level = ((articles * weight).sum(axis=1) + 0.1) / max(float((weight * rhythm).sum()), 1e-9)
    return Normal(
        factor[:, columns], run_level * rhythm[columns], excess, share, rho, level * rhythm[columns[0]],
        factor.mean(axis=1) * (1.0 + np.sqrt(unsure)), int(heard.sum()),
    )  # fmt: skip


def _rhythm(run: Floats, heard: NDArray[np.bool_], weight: Floats) -> tuple[float, Floats]:
    """The run's level and its factor per hour [hours], hour of week over hour of day over flat."""
    total = max(float(weight.sum()), 1e-9)
    mean = max(float((run * weight).sum()) / total, 1e-9)
    ratio = np.where(heard, np.minimum(run / mean, 4.0), 0.0)
    of_day = (_cells(ratio, DAY) + 1.0) / (_cells(heard, DAY) + 1.0)
    rhythm = _spread(of_day, len(run))
    of_week = (_cells(ratio / rhythm, WEEK) + 1.0) / (_cells(heard, WEEK) + 1.0)
    rhythm = rhythm * _spread(of_week, len(run))
    level = float((run * weight).sum()) / max(float((rhythm * weight).sum()), 1e-9)
    return level, rhythm


def _fit(
    counts: Floats, heard: NDArray[np.bool_], weight: Floats, rhythm: Floats, usual: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """Capped counts and expected counts, [series, hours], zero where unheard; expected counts of any week's hour,
    [series, 168], by column; and the relative variance that is left of each hour's factor, likewise."""
    base = np.where(heard, rhythm, 0.0)
    expected = _level(counts, weight, base, usual)[:, None] * base
    for _ in range(CAP_ROUNDS):
        capped = np.where(heard, np.minimum(counts, _cap(expected)), 0.0)
        expected = _level(capped, weight, base, usual)[:, None] * base
    of_day, day_doubt = _factor(capped, expected, DAY, DAY_WEIGHT)
    expected = expected * _spread(of_day, counts.shape[1])
    of_week, week_doubt = _factor(capped, expected, WEEK, WEEK_WEIGHT)
    factor = _spread(of_day, WEEK) * of_week
    shape = base * _spread(factor, counts.shape[1])
    capped = np.where(heard, np.minimum(counts, _cap(expected)), 0.0)
    level = _level(capped, weight, shape, usual)[:, None]
    return capped, level * shape, level * rhythm[:WEEK] * factor, _spread(day_doubt, WEEK) + week_doubt


def _factor(counts: Floats, expected: Floats, period: int, prior: float) -> tuple[Floats, Floats]:
    """Posterior mean and relative variance of each phase's factor, [series, period]; the hours beside it teach too."""
    calm = _lumped(expected)
    seen, taught = (_beside(_cells(values * calm, period)) + prior for values in (counts, expected))
    return seen / taught, 1.0 / taught


def _beside(cells: Floats) -> Floats:
    """Each cell with the one before and the one after it, [..., period]."""
    return np.asarray(cells + np.roll(cells, 1, axis=-1) + np.roll(cells, -1, axis=-1))


def _lumped(expected: Floats) -> Floats:
    """Weight of a count whose variance is expected·(1 + LUMPS·expected): McCullagh and Nelder (1989), section 9.2."""
    return np.asarray(1.0 / (1.0 + LUMPS * expected))


def _cap(expected: Floats) -> Floats:
    return np.asarray(expected + CAP_SPREADS * np.sqrt(expected * (1.0 + 0.3 * expected)) + 1.0)


def _level(counts: Floats, weight: Floats, shape: Floats, usual: "Floats | float") -> Floats:
    """Posterior mean of the level under a gamma prior of mean `usual` that is worth one negative."""
    return np.asarray(((counts * weight).sum(axis=1) + 1.0) / ((shape * weight).sum(axis=-1) + 1.0 / usual))


def _cells(values: "Floats | NDArray[np.bool_]", period: int) -> Floats:
    """Sums over hours of one phase: [..., hours] to [..., period]."""
    return np.asarray(values.reshape(*values.shape[:-1], -1, period).sum(axis=-2), np.float64)


def _spread(cells: Floats, hours: int) -> Floats:
    """[..., period] repeated to [..., hours]."""
    return np.tile(cells, hours // cells.shape[-1])


def _excess(counts: Floats, expected: Floats, heard: NDArray[np.bool_]) -> Floats:
    """`a` of windows of `BLOCKS` hours [series, len(BLOCKS)], by moments, shrunk to the next shorter window's."""
    found, prior = [], np.full(len(counts), PRIOR_EXCESS)
    for block in BLOCKS:
        rest = _sums(np.where(heard, counts - expected, 0.0), block)
        mean = _sums(expected, block)
        over = (rest**2 - mean).sum(axis=1) + prior * PRIOR_EXCESS_WEIGHT
        prior = np.clip(over / ((mean**2).sum(axis=1) + PRIOR_EXCESS_WEIGHT), 0.01, 4.0)
        found.append(prior)
        prior = prior * 0.7
    return np.stack(found, axis=1)


def _sums(values: Floats, block: int) -> Floats:
    return np.asarray(values.reshape(len(values), -1, block).sum(axis=2))


def _share(negative: Floats, articles: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Share and intra-hour correlation [series], by moments (Williams, Biometrics 31, 1975)."""
    articles = np.maximum(articles, negative)
    share = ((negative * weight).sum(axis=1) + 1.0) / ((articles * weight).sum(axis=1) + 4.0)
    share = np.clip(share, 0.005, 0.95)
    spread = (share * (1.0 - share))[:, None]
    over = ((negative - articles * share[:, None]) ** 2 - articles * spread).sum(axis=1)
    pairs = (articles * (articles - 1.0) * spread).sum(axis=1)
    rho = (over + PRIOR_RHO * PRIOR_RHO_WEIGHT) / (pairs + PRIOR_RHO_WEIGHT)
    taught = (articles / (1.0 + PRIOR_RHO * articles) * weight).sum(axis=1)
    return share, np.clip(rho, 0.0, 0.5) + 1.0 / (taught + 5.0)  # the share itself is known so well only
