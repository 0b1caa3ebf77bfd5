"""Changing the model under load, on the real scorer and a real database."""

import asyncio
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import Engine, text

from crosswind.export import bundle, registry
from crosswind.export.bundle import MODEL, verify
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.onnx_scorer import NO_MEANING
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.adapters.swap import WARM_SECONDS, SwapScorer
from crosswind.stream.adapters.swap_loop import Follower, open_scorer, run_swaps
from crosswind.stream.domain.article import Score
from crosswind.stream.service.deployment import Deployment, Kind, Slot, event_of
from tests.integration.deployment.bundles import opposite, reseal, variant

TEXTS = ["profit falls", "bank fails", "oil rises", "nothing at all"]


@dataclass
class Stage:
    settings: Settings
    engine: Engine
    bundles: dict[str, Path]
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.book = PostgresDeployments(self.engine)
        self.scorer = open_scorer(self.settings, self.engine)
        self.follower = Follower(self.settings, self.scorer, self.metrics, self.book)

    def wish(self, name: str, version: str | None = None, reason: str = "deploy") -> Deployment:
        folder = self.bundles[name]
        return self.book.wish("live", Slot.LIVE, version or verify(folder).version, str(folder), reason=reason)

    def outcome(self, wished: Deployment) -> tuple[str, str]:
        (row,) = self.book.outcomes("live", wished.seq)
        return row["kind"], row["message"]


