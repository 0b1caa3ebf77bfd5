"""Subscriptions over the API, with a token or a login: made, changed, tested and read; ended with a message's link.

Whoever may read a subscription may read its stream.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, replace
from html import escape
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Header, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse
from sqlalchemy import Engine
from starlette.requests import HTTPConnection

from crosswind.dashboard.cursors import LAST, event_id
from crosswind.dashboard.doors import LISTENS, Doors
from crosswind.dashboard.problems import refusals
from crosswind.dashboard.pulse import BEAT, EventStream, Pulse
from crosswind.dashboard.subscription_models import (
    DeliveryOut,
    KeyOut,
    SubscriptionIn,
    SubscriptionMade,
    SubscriptionOut,
    SubscriptionPatch,
    Wishes,
)
from crosswind.dashboard.subscriptions_page import own
from crosswind.errors import DatabaseError, DataError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Account, Accounts, Role
from crosswind.stream.adapters.postgres.subscriptions import ALL, Subscription
from crosswind.stream.adapters.postgres.tokens import Token, Tokens
from crosswind.stream.domain.contract import Alert, encode
from crosswind.stream.notify.desk import Desk, shown
from crosswind.stream.notify.domain.subscription import Channel, Draft, Filter, Standing

_HEADERS = {"Cache-Control": "no-cache, no-transform", "X-Accel-Buffering": "no"}
_REFUSED = 4401
"""Close code of a WebSocket whose reader may not read it, or no longer."""


def add_subscriptions(server: FastAPI, settings: Settings, writer: Engine, pulse: Pulse) -> None:
    """Adds the routes; before `add_api`, whose catch-all would swallow them. `writer` must be able to write."""
    desk, doors = Desk(settings, writer), Doors(Tokens(writer), Accounts(writer))
    router = APIRouter(prefix="/api/v1", tags=["subscriptions"], responses=refusals(429))
    _add_reads(router, desk, doors)
    _add_writes(router, desk, doors)
    _add_ends(router, desk)
    _add_streams(router, desk, doors, pulse)
    server.include_router(router)


def _add_reads(router: APIRouter, desk: Desk, doors: Doors) -> None:
    reads = doors.needs("subscriptions:read")

    @router.get("/subscriptions", summary="The caller's subscriptions; an admin's: all")
    def subscriptions(token: Token = reads) -> list[SubscriptionOut]:
        return [_out(found) for found in desk.store.list(token.token_id)]

    @router.get("/subscriptions/{subscription_id}", summary="One of them")
    def subscription(subscription_id: str, token: Token = reads) -> SubscriptionOut:
        _known(desk, subscription_id, token)
        return _out(desk.store.get(subscription_id, token.token_id))

    @router.get("/subscriptions/{subscription_id}/log", summary="Its deliveries, newest first")
    def log(
        subscription_id: str, limit: Annotated[int, Query(ge=1, le=500)] = 50, token: Token = reads
    ) -> list[DeliveryOut]:
        _known(desk, subscription_id, token)
        return [DeliveryOut(**asdict(tried)) for tried in desk.store.log(subscription_id, limit, token.token_id)]


def _add_writes(router: APIRouter, desk: Desk, doors: Doors) -> None:
    writes = doors.needs("subscriptions:write")

    @router.post("/subscriptions", status_code=201, summary="Subscribe; the signing key is shown this once")
    def subscribe(wanted: SubscriptionIn, token: Token = writes) -> SubscriptionMade:
        draft = replace(_draft(wanted, Channel(wanted.channel)), target=wanted.target)
        made = desk.add(_maker(token), draft, token.max_subscriptions)
        found = desk.store.get(made.subscription_id)
        return SubscriptionMade(**shown(found), secret=made.secret, unsubscribe=made.unsubscribe)

    @router.patch("/subscriptions/{subscription_id}", summary="Change, pause or resume it")
    def change(subscription_id: str, wanted: SubscriptionPatch, token: Token = writes) -> SubscriptionOut:
        _known(desk, subscription_id, token)
        found = desk.store.get(subscription_id, token.token_id)
        if wanted.model_fields_set - {"state"}:
            before = _wishes(shown(found))
            merged = Wishes.model_validate(before | wanted.model_dump(exclude_unset=True, exclude={"state"}))
            draft = replace(_draft(merged, found.draft.channel), target=found.draft.target)
            desk.change(subscription_id, draft, token.token_id)
        if wanted.state:
            desk.store.stand(subscription_id, Standing(wanted.state), "", token.token_id)
        return _out(desk.store.get(subscription_id, token.token_id))

    @router.delete("/subscriptions/{subscription_id}", status_code=204, summary="Delete it and its log")
    def delete(subscription_id: str, token: Token = writes) -> None:
        _known(desk, subscription_id, token)
        desk.store.delete(subscription_id, token.token_id)

    @router.post("/subscriptions/{subscription_id}/test", summary="Send it a test message now")
    async def test(subscription_id: str, token: Token = writes) -> DeliveryOut:
        await asyncio.to_thread(_known, desk, subscription_id, token)
        return DeliveryOut(**asdict(await desk.test(subscription_id, token.token_id)))

    @router.post("/subscriptions/{subscription_id}/rotate", summary="A new signing key; both sign for a day")
    def rotate(subscription_id: str, token: Token = writes) -> KeyOut:
        _known(desk, subscription_id, token)
        return KeyOut(secret=desk.rotate(subscription_id, token.token_id))


def _add_ends(router: APIRouter, desk: Desk) -> None:
    @router.get("/unsubscribe/{token}", include_in_schema=False)
    def ask(token: str) -> HTMLResponse:
        """Only asks: mail programs and scanners open links by themselves."""
        _of(desk, token)
        button = f'<form method="post" action="{escape(token)}"><button>Unsubscribe</button></form>'
        return HTMLResponse(f"<!DOCTYPE html><title>Crosswind</title><p>Stop these messages?</p>{button}")

    @router.post("/unsubscribe/{token}", summary="End a subscription with one click (RFC 8058)",
                 response_class=HTMLResponse)  # fmt: skip
    def end(token: str) -> HTMLResponse:
        desk.unsubscribe(_of(desk, token))
        return HTMLResponse("<!DOCTYPE html><title>Crosswind</title><p>You get no more of these messages.</p>")


def _add_streams(router: APIRouter, desk: Desk, doors: Doors, pulse: Pulse) -> None:
    listens = doors.needs(LISTENS)

    @router.get("/subscriptions/{subscription_id}/stream", response_class=EventStream,
                summary="Server-sent alerts; resumes after Last-Event-ID")  # fmt: skip
    async def stream(
        request: Request,
        subscription_id: str,
        last_event_id: Annotated[str, Header(max_length=20, pattern=r"^\d*$")] = "",
        token: Token = listens,
    ) -> EventStream:
        await asyncio.to_thread(_known, desk, subscription_id, token)
        after = event_id(last_event_id) if last_event_id else None
        seq = await asyncio.to_thread(desk.store.newest, subscription_id) if after is None else after
        alerts = _alerts(desk, pulse, subscription_id, seq, _still(doors, request, token))
        return EventStream(_events(alerts), headers=_HEADERS)

    @router.websocket("/subscriptions/{subscription_id}/ws")
    async def socket(
        websocket: WebSocket, subscription_id: str, after: Annotated[int | None, Query(ge=0, le=LAST)] = None
    ) -> None:
        token = await doors.listener(websocket)
        await websocket.accept()
        try:
            if token is None:
                raise DataError("nobody who may read it")
            await asyncio.to_thread(desk.store.get, subscription_id, token.token_id)
        except DataError:
            await websocket.close(_REFUSED)
            return
        seq = await asyncio.to_thread(desk.store.newest, subscription_id) if after is None else after
        alerts = _alerts(desk, pulse, subscription_id, seq, _still(doors, websocket, token))
        try:
            async for found in alerts:
                await websocket.send_text(encode(found).decode() if found else '{"beat":true}')
            await websocket.close(_REFUSED)
        except (WebSocketDisconnect, RuntimeError):  # starlette says either when the other side has gone
            await alerts.aclose()


def _still(doors: Doors, connection: HTTPConnection, token: Token) -> Callable[[], Awaitable[bool]]:
    """Whether who opened a stream may read on. The streams of an admin end when they are one no longer."""

    async def still() -> bool:
        found = await doors.listener(connection)
        return found is not None and found.token_id == token.token_id

    return still


async def _alerts(
    desk: Desk, pulse: Pulse, subscription_id: str, seq: int, allowed: Callable[[], Awaitable[bool]]
) -> AsyncGenerator[Alert | None, None]:
    """Alerts after `seq` as they come, and None now and then; ends when they may be read no longer."""
    while True:
        changed = pulse.changed
        found: Sequence[Alert] = []
        try:
            if not await allowed():
                return
            found = await asyncio.to_thread(desk.store.after, subscription_id, seq)
        except DatabaseError:  # the stream outlives a database restart; the client misses nothing
            pass
        for alert in found:
            seq = alert.seq
            yield alert
        if not found and not await pulse.wait(changed, BEAT):
            yield None


async def _events(alerts: AsyncIterator[Alert | None]) -> AsyncIterator[str]:
    yield ": connected\n\n"
    async for alert in alerts:
        yield f"id: {alert.seq}\nevent: alert\ndata: {encode(alert).decode()}\n\n" if alert else ": still here\n\n"


def _out(found: Subscription) -> SubscriptionOut:
    return SubscriptionOut(**shown(found))


def _maker(token: Token) -> str:
    """An admin sees the subscriptions of all, but owns what they make, as everybody does."""
    return own(Account(token.name, Role.ADMIN)) if token.token_id == ALL else token.token_id


def _known(desk: Desk, subscription_id: str, token: Token) -> None:
    try:
        desk.store.get(subscription_id, token.token_id)
    except DataError as error:
        raise HTTPException(404, str(error)) from None


def _of(desk: Desk, token: str) -> str:
    found = desk.subscription_of(token[:200])
    if found is None:
        raise HTTPException(404, "this link is not one of ours, or is cut short")
    return found


def _draft(wanted: Wishes, channel: Channel) -> Draft:
    about = Filter(tuple(wanted.topics), tuple(wanted.languages), tuple(wanted.entities), wanted.severity)
    quiet = wanted.quiet.hours() if wanted.quiet else None
    return Draft(channel, "", wanted.name, about, wanted.language, quiet, wanted.cap_per_hour, wanted.digest_minutes,
                 wanted.template)  # fmt: skip


def _wishes(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(json.dumps(fields[name])) for name in Wishes.model_fields}
