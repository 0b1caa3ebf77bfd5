"""The commands of deployment, on a real database with a worker's deployment task beside them."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from crosswind import models_cli
from crosswind.answers import answers
from crosswind.errors import ModelError, SettingsError
from crosswind.export import bundle, registry
from crosswind.export.bundle import verify
from crosswind.export.registry import fetch
from crosswind.models_cli import app
from crosswind.settings import Settings
from crosswind.stream.adapters import swap_loop
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments, started
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.swap_loop import Follower, open_scorer
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.service.deployment import Kind, Slot, event_of
from tests.builders import scored_article
from tests.integration.deployment.bundles import opposite, reseal, variant

Invoke = Callable[..., Any]


@pytest.fixture
def invoke(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Invoke:
    monkeypatch.setenv("CROSSWIND_DATABASE_URL", database_url)
    monkeypatch.setenv("CROSSWIND_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str) -> Any:
        found = CliRunner().invoke(app, [*arguments, "--json"])
        if found.exception and not isinstance(found.exception, SystemExit):
            raise found.exception
        # beside it the worker's thread logs to the captured standard output; its lines begin with a date
        return json.loads(next(line for line in found.output.splitlines() if line[0] in "{["))

    return run


@pytest.fixture
def worker(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Iterator[Follower]:
    """A worker's follower that ticks in a thread, quickly."""
    settings = Settings(_env_file=None, model=str(tiny_bundle), data_dir=tmp_path / "data", threads=1)
    follower = Follower(settings, open_scorer(settings, engine), Metrics(), PostgresDeployments(engine))
    stop = threading.Event()

    def follow() -> None:
        while not stop.wait(0.02):
            follower.tick()

    thread = threading.Thread(target=follow)
    thread.start()
    yield follower
    stop.set()
    thread.join()


@pytest.fixture
def second(
    engine: Engine, tiny_bundle: Path, tmp_path: Path, worker: Follower, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Follower]:
    """Another worker's follower, which has other labels, so that it refuses what the first takes. It looks for wishes
    only when somebody has read the first's word."""
    folder = variant(tiny_bundle, tmp_path / "others", "others")
    labels = ["weather" if label == "crypto" else label for label in verify(folder).head("topic").labels]
    reseal(folder, lambda manifest: manifest["heads"][0].update(labels=labels))
    settings = Settings(_env_file=None, model=str(folder), data_dir=tmp_path / "data", threads=1)
    monkeypatch.setattr(swap_loop, "worker_name", lambda: "second:1")
    follower = Follower(settings, open_scorer(settings, engine), Metrics(), PostgresDeployments(engine))
    read, ended, outcomes = threading.Event(), threading.Event(), PostgresDeployments.outcomes

    def noted(book: PostgresDeployments, run: str, seq: int) -> list[dict[str, Any]]:
        found = outcomes(book, run, seq)
        if found:
            read.set()
        return found

    def follow() -> None:
        read.wait()
        while not ended.wait(0.02):
            follower.tick()

    monkeypatch.setattr(PostgresDeployments, "outcomes", noted)
    thread = threading.Thread(target=follow)
    thread.start()
    yield follower
    ended.set()
    read.set()
    thread.join()


@pytest.fixture
def two(tiny_bundle: Path, tmp_path: Path) -> tuple[Path, Path]:
    return opposite(tiny_bundle, tmp_path / "opposite"), variant(tiny_bundle, tmp_path / "same", "same")


def test_deploy_history_at_and_rollback(invoke: Invoke, worker: Follower, two: tuple[Path, Path], tiny_bundle: Path
                                        ) -> None:  # fmt: skip
    first, second = (verify(folder).version for folder in two)
    assert invoke("models", "add", str(two[0]))["version"] == first
    assert invoke("models", "deploy", "opposite")["taken_up"] is True
    assert invoke("models", "deploy", str(two[1]))["version"] == second
    assert invoke("models", "rollback")["version"] == first
    assert invoke("models", "at", "2999-01-01T00:00Z")["version"] == first
    listed = {row["version"]: row["is"] for row in invoke("models", "list")}
    assert (listed[first], listed[second]) == (["live"], [])
    wishes = [row["version"] for row in invoke("models", "history") if row["what"] in ("deploy", "rollback")]
    assert wishes == [first, second, first]
    started = next(row for row in invoke("models", "history") if row["seq"] is None)
    assert started["version"] == verify(tiny_bundle).version


def test_what_workers_refuse_is_said_and_rolled_back_to_what_is_live(
    invoke: Invoke, worker: Follower, two: tuple[Path, Path], tiny_bundle: Path
) -> None:
    version = invoke("models", "add", str(two[1]))["version"]
    manifest = two[1].parent / "data" / "models" / version / "tokenizer.json"
    manifest.write_text("{}")
    with pytest.raises(ModelError, match=r"was refused, the former bundle stays: .*was altered"):
        invoke("models", "deploy", version)
    assert invoke("models", "rollback")["version"] == verify(tiny_bundle).version


