"""The real worker as a job of the bench: with the bundle, or with every score known beforehand; its CPU is measured."""

from collections.abc import Sequence
from pathlib import Path

import faust

from bench.jobs.stages import measured
from crosswind.settings import Settings
from crosswind.stream.adapters.alert_loop import add_alert_task
from crosswind.stream.adapters.language import LangidDetector
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.agents import Parts, build_app, no_checkpoint
from crosswind.stream.bootstrap import database_address, kafka_address
from crosswind.stream.domain.article import PPM, Score, Sentiment
from crosswind.stream.worker import configure_logging, run_worker


class CachedScorer:
    """Implements `Scorer` without a model: the score is looked up by the text's length."""

    version, provider = "cached", "none"

    def __init__(self) -> None:
        topics, moods = ("credit", "earnings", "macro"), list(Sentiment)
        self._scores = [
            Score(topics[n % 3], moods[n % 3], 200_000, 300_000, PPM - 500_000, 800_000, False, self.version)
            for n in range(9)
        ]

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`."""
        return [self._scores[len(text) % 9] for text in texts]


def bundle(settings: Settings, stages: Path) -> int:
    """The worker as users run it."""
    with measured(stages):
        return run_worker(settings)


def cached(settings: Settings, stages: Path) -> int:
    """The worker's parts, but for the scorer and stories: the same agents, store and alert task."""
    configure_logging(settings.log_level)
    engine = connect(database_address(settings))
    store = PostgresTrendStore(engine)
    parts = Parts(settings, CachedScorer(), LangidDetector(), store, Metrics(), no_checkpoint)
    app = build_app(parts, kafka_address(settings))
    add_alert_task(app, parts, engine)
    runner = faust.Worker(app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False)
    with measured(stages):
        runner.execute_from_commandline()
    return 0
