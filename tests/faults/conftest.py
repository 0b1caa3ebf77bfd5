"""The fixture that sets a stage: two real workers on Apache Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from tests.faults.stage import Setter, Stage
from tests.oracle import make_feed

SMALL = make_feed(1200)


@pytest.fixture
def stages(request: pytest.FixtureRequest, tiny_bundle: Path, tmp_path: Path) -> Iterator[Setter]:
    """Makes a stage with two workers running, and ends them afterwards."""
    made: list[Stage] = []

    def make(kafka: str, url: str, engine: Engine, **options: object) -> Stage:
        name = request.node.name.replace("[", "-").replace("]", "")
        stage = Stage(name, kafka, url, engine, tiny_bundle, tmp_path, **{"feed": SMALL, **options})  # type: ignore[arg-type]
        made.append(stage)
        stage.open()
        return stage

    yield make
    for stage in made:
        for worker in stage.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