def test_a_later_worker_s_refusal_is_told_too(invoke: Invoke, second: Follower, two: tuple[Path, Path]) -> None:
    said = r"is active in 1, refused in 1: second:1: .* missing \['weather'\]"
    with pytest.raises(ModelError, match=said) as refused:
        invoke("models", "deploy", str(two[0]), "--wait", "60")
    assert refused.value.exit_code == 4


def test_a_worker_that_does_not_answer_is_named_until_it_is_taken_to_be_gone(engine: Engine) -> None:
    book = PostgresDeployments(engine)
    for name in ("here:1", "gone:1"):
        book.record("live", started("x", "there", name))
    for gone in (["gone:1"], []):
        wished = book.wish("live", Slot.LIVE, "y", "there", reason="deploy")
        assert answers(book, "live", wished, 0).said() == "no worker has taken it up yet"
        book.record("live", event_of(wished, Kind.ACTIVE, "here:1"))
        found = answers(book, "live", wished, 0)
        assert found.silent == gone
        assert ("no word yet from gone:1" in found.said()) == bool(gone)
        with engine.begin() as connection:  # an hour passes
            connection.execute(text("UPDATE deployment SET at = at - interval '1 hour'"))
            connection.execute(text("UPDATE deployment_event SET at = at - interval '1 hour'"))


def test_a_remote_registry_that_is_full_keeps_what_is_deployed_from_it(
    invoke: Invoke, two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSWIND_REGISTRY", f"memory://{uuid.uuid4().hex}")
    added = invoke("models", "add", str(two[0]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(MemoryFileSystem, "put_file", full)
    assert invoke("models", "deploy", str(two[0]), "--wait", "0")["version"] == added["version"]
    with pytest.raises(ModelError, match="No space left on device; nothing was added"):
        invoke("models", "deploy", str(two[1]), "--wait", "0")
    assert [row["version"] for row in invoke("models", "list")][1:] == [added["version"]]
    assert verify(fetch(added["address"], added["version"], tmp_path / "cache")).version == added["version"]


def test_without_a_worker_a_deployment_waits(invoke: Invoke, two: tuple[Path, Path]) -> None:
    assert invoke("models", "deploy", str(two[0]), "--wait", "0")["taken_up"] is False
    with pytest.raises(ModelError, match="no other bundle was live before"):
        invoke("models", "rollback")


def test_rescore_reports_and_times_are_checked(invoke: Invoke, engine: Engine, two: tuple[Path, Path]) -> None:
    PostgresTrendStore(engine).ingest("live", [Delivery(scored_article(n), 0) for n in range(7)])
    report = invoke("rescore", "--since", "2026-03-01", "--bundle", str(two[0]), "--threads", "1")
    assert report["compared"][0]["articles"] == 7
    assert invoke("rescore", "--since", "0001-01-01", "--bundle", str(two[1]))["compared"][0]["articles"] == 7
    with pytest.raises(SettingsError, match="'soon' is no time"):
        invoke("rescore", "--since", "soon", "--bundle", str(two[0]))


def test_shadow_needs_a_candidate(invoke: Invoke) -> None:
    with pytest.raises(ModelError, match="no bundle is in shadow"):
        invoke("models", "shadow")


def test_the_shipped_bundle_is_deployed_by_the_version_that_is_shown(
    invoke: Invoke, worker: Follower, two: tuple[Path, Path], tmp_path: Path, tiny_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shipped = variant(tiny_bundle, tmp_path / "shipped", "shipped")
    for module in (bundle, registry, models_cli):
        monkeypatch.setattr(module, "SHIPPED", shipped)
    version = invoke("models", "list")[0]["version"]
    assert version == verify(shipped).version
    assert invoke("models", "deploy", version)["version"] == version
    assert invoke("models", "deploy", str(two[0]))["version"] != version
    assert invoke("models", "rollback", "--to", version)["taken_up"] is True
    assert invoke("models", "at", "2999-01-01T00:00Z")["address"] == "default"


def test_that_no_stories_will_be_told_is_said_where_a_bundle_is_added_and_deployed(
    invoke: Invoke, worker: Follower, two: tuple[Path, Path]
) -> None:
    said = "no new stories will be told"  # the tests' bundle has no output `meaning`
    assert said in invoke("models", "add", str(two[0]))["remark"]
    assert said in invoke("models", "deploy", "opposite")["remark"]
    assert said in CliRunner().invoke(app, ["models", "deploy", str(two[1])]).output
    active = [row for row in invoke("models", "history") if row["what"] == "active"]
    assert all(said in row["message"] for row in active)
