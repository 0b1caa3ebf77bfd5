"""What `crosswind up` looks at before and while its parts start: ports, who answers on them, proxies, signals."""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from crosswind import up
from crosswind.children import Child
from crosswind.errors import ServiceError
from crosswind.ports import listens, refuse_taken
from crosswind.stream.adapters.kafka.embedded import free_port
from tests.answering import answering


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another process of this machine listens on, as it seems."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def test_a_taken_port_is_refused(taken: int) -> None:
    with pytest.raises(ServiceError, match=f"127.0.0.1:{taken}: .*; pass --port"):
        refuse_taken("127.0.0.1", taken, "pass --port")
    with pytest.raises(ServiceError, match=r"192\.0\.2\.1"):
        refuse_taken("192.0.2.1", free_port(), "")  # not an address of this machine
    refuse_taken("127.0.0.1", free_port(), "")
    refuse_taken("127.0.0.1", 0, "")


def test_a_port_whose_server_has_just_ended_is_free(taken: int) -> None:
    """Its last connection waits out its time, which hinders no server of ours."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = int(server.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # who closes first has to wait
    refuse_taken("127.0.0.1", port, "")


def test_who_listens(taken: int) -> None:
    assert listens(os.getpid(), taken)
    assert not listens(os.getppid(), taken)
    assert not listens(None, taken)


def test_a_stranger_who_answers_is_not_the_child(tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up, "START_SECONDS", 1.0)
    child = Child("dashboard", ["--version"], {}, tmp_path / "log")  # ends at once, as one whose port is taken
    child.start()
    try:
        with pytest.raises(ServiceError, match="the dashboard"):
            up._Watch([child], None, None).until(lambda: True, "dashboard", taken)
    finally:
        child.make_stop(time.monotonic() + 20)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_no_proxy_is_asked_for_our_own_parts(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with answering() as address:
        assert up._answers(f"{address}/health")


@pytest.fixture
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("hangup")
def test_a_hangup_stops_unless_it_was_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with contextlib.ExitStack() as stack:
        up._stop_on_signals(stack)
        with pytest.raises(up.Stopped):
            signal.raise_signal(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as `nohup` does
    with contextlib.ExitStack() as stack:
        up._stop_on_signals(stack)
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
