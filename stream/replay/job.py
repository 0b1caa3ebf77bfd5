"""One replay as the command line asks for it: its record, its source, and the way it takes."""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.replay import runs as records
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import Outcome, Plan, not_staged, staged
from crosswind.stream.replay.judging import Judge, Unscored
from crosswind.stream.replay.notebook import model_judge
from crosswind.stream.replay.options import moment_of
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.stage import Stage
from crosswind.stream.replay.store import open_store
from crosswind.stream.replay.topic import Stretch, open_topic


def is_stored(feed: str) -> bool:
    """Whether a feed is a run in the database."""
    return feed.partition(":")[0] == "store"


def check_options(feed: str, scores: str | None, first: str | None, to: str | None) -> None:
    """Refuses options that a feed has no use for, and which it would not heed.

    Raises:
        SettingsError: `--scores` without stored articles; `--from` or `--to` without a topic.
    """
    if scores is not None and not is_stored(feed):
        raise SettingsError("--scores takes what `crosswind rescore` has stored: replay `store`, or score anew with "
                            "--model")  # fmt: skip
    if (first is not None or to is not None) and not feed.startswith("kafka:"):
        raise SettingsError("--from and --to are of a topic (kafka:TOPIC); bound other feeds by --since and --until")


@dataclass(frozen=True, slots=True)
class Job:
    """What one `replay` works on."""

    settings: Settings
    record: records.Run
    wanted: Filter
    stretch: Stretch
    quiet: bool

    def open(self) -> Source:
        """The source that was asked for, its articles scored."""
        asked = self.record.asked
        again = asked["model"] is not None
        return self._open(model_judge(str(asked["model"] or self.settings.model), self.settings, again=again))

    def _unscored(self) -> Source:
        """The source for the run's worker, which scores; where only some topics are wanted, they are scored before."""
        asked = self.record.asked
        again = asked["model"] is not None
        known = model_judge(str(asked["model"] or self.settings.model), self.settings, again=again)
        unscored = Judge(Unscored, known.detect, again, anew=known.scorer)
        return self._open(known if self.wanted.topics else unscored)

    def _open(self, judge_with: Judge) -> Source:
        feed, settings = str(self.record.asked["feed"]), self.settings
        if is_stored(feed):
            from crosswind.stream.adapters.postgres.engine import connect
            from crosswind.stream.bootstrap import database_address

            engine = connect(database_address(settings), read_only=True)
            run = feed.partition(":")[2] or "live"
            return open_store(engine, run, self.wanted, judge_with, self.record.asked["scores"])
        if feed.startswith("kafka:"):
            from crosswind.stream.adapters.kafka.security import client_options
            from crosswind.stream.bootstrap import kafka_address

            topic = feed.removeprefix("kafka:")
            return open_topic(kafka_address(settings), topic, self.stretch, self.wanted, judge_with,
                              options=client_options(settings))  # fmt: skip
        return open_files(feed, self.wanted, judge_with)

    def through(self, plan: Plan) -> Outcome:
        """The replay through broker, agents and database.

        Articles without a score are scored by the run's worker. Those that have one keep it, or get `--model`'s while
        they are staged: what a message for the worker would leave out, such as an article's id, is kept so.
        """
        from crosswind.stream.adapters.postgres.engine import connect, migrate
        from crosswind.stream.adapters.postgres.runs import save_run
        from crosswind.stream.bootstrap import database_address, kafka_address
        from crosswind.stream.replay.through import replay_through_kafka
        from crosswind.stream.replay.way import Way

        asked, settings = self.record.asked, self.settings
        stage, begun = Stage(plan.folder / "staged"), time.monotonic()
        plan.folder.mkdir(parents=True, exist_ok=True)
        bad = staged(stage, self._unscored, plan, stories=False)  # the run gives its own stories
        if bad is None:
            return not_staged(plan, time.monotonic() - begun)
        plan = replace(plan, bad=bad)
        url = database_address(settings)
        engine = connect(url)
        migrate(engine)
        model = {"model": str(asked["model"])} if asked["model"] else {"model": settings.model}
        model["stories"] = str(settings.stories)
        way = Way(kafka_address(settings), url, engine, int(asked["partitions"]), bool(asked["notify"]), model)
        try:
            save_run(engine, plan.run, records.RUNNING, asked, {})
            outcome = replay_through_kafka(stage, plan, way, plan.folder)
            save_run(engine, plan.run, records.DONE if outcome.finished else records.STOPPED, asked, outcome.plain())
            return outcome
        finally:
            engine.dispose()


def record_of(data_dir: Path, run: str | None, asked: dict[str, Any], *, resume: bool) -> records.Run:
    """A new run's record, or that of the one to go on with."""
    if resume and run is None:
        raise SettingsError("--resume needs --run, the run to go on with; see `crosswind runs list`")
    name = run or f"replay-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    known = records.load_run(data_dir, name)
    if known is not None and not resume:
        raise SettingsError(f"there is a run {name} already; pass --resume, another --run, or delete it")
    changed = sorted(key for key in asked if known is not None and asked[key] != known.asked.get(key, asked[key]))
    if changed:
        raise SettingsError(
            f"run {name} was started with another {', '.join(changed)}; a resumed run keeps its options"
        )
    if known is not None and known.state == records.DONE:
        raise SettingsError(f"run {name} is done; see `crosswind runs show {name}`")
    way = "kafka" if asked["through_kafka"] else "in-process"
    record = records.Run(name, way, asked, records.RUNNING, datetime.now(UTC).isoformat())
    records.save_run(data_dir, known or record)
    return known or record


def stretch_of(first: str | None, to: str | None) -> Stretch:
    """The part of a topic that `--from` and `--to` name: moments, or offsets."""

    def offset(value: str | None) -> int | None:
        return int(value) if value is not None and value.isdigit() else None

    def time_of(value: str | None) -> datetime | None:
        return None if value is None or value.isdigit() else moment_of(value)

    return Stretch(time_of(first), time_of(to), offset(first), offset(to))
