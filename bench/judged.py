"""Every statistic over a newsroom, minute by minute: scores of ours and of the rules that rivals publish."""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
from numpy.typing import NDArray

from bench.scenarios import WARM, Newsroom
from crosswind.stream.domain.detect.detector import Detector
from crosswind.stream.domain.detect.season import GAP, WEEK, learn
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.panel import WEEKS

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
REARM = 60
LEAST_HEADLINES, LEAST_SOURCES, LEAST_HOURS = 6, 3, 6


def scores(room: Newsroom, detectors: Mapping[str, Detector]) -> tuple[dict[str, Floats], Floats]:
    """Scores [series, minutes - WARM] per detector, the evidence rule applied; and typical negatives per hour, likewise
    by hour [series, hours]. Raw counts teach, fresh ones (copies counted once) are judged, as the engine does."""
    raw, fresh, articles = (_running(room.negative), _running(room.fresh),
                            _running(room.articles - (room.negative - room.fresh)))  # fmt: skip
    run = _running(room.run[None, :])[0]
    sums = (raw, _running(room.articles), run[None, :])
    hours = [np.concatenate([past, np.diff(s[:, ::60], axis=1)], axis=1)
             for past, s in zip((room.hours[0], room.hours[1], room.hours[2][:1]), sums, strict=True)]  # fmt: skip
    history = room.hours.shape[2]
    count = (room.run.shape[0] - WARM) // 60
    found = {name: np.zeros((len(raw), count * 60)) for name in detectors}
    typical = np.zeros((len(raw), count))
    for hour in range(count):
        begin = WARM + hour * 60
        stop = history + begin // 60 - GAP
        part = [h[:, stop - WEEKS * WEEK : stop] for h in hours]
        normal = learn(part[0], part[1], part[2][0])
        at = slice(begin - WARM, begin + 61)
        view = View(fresh[:, at], articles[:, at], run[at], normal, part[0], 60)
        typical[:, hour] = normal.typical
        if normal.hours < LEAST_HOURS:
            continue
        for name, detector in detectors.items():
            seen = detector.scores(view)
            ends = np.arange(begin + 1, begin + 61)
            headlines = fresh[:, ends] - np.take_along_axis(fresh, ends - seen.width, axis=1)
            enough = (headlines >= LEAST_HEADLINES) & (room.sources[:, begin : begin + 60] >= LEAST_SOURCES)
            found[name][:, hour * 60 : hour * 60 + 60] = np.where(enough, seen.score, 0.0)
    return found, typical


def _running(counts: Counts) -> Counts:
    return np.concatenate([np.zeros((len(counts), 1), np.int64), np.cumsum(counts, axis=1)], axis=1)


def alarms(above: NDArray[np.bool_]) -> Counts:
    """Minutes at which one series alarms: above its threshold, after `REARM` minutes below it."""
    at = np.flatnonzero(above)
    if not len(at):
        return at
    return at[np.concatenate([[True], np.diff(at) > REARM])]


class Past:
    """Trailing sums of hours, with enough history for the rivals' long windows; [series, minutes - WARM]."""

    def __init__(self, room: Newsroom) -> None:
        history = room.hours.shape[2] * 60
        spread = [np.repeat(room.hours[n] / 60.0, 60, axis=1) for n in (0, 1)]
        whole = [np.concatenate([past, now], axis=1)
                 for past, now in zip(spread, (room.negative, room.articles), strict=True)]  # fmt: skip
        self._sums = [np.pad(np.cumsum(each, axis=1), ((0, 0), (1, 0))) for each in whole]
        self._ends = np.arange(history + WARM + 1, history + room.run.shape[0] + 1)
        self.sources = room.sources[:, WARM:]
        self._fresh = _running(room.fresh)
        self._hourly = [_by_the_hour(sums) for sums in self._sums]

    def sum(self, what: int, width: int, lag: int = 0) -> Floats:
        """Negatives (0) or articles (1) of the `width` minutes that ended `lag` minutes ago."""
        ends = self._ends - lag
        sums = self._sums[what]
        return np.asarray(sums[:, ends] - sums[:, ends - width])

    def enough(self, width: int) -> NDArray[np.bool_]:
        """The evidence that our own rule asks for, in a window of so many minutes."""
        ends = np.arange(WARM + 1, self._fresh.shape[1])
        headlines = self._fresh[:, ends] - self._fresh[:, np.maximum(ends - width, 0)]
        return np.asarray((headlines >= LEAST_HEADLINES) & (self.sources >= LEAST_SOURCES))

    def moments(self, what: int, days: int) -> tuple[Floats, Floats]:
        """Mean and standard deviation of the hourly sums of the preceding days."""
        mean, square = self._hourly[what]
        hours, count = 24 * days, len(self._ends)
        first = self._ends[0] - 60
        ends = slice(first - 1, first - 1 + count)
        before = slice(ends.start - hours * 60, ends.stop - hours * 60)
        mean, square = ((sums[:, ends] - sums[:, before]) / hours for sums in (mean, square))
        return mean, np.sqrt(np.maximum(square - mean**2, 0.0))


