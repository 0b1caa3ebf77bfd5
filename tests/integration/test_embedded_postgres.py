"""The embedded Postgres after what may befall a data folder: a power cut, a strange path, a long replay of its log."""

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from sqlalchemy import text

from crosswind.errors import ServiceError
from crosswind.stream.adapters.postgres import embedded, sockets
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.postmaster import LOCK, postmaster
from tests.processes import wait_for


@pytest.fixture(scope="module")
def cluster() -> Iterator[Path]:
    """A data folder whose server was stopped cleanly."""
    place = Path(tempfile.mkdtemp(prefix="crosswind-cluster-"))
    server = EmbeddedPostgres(place / "postgres")
    server.start()
    server.stop()
    yield place / "postgres"
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def place() -> Iterator[Path]:
    """Not pytest's own folder: as root the server runs as another user, who may not enter that."""
    folder = Path(tempfile.mkdtemp(prefix="crosswind-embedded-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def data(cluster: Path, place: Path) -> Path:
    """A copy of it of the test's own."""
    return _copy(cluster, place / "postgres")


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield psutil.Process(process.pid)
        process.kill()


def _copy(cluster: Path, folder: Path) -> Path:
    subprocess.run(["cp", "-a", str(cluster), str(folder)], check=True)  # -a: as root, the files keep their owner
    return folder


def _answers(url: str) -> bool:
    engine = connect(url)
    with engine.connect() as connection:
        found = connection.execute(text("SELECT 1")).scalar_one()
    engine.dispose()
    return bool(found)


def _cut_power(data: Path) -> list[str]:
    """Kills the server at once; returns what its lock file said."""
    found = postmaster(data)
    assert found
    processes = [found, *found.children(recursive=True)]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, 20)
    return (data / LOCK).read_text().splitlines()


def _replay_slowly(data: Path, seconds: int) -> None:
    """Lets the next start take long: it asks a command for more of the log, several times."""
    (data / "recovery.signal").touch()
    with (data / "postgresql.auto.conf").open("a") as out:
        out.write(f"restore_command = 'sleep {seconds}; false'\n")


def test_the_process_id_of_a_lost_server_is_a_strangers(data: Path, stranger: psutil.Process) -> None:
    server = EmbeddedPostgres(data)
    url = server.start()
    lines = _cut_power(data)
    (data / LOCK).write_text("\n".join([str(stranger.pid), *lines[1:], ""]))
    socket_lock = data / ".s.PGSQL.5432.lock"
    socket_lock.write_text("\n".join([str(stranger.pid), *socket_lock.read_text().splitlines()[1:], ""]))
    assert not server.running
    server.stop()
    assert stranger.is_running()
    assert server.start() == url
    assert _answers(url)
    server.stop()
    assert stranger.status() != psutil.STATUS_ZOMBIE


def test_another_clusters_server_is_a_stranger(cluster: Path, place: Path, data: Path) -> None:
    other = EmbeddedPostgres(_copy(cluster, place / "other"))
    other.start()
    shutil.copy(place / "other" / LOCK, data / LOCK)
    server = EmbeddedPostgres(data)
    try:
        assert not server.running
        assert _answers(server.start())
        server.stop()
        assert other.running
    finally:
        server.stop()
        other.stop()


def test_what_an_earlier_run_left_running_is_used_and_stopped(data: Path) -> None:
    left, server = EmbeddedPostgres(data), EmbeddedPostgres(data)
    url = left.start()
    found = postmaster(data)
    assert server.start() == url
    assert postmaster(data) == found
    server.stop()
    assert not left.running


@pytest.mark.parametrize("name", ["a b", "a, b", "it's 100%", "long" * 30])
def test_a_path_that_no_socket_can_have(name: str, data: Path, place: Path) -> None:
    (place / name).mkdir()
    server = EmbeddedPostgres(data.rename(place / name / "postgres"))
    try:
        url = server.start()
        assert _answers(url)
        folder = Path(url.split("host=")[1])
        assert folder.stat().st_mode & 0o077 == 0
        server.stop()
        assert server.start() == url
    finally:
        server.stop()
    assert list(folder.iterdir()) == []
    folder.rmdir()


@pytest.mark.parametrize("name", ['a"b', "$HOME", "`id`", "a\\b"])
def test_a_path_that_a_shell_would_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="--data-dir"):
        EmbeddedPostgres(tmp_path / name).start()
    assert list(tmp_path.iterdir()) == []


def test_a_socket_folder_that_others_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(place := Path(tempfile.mkdtemp())))
    data = tmp_path / "a b"
    made = sockets.socket_folder(data, os.geteuid())
    assert made == sockets.socket_folder(data, os.geteuid())
    assert made.parent == place
    made.chmod(0o777)
    with pytest.raises(ServiceError, match="short path without spaces"):
        sockets.socket_folder(data, os.geteuid())
    made.rmdir()
    made.symlink_to(tmp_path)
    with pytest.raises(ServiceError, match="remove it"):
        sockets.socket_folder(data, os.geteuid())
    shutil.rmtree(place)


def test_a_long_start_is_waited_for_and_told(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "PATIENCE", 0.5)
    _replay_slowly(data, 1)
    server, said = EmbeddedPostgres(data), list[str]()
    try:
        assert _answers(server.start(said.append))
        assert len(said) == 1
    finally:
        server.stop()


def test_a_server_that_is_starting_already_is_waited_for(data: Path) -> None:
    _replay_slowly(data, 1)
    first, second, urls = EmbeddedPostgres(data), EmbeddedPostgres(data), list[str]()
    thread = threading.Thread(target=lambda: urls.append(first.start()))
    thread.start()
    try:
        wait_for(lambda: (data / LOCK).exists() and first.running, 20, "it is starting")
        urls.append(second.start())
        assert _answers(urls[-1])
    finally:
        thread.join()
        second.stop()
        first.stop()
    assert urls[0] == urls[1]


def test_a_start_that_takes_too_long_leaves_nothing_running(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "START_SECONDS", 1.0)
    _replay_slowly(data, 60)
    server = EmbeddedPostgres(data)
    with pytest.raises(ServiceError, match=r"not ready within 1 s\); see .*log"):
        server.start()
    assert not server.running
    assert not (data / LOCK).exists()


def test_an_interrupted_start_is_stopped(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does it: `start` ends before the server has written its lock file."""
    _replay_slowly(data, 60)
    server = EmbeddedPostgres(data)

    def interrupt(self: EmbeddedPostgres, say: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EmbeddedPostgres, "_wait", interrupt)
    with pytest.raises(KeyboardInterrupt):
        server.start()
    server.stop()
    assert not server.running
    assert not (data / LOCK).exists()


def test_a_server_that_refuses_to_start(data: Path) -> None:
    with (data / "postgresql.conf").open("a") as out:
        out.write("tomorrow = 1\n")
    with pytest.raises(ServiceError, match=r"pg_ctl: exit 1\); see .*log"):
        EmbeddedPostgres(data).start()
