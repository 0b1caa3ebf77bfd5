"""REST and streams under /api/v1, on the same server as the pages. Errors are RFC 9457 problems."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Header, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from pydantic import StringConstraints, TypeAdapter
from starlette.exceptions import HTTPException as StarletteHTTPException

from crosswind.dashboard.counts import Counts
from crosswind.dashboard.cursors import LAST, MAX_CURSOR, cursor_of, event_id, parse_cursor
from crosswind.dashboard.etags import Encoded
from crosswind.dashboard.live import Live
from crosswind.dashboard.login import still_in
from crosswind.dashboard.problems import MEDIA, describe
from crosswind.dashboard.pulse import BEAT, EventStream, Pulse
from crosswind.dashboard.queries import Article, Incident, Reader, Status, Transition, Wanted
from crosswind.dashboard.versions import Version, versions
from crosswind.dashboard.view import View
from crosswind.errors import BundleError, DatabaseError, DataError

MAX_LIMIT = 200
Range = Literal["1h", "6h", "24h", "48h", "all"]
Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z*][A-Za-z0-9_-]{0,31}$")]
Words = Annotated[list[Word], Query(max_length=50, description="repeat for more than one; none: all")]
Ident = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f]{1,200}$")]
AsOf = Annotated[datetime | None, Query(description="what was known then: articles received by then, as they were")]
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True)
class TrendOut:
    """One topic's columns; `share` is null where too few articles came to tell."""

    topic: str
    articles: list[int]
    negative: list[int]
    positive: list[int]
    share: list[float | None]


@dataclass(frozen=True, slots=True)
class TrendsOut:
    """Trends over a span: one entry per bin in each column, the bins' starts in `times`."""

    start: datetime
    end: datetime
    step_seconds: int
    times: list[datetime]
    trends: list[TrendOut]


@dataclass(frozen=True, slots=True)
class ArticlesOut:
    """A page of articles, newest first; pass `next` as `before` for the older ones."""

    articles: list[Article]
    next: str | None


@dataclass(frozen=True, slots=True)
class IncidentsOut:
    """A page of incidents, newest first; pass `next` as `before` for the older ones."""

    incidents: list[Incident]
    next: str | None


_TRENDS, _ARTICLES, _INCIDENTS = TypeAdapter(TrendsOut), TypeAdapter(ArticlesOut), TypeAdapter(IncidentsOut)