def _by_the_hour(sums: Floats) -> tuple[Floats, Floats]:
    """Of the hours that end at each minute, in steps of an hour: running totals, and those of squares."""
    hour = np.concatenate([sums[:, 1:60], sums[:, 60:] - sums[:, :-60]], axis=1)
    steps = hour.reshape(len(hour), -1, 60)
    total, square = np.cumsum(steps, axis=1), np.cumsum(steps**2, axis=1)
    return total.reshape(hour.shape), square.reshape(hour.shape)


def _rate(past: Past) -> Floats:
    ratio = past.sum(1, 60) / np.maximum(past.sum(1, WEEK * 60, 60) / WEEK, 0.05)
    return np.where(past.sources >= 6, ratio, 0.0)


def _five_sigma(past: Past) -> Floats:
    mean, spread = past.moments(0, 14)
    return np.maximum((past.sum(0, 60) - mean) / np.maximum(spread, 0.3), 0.0)


def _day_above_week(past: Past) -> Floats:
    week = [past.sum(0, 1440, 1440 * day) for day in range(7)]
    spread = np.std(week, axis=0)
    return np.maximum((week[0] - np.mean(week, axis=0)) / np.maximum(spread, 0.5), 0.0)


def _share_points(past: Past, least: int = 5) -> Floats:
    now = past.sum(0, 60) / np.maximum(past.sum(1, 60), 1.0)
    usual = past.sum(0, WEEK * 60, 60) / np.maximum(past.sum(1, WEEK * 60, 60), 1.0)
    return np.where(past.sum(1, 60) >= least, np.maximum(now - usual, 0.0), 0.0)


def _share_level(past: Past, least: int = 5) -> Floats:
    return np.where(past.sum(1, 120) >= least, past.sum(0, 120) / np.maximum(past.sum(1, 120), 1.0), 0.0)


def _z(past: Past) -> Floats:
    mean, spread = past.moments(0, 7)
    return np.maximum((past.sum(0, 60) - mean) / np.maximum(spread, 0.3), 0.0)


def _plain_ewma(past: Past) -> Floats:
    mean, spread = past.moments(0, 7)
    smooth = sum((0.3 * 0.7**n * past.sum(0, 60, 60 * n) for n in range(8)), np.zeros(1))
    return np.maximum((smooth - mean) / np.maximum(spread * np.sqrt(0.3 / 1.7), 0.2), 0.0)


RIVALS: Mapping[str, tuple[Callable[[Past], Floats], int]] = {
    "2x rate, 6 sources": (_rate, 60),
    "5 sigma, 14 days": (_five_sigma, 60),
    "24 h over 7 d + 2 sd": (_day_above_week, 1440),
    "negative share + points": (_share_points, 60),
    "same, 15 articles at least": (partial(_share_points, least=15), 60),
    "negative share in 2 h": (_share_level, 120),
    "same of 15 or more in 2 h": (partial(_share_level, least=15), 120),
    "plain z-score": (_z, 60),
    "plain EWMA": (_plain_ewma, 480),
}
"""The rules that rivals publish, each as a score whose threshold is theirs to tune, and the minutes that it looks at. A
share of few articles is often 1, which no threshold can tell apart; so the two share rules are also given a floor."""


def rival_scores(room: Newsroom) -> dict[str, Floats]:
    """Scores [series, minutes - WARM] of each, with the evidence that our rule asks for, which they do not publish."""
    past = Past(room)
    return {name: np.where(past.enough(width), rule(past), 0.0) for name, (rule, width) in RIVALS.items()}