@pytest.fixture
def stage(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Iterator[Stage]:
    bundles = {"tiny": tiny_bundle, "opposite": opposite(tiny_bundle, tmp_path / "opposite"),
               "same": variant(tiny_bundle, tmp_path / "same", "same")}  # fmt: skip
    settings = Settings(_env_file=None, model=str(tiny_bundle), data_dir=tmp_path / "data", threads=2)
    made = Stage(settings, engine, bundles)
    yield made
    made.scorer.close()


class Load:
    """Scores numbered batches from several threads without a pause, and keeps what came back."""

    def __init__(self, scorer: SwapScorer, threads: int = 3) -> None:
        self._scorer, self._numbers, self._stop = scorer, itertools.count(), threading.Event()
        self.batches: dict[int, list[Score]] = {}
        self.errors: list[BaseException] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            number = next(self._numbers)
            try:
                self.batches[number] = self._scorer.score(TEXTS)
            except BaseException as error:
                self.errors.append(error)


def until(done: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


def test_ten_changes_under_load_lose_nothing_and_mix_nothing(stage: Stage) -> None:
    versions = {verify(folder).version: name for name, folder in stage.bundles.items()}
    right = {name: [score.sentiment.value for score in open_scorer_of(folder).score(TEXTS)]
             for name, folder in stage.bundles.items()}  # fmt: skip
    with Load(stage.scorer) as load:
        for name in ["opposite", "same", "opposite", "tiny", "same"] * 2:
            seen = len(load.batches)
            stage.wish(name)
            stage.follower.tick()
            assert versions[stage.scorer.version] == name
            until(lambda seen=seen: len(load.batches) > seen + 5 or bool(load.errors))  # type: ignore[misc]
    assert not load.errors
    assert sorted(load.batches) == list(range(len(load.batches)))
    for scores in load.batches.values():
        (version,) = {score.model for score in scores}
        assert [score.sentiment.value for score in scores] == right[versions[version]]
    assert {score[0].model for score in load.batches.values()} == set(versions)


def open_scorer_of(folder: Path) -> SwapScorer:
    from crosswind.stream.adapters.onnx_scorer import OnnxScorer

    return SwapScorer(OnnxScorer(folder))


def flip(stage: Stage) -> tuple[Deployment, str]:
    wished = stage.wish("same")
    path = stage.bundles["same"] / MODEL
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    return wished, "was altered"


def other_labels(stage: Stage) -> tuple[Deployment, str]:
    labels = ["weather" if label == "crypto" else label for label in verify(stage.bundles["same"]).head("topic").labels]
    reseal(stage.bundles["same"], lambda manifest: manifest["heads"][0].update(labels=labels))
    return stage.wish("same"), "missing ['crypto'], extra ['weather']"


def fewer_languages(stage: Stage) -> tuple[Deployment, str]:
    reseal(stage.bundles["same"], lambda manifest: manifest.update(languages=["de"]))
    return stage.wish("same"), "lacks languages of the live"


def wrong_answers(stage: Stage) -> tuple[Deployment, str]:
    reseal(stage.bundles["same"], lambda manifest: manifest["smoke"][0].update(sentiment="positive"))
    return stage.wish("same"), "gives sentiment 'negative' for smoke sentence 1 of 1"


def another_version(stage: Stage) -> tuple[Deployment, str]:
    return stage.wish("same", "0" * 16), "expected 0000000000000000"


def gone(stage: Stage) -> tuple[Deployment, str]:
    wished = stage.wish("same")
    stage.bundles["same"].rename(stage.bundles["same"].with_name("elsewhere"))
    return wished, "is not a bundle"


@pytest.mark.parametrize("spoil", [flip, other_labels, fewer_languages, wrong_answers, another_version, gone])
def test_a_bad_bundle_never_scores(stage: Stage, spoil: Callable[[Stage], tuple[Deployment, str]]) -> None:
    before = stage.scorer.version
    with Load(stage.scorer) as load:
        wished, message = spoil(stage)
        stage.follower.tick()
        until(lambda: len(load.batches) > 5)
    kind, said = stage.outcome(wished)
    assert kind == "failed"
    assert message in said
    assert not load.errors
    assert {score.model for scores in load.batches.values() for score in scores} == {before}


def one_language_more(stage: Stage, tmp_path: Path) -> Deployment:
    """Puts a bundle live that has one language more; the one before is freed."""
    stage.bundles["more"] = variant(stage.bundles["tiny"], tmp_path / "more", "more", languages=["en", "de"])
    wished = stage.wish("more")
    stage.follower.tick()
    stage.scorer.free_former(0, WARM_SECONDS + 1)
    assert stage.outcome(wished)[0] == "active"
    return wished


@pytest.mark.parametrize("reason", ["rollback", "deploy"])
def test_rollback_after_the_former_was_freed(stage: Stage, tmp_path: Path, reason: str) -> None:
    one_language_more(stage, tmp_path)
    version, address = stage.book.before("live") or ("", "")
    wished = stage.book.wish("live", Slot.LIVE, version, address, reason=reason)
    stage.follower.tick()
    assert stage.outcome(wished) == ("active", NO_MEANING)  # which the tests' bundle has not
    assert stage.scorer.version == version == verify(stage.bundles["tiny"]).version


def test_a_rollback_is_followed_by_a_worker_that_starts(stage: Stage, tmp_path: Path) -> None:
    one_language_more(stage, tmp_path)
    wished = stage.wish("same", reason="rollback")
    assert open_scorer(stage.settings, stage.engine).version == wished.version
    assert stage.outcome(wished) == ("active", NO_MEANING)  # which the tests' bundle has not


def test_a_rollback_to_other_labels_is_refused(stage: Stage) -> None:
    other_labels(stage)
    wished = stage.wish("same", reason="rollback")
    stage.follower.tick()
    kind, message = stage.outcome(wished)
    assert kind == "failed"
    assert "missing ['crypto'], extra ['weather']" in message


@pytest.mark.parametrize("spoil", [other_labels, fewer_languages])
@pytest.mark.parametrize("ran", [True, False])
def test_a_worker_does_not_start_with_what_does_not_fit(
    stage: Stage, spoil: Callable[[Stage], tuple[Deployment, str]], ran: bool
) -> None:
    """It is the last that was live which it must fit; the settings' own where no worker ever ran."""
    if not ran:
        with stage.engine.begin() as connection:
            connection.execute(text("DELETE FROM deployment_event"))
    wished, message = spoil(stage)
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["tiny"]).version
    kind, said = stage.outcome(wished)
    assert kind == "failed"
    assert message in said


def test_a_worker_that_starts_tries_again_what_running_ones_could_not_read(stage: Stage) -> None:
    wished, _ = gone(stage)
    stage.follower.tick()
    assert stage.outcome(wished)[0] == "failed"
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["tiny"]).version
    stage.bundles["same"].with_name("elsewhere").rename(stage.bundles["same"])
    assert open_scorer(stage.settings, stage.engine).version == wished.version


def test_what_one_worker_has_live_another_that_starts_takes_though_a_third_refused_it(stage: Stage) -> None:
    wished = stage.wish("opposite")
    stage.book.record("live", event_of(wished, Kind.FAILED, "another", "its disk is full"))
    stage.follower.tick()
    assert open_scorer(stage.settings, stage.engine).version == wished.version


def test_a_worker_starts_with_what_was_live_before_where_the_deployed_one_was_live_last(stage: Stage) -> None:
    for name in ("opposite", "same"):
        stage.wish(name)
        stage.follower.tick()
    stage.bundles["same"].rename(stage.bundles["same"].with_name("elsewhere"))
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["opposite"]).version
    stage.bundles["opposite"].rename(stage.bundles["opposite"].with_name("elsewhere too"))
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["tiny"]).version


