"""Articles per second and latency, end to end: real Kafka, real Postgres, from `news.raw` to the bucket.

    python bench/throughput.py                     real Apache Kafka (Maven and Java 17 needed); some ten minutes
    python bench/throughput.py --embedded          the embedded broker; one worker only
    python bench/throughput.py --only cached bare latency
    python bench/throughput.py --small             a few hundred articles each: does it run at all?
    python bench/throughput.py --model-dir runs/shipped --json out.json
    python bench/throughput.py --docs              the figures go into docs/operations.md

Measured on one machine, one after the other, in one run, from a backlog of the sample feed's headlines (`--only`):
 - `bundle`: the real worker with the model on --device, which our session has in all other jobs, too; `bundle-cpu`: on
   ONNX Runtime; `cached`: every score known beforehand, so everything but the model; with the CPU that each of their
   stages, Kafka and Postgres use;
 - `bare`: an aiokafka loop that reads the topic of `cached` and counts: the ceiling of the client underneath;
 - `pair`: two workers on two partitions, scores known; `history`: `cached` once more with 1 M articles stored;
 - `naive-transformers`, `naive`: the same job as people write it today: kafka-python, one message after the other, one
   commit per row; with transformers' `pipeline()`, and with our own session; `naive-teacher`: with --teacher (the
   shipped bundle was distilled from none: it is its own);
 - `quix-transformers`, `quix`: Quix Streams with batches, the same two. It pins an older pydantic, so it is installed
   into a throw-away environment while the bench runs, where a registry answers;
 - `told`: `bundle-cpu`, which is the default, with stories and without them, in turns, until alerts are evaluated: what
   stories cost the stream (where the model is faster it is a larger share: `--told-device` openvino);
 - `latency`: articles sent at half of the rates of `cached` and `bundle`, from `send` until their bucket shows them;
 - `alert`: from the article that closes a minute to its alert, at 50 articles/s.

transformers gets the bundle's own weights in fp32: a MODEL_DIR (--model-dir, or the environment's MODEL_DIR), else what
`crosswind restore` makes of the bundle. A rate runs from the moment when a tenth of the articles is done, so that no
start-up is in it. The last line and the exit status say which bars hold.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from aiokafka import AIOKafkaConsumer

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # `tests.kafka_server` and `bench.jobs` are not part of the installed package

from bench.figures import write_figures  # noqa: E402
from bench.jobs import rivals  # noqa: E402 - stages that a rival has no packages for are imported where they are used
from crosswind.export.bundle import resolve  # noqa: E402
from crosswind.settings import load_settings  # noqa: E402

CACHED_PER_SECOND, TIMES_NAIVE, TIMES_QUIX, TIMES_TEACHER, TIMES_ONE, ALERT_SECONDS = 5000.0, 6.0, 5.0, 12.0, 1.7, 2.0
NOT_BEHIND, FLAT, WITH_STORIES = 1.0, 0.9, 0.85
QUICK = 5
"""Times as many articles for batches on our session: else they are through in two seconds."""
PAIR_CORES = 4
"""Below that, two workers share with Kafka and Postgres what one fills already: measured, but no bar."""
ALERT_RATE = 50.0
TOLD_SECONDS = 1200.0
"""Event time of the articles that get stories: the last minutes do not close."""
TOLD_ROUNDS = 4
"""With stories and without, in turns: what a machine does better or worse for a while must not look like their cost."""
UNTOLD = "worker, bundle, stories off"
WORKER, ON_CPU, CACHED = "worker, bundle", "worker, bundle, --device cpu", "worker, cached scores"
LABELS = {
    "bundle": WORKER, "bundle-cpu": ON_CPU, "cached": CACHED, "bare": "bare aiokafka",
    "pair": "two workers, cached scores",
    "history": "worker, cached scores, long history",
    "naive-transformers": "naive consumer, transformers", "naive": "naive consumer, our session",
    "naive-teacher": "naive consumer, transformers, the teacher",
    "quix-transformers": "Quix Streams, transformers", "quix": "Quix Streams, our session",
    "told": "worker, bundle, stories on",
    "latency": "latency at half load", "alert": "ingest to alert",
}  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much of everything; times are seconds."""

    cached: int = 60_000
    model: int = 1_200
    told: int = 6_000
    one_by_one: int = 300
    history: int = 1_000_000
    latency: float = 12.0
    alert: float = 25.0


SMALL = Sizes(cached=1_500, model=150, told=600, one_by_one=60, history=20_000, latency=3.0, alert=12.0)


