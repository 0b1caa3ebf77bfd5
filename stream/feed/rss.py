"""RSS and Atom: fetched politely, and one broken feed never stops the others.

Conditional GET (RFC 9110: ETag, Last-Modified), a back-off per feed that doubles, `Retry-After` obeyed, a cap on the
size and the time of an answer. What a feed said last time is remembered, so that only what is new is sent.
"""

import calendar
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any

import feedparser
import httpx

from crosswind.errors import ContractError, DataError, Reason, SettingsError
from crosswind.stream.domain.normalise import language_code
from crosswind.stream.feed.rows import AnyRow, BadRow, from_fields
from crosswind.stream.feed.text import to_text

MAX_BYTES = 8 * 1024 * 1024
"""Of an unpacked answer; the largest honest feeds have some hundred KiB."""
MAX_SECONDS = 30.0
"""For a whole answer: a server that drips bytes must not hold up the others."""
FIRST_BACKOFF = timedelta(minutes=1)
LONGEST_BACKOFF = timedelta(hours=6)
MAX_VALIDATOR = 1024
"""Characters of an ETag or a date that are sent back at most."""
MAX_BODY = 4000
"""Characters of a summary; some feeds put whole pages there."""
PROXIES = frozenset({"http_proxy", "https_proxy", "all_proxy"})
"""Variables of the environment, in lower or upper case, by which httpx goes through a proxy."""


class Outcome(StrEnum):
    """What came of asking a feed."""

    NEW = "new"
    UNCHANGED = "unchanged"
    BACKING_OFF = "backing_off"
    FAILED = "failed"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class FeedState:
    """What is remembered of a feed between two visits.

    Attributes:
        etag: validator of the last answer, empty when it had none; so `modified`.
        failures: in a row, until now.
        not_before: it is left alone until then.
        seen: digests of the entries of the last answer.
    """

    url: str
    etag: str = ""
    modified: str = ""
    failures: int = 0
    not_before: datetime | None = None
    seen: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What one visit brought; `rows` and `bad` count only what is new."""

    url: str
    outcome: Outcome
    rows: int = 0
    bad: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Visit:
    """A visit's rows, its report, and the state to come back with once the rows are safe in Kafka."""

    state: FeedState
    report: FeedReport
    rows: tuple[AnyRow, ...] = ()


class _Refused(Exception):
    """The answer is of no use."""

    def __init__(self, detail: str, outcome: Outcome = Outcome.FAILED, wait: timedelta | None = None) -> None:
        super().__init__(detail)
        self.outcome, self.wait = outcome, wait


def make_client() -> httpx.Client:
    """A client for `visit`: five redirects at most, ten seconds for each step, by the proxy of the environment.

    Raises:
        SettingsError: that proxy cannot be used; the message names the variable.
    """
    agent = {"User-Agent": "crosswind-feed/1 (RSS reader)"}
    try:
        return httpx.Client(follow_redirects=True, max_redirects=5, timeout=10.0, headers=agent)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        # never the value, which may hold a password, nor httpx's words on an address, which quote it
        why = "it needs the package httpx[socks]" if isinstance(error, ImportError) else "expected http://host:port"
        raise SettingsError(f"{_bad_proxy()} names a proxy that cannot be used: {why}") from None


def _bad_proxy() -> str:
    """The variables that httpx cannot use, one by one; all of them where each alone would do."""
    given = {name: value for name, value in os.environ.items() if name.lower() in PROXIES and value}
    return ", ".join([name for name, value in given.items() if not _usable(value)] or [*given, "NO_PROXY"])


def _usable(proxy: str) -> bool:
    try:
        httpx.Client(proxy=proxy if "://" in proxy else f"http://{proxy}", trust_env=False).close()
    except (ImportError, ValueError, httpx.InvalidURL):
        return False
    return True


def check_address(url: str) -> None:
    """Feeds are read over http and https.

    Raises:
        DataError: it is another kind of address.
    """
    if not url.lower().startswith(("http://", "https://")):
        raise DataError(f"{url} is not a web address; expected http://… or https://…")


