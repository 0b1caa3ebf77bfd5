"""A made year through the replay: one million scored articles, 20 languages, 40 crises, and the rule preview.

    python bench/replay.py [--json FILE] [--articles N] [--days N] [--docs]

`--docs` writes the figures into docs/backtesting.md. Wall-clock seconds are those of this machine as busy as it is; the
CPU seconds beside them are what the work costs. The last line and the exit status say which bars hold.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.figures import write_figures
from crosswind.stream.domain.series import Series
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import Outcome, Plan, replay_in_process
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.log import read_log
from crosswind.stream.replay.made import START, Made, made_feed
from crosswind.stream.replay.measures import Measures, Period, match, measure
from crosswind.stream.replay.preview import Buckets, Preview, preview
from crosswind.stream.replay.truth import alarms_of
from crosswind.stream.service.rules import load_rules

T = TypeVar("T")
REPLAY_SECONDS, PREVIEW_SECONDS = 60.0, 1.0


@dataclass(frozen=True)
class Timed:
    """What was done, and what it cost."""

    what: str
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Bar:
    """A figure that is to stay at or under a limit."""

    name: str
    value: float
    limit: float

    @property
    def holds(self) -> bool:
        """Whether it does."""
        return self.value <= self.limit


def cpu() -> float:
    """CPU seconds of this process and its ended children."""
    parts = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(part.ru_utime + part.ru_stime for part in parts)


def timed(what: str, work: Callable[[], T]) -> tuple[Timed, T]:
    """Does it once."""
    begun, used = time.monotonic(), cpu()
    found = work()
    return Timed(what, time.monotonic() - begun, cpu() - used), found


def buckets(days: int, topics: int) -> Buckets:
    """Stored buckets of so many topics: Poisson news with a rhythm, and a surge now and then."""
    random = np.random.default_rng(5)
    minutes = days * 1440
    rhythm = np.where((np.arange(minutes) // 60 % 24 >= 7) & (np.arange(minutes) // 60 % 24 < 21), 1.3, 0.43)
    articles = random.poisson(rhythm * 4.0 / 60, (topics, minutes))
    negative = random.binomial(articles, 0.25)
    for topic in range(0, topics, 4):
        at = int(random.integers(10 * 1440, minutes - 600))
        more = random.poisson(0.4, 180)
        negative[topic, at : at + 180] += more
        articles[topic, at : at + 180] += more
    series = tuple(Series(f"topic-{n}") for n in range(topics))
    return Buckets(series, START, negative, articles, articles.sum(axis=0))


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, default=1_000_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/backtesting.md")
    given = parser.parse_args()
    rules = load_rules()
    with tempfile.TemporaryDirectory(prefix="crosswind-bench-") as name:
        folder = Path(name)
        made = made_feed(given.articles, given.days, crises=40, seed=2025)
        pq.write_table(made.table, folder / "year.parquet")

        def replay() -> Outcome:
            plan = Plan("bench", rules, folder / "run", workers=2)
            return replay_in_process(lambda: open_files(str(folder / "year.parquet"), Filter(), Judge(Unscored)), plan)

        whole, outcome = timed(f"{len(made.table):,} articles, {given.days} days, 2 processes", replay)
        figures = judged(made, outcome)
    stored = buckets(90, 100)
    preview(rules, stored)  # imports and caches
    looked, seen = timed("rule preview, 90 days × 100 topics", lambda: preview(rules, stored))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    bars = [Bar(f"{len(made.table):,} articles in process, seconds", whole.seconds, REPLAY_SECONDS),
            Bar("rule preview, seconds", looked.seconds, PREVIEW_SECONDS)]  # fmt: skip
    text = tell([whole, looked], bars, outcome, figures, seen, memory)
    print(text)
    if given.json:
        report = {"cores": os.cpu_count(), "timed": [asdict(one) for one in (whole, looked)],
                  "bars": [{**asdict(bar), "holds": bar.holds} for bar in bars],
                  "figures": figures.plain()}  # fmt: skip
        given.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    if given.docs:
        write_figures("backtesting.md", "replay", text)
    missed = [bar.name for bar in bars if not bar.holds]
    print(f"{len(bars) - len(missed)} of {len(bars)} bars hold" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


def judged(made: Made, outcome: Outcome) -> Measures:
    """The shipped rules on the made year."""
    assert outcome.first is not None
    assert outcome.last is not None
    period = Period(outcome.first, outcome.last + timedelta(minutes=1))
    watched = len(set(made.table["topic"].to_pylist())) * 21 + 340
    alarms = alarms_of(read_log(outcome.log)) if outcome.log.exists() else []
    return measure(match(alarms, made.events, period), period, watched)


def tell(rows: list[Timed], bars: list[Bar], outcome: Outcome, figures: Measures, seen: Preview, memory: float) -> str:
    """The tables, Markdown."""
    lines = ["| what | seconds | CPU seconds |", "|---|---:|---:|"]
    lines += [f"| {row.what} | {row.seconds:.1f} | {row.cpu:.1f} |" for row in rows]
    load = os.getloadavg()[0]
    lines += ["", f"{os.cpu_count()} cores, load {load:.1f}; {memory:,.0f} MiB at most in one process; "
              f"{outcome.transitions} transitions, log SHA-256 {outcome.sha256[:16]}; the preview judged "
              f"{seen.judged} of {seen.hours:,} hours exactly and found {len(seen.fired)} alarms.", ""]  # fmt: skip
    lines += ["| shipped rules on the made year | |", "|---|---:|"]
    lines += [f"| crises detected | {figures.detected} of {figures.events} |",
              f"| alarms told, of which true | {figures.alarms}, {figures.true_alarms} |",
              f"| precision, recall, F1 | {figures.precision:.2f}, {figures.recall:.2f}, {figures.f1:.2f} |",
              f"| minutes from onset to alarm, median (quartiles) | {-figures.lead_median:.0f} "
              f"({-figures.lead_q3:.0f}–{-figures.lead_q1:.0f}) |",
              f"| false alarms per series and month | {figures.false_per_series_month:.4f} |",
              f"| NAB score | {figures.nab:.1f} |", ""]  # fmt: skip
    lines += ["| bar | measured | limit | |", "|---|---:|---:|---|"]
    lines += [f"| {bar.name} | {bar.value:.2f} | {bar.limit:.0f} | {'holds' if bar.holds else '**not reached**'} |"
              for bar in bars]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