@dataclass(frozen=True)
class Bar:
    """What must hold; `most`: `reach` is an upper bound."""

    name: str
    value: float
    reach: float
    most: bool = False

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        return self.value <= self.reach if self.most else self.value >= self.reach


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle's folder")
    parser.add_argument("--model-dir", type=Path, default=os.environ.get("MODEL_DIR"), help="the bundle's weights")
    parser.add_argument("--device", default="openvino,cpu", help="where our session runs: see `crosswind worker`")
    parser.add_argument("--told-device", default="cpu", help="the same for `told`")
    parser.add_argument("--teacher", type=Path, help="a MODEL_DIR: the model that the bundle was distilled from")
    for name in ("cached", "model", "one-by-one", "history"):
        parser.add_argument(f"--{name}-articles", type=int, help="backlog of jobs of that kind")
    parser.add_argument("--quix-environment", type=Path, help="folder to keep that environment in, for the next time")
    parser.add_argument("--small", action="store_true", help="very small sizes: no figure means anything")
    parser.add_argument("--embedded", action="store_true", help="the embedded broker instead of Apache Kafka")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/operations.md")
    parser.add_argument("--only", nargs="+", choices=list(LABELS), default=list(LABELS), help="these parts only")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    parser.add_argument("--stages", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def run_job(name: str, stages: Path) -> int:
    """What a process of a job does."""
    if name in rivals.JOBS:
        return rivals.JOBS[name](load_settings())
    from bench.jobs import workers

    return {"bundle": workers.bundle, "cached": workers.cached}[name](load_settings(), stages)


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    sizes = SMALL if arguments.small else Sizes()
    given = {"cached": arguments.cached_articles, "model": arguments.model_articles,
             "one_by_one": arguments.one_by_one_articles, "history": arguments.history_articles}  # fmt: skip
    return Sizes(**{**asdict(sizes), **{name: value for name, value in given.items() if value}})


class Run:
    """The parts of one run; what was measured is in `found` and `waits`, what was left out is printed."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        from bench.jobs.latency import Latency
        from bench.jobs.stage import Measured

        self._arguments, self._folder, self._sizes = arguments, folder, sizes_of(arguments)
        self.found: list[Measured] = []
        self.waits: list[Latency] = []
        self.seconds: dict[str, float] = {}
        self._python: Path | None = None

    def measure(self) -> None:
        """Every part that was asked for, one after the other."""
        from bench.jobs.stage import services

        wanted: list[str] = self._arguments.only
        self._prepare(wanted)
        model = str(resolve(self._arguments.model).absolute())
        with services(self._arguments.embedded, model, self._arguments.device, self._folder) as where:
            self._where = where
            for name in LABELS:
                why = self._missing(name) if name in wanted else ""
                if why:
                    print(f"{LABELS[name]}: left out, {why}", flush=True)
                elif name in wanted:
                    started = time.monotonic()
                    self._part(name)()
                    self.seconds[name] = round(time.monotonic() - started, 1)

    def _prepare(self, wanted: Sequence[str]) -> None:
        if {"naive-transformers", "quix-transformers"} & set(wanted):
            weights = self._arguments.model_dir
            self._weights = weights or rivals.restore(self._arguments.model, self._folder / "weights")
        if any(name.startswith("quix") for name in wanted):
            given = self._arguments.quix_environment
            self._python = rivals.quix_python(given or self._folder / "quix-environment")

    def _missing(self, name: str) -> str:
        """Why a part cannot be measured; empty: it can."""
        rate = self._rates()
        reasons = {
            "pair": "the embedded broker is for one worker" if self._arguments.embedded else "",
            "bare": "" if CACHED in rate else "it reads what `cached` left",
            "latency": "" if {CACHED, WORKER} & set(rate) else "it needs the rate of `cached` or `bundle`",
            "naive-teacher": "" if self._arguments.teacher else "no --teacher was given",
        }
        quix = name.startswith("quix") and self._python is None
        return "it is not installed" if quix else reasons.get(name, "")

    def _part(self, name: str) -> Callable[[], None]:
        own = {
            "bare": self._bare,
            "history": self._history,
            "latency": self._latency,
            "alert": self._alert,
            "told": self._told,
        }
        return own.get(name, lambda: self._job(name))

    def _rates(self) -> dict[str, float]:
        return {one.job: one.rate for one in self.found}

    def _job(self, name: str) -> None:
        from bench.jobs.stage import measure_job

        sizes = self._sizes
        number = {"cached": sizes.cached, "pair": sizes.cached, "naive-transformers": sizes.one_by_one,
                  "naive-teacher": sizes.one_by_one, "bundle": QUICK * sizes.model, "bundle-cpu": QUICK * sizes.model,
                  "quix": QUICK * sizes.model}.get(name, sizes.model)  # fmt: skip
        if name.endswith("transformers"):
            os.environ[rivals.MODEL_DIR] = str(Path(self._weights).absolute())
        if name == "naive-teacher":
            os.environ[rivals.MODEL_DIR] = str(self._arguments.teacher.absolute())
        kind = {"pair": "cached", "naive-teacher": "naive-transformers", "bundle-cpu": "bundle"}.get(name)
        self.found.append(measure_job(
            name, LABELS[name], number, self._where, kind=kind, copies=2 if name == "pair" else 1,
            partitions=2 if name == "pair" else 4, python=self._python if name.startswith("quix") else None,
            settings={"device": "cpu"} if name == "bundle-cpu" else None,
        ))  # fmt: skip

    def _bare(self) -> None:
        """Reading the cached job's backlog once more, with nothing done to it."""
        from bench.jobs.stage import Measured

        async def read() -> int:
            seen, topic = 0, self._where.settings("cached").raw_topic
            async with AIOKafkaConsumer(
                topic, bootstrap_servers=self._where.kafka, auto_offset_reset="earliest"
            ) as consumer:
                while seen < self._sizes.cached:
                    seen += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
            return seen

        started, used = time.monotonic(), time.process_time()
        seen = asyncio.run(read())
        seconds = time.monotonic() - started
        self.found.append(Measured(LABELS["bare"], seen, seconds, (time.process_time() - used) / seconds))

    def _history(self) -> None:
        from bench.jobs.history import preload
        from bench.jobs.stage import connect, empty, measure_job

        engine = connect(self._where.postgres)
        empty(engine)
        preload(engine, self._sizes.history)
        engine.dispose()
        label = f"{LABELS['history']} ({self._sizes.history:,} articles)"
        job = measure_job("history", label, self._sizes.cached, self._where, kind="cached", fresh=False)
        self.found.append(job)

    def _told(self) -> None:
        """Twenty minutes of event time, so that most minutes close, and no headline twice."""
        from bench.jobs.stage import Measured, measure_job, pooled, through

        density = self._sizes.told / TOLD_SECONDS
        found: dict[str, list[Measured]] = defaultdict(list)
        for turn in range(TOLD_ROUNDS):
            for wanted in (False, True) if turn % 2 == 0 else (True, False):
                label = LABELS["told"] if wanted else UNTOLD
                found[label].append(measure_job(
                    f"told-{turn}-{wanted:d}", label, self._sizes.told, self._where, kind="bundle", density=density,
                    done=through(self._sizes.told), settings={"stories": wanted, "device": self._arguments.told_device},
                ))  # fmt: skip
        self.found += map(pooled, found.values())

    def _latency(self) -> None:
        from bench.jobs import latency, stage

        for kind, label in (("cached", CACHED), ("bundle", WORKER)):
            rate = self._rates().get(label)
            if rate is None:
                continue
            settings, engine = self._where.settings(f"latency-{kind}"), stage.connect(self._where.postgres)
            stage.ensure_topics(settings, self._where.kafka)
            stage.empty(engine)
            with stage.job(kind, settings, self._folder / f"latency-{kind}.log"):
                wait = latency.measure(f"visible bucket: {label}", settings, engine, rate / 2, self._sizes.latency)
            engine.dispose()
            self.waits.append(wait)

    def _alert(self) -> None:
        from bench.jobs import alerting, stage

        texts = alerting.pick(self._where.model)
        rules = alerting.write_rules(self._folder)
        settings = self._where.settings("alert", rules=rules, lateness_seconds=alerting.LATENESS)
        engine = stage.connect(self._where.postgres)
        stage.ensure_topics(settings, self._where.kafka)
        stage.empty(engine)
        with stage.job("bundle", settings, self._folder / "alert.log"):
            wait = alerting.measure(LABELS["alert"], settings, engine, texts, ALERT_RATE, self._sizes.alert)
        engine.dispose()
        self.waits.append(wait)

    def bars(self) -> list[Bar]:
        """The bars, of what was measured."""
        rate = {name: value for name, label in LABELS.items() for job, value in self._rates().items()
                if job == label or (name == "history" and job.startswith(label))}  # fmt: skip
        if "told" in rate:
            rate["untold"] = self._rates()[UNTOLD]
        teacher = "naive-teacher" if "naive-teacher" in rate else "naive-transformers"
        wanted = [
            ("worker, times the naive consumer on transformers", "bundle", "naive-transformers", TIMES_NAIVE),
            ("worker, times the naive consumer on the teacher", "bundle", teacher, TIMES_TEACHER),
            ("worker, times Quix Streams on transformers", "bundle", "quix-transformers", TIMES_QUIX),
            ("worker, times Quix Streams on our session", "bundle", "quix", NOT_BEHIND),
            ("cached, with a long history, times without", "history", "cached", FLAT),
            ("worker with stories, times without", "told", "untold", WITH_STORIES),
        ]
        if (os.cpu_count() or 1) >= PAIR_CORES:
            wanted.append(("two workers on two partitions, times one", "pair", "cached", TIMES_ONE))
        bars = [Bar(name, rate[ours] / rate[theirs], reach) for name, ours, theirs, reach in wanted
                if ours in rate and theirs in rate]  # fmt: skip
        if "cached" in rate:
            bars.append(Bar("worker with cached scores, articles/s", rate["cached"], CACHED_PER_SECOND))
        alert = [wait.p95 for wait in self.waits if wait.job.startswith(LABELS["alert"])]
        return bars + [Bar("ingest to alert at 50 articles/s, p95 s", p95, ALERT_SECONDS, most=True) for p95 in alert]


def active(arguments: argparse.Namespace) -> str:
    """The provider that --device comes to on this machine."""
    from crosswind.stream.adapters.onnx_scorer import OnnxScorer

    scorer = OnnxScorer(resolve(arguments.model), arguments.device, threads=1)
    scorer.close()
    return scorer.provider


def table(run: Run, where: str, bars: Sequence[Bar]) -> list[str]:
    """What was measured, as lines of Markdown."""
    lines = [f"{where}, {os.cpu_count()} cores shared by all", "",
             "| job | articles | articles/s | cores busy |", "|---|---:|---:|---:|"]  # fmt: skip
    lines += [f"| {m.job} | {m.articles:,} | {m.rate:,.0f} | {m.cores:.2f} |" for m in run.found]
    rate = {m.job: m.rate for m in run.found}
    for one, other in ((CACHED, LABELS["bare"]), (LABELS["pair"], CACHED)):
        if one in rate and other in rate:
            lines += ["", f"{one}: {rate[one] / rate[other]:.2f} times {other}"]
    for m in run.found:
        if m.job in (WORKER, ON_CPU, CACHED):
            total = sum(m.stages.values()) or 1.0
            shares = sorted(((stage, max(0.0, used)) for stage, used in m.stages.items()), key=lambda item: -item[1])
            lines += ["", f"CPU of {m.job}, Kafka and Postgres: "
                      + ", ".join(f"{stage} {used / total:.0%}" for stage, used in shares)]  # fmt: skip
    if run.waits:
        lines += ["", "| from send to | articles/s | p50 s | p95 s | p99 s |", "|---|---:|---:|---:|---:|"]
        lines += [f"| {w.job} | {w.rate:,.0f} | {w.p50:.2f} | {w.p95:.2f} | {w.p99:.2f} |" for w in run.waits]
    lines += ["", "| bar | measured | to reach | |", "|---|---:|---:|---|"]
    for b in bars:
        words = "holds" if b.holds else "**not reached**"
        lines.append(f"| {b.name} | {b.value:,.2f} | {'≤' if b.most else '≥'} {b.reach:g} | {words} |")
    return lines


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    arguments = options()
    if arguments.job:
        return run_job(arguments.job, arguments.stages)
    provider = active(arguments)
    with tempfile.TemporaryDirectory(prefix="crosswind-bench-") as folder:
        run = Run(arguments, Path(folder))
        run.measure()
    bars = run.bars()
    broker = "the embedded broker" if arguments.embedded else "Apache Kafka"
    lines = table(run, f"{broker}, embedded Postgres, our session on {provider}", bars)
    print("\n".join(lines))
    if arguments.docs:
        write_figures("operations.md", "throughput", "\n".join(lines))
    if arguments.json:
        report = {"broker": broker, "provider": provider, "cores": os.cpu_count(),
                  "jobs": [{**asdict(m), "rate": m.rate} for m in run.found],
                  "latency": [asdict(w) for w in run.waits], "seconds": run.seconds,
                  "bars": [{**asdict(b), "holds": b.holds} for b in bars]}  # fmt: skip
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", "utf-8")
    missed = [b.name for b in bars if not b.holds]
    print(f"{len(bars) - len(missed)} of {len(bars)} bars hold" + (f"; not: {', '.join(missed)}" if missed else ""))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