def visit(
    client: httpx.Client,
    state: FeedState,
    now: datetime,
    *,
    max_bytes: int = MAX_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> Visit:
    """Asks one feed for news. Never raises for what the other side does: the report says it.

    Args:
        now: aware; decides on back-off, and dates entries that carry no date.
        clock: seconds, for the cap on an answer's time.
    """
    if state.not_before is not None and now < state.not_before:
        wait = f"until {state.not_before:%H:%M:%S} UTC after {state.failures} failures"
        return Visit(state, FeedReport(state.url, Outcome.BACKING_OFF, detail=wait))
    try:
        return _visit(client, state, now, max_bytes, clock)
    except _Refused as error:
        return _failed(state, now, error.outcome, str(error), error.wait)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:  # ValueError: a redirect to what is no host's name
        return _failed(state, now, Outcome.FAILED, f"{type(error).__name__}: {error}", None)


def _visit(client: httpx.Client, state: FeedState, now: datetime, max_bytes: int, clock: Callable[[], float]) -> Visit:
    conditions = {"If-None-Match": _validator(state.etag), "If-Modified-Since": _validator(state.modified)}
    with client.stream("GET", state.url, headers={k: v for k, v in conditions.items() if v}) as answer:
        if answer.status_code == httpx.codes.NOT_MODIFIED:
            return Visit(_well(state), FeedReport(state.url, Outcome.UNCHANGED))
        if not answer.is_success:
            raise _Refused(f"HTTP {answer.status_code}", wait=_retry_after(answer, now))
        content = _content(answer, max_bytes, clock() + MAX_SECONDS, clock)
        etag, modified = (_validator(answer.headers.get(name, "")) for name in ("etag", "last-modified"))
        kind, address = answer.headers.get("content-type", "application/xml"), str(answer.url)
    entries = _entries(content, kind, address, now)
    new = tuple(row for digest, row in entries if digest not in state.seen)
    seen = frozenset(digest for digest, _ in entries)
    bad = sum(isinstance(row, BadRow) for row in new)
    report = FeedReport(state.url, Outcome.NEW if new else Outcome.UNCHANGED, len(new) - bad, bad)
    return Visit(replace(_well(state), etag=etag, modified=modified, seen=seen), report, new)


def _validator(text: str) -> str:
    """What may go back to the server in a header; empty where that is not possible."""
    return text if text.isascii() and text.isprintable() and len(text) <= MAX_VALIDATOR else ""


def _well(state: FeedState) -> FeedState:
    return replace(state, failures=0, not_before=None)


def _failed(state: FeedState, now: datetime, outcome: Outcome, detail: str, wait: timedelta | None) -> Visit:
    failures = state.failures + 1
    doubled = FIRST_BACKOFF * 2 ** min(failures - 1, 20)
    pause = min(max(doubled, wait or timedelta()), LONGEST_BACKOFF)
    later = replace(state, failures=failures, not_before=now + pause)
    return Visit(later, FeedReport(state.url, outcome, detail=detail))


def _content(answer: httpx.Response, max_bytes: int, deadline: float, clock: Callable[[], float]) -> bytes:
    """The unpacked answer, counted while it comes: a length header may lie, and so may a small packed body."""
    content = bytearray()
    answer.stream = _Timed(answer.stream, deadline, clock)
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > max_bytes:
            raise _Refused(f"more than {max_bytes:,} bytes", Outcome.TOO_LARGE)
    return bytes(content)


class _Timed(httpx.SyncByteStream):
    """A body that ends at a deadline. It is looked at with each piece that the network brings: what is unpacked may
    stay empty for long, and a chunk of a wished size is handed out only when it is full."""

    def __init__(self, stream: Any, deadline: float, clock: Callable[[], float]) -> None:
        self._stream, self._deadline, self._clock = stream, deadline, clock

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            if self._clock() > self._deadline:
                raise _Refused(f"took longer than {MAX_SECONDS:.0f} s")
            yield piece

    def close(self) -> None:
        self._stream.close()


def _retry_after(answer: httpx.Response, now: datetime) -> timedelta | None:
    """`Retry-After` in seconds or as a date (RFC 9110, 10.2.3)."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isdecimal():
        return min(timedelta(seconds=int(text)), LONGEST_BACKOFF) if len(text) < 10 else LONGEST_BACKOFF
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC) - now
    except (ValueError, OverflowError):
        return None


def _entries(content: bytes, kind: str, address: str, now: datetime) -> list[tuple[str, AnyRow]]:
    # A stream, never bytes: feedparser would take bytes for the name of a file or an address.
    about = {"content-type": kind, "content-location": address}
    try:
        parsed = feedparser.parse(io.BytesIO(content), response_headers=about)
    except Exception as error:  # whatever a hostile document breaks in it, the other feeds go on
        raise _Refused(f"not a feed: {type(error).__name__} in feedparser") from error
    if not parsed.entries and (parsed.bozo or not parsed.get("version")):
        raise _Refused(f"not a feed: {parsed.get('bozo_exception', 'no RSS or Atom in it')}")
    source = str(parsed.feed.get("title", "")).strip() or httpx.URL(address).host
    lang = language_code(str(parsed.feed.get("language", "")))
    return [_entry(number, entry, source, lang, now) for number, entry in enumerate(parsed.entries, 1)]


def _entry(number: int, entry: Any, source: str, lang: str | None, now: datetime) -> tuple[str, AnyRow]:
    title, body = _text(entry, "title"), _text(entry, "summary")[:MAX_BODY]
    ident = str(entry.get("id") or entry.get("link") or "") or None
    digest = hashlib.sha256(json.dumps([ident, title, body]).encode()).hexdigest()[:32]
    original = json.dumps({"id": ident, "title": title, "source": source}, ensure_ascii=False).encode()
    if not title:
        return digest, BadRow(number, original, ContractError(Reason.EMPTY_TEXT, f"entry {number} has no title"))
    fields = {
        "source": source,
        "title": title,
        "published_at": _moment(entry) or now,
        "id": ident,
        "url": entry.get("link"),
        "lang": lang,
        "body": body or None,
    }
    return digest, from_fields(number, fields, original)


def _text(entry: Any, name: str) -> str:
    value = str(entry.get(name) or "")
    kind = (entry.get(f"{name}_detail") or {}).get("type", "text/plain")
    return to_text(value) if "html" in kind else " ".join(value.split())


def _moment(entry: Any) -> datetime | None:
    parts = entry.get("published_parsed") or entry.get("updated_parsed")
    try:
        return datetime.fromtimestamp(calendar.timegm(parts), UTC) if parts else None
    except (ValueError, OverflowError, OSError):
        return None
