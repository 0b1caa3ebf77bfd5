"""Event study: what prices did around alarms.

Conventions of MacKinlay, Event studies in economics and finance, J. Econ. Lit. 35 (1997), and of alphalens: an alarm is
traded at the first price strictly after it could be known, which is when its minute has closed; returns are forward
from there, and what is normal is learned only from prices before the window that ends with the alarm. So nothing that
is known later can enter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import polars as pl

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.series import MINUTE, Series
from crosswind.stream.replay.inprocess import LATENESS
from crosswind.stream.replay.measures import Floats
from crosswind.stream.replay.truth import Alarm, Event, Prices

ESTIMATION = 120
GAP = 10
"""Steps that teach what is normal, and those left out before the alarm."""


@dataclass(frozen=True, slots=True)
class Study:
    """Around alarms, per step of the price series; step 0 is the first price after the alarm was known.

    Attributes:
        steps: int [2·reach + 1], from -reach to reach.
        mean: cumulative average abnormal return (CAAR) since step -reach.
        low, high: 95 % interval of it, cross-sectional.
        forward: abnormal return from step 0 to `reach`, one per alarm.
        t_value: of the mean of `forward`; NaN under two alarms.
        volatility: spread of returns in the `reach` steps from the alarm on, over that before, one per alarm.
        skipped: alarms without enough prices.
    """

    steps: np.ndarray
    mean: Floats
    low: Floats
    high: Floats
    forward: Floats
    t_value: float
    volatility: Floats
    skipped: int


def study(
    alarms: Sequence[Alarm], prices: Prices, *, reach: int = 10, market: str | None = None,
    lateness: timedelta = LATENESS,
) -> Study:  # fmt: skip
    """The study of alarms whose entity has prices; those of a topic go with the prices of `*` or `market`.

    Args:
        reach: steps before and after the alarm.
        market: the name of an index: abnormal is then what a market model does not explain, else what differs from
            the mean return.
        lateness: event time that a minute stays open after it ends. An alarm bears the beginning of its minute, and
            nobody can know it before the minute has closed.
    """
    index = _returns(prices, market) if market else None
    paths, forward, volatility, skipped = [], [], [], 0
    for alarm in alarms:
        name = alarm.series.entity if alarm.series.entity != ALL else (market or ALL)
        known_at = alarm.fired_at + MINUTE + lateness
        found = _around(_returns(prices, name), None if name == market else index, known_at, reach)
        if found is None:
            skipped += 1
            continue
        path, moves = found
        paths.append(np.cumsum(path))
        forward.append(float(path[reach + 1 :].sum()))
        before, after = moves[:reach].std(), moves[reach + 1 :].std()
        volatility.append(float(after / before) if before > 0 else np.nan)
    steps = np.arange(-reach, reach + 1)
    each = np.array(paths) if paths else np.zeros((0, len(steps)))
    count = len(each)
    mean = each.mean(axis=0) if count else np.full(len(steps), np.nan)
    error = each.std(axis=0, ddof=1) / np.sqrt(count) if count > 1 else np.full(len(steps), np.nan)
    ahead = np.array(forward)
    spread = ahead.std(ddof=1) if count > 1 else 0.0
    t_value = float(ahead.mean() / (spread / np.sqrt(count))) if spread > 0 else float("nan")
    return Study(steps, mean, mean - 1.96 * error, mean + 1.96 * error, ahead, t_value, np.array(volatility), skipped)


def _returns(prices: Prices, name: str) -> tuple[np.ndarray, Floats]:
    """Times (microseconds) of returns, and log returns up to then."""
    frame = prices.frame.filter(pl.col("name") == name)
    times = frame["time"].dt.epoch("us").to_numpy()
    return times[1:], np.diff(np.log(frame["price"].to_numpy()))


def _around(
    own: tuple[np.ndarray, Floats], index: tuple[np.ndarray, Floats] | None, at: datetime, reach: int
) -> tuple[Floats, Floats] | None:
    """Abnormal and plain returns of the steps around an alarm; None: prices do not reach so far."""
    times, moves = own
    zero = int(np.searchsorted(times, int(at.timestamp() * 1_000_000), side="right"))
    begin, end = zero - reach, zero + reach + 1
    stop = begin - GAP
    start = max(0, stop - ESTIMATION)
    if begin < 0 or end > len(moves) or stop - start < 20:
        return None
    here = moves[begin:end]
    if index is None:
        return here - moves[start:stop].mean(), here
    market = _aligned(times, index)
    known, usual = market[start:stop], moves[start:stop]
    spread = known.var()
    beta = float(np.cov(known, usual, bias=True)[0, 1] / spread) if spread > 0 else 0.0
    alpha = usual.mean() - beta * known.mean()
    return here - alpha - beta * market[begin:end], here


def _aligned(times: np.ndarray, index: tuple[np.ndarray, Floats]) -> Floats:
    """The market's returns at the same times, 0 where it has none."""
    at = np.searchsorted(index[0], times)
    at = np.minimum(at, max(len(index[0]) - 1, 0))
    same = index[0][at] == times if len(index[0]) else np.zeros(len(times), bool)
    return np.where(same, index[1][at] if len(index[1]) else 0.0, 0.0)


def falls(
    prices: Prices, *, spreads: float = 4.0, length: timedelta = timedelta(hours=6), market: str | None = None
) -> list[Event]:
    """Labelled events from prices: returns that lie `spreads` robust deviations below what was usual before.

    What is usual is the median absolute deviation of the `ESTIMATION` returns before, so that later prices change
    nothing. An event begins with the price before the fall; falls within `length` of one are part of it.

    Args:
        market: the name of an index that others are held against. It is nobody's news, so no alarm could speak of its
            falls: they are no events.
    """
    found: list[Event] = []
    for name in (name for name in prices.names if name == ALL or name != market):
        times, moves = _returns(prices, name)
        last: datetime | None = None
        for place in range(20, len(moves)):
            before = moves[max(0, place - ESTIMATION) : place]
            scale = 1.4826 * float(np.median(np.abs(before - np.median(before))))
            if scale <= 0 or moves[place] - float(np.median(before)) > -spreads * scale:
                continue
            onset = datetime.fromtimestamp(int(times[place - 1]) / 1e6, tz=prices.frame["time"][0].tzinfo)
            if last is None or onset - last > length:
                series = Series(ALL) if name == ALL else Series(ALL, ALL, name)
                found.append(Event(f"fall of {name}", onset, onset + length, series))
                last = onset
    return sorted(found, key=lambda event: (event.onset, event.name))
