"""What a number of partitions, workers and database connections carries, up to 100 M articles a day; what gives first.

    python bench/scale.py
    python bench/scale.py --model-rate 120 --cached-rate 5000 --json out.json
    python bench/throughput.py --only bundle cached --json rates.json; python bench/scale.py --throughput rates.json

A simulation in steps of a second: articles come with the day's swing (the busiest hour has three times the mean), each
partition goes to one worker, a worker scores and stores at the same time, and the database takes transactions of
several writers at once. Its numbers come from this machine:
 - a worker's rates with and without the model: given, or measured by `bench/throughput.py`;
 - the database: `PostgresTrendStore.ingest` by 1 and by 4 writers is measured here; 2 writers are measured too, and the
   simulation must say within a third what they carry before it is trusted with more.

The last line and the exit status say whether it does, and whether 100 M articles a day are carried somewhere.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # `tests.builders` is not part of the installed package

from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres  # noqa: E402
from crosswind.stream.adapters.postgres.engine import connect, migrate  # noqa: E402
from crosswind.stream.adapters.postgres.store import PostgresTrendStore  # noqa: E402
from crosswind.stream.domain.article import Origin  # noqa: E402
from crosswind.stream.domain.ingest import Delivery  # noqa: E402
from tests.builders import scored_article  # noqa: E402

DAY, PEAK, STEP = 86_400, 3.0, 60
BATCH, SECONDS = 512, 4.0
WORST_LAG = 60.0
"""Seconds of lag that still count as carried."""
WITHIN = 1 / 3
DAILY = (1_000_000, 5_000_000, 20_000_000, 100_000_000)


@dataclass(frozen=True)
class Machine:
    """What was measured.

    Attributes:
        model, cached: articles/s of one worker with the model, and with everything but the model.
        one, four: articles/s that one and four database writers store.
    """

    model: float
    cached: float
    one: float
    four: float

    def database(self, writers: int) -> float:
        """Articles/s of several writers: Amdahl's law, its shared part from the two measured points."""
        gain = max(1.0, self.four / self.one)
        shared = min(1.0, max(0.0, (4 / gain - 1) / 3))
        return self.one * writers / (1 + shared * (writers - 1))


@dataclass(frozen=True)
class Plan:
    """Articles a day, and with how much."""

    daily: int
    partitions: int
    workers: int
    databases: int = 1


@dataclass(frozen=True)
class Day:
    """A simulated day: the worst lag, how busy each part was at the worst, and which was the busiest."""

    lag_seconds: float
    busy: dict[str, float]

    @property
    def gives_first(self) -> str:
        """The busiest part."""
        return max(self.busy, key=lambda name: self.busy[name])


def arrivals(daily: int, second: int) -> float:
    """Articles/s at a second of the day: a swing of three fifths about the mean, and one hour at `PEAK`."""
    mean = daily / DAY
    if 14 * 3600 <= second < 15 * 3600:
        return PEAK * mean
    rest = (DAY - PEAK * 3600) / (DAY - 3600)
    return mean * rest * (1 + 0.6 * math.sin(2 * math.pi * (second / DAY - 0.3)))


