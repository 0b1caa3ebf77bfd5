"""Models over the real server: put live, rolled back, refused; with a real bundle in a real registry."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine

from crosswind.dashboard.client import Client
from crosswind.errors import DataError
from crosswind.export.bundle import SHIPPED, read_manifest
from crosswind.export.registry import Registry
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.adapters.swap_loop import Follower, open_scorer
from crosswind.stream.service.deployment import Slot
from tests.integration.deployment.bundles import variant
from tests.served import served


@pytest.fixture
def data(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A data folder whose registry holds the tiny bundle."""
    Registry(str(tmp_path / "models")).add(tiny_bundle)
    return tmp_path


@pytest.fixture
def tiny(tiny_bundle: Path) -> str:
    return read_manifest(tiny_bundle).version


@pytest.fixture
def shipped() -> str:
    return read_manifest(SHIPPED).version


@pytest.fixture
def client(database_url: str, data: Path) -> Iterator[Client]:
    with served(database_url, data_dir=data) as address, Client(address, timeout=60) as connected:
        yield connected


@pytest.fixture
def worker(engine: Engine, tiny_bundle: Path, data: Path) -> Follower:
    """A worker's follower, which takes up what is wished when it is told to; it starts with the tiny bundle."""
    settings = Settings(_env_file=None, model=str(tiny_bundle), data_dir=data, threads=1)  # type: ignore[call-arg]
    return Follower(settings, open_scorer(settings, engine), Metrics(), PostgresDeployments(engine))


def test_a_bundle_is_put_live_taken_up_and_rolled_back(
    client: Client, worker: Follower, engine: Engine, tiny: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    second = variant(tiny_bundle, tmp_path / "second", "second")
    Registry(str(tmp_path / "models")).add(second)
    version = read_manifest(second).version
    made = client.deploy("second", over=0)
    assert (made.version, made.reason, client.models().live.version) == (version, "deploy", tiny)  # type: ignore[union-attr]
    worker.tick()
    found = client.models()
    assert (found.live.version, found.wanted, found.former) == (version, made, tiny)  # type: ignore[union-attr]
    back = client.roll_back(over=made.seq)
    worker.tick()
    assert (back.version, client.models().live.version) == (tiny, tiny)  # type: ignore[union-attr]
    told = [(entry.what, entry.version) for entry in client.models().history if entry.slot == "live"]
    assert told == [("active", tiny), ("rollback", tiny), ("active", version), ("deploy", version), ("active", tiny)]
    noted = [(entry["action"], entry["subject"]) for entry in Accounts(engine).noted()]
    assert noted == [("roll back model", tiny), ("deploy model", version)]


def test_who_has_not_seen_the_newest_deployment_is_refused(client: Client, tiny: str) -> None:
    made = client.deploy("default")
    client.roll_back(tiny, over=made.seq)
    with pytest.raises(DataError, match="somebody else was quicker"):
        client.roll_back(tiny, over=made.seq)
    with pytest.raises(DataError, match="somebody else was quicker"):
        client.deploy("default", over=0)
    assert client.models().wanted.version == tiny  # type: ignore[union-attr]


def test_of_many_at_once_one_is_heard(engine: Engine) -> None:
    book = PostgresDeployments(engine)

    def wish(number: int) -> bool:
        try:
            book.wish("live", Slot.LIVE, f"v{number}", "default", reason="deploy", over=0)
        except DataError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(wish, range(16))) == 1


def test_what_is_no_bundle_of_the_registry_is_not_put_live(client: Client, engine: Engine, tiny_bundle: Path) -> None:
    for which in ("nothing", str(tiny_bundle), "../models", "file:///etc", "*"):
        with pytest.raises(DataError, match="is no bundle"):
            client.deploy(which)
    with pytest.raises(DataError, match="no other bundle was live before"):
        client.roll_back()
    assert PostgresDeployments(engine).wanted("live", Slot.LIVE) is None
    assert Accounts(engine).noted() == []


def test_the_bundles_are_the_shipped_one_and_those_that_were_added(client: Client, tiny: str, shipped: str) -> None:
    found = {bundle.version: (bundle.name, bundle.shipped) for bundle in client.bundles()}
    assert found == {shipped: (read_manifest(SHIPPED).name, True), tiny: ("tiny", False)}


@pytest.fixture
def people(engine: Engine, database_url: str, data: Path) -> Iterator[httpx.Client]:
    for role in Role:
        Accounts(engine).add(role.name.lower(), "correct horse battery", role)
    with (
        served(database_url, auth="local", data_dir=data) as address,
        httpx.Client(base_url=address, headers={"Origin": address}, timeout=60) as connected,
    ):
        yield connected


def test_only_an_admin_changes_what_is_live_and_no_other_site_does(people: httpx.Client, tiny: str) -> None:
    def asked(path: str, body: Any, **headers: str) -> tuple[int, str]:
        answer = people.post(f"/api/v1/models/{path}", json=body, headers=headers)
        return answer.status_code, answer.headers["content-type"]

    problem = "application/problem+json"
    assert asked("deployments", {"bundle": tiny}) == (401, problem)
    for name, status in (("viewer", 403), ("analyst", 403), ("admin", 202)):
        people.post("/login", data={"name": name, "password": "correct horse battery"})
        assert asked("rollback", {"to": tiny})[0] == status
        assert asked("deployments", {"bundle": tiny})[0] == status
    assert asked("deployments", {"bundle": tiny}, Origin="https://evil.example") == (403, problem)
    assert asked("deployments", {"bundle": tiny, "over": 0}) == (409, problem)
    assert asked("deployments", {"bundle": tiny, "path": "/"}) == (422, problem)
    assert asked("deployments", {"bundle": "nothing"}) == (404, problem)