def test_a_worker_starts_with_what_is_deployed_and_with_what_was_live_when_that_is_bad(stage: Stage) -> None:
    stage.wish("opposite")
    stage.follower.tick()
    opposite_version = verify(stage.bundles["opposite"]).version
    assert open_scorer(stage.settings, stage.engine).version == opposite_version
    wished = stage.wish("same", "f" * 16)
    assert open_scorer(stage.settings, stage.engine).version == opposite_version
    assert stage.outcome(wished)[0] == "failed"


def test_a_worker_starts_with_what_was_live_when_the_registry_s_library_fails_in_its_own_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    class NoCredentials(Exception):
        pass

    def deny(*_: object) -> None:
        raise NoCredentials("unable to locate credentials")

    monkeypatch.setattr(MemoryFileSystem, "get_file", deny)
    stage.wish("opposite")
    stage.follower.tick()
    wished = stage.book.wish("live", Slot.LIVE, "f" * 16, f"memory://models/{'f' * 16}", reason="deploy")
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["opposite"]).version
    kind, message = stage.outcome(wished)
    assert kind == "failed"
    assert "cannot read memory://models/ffffffffffffffff: NoCredentials: unable to locate credentials" in message


def test_a_worker_starts_with_what_was_live_when_the_loader_fails_in_its_own_way(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    from crosswind.stream.adapters import swap_loop

    stage.wish("opposite")
    stage.follower.tick()
    load = swap_loop.load_checked

    def fail(folder: Path, *rest: Any) -> Any:
        if folder == stage.bundles["same"]:
            raise RuntimeError("the runtime's own")
        return load(folder, *rest)

    monkeypatch.setattr(swap_loop, "load_checked", fail)
    wished = stage.wish("same")
    assert open_scorer(stage.settings, stage.engine).version == verify(stage.bundles["opposite"]).version
    assert stage.outcome(wished) == ("failed", "RuntimeError: the runtime's own")


def test_what_was_live_when_is_known_afterwards(stage: Stage) -> None:
    first = stage.book.live_at("live")
    stage.wish("opposite")
    stage.follower.tick()
    second = stage.book.live_at("live")
    assert first
    assert second
    assert (first.version, second.version) == tuple(verify(stage.bundles[n]).version for n in ("tiny", "opposite"))
    assert stage.book.live_at("live", first.at) == first
    assert stage.book.live_at("another-run") is None
    assert stage.book.former("live", second.version) == (first.version, first.address)


def test_the_task_follows_a_wish_by_itself_and_shows_the_live_model(stage: Stage) -> None:
    async def scenario() -> None:
        task = asyncio.create_task(run_swaps(stage.settings, stage.scorer, stage.metrics, stage.engine))
        wished = stage.wish("opposite")
        async with asyncio.timeout(30):
            while not stage.book.outcomes("live", wished.seq):
                await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    shown = {sample.labels["model"]: sample.value for metric in stage.metrics.provider.collect()
             for sample in metric.samples}  # fmt: skip
    assert [version for version, value in shown.items() if value] == [verify(stage.bundles["opposite"]).version]


def test_after_an_upgrade_a_deployed_default_is_what_the_package_ships_now(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was live before it may be a bad bundle that was rolled back from."""
    bad = stage.wish("opposite")
    stage.follower.tick()
    old, new = (variant(stage.bundles["tiny"], tmp_path / name, name) for name in ("shipped-1", "shipped-2"))
    ship(monkeypatch, old)
    wished = stage.book.wish("live", Slot.LIVE, verify(old).version, "default", reason="deploy")
    stage.follower.tick()
    assert open_scorer(stage.settings, stage.engine).version == wished.version != bad.version
    ship(monkeypatch, new)
    for _ in range(2):  # it is live now, and still not the version that was wished for
        assert open_scorer(stage.settings, stage.engine).version == verify(new).version
    last = stage.book.outcomes("live", wished.seq)[-1]
    assert last["kind"] == "active"
    assert last["message"].startswith(f"the package ships this one now; {wished.version} was deployed")
    live = stage.book.live_at("live")
    assert live is not None
    assert (live.version, live.address) == (verify(new).version, "default")


def ship(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes it the bundle that the package ships."""
    for module in (bundle, registry):
        monkeypatch.setattr(module, "SHIPPED", folder)
