"""ETags for the API: who has the present answer already is told so, and gets no body (RFC 9110, section 13)."""

import hashlib
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNDER: Final = "/api/v1/"


class ETags:
    """ASGI middleware over JSON answers under `/api/v1/`; streams pass through untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one request on; its answer is held back until its tag is known."""
        if scope["type"] != "http" or scope["method"] != "GET" or not scope["path"].startswith(UNDER):
            await self._app(scope, receive, send)
            return
        await self._app(scope, receive, _Held(Headers(scope=scope).get("if-none-match", ""), send))


class _Held:
    """The sending side of one answer."""

    def __init__(self, known: str, send: Send) -> None:
        self._known, self._send = known, send
        self._start: Message | None = None
        self._body = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start" and _tagged(message):
            self._start = message
        elif self._start is None:
            await self._send(message)
        else:
            self._body += message.get("body", b"")
            if not message.get("more_body"):
                await self._answer(self._start)

    async def _answer(self, start: Message) -> None:
        tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update({"ETag": tag, "Cache-Control": "private, no-cache"})
        known = [one.strip().removeprefix("W/") for one in self._known.split(",")]
        if tag in known or "*" in known:
            del headers["content-length"]
            start, self._body = {**start, "status": 304}, b""
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})


def _tagged(start: Message) -> bool:
    return start["status"] == 200 and Headers(raw=start["headers"]).get("content-type", "") == "application/json"
