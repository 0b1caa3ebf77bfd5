import asyncio
import socket

import pytest
from fastapi import FastAPI
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from crosswind.dashboard.pulse import Pulse
from crosswind.dashboard.security import Guard, content_security_policy, host_name
from crosswind.dashboard.serve import bind, check_host, config_of, serve
from crosswind.errors import DatabaseError, ServiceError, SettingsError
from crosswind.settings import Settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_is_served(host: str) -> None:
    check_host(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_every_other_host_is_refused(host: str) -> None:
    with pytest.raises(SettingsError, match="without a login"):
        check_host(Settings(host=host))


def test_others_are_served_when_they_log_in_over_tls() -> None:
    check_host(Settings(host="0.0.0.0", auth="local", public_url="https://news.example"))
    with pytest.raises(SettingsError, match="in the clear"):
        check_host(Settings(host="0.0.0.0", auth="local"))


def test_where_logins_would_all_seem_to_come_from_the_proxy_it_is_said() -> None:
    for proxies, said in (("", 1), ("10.0.0.2", 0)):
        with capture_logs() as logs:
            config_of(FastAPI(), Settings(auth="local", public_url="https://news.example", trusted_proxies=proxies))
        assert sum("CROSSWIND_TRUSTED_PROXIES" in line["event"] for line in logs) == said


def test_serving_needs_a_database() -> None:
    with pytest.raises(SettingsError, match="CROSSWIND_DATABASE_URL"):
        serve(Settings(database_url=None, _env_file=None))  # type: ignore[call-arg]


def test_a_taken_port_is_one_clear_error() -> None:
    with bind("127.0.0.1", 0) as first:
        first.listen()
        with pytest.raises(ServiceError, match="choose another --port"):
            bind("127.0.0.1", first.getsockname()[1])


def test_port_zero_is_any_free_one() -> None:
    with bind("127.0.0.1", 0) as bound:
        assert bound.family is socket.AF_INET
        assert bound.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("host", "name"), [("[::1]:80", "[::1]"), ("LOCALHOST:1", "localhost"), ("evil.example", "evil.example"), ("", "")]
)
def test_a_host_is_told_from_its_port(host: str, name: str) -> None:
    assert host_name(host) == name


def guarded(host: str) -> TestClient:
    return TestClient(Guard(PlainTextResponse("hello"), content_security_policy(["'sha256-x'"])), base_url=host)


def test_a_rebound_name_is_refused() -> None:
    assert guarded("http://evil.example").get("/").status_code == 421


def test_every_answer_carries_the_headers() -> None:
    answer = guarded("http://127.0.0.1:8050").get("/")
    assert answer.text == "hello"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    policy = dict(rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; "))
    assert policy["script-src"] == "'self' 'sha256-x'"
    assert policy["object-src"] == "'none'"


class FakeVersions:
    """Gives one version after the other, then the last one for ever; an exception among them is raised."""

    def __init__(self, *versions: str | Exception) -> None:
        self._versions = list(versions)

    def __call__(self) -> str:
        found = self._versions.pop(0) if len(self._versions) > 1 else self._versions[0]
        if isinstance(found, Exception):
            raise found
        return found


async def _events(versions: FakeVersions, count: int, beat: float) -> list[str]:
    pulse = Pulse(versions, look=0.01)
    looking = asyncio.create_task(pulse.run())
    try:
        found: list[str] = []
        async for event in pulse.events(beat):
            found.append(event)
            if len(found) == count:
                return found
        return found
    finally:
        looking.cancel()


def test_a_change_is_told_at_once() -> None:
    events = asyncio.run(asyncio.wait_for(_events(FakeVersions("a", "a", "b"), 2, beat=60), 10))
    assert [event.split('"version": ')[1][:3] for event in events] == ['"a"', '"b"']


def test_a_quiet_stream_still_beats() -> None:
    events = asyncio.run(asyncio.wait_for(_events(FakeVersions("a"), 4, beat=0.02), 10))
    assert events[-1].startswith("event: pulse\n")


def test_an_outage_of_the_database_ends_no_stream() -> None:
    versions = FakeVersions("a", DatabaseError("away"), DatabaseError("away"), "b")
    events = asyncio.run(asyncio.wait_for(_events(versions, 2, beat=60), 10))
    assert '"b"' in events[-1]


def test_the_end_of_an_outage_is_told_although_nothing_changed() -> None:
    versions = FakeVersions("a", DatabaseError("away"), "a")
    events = asyncio.run(asyncio.wait_for(_events(versions, 2, beat=60), 10))
    assert ['"outages": 0' in events[0], '"outages": 1' in events[1]] == [True, True]


def test_a_stream_beats_before_the_database_ever_answered() -> None:
    events = asyncio.run(asyncio.wait_for(_events(FakeVersions(DatabaseError("away")), 2, beat=0.02), 10))
    assert all('"version": ""' in event for event in events)
