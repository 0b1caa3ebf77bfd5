"""Seeded newsrooms for `bench/alerts.py` and `bench/calibrate_alerts.py`: rhythms, clusters, hazards, known crises.

Tuning uses seeds below `TEST_SEEDS`, tests those from there on; nothing that was tuned has seen a test seed.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.detect.season import DAY, REACH, WEEK

Counts = NDArray[np.int64]
TEST_SEEDS = 1_000_000
WARM = REACH * 60
"""Minutes at the beginning that no statistic can judge: windows reach back so far."""
YOUTH = 8 * 60
"""Minutes that a young feed has run when it is first judged: six hours teach, two may not."""
HISTORY_WEEKS = 6
SOURCES = 40
SIZES = {"small": 2.0, "medium": 4.0, "large": 10.0}
"""Extra negatives per hour at the height, in spreads of the usual hour, at least so many articles."""
SERIES = 40
CLUSTERS = (0.05, 0.5)
"""Variance of the gamma noise of an hour, from calm to lumpy series."""


@dataclass(frozen=True)
class Crisis:
    """A surge: from `onset`, minutes after the test begins, for `minutes`."""

    row: int
    onset: int
    minutes: int
    kind: str


@dataclass
class Newsroom:
    """Counts of many series: hourly history, then minutes.

    Attributes:
        negative, fresh, articles, sources: int64 [series, minutes]; `fresh` without copies; `sources` in the last hour.
        run: int64 [minutes].
        hours: int64 [3, series, HISTORY hours]: negatives, articles, articles of the run.
        hazard: per series, what is odd about it although nothing has happened.
        excess: float64 [series], `a` of the hourly rate's own variance a·rate²: how much news clusters.
    """

    negative: Counts
    fresh: Counts
    articles: Counts
    sources: Counts
    run: Counts
    hours: Counts
    hazard: list[str]
    excess: NDArray[np.float64]
    crises: list[Crisis] = field(default_factory=list)


def newsroom(seed: int, *, weeks: int = 2, crises: bool = False, hazards: bool = True, young: bool = False) -> Newsroom:
    """One newsroom; the same for the same arguments. Minutes begin after `HISTORY_WEEKS` weeks of hours.

    A young one has no history: its feed began `YOUTH` minutes before the first judged minute.
    """
    rng = np.random.default_rng(seed)
    hours = (HISTORY_WEEKS + weeks) * WEEK
    level = 10.0 ** rng.uniform(-1.0, 1.8, SERIES)  # articles an hour
    share = np.clip(rng.normal(0.25, 0.07, SERIES), 0.08, 0.5)
    excess = rng.uniform(*CLUSTERS, SERIES)
    rate = level[:, None] * _rhythm(rng, hours) * _clusters(rng, hours, excess)
    hazard = [""] * SERIES
    if hazards:
        _hazards(rng, rate, hazard, hours, weeks)
    if hazard.count("outage"):
        begin = (HISTORY_WEEKS * WEEK) + int(rng.integers(24, weeks * WEEK - 24))
        rate[:, begin : begin + int(rng.integers(3, 10))] = 0.0
    others = 30.0 * rate.mean(axis=0) / max(rate.mean(), 1e-9)
    moody = np.clip(share[:, None] * np.exp(rng.normal(0.0, 0.12, (SERIES, hours))), 0.0, 0.9)
    first = HISTORY_WEEKS * WEEK
    past_articles = rng.poisson(rate[:, :first])
    past_negative = rng.binomial(past_articles, moody[:, :first])
    _past_crises(rng, past_negative, past_articles)
    past_run = past_articles.sum(axis=0) + rng.poisson(others[:first])
    minute = np.repeat(np.arange(first, hours), 60)
    articles = rng.poisson(rate[:, minute] / 60.0)
    negative = rng.binomial(articles, moody[:, minute])
    room = Newsroom(negative, negative.copy(), articles, articles, np.zeros(0, np.int64),
                    np.stack([past_negative, past_articles, np.broadcast_to(past_run, past_articles.shape)]),
                    hazard, 0.49 * excess + 0.0225)  # fmt: skip
    narrow = np.zeros(articles.shape, np.int64)
    if hazards:
        _copies(rng, room, narrow)
    if crises:
        _crises(rng, room, rate, share, first, weeks)
    room.run = room.articles.sum(axis=0) + rng.poisson(others[minute] / 60.0)
    if young:
        _forget(room)
    room.sources = _sources(rng, room.articles - narrow) + (_trailing(narrow, 60) > 0)
    return room


def _forget(room: Newsroom) -> None:
    """Nothing was heard before the feed began."""
    room.hours[:] = 0
    for counts in (room.negative, room.fresh, room.articles, room.run):
        counts[..., : WARM - YOUTH] = 0


def _rhythm(rng: np.random.Generator, hours: int) -> NDArray[np.float64]:
    """Day and week: every series has its time zone, a quieter weekend, and some hours of its own."""
    hour = np.arange(hours)
    far = rng.integers(0, 24, SERIES)[:, None] * (rng.random(SERIES)[:, None] < 0.3)
    zone = far + rng.integers(-2, 3, SERIES)[:, None]
    day = 1.0 + rng.uniform(0.5, 0.9, SERIES)[:, None] * np.sin(2 * np.pi * (hour[None, :] + zone - 8) / DAY)
    weekend = np.where((hour // DAY) % 7 >= 5, rng.uniform(0.25, 0.7, SERIES)[:, None], 1.0)
    drift = np.exp(rng.normal(0.0, 0.04, SERIES)[:, None] * hour / WEEK)
    rhythm = np.maximum(day, 0.05) * weekend * drift
    return np.asarray(rhythm / rhythm.mean(axis=1, keepdims=True))


def _clusters(rng: np.random.Generator, hours: int, excess: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gamma noise that lasts a few hours, and busy days that all series share."""
    shape = 1.0 / excess
    noise = rng.gamma(shape[:, None], 1.0 / shape[:, None], (SERIES, hours))
    noise = 0.7 * noise + 0.3 * np.repeat(rng.gamma(4.0, 0.25, (SERIES, hours // 4)), 4, axis=1)
    days = np.repeat(np.exp(rng.normal(0.0, 0.15, hours // DAY)), DAY)
    return np.asarray(noise * days)


def _hazards(rng: np.random.Generator, rate: NDArray[np.float64], hazard: list[str], hours: int, weeks: int) -> None:
    kinds = ["", "", "", "drift", "language shift", "syndication", "busy hours", "outage"]
    first = HISTORY_WEEKS * WEEK
    chosen = rng.integers(0, len(kinds) - 1, SERIES)
    if rng.random() < 0.5:
        chosen[0] = len(kinds) - 1  # the feed of the whole run fails once
    for row, kind in enumerate(chosen):
        hazard[row] = kinds[kind]
        if kinds[kind] == "drift":
            rate[row] *= np.linspace(1.0, rng.uniform(1.5, 2.5), hours)
        elif kinds[kind] == "language shift":
            rate[row, first + int(rng.integers(12, weeks * WEEK - 24)) :] *= rng.uniform(1.3, 1.8)
        elif kinds[kind] == "busy hours":
            for _ in range(weeks):
                at = first + int(rng.integers(0, weeks * WEEK - 6))
                rate[row, at : at + int(rng.integers(2, 6))] *= rng.uniform(1.5, 3.0)


def _past_crises(rng: np.random.Generator, negative: Counts, articles: Counts) -> None:
    """A third of the series had a crisis in their history; it must not become normal."""
    for row in np.flatnonzero(rng.random(SERIES) < 0.33):
        at = int(rng.integers(0, negative.shape[1] - 30))
        length = int(rng.integers(4, 30))
        more = rng.poisson(5.0 + 6.0 * negative[row].mean(), length)
        negative[row, at : at + length] += more
        articles[row, at : at + length] += more


def _copies(rng: np.random.Generator, room: Newsroom, narrow: Counts) -> None:
    """One negative story that many outlets print word for word within two hours, once a week."""
    length = room.negative.shape[1]
    for row in [row for row, kind in enumerate(room.hazard) if kind == "syndication"]:
        for _ in range(max(1, length // (WEEK * 60))):
            at = int(rng.integers(0, length - 180)) + rng.integers(0, 120, int(rng.integers(15, 60)))
            np.add.at(room.negative[row], at, 1)
            np.add.at(room.articles[row], at, 1)
            room.fresh[row, at.min()] += 1
            if rng.random() < 0.5:
                np.add.at(narrow[row], at, 1)


def _crises(
    rng: np.random.Generator, room: Newsroom, rate: NDArray[np.float64], share: NDArray[np.float64], first: int,
    weeks: int,
) -> None:  # fmt: skip
    kinds = [*SIZES, "slow", "night or weekend", "low volume"]
    quiet = np.flatnonzero(rate.mean(axis=1) < 1.5)
    for week in range(weeks):
        for row in range(SERIES):
            kind = kinds[int(rng.integers(0, len(kinds) - 1))]
            if row in quiet and rng.random() < 0.7:
                kind = "low volume"
            begin = week * WEEK + int(rng.integers(12, WEEK - 36))
            if kind == "night or weekend":
                near = rate[row, first + begin - 12 : first + begin + 13]
                begin += int(near.argmin()) - 12
            now = rate[row, first + week * WEEK : first + (week + 1) * WEEK]
            _crisis(rng, room, row, begin, kind, float(now.mean() * share[row]))


def _crisis(rng: np.random.Generator, room: Newsroom, row: int, begin: int, kind: str, usual: float) -> None:
    size = SIZES.get(kind, 4.0)
    height = size * (1.0 + np.sqrt(usual) + 0.5 * usual)
    minutes = int(rng.uniform(3, 8) * 60) * (3 if kind == "slow" else 1)
    onset = begin * 60 + int(rng.integers(0, 60))
    along = np.arange(minutes) / minutes
    shape = along if kind == "slow" else np.minimum(along / 0.15, 1.0) * (1.0 - along) ** 0.7
    more = rng.poisson(height / 60.0 * shape)
    if more.sum() < 8:
        more[np.sort(rng.integers(0, minutes, 10))] += 1
    onset_at = onset + int(np.flatnonzero(more)[0])
    stop = min(onset + minutes, room.negative.shape[1])
    bad = rng.binomial(more[: stop - onset], 0.85)
    room.articles[row, onset:stop] += more[: stop - onset]
    room.negative[row, onset:stop] += bad
    room.fresh[row, onset:stop] += bad
    room.crises.append(Crisis(row, onset_at, stop - onset_at, kind))


def _sources(rng: np.random.Generator, articles: Counts) -> Counts:
    """Distinct sources in the last hour: how many of 40 outlets of unequal size appear among so many articles."""
    weights = 1.0 / np.arange(1, SOURCES + 1)
    weights /= weights.sum()
    hour = _trailing(articles, 60)
    most = int(hour.max()) + 1
    expected = (1.0 - (1.0 - weights[None, :]) ** np.arange(most)[:, None]).sum(axis=1)
    wobble = rng.normal(0.0, 0.7, (SERIES, articles.shape[1] // 60 + 1))
    found = np.rint(expected[hour] + np.repeat(wobble, 60, axis=1)[:, : hour.shape[1]]).astype(np.int64)
    return np.minimum(np.maximum(found, (hour > 0).astype(np.int64)), hour)


def _trailing(counts: Counts, width: int) -> Counts:
    sums = np.concatenate([np.zeros((len(counts), width), np.int64), np.cumsum(counts, axis=1)], axis=1)
    return np.asarray(sums[:, width:] - sums[:, :-width])