def simulate(plan: Plan, machine: Machine) -> Day:
    """A day, minute by minute; the workers with the most partitions are the ones that fall behind."""
    active = min(plan.workers, plan.partitions)
    share = math.ceil(plan.partitions / active) / plan.partitions  # of the busiest worker
    database = plan.databases * machine.database(max(1, active // plan.databases))
    waiting_raw = waiting_scored = worst = 0.0
    busy = {"model": 0.0, "worker": 0.0, "database": 0.0}
    for second in range(0, DAY, STEP):
        rate = arrivals(plan.daily, second)
        room = {"model": machine.model / share, "worker": machine.cached / share, "database": database}
        busy = {name: max(busy[name], rate / capacity) for name, capacity in room.items()}
        scored = min(waiting_raw / STEP + rate, room["model"], room["worker"])
        waiting_raw += (rate - scored) * STEP
        stored = min(waiting_scored / STEP + scored, database)
        waiting_scored += (scored - stored) * STEP
        worst = max(worst, waiting_raw / max(scored, 1e-9) + waiting_scored / max(stored, 1e-9))
    return Day(worst, busy)


def smallest(daily: int, machine: Machine, most: int = 4096) -> tuple[Plan, Day]:
    """The fewest workers, with a partition each, and databases, that carry so much."""
    for databases in (1, 2, 4, 8, 16):
        workers = 1
        while workers <= most:
            plan = Plan(daily, workers, workers, databases)
            day = simulate(plan, machine)
            if day.lag_seconds <= WORST_LAG:
                while workers > 1 and simulate(replace(plan, partitions=workers - 1, workers=workers - 1),
                                               machine).lag_seconds <= WORST_LAG:  # fmt: skip
                    workers -= 1
                    plan = Plan(daily, workers, workers, databases)
                return plan, simulate(plan, machine)
            if day.gives_first == "database":
                break
            workers *= 2
    return Plan(daily, most, most, 16), simulate(Plan(daily, most, most, 16), machine)


def store_rate(url: str, writers: int, first: int) -> float:
    """Articles/s that so many writers store at once, each a transaction of `BATCH` after the other."""
    engine = connect(url, pool_size=writers)
    store = PostgresTrendStore(engine)
    base = datetime(2026, 3, 2, tzinfo=UTC)
    deadline = time.monotonic() + SECONDS

    def write(writer: int) -> int:
        done = 0
        while time.monotonic() < deadline:
            start = first + writer * 1_000_000 + done
            store.ingest("live", [_delivery(start + n, writer, base) for n in range(BATCH)])
            done += BATCH
        return done

    begun = time.monotonic()
    with ThreadPoolExecutor(writers) as pool:
        total = sum(pool.map(write, range(writers)))
    rate = total / (time.monotonic() - begun)
    engine.dispose()
    return rate


def _delivery(number: int, partition: int, base: datetime) -> Delivery:
    made = scored_article(number, minutes=number % 600, entities=("Acme",), lang=("en", "de", "zh")[number % 3])
    at = base + timedelta(minutes=number % 600)
    article = replace(made.article, origin=Origin("news.raw", partition, number), published_at=at)
    return Delivery(replace(made, article=article), partition)


def measure() -> dict[int, float]:
    """Writers -> articles/s."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="crosswind-scale-") as folder:
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        url = postgres.start()
        engine = connect(url)
        migrate(engine)
        engine.dispose()
        try:
            for turn, writers in enumerate(tqdm((1, 2, 4), desc="database writers", disable=None)):
                found[writers] = store_rate(url, writers, (turn + 1) * 100_000_000)
        finally:
            postgres.stop()
    return found


def table(machine: Machine) -> list[tuple[Plan, Day]]:
    """The smallest plan for each volume."""
    return [smallest(daily, machine) for daily in DAILY]


def report(rows: Sequence[tuple[Plan, Day]]) -> None:
    """Prints the table."""
    print("\n| articles/day | partitions = workers | databases | worst lag s | gives first | busy there |")
    print("|---:|---:|---:|---:|---|---:|")
    for plan, day in rows:
        most = day.busy[day.gives_first]
        print(f"| {plan.daily:,} | {plan.workers} | {plan.databases} | {day.lag_seconds:.0f} | {day.gives_first} | "
              f"{most:.0%} |")  # fmt: skip


def rates_of(arguments: argparse.Namespace) -> tuple[float, float]:
    """Articles/s of a worker with the model and without."""
    rates = {"worker, bundle": arguments.model_rate, "worker, cached scores": arguments.cached_rate}
    if arguments.throughput:
        jobs = json.loads(arguments.throughput.read_text("utf-8"))["jobs"]
        rates |= {job["job"]: job["rate"] for job in jobs if job["job"] in rates}
    return rates["worker, bundle"], rates["worker, cached scores"]


def main() -> int:
    """Run the bench; 0 where the simulation agrees with what was measured and the largest volume is carried."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-rate", type=float, default=120.0, help="articles/s of a worker with the model")
    parser.add_argument("--cached-rate", type=float, default=5000.0, help="articles/s of a worker without it")
    parser.add_argument("--throughput", type=Path, help="what bench/throughput.py wrote: both rates are taken from it")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model, cached = rates_of(arguments)
    measured = measure()
    machine = Machine(model, cached, measured[1], measured[4])
    said, off = machine.database(2), abs(machine.database(2) / measured[2] - 1)
    print("| database writers | measured articles/s | simulated |\n|---:|---:|---:|")
    for writers, rate in measured.items():
        print(f"| {writers} | {rate:,.0f} | {machine.database(writers):,.0f} |")
    rows = table(machine)
    report(rows)
    agrees, carried = off <= WITHIN, rows[-1][1].lag_seconds <= WORST_LAG
    if arguments.json:
        content = {"measured": measured, "simulated_two": said,
                   "plans": [{**asdict(plan), **asdict(day)} for plan, day in rows]}  # fmt: skip
        arguments.json.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    print(f"two writers: simulated {off:.0%} off what was measured ({'within' if agrees else 'not within'} a third); "
          f"100 M articles a day {'are' if carried else 'are not'} carried")  # fmt: skip
    return 0 if agrees and carried else 1


if __name__ == "__main__":
    sys.exit(main())
