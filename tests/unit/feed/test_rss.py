"""The RSS reader against a server that is a function: what is new is yielded, what fails is left alone for a while."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from crosswind.errors import DataError, Reason, SettingsError
from crosswind.stream.domain.contract import RawNews, decode_raw
from crosswind.stream.feed.rows import BadRow
from crosswind.stream.feed.rss import (
    FIRST_BACKOFF,
    LONGEST_BACKOFF,
    MAX_SECONDS,
    FeedState,
    Outcome,
    Visit,
    check_address,
    make_client,
    visit,
)
from crosswind.stream.feed.state import load_states, save_states
from crosswind.stream.feed.text import to_text

NOW = datetime(2026, 11, 6, 12, tzinfo=UTC)
STATE = FeedState("https://feeds.example/rss")


def rss(*items: str) -> bytes:
    head = "<rss version='2.0'><channel><title>The Wire</title><language>en-GB</language>"
    return f"{head}{''.join(items)}</channel></rss>".encode()


def item(number: int, title: str = "Profit rises") -> str:
    return (
        f"<item><title>{title}</title><guid isPermaLink='false'>g{number}</guid><link>https://feeds.example/{number}</link>"
        "<description>&lt;p&gt;Up &lt;b&gt;3 %&lt;/b&gt;&lt;/p&gt;&lt;script&gt;x()&lt;/script&gt;</description>"
        "<pubDate>Fri, 06 Nov 2026 10:00:00 +0100</pubDate></item>"
    )


def ask(
    answer: httpx.Response | Callable[[httpx.Request], httpx.Response],
    state: FeedState = STATE,
    now: datetime = NOW,
    max_bytes: int = 100_000,
    clock: Callable[[], float] = lambda: 0.0,
) -> Visit:
    handler = answer if callable(answer) else lambda request: answer
    with httpx.Client(transport=httpx.MockTransport(handler)) as client:
        return visit(client, state, now, max_bytes=max_bytes, clock=clock)


def test_entry_becomes_an_article_without_markup() -> None:
    found = ask(httpx.Response(200, content=rss(item(1))))
    assert found.report.outcome is Outcome.NEW
    assert decode_raw(found.rows[0].value, 10_000) == RawNews(
        source="The Wire",
        title="Profit rises",
        published_at=datetime(2026, 11, 6, 9, tzinfo=UTC),
        id="g1",
        url="https://feeds.example/1",
        body="Up 3 %",
        lang="en",
    )


def test_atom_is_read_too() -> None:
    atom = (
        "<feed xmlns='http://www.w3.org/2005/Atom'><title>A</title><entry><title type='html'>A &amp;lt;b&amp;gt;"
        "</title>"
        "<id>urn:1</id><updated>2026-11-06T08:00:00Z</updated></entry></feed>"
    )
    found = ask(httpx.Response(200, content=atom.encode()))
    assert decode_raw(found.rows[0].value, 10_000).published_at == datetime(2026, 11, 6, 8, tzinfo=UTC)


def test_entry_without_date_is_dated_now_and_not_sent_again() -> None:
    bare = "<item><title>No date</title><guid>g</guid></item>"
    first = ask(httpx.Response(200, content=rss(bare)))
    again = ask(httpx.Response(200, content=rss(bare)), first.state, NOW + timedelta(hours=1))
    assert decode_raw(first.rows[0].value, 10_000).published_at == NOW
    assert (again.rows, again.report.outcome) == ((), Outcome.UNCHANGED)


def test_only_what_is_new_is_yielded() -> None:
    first = ask(httpx.Response(200, content=rss(item(1), item(2))))
    second = ask(httpx.Response(200, content=rss(item(2), item(3), item(1, "Profit falls after all"))), first.state)
    titles = [decode_raw(row.value, 10_000).title for row in second.rows]
    assert titles == ["Profit rises", "Profit falls after all"]


def test_entry_without_title_is_a_bad_row() -> None:
    found = ask(httpx.Response(200, content=rss("<item><guid>g</guid></item>", item(2))))
    (bad,) = (row for row in found.rows if isinstance(row, BadRow))
    assert bad.error.reason is Reason.EMPTY_TEXT
    assert (found.report.rows, found.report.bad) == (1, 1)


def test_validators_are_sent_back_and_304_is_no_failure() -> None:
    first = ask(httpx.Response(200, content=rss(item(1)), headers={"etag": '"a"', "last-modified": "Fri"}))

    def server(request: httpx.Request) -> httpx.Response:
        assert request.headers["if-none-match"] == '"a"'
        assert request.headers["if-modified-since"] == "Fri"
        return httpx.Response(304)

    second = ask(server, first.state)
    assert (second.report.outcome, second.state) == (Outcome.UNCHANGED, first.state)


def test_back_off_doubles_and_is_forgotten_after_success() -> None:
    state, now, waits = STATE, NOW, []
    for _ in range(12):
        failed = ask(httpx.Response(500), state, now)
        assert failed.state.not_before is not None
        waits.append(failed.state.not_before - now)
        state, now = failed.state, failed.state.not_before
    assert waits[:3] == [FIRST_BACKOFF, 2 * FIRST_BACKOFF, 4 * FIRST_BACKOFF]
    assert waits[-1] == LONGEST_BACKOFF
    well = ask(httpx.Response(200, content=rss(item(1))), state, now)
    assert (well.state.failures, well.state.not_before) == (0, None)


def test_feed_that_backs_off_is_not_asked() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        raise AssertionError("it was asked")

    waiting = dataclasses.replace(STATE, failures=2, not_before=NOW + timedelta(seconds=1))
    found = ask(server, waiting)
    assert (found.report.outcome, found.state) == (Outcome.BACKING_OFF, waiting)


@pytest.mark.parametrize("value", ["600", "Fri, 06 Nov 2026 12:10:00 GMT"])
def test_retry_after_is_obeyed(value: str) -> None:
    found = ask(httpx.Response(429, headers={"retry-after": value}))
    assert found.state.not_before == NOW + timedelta(minutes=10)


@pytest.mark.parametrize("value", ["soon", "-5", "9" * 40, "9" * 5000, "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_odd_retry_after_still_waits_between_first_and_longest(value: str) -> None:
    found = ask(httpx.Response(503, headers={"retry-after": value}))
    assert found.state.not_before is not None
    assert FIRST_BACKOFF <= found.state.not_before - NOW <= LONGEST_BACKOFF


def test_oversize_answer_is_refused() -> None:
    found = ask(httpx.Response(200, content=rss(item(1))), max_bytes=100)
    assert (found.report.outcome, found.rows, found.state.failures) == (Outcome.TOO_LARGE, (), 1)


@pytest.mark.parametrize("content", [b"", b"<html><p>Not found</p></html>", b"\x00\xff", b"/etc/hostname"])
def test_what_is_no_feed_is_a_failure(content: bytes) -> None:
    found = ask(httpx.Response(200, content=content))
    assert (found.report.outcome, found.state.failures) == (Outcome.FAILED, 1)


class Drip(httpx.SyncByteStream):
    """A body of one byte at a time, each nine seconds after the other."""

    def __init__(self, head: bytes = b"") -> None:
        self.now, self._head = 0.0, head

    def __iter__(self) -> Iterator[bytes]:
        yield self._head
        while self.now < 10 * MAX_SECONDS:
            self.now += 9
            yield b"\x00"


@pytest.mark.parametrize(
    ("packed", "head"),
    # A packed body whose header names a file: the name may go on for ever, and nothing is unpacked meanwhile.
    [({}, b""), ({"content-encoding": "gzip"}, b"\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\x00\xff\xff")],
)
def test_answer_that_drips_is_refused_at_the_deadline(packed: dict[str, str], head: bytes) -> None:
    body = Drip(head)
    found = ask(httpx.Response(200, headers=packed, stream=body), clock=lambda: body.now)
    assert (found.report.outcome, found.rows) == (Outcome.FAILED, ())
    assert MAX_SECONDS < body.now <= MAX_SECONDS + 9


@pytest.mark.parametrize("tag", ['"é"'.encode(), b'"' + b"a" * 5000 + b'"'])
def test_validator_that_cannot_be_sent_back_is_not_kept(tag: bytes) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        assert "if-none-match" not in request.headers
        return httpx.Response(200, content=rss(item(1)), headers=[(b"etag", tag)])

    first = ask(server)
    assert (first.report.outcome, first.state.etag) == (Outcome.NEW, "")
    kept_before = dataclasses.replace(first.state, etag=tag.decode())
    assert ask(server, kept_before).report.outcome is Outcome.UNCHANGED


@pytest.mark.parametrize("address", ["http://xn--/", "http://[::1", "http://" + "a" * 300 + "/"])
def test_redirect_to_nowhere_is_a_failure(address: str) -> None:
    def server(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": address})

    with httpx.Client(transport=httpx.MockTransport(server), follow_redirects=True, max_redirects=5) as client:
        found = visit(client, STATE, NOW)
    assert (found.report.outcome, found.state.failures) == (Outcome.FAILED, 1)


def test_unreachable_server_is_a_failure() -> None:
    def server(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no route")

    assert "no route" in ask(server).report.detail


def test_only_web_addresses() -> None:
    check_address("HTTPS://feeds.example/")
    with pytest.raises(DataError, match="web address"):
        check_address("file:///etc/passwd")


def test_states_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert load_states(path) == {}
    states = {"u": dataclasses.replace(STATE, url="u", seen=frozenset({"a", "b"}), not_before=NOW)}
    save_states(path, states)
    assert load_states(path) == states


def test_state_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("{}")
    with pytest.raises(DataError, match="delete it"):
        load_states(tmp_path / "s")


def test_text_of_markup_is_text() -> None:
    assert to_text("a<br>b &lt;i&gt;<style>p{}</style> <p>c</p>") == "a b <i> c"


@pytest.mark.parametrize(
    ("name", "proxy"),
    [("ALL_PROXY", "socks5://me:secret@127.0.0.1:9"), ("https_proxy", "socks://me:secret@127.0.0.1:9"),
     ("HTTP_PROXY", "http://me:sec/ret@127.0.0.1")],
)  # fmt: skip
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    name: str, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.upper(), raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv(name, proxy)
    if name == "HTTP_PROXY":
        monkeypatch.delenv("http_proxy")
    with pytest.raises(SettingsError, match=f"^{name} names a proxy") as refused:
        make_client()
    assert "sec" not in str(refused.value)