def add_api(server: FastAPI, reader: Reader, pulse: Pulse, live: Live | None = None) -> None:
    """Adds the routes and the error handlers. Before Dash adds its catch-all, which would swallow them.

    Args:
        live: what is shared with the pages; None: nothing is.
    """
    router, live = APIRouter(prefix="/api/v1"), live or Live(reader)
    _add_reads(router, live)
    _add_articles(router, live)
    _add_incidents(router, live)
    _add_streams(router, reader, pulse)
    server.include_router(router)
    _add_problems(server)
    describe(server)

    @server.api_route("/api/{path:path}", include_in_schema=False, methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def unknown(path: str) -> None:
        raise HTTPException(404, "there is no such resource; see /openapi.json")


def _add_reads(router: APIRouter, live: Live) -> None:
    @router.get("/status", summary="How fresh the data is")
    async def status() -> Status:
        return await live.status()

    @router.get(
        "/trends", summary="Articles and negative share per topic, in bins of event time", response_model=TrendsOut
    )
    async def trends(request: Request, range: Range = "48h", topic: Words = [], lang: Words = []) -> Response:  # noqa: B006 - read only
        counts = await live.counts(View(range=range))

        def make() -> Encoded:
            return Encoded.of(_TRENDS, _trends_out(counts, topic, lang))

        return (await live.get(("trends", range, *topic, 0, *lang), make)).answer(request)


def _add_articles(router: APIRouter, live: Live) -> None:
    @router.get("/articles", summary="Articles, newest first", response_model=ArticlesOut)
    async def articles(
        request: Request,
        topic: Words = [],  # noqa: B006
        lang: Words = [],  # noqa: B006
        sentiment: Literal["negative", "neutral", "positive"] | None = None,
        start: datetime | None = None,
        end: datetime | None = None,
        before: Annotated[str, Query(max_length=400, description="a page's `next`")] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 25,
        novel: Annotated[bool, Query(description="one article of each story")] = False,
        as_of: AsOf = None,
    ) -> Response:
        if novel and as_of:
            raise HTTPException(422, "which article begins a story is not kept by moment; leave out novel or as_of")
        span = _aware(start), _aware(end)
        wanted = Wanted(tuple(topic), tuple(lang), sentiment or "", *span, before, novel, _aware(as_of))

        def make() -> Encoded:
            page = live.reader.articles(wanted, limit)
            return Encoded.of(_ARTICLES, ArticlesOut(page.articles, page.next))

        return (await live.get(("api articles", wanted, limit), make)).answer(request)

    @router.get("/articles/{article_id}/versions", summary="What an article said when, oldest first")
    async def versions_of(article_id: Ident, as_of: AsOf = None) -> list[Version]:
        found = await asyncio.to_thread(versions, live.reader, article_id, _aware(as_of))
        if not found:
            raise HTTPException(404, "there is no such article, or there was none then")
        return found


def _add_incidents(router: APIRouter, live: Live) -> None:
    @router.get(
        "/incidents", summary="Surges of bad news that were open at some time of the span, newest first",
        response_model=IncidentsOut,
    )  # fmt: skip
    async def incidents(
        request: Request,
        topic: Words = [],  # noqa: B006
        lang: Words = [],  # noqa: B006
        start: datetime | None = None,
        end: datetime | None = None,
        before: Annotated[str, Query(max_length=MAX_CURSOR, description="a page's `next`")] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = 50,
    ) -> Response:
        first, last, at = _aware(start) or _EARLIEST, _aware(end) or _LATEST, parse_cursor(before)

        def make() -> Encoded:
            found = live.reader.incidents(first, last, topics=topic, langs=lang, before=at, limit=limit + 1)
            more = found[limit - 1] if len(found) > limit else None
            cursor = cursor_of(more.started_at, more.incident_id) if more else None
            return Encoded.of(_INCIDENTS, IncidentsOut(found[:limit], cursor))

        return (await live.get(("api incidents", first, last, at, limit, *topic, 0, *lang), make)).answer(request)


def _add_streams(router: APIRouter, reader: Reader, pulse: Pulse) -> None:
    @router.get("/live", summary="Server-sent `pulse` events: something changed, read again", include_in_schema=False)
    async def live(request: Request) -> EventStream:
        return EventStream(_while(partial(still_in, request), pulse.events()), headers=_HEADERS)

    @router.get("/alerts/stream", summary="Server-sent alerts; resumes after Last-Event-ID", response_class=EventStream)
    async def alerts(
        request: Request,
        last_event_id: Annotated[str | None, Header(max_length=20)] = None,
        after: Annotated[int | None, Query(ge=0, le=LAST, description="as Last-Event-ID; 0: from the first")] = None,
    ) -> EventStream:
        seq = await asyncio.to_thread(_start_of, reader, last_event_id, after)
        return EventStream(_alert_events(reader, pulse, seq, partial(still_in, request)), headers=_HEADERS)


def _start_of(reader: Reader, last_event_id: str | None, after: int | None) -> int:
    """Where a stream begins: after the last event that the client has, else with the next new one."""
    if last_event_id is not None:
        return event_id(last_event_id)
    return reader.last_seq() if after is None else after


async def _while(allowed: Callable[[], Awaitable[bool]], events: AsyncGenerator[str, None]) -> AsyncIterator[str]:
    """The events, until whoever reads them may no longer."""
    async with aclosing(events):
        async for event in events:
            try:
                if not await allowed():
                    return
            except DatabaseError:  # not known now; these events say nothing but that something changed
                pass
            yield event


async def _alert_events(
    reader: Reader, pulse: Pulse, seq: int, allowed: Callable[[], Awaitable[bool]]
) -> AsyncIterator[str]:
    """Alerts after `seq` as they come; ends when whoever reads them may no longer."""
    yield ": connected\n\n"
    while True:
        changed = pulse.changed
        try:
            if not await allowed():
                return
            found = await asyncio.to_thread(reader.transitions_after, seq)
        except DatabaseError:  # the stream outlives a database restart; the client misses nothing
            found = []
        for transition in found:
            seq = transition.seq
            yield _event(transition)
        if not found and not await pulse.wait(changed, BEAT):
            yield ": still here\n\n"


def _event(transition: Transition) -> str:
    body = {**asdict(transition), "at": transition.at.isoformat()}
    return f"id: {transition.seq}\nevent: alert\ndata: {json.dumps(body, ensure_ascii=False)}\n\n"


def _add_problems(server: FastAPI) -> None:
    @server.exception_handler(StarletteHTTPException)
    async def refused(request: Request, error: StarletteHTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail))

    @server.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors()]
        return problem(422, "; ".join(found))

    @server.exception_handler(DataError)
    async def unusable(request: Request, error: DataError) -> JSONResponse:
        return problem(400, str(error))

    @server.exception_handler(BundleError)  # of the registry; what a bundle is refused for is no error here
    @server.exception_handler(DatabaseError)
    async def unavailable(request: Request, error: DatabaseError | BundleError) -> JSONResponse:
        return problem(503, str(error))


def problem(status: int, detail: str) -> JSONResponse:
    """An RFC 9457 answer."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, media_type=MEDIA)


def _aware(moment: datetime | None) -> datetime | None:
    """A time from a query; without a zone it is UTC, and it is kept to years that every zone can show."""
    if moment is None:
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if not timedelta(0) <= aware - _EARLIEST <= _LATEST - _EARLIEST:
        raise HTTPException(422, "times must lie between the years 1970 and 9000")
    return aware


def _columns(trend: Any) -> dict[str, Any]:
    columns = {name: list(getattr(trend, name)) for name in ("articles", "negative", "positive", "share")}
    return {"topic": trend.topic, **columns}


def _trends_out(counts: Counts | None, topics: list[str], langs: list[str]) -> TrendsOut:
    if counts is None:
        return TrendsOut(_EARLIEST, _EARLIEST, 0, [], [])
    span, found = counts.span, counts.trends(topics, langs)
    trends = [TrendOut(**_columns(found[name])) for name in sorted(found)]
    return TrendsOut(span.start, span.end, int(span.step.total_seconds()), list(span.times), trends)
