"""ETags for the API: who has the present answer already is told so, and gets no body (RFC 9110, section 13).

What many ask for is encoded, tagged and compressed once per version of the data (`Encoded`); what is left is tagged on
its way out (`ETags`).
"""

import gzip
import hashlib
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request
from fastapi.responses import Response
from pydantic import TypeAdapter
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

UNDER: Final = "/api/v1/"
LEAST: Final = 500
"""Bytes from which on an answer is compressed."""
_HEADERS: Final = {"Cache-Control": "private, no-cache", "Vary": "Accept-Encoding"}


@dataclass(frozen=True, slots=True)
class Encoded:
    """An answer as bytes.

    Attributes:
        small: the same, compressed with gzip; None where that does not pay.
        tag: of the plain bytes, without quotes; the compressed ones are another representation, with a tag of its own.
    """

    body: bytes
    small: bytes | None
    tag: str

    @classmethod
    def of(cls, kind: TypeAdapter[Any], value: Any) -> "Encoded":
        """Encodes a value of the kind that the API describes."""
        body = kind.dump_json(value)
        small = gzip.compress(body, 6, mtime=0) if len(body) >= LEAST else None
        return cls(body, small, _digest(body))

    def answer(self, request: Request) -> Response:
        """The answer to one request: 304 without a body when the client has it already."""
        zipped = self.small is not None and "gzip" in request.headers.get("accept-encoding", "")
        headers = {**_HEADERS, "ETag": f'"{self.tag}-gzip"' if zipped else f'"{self.tag}"'}
        if known(request.headers.get("if-none-match", ""), self.tag, f"{self.tag}-gzip"):
            return Response(None, 304, headers)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        return Response(self.small if zipped else self.body, 200, headers, "application/json")


def known(given: str, *tags: str) -> bool:
    """Whether an `If-None-Match` names one of the tags (weak comparison, as for GET), or any.

    >>> known('W/"a", "b"', "b"), known('"a"', "b"), known("*", "b")
    (True, False, True)
    """
    named = [one.strip().removeprefix("W/") for one in given.split(",")]
    return "*" in named or any(f'"{tag}"' in named for tag in tags)


def _digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()[:32]


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
        tag = _digest(self._body)
        headers = MutableHeaders(raw=list(start["headers"]))
        headers.update({"ETag": f'"{tag}"', "Cache-Control": "private, no-cache"})
        if known(self._known, tag):
            del headers["content-length"]
            start, self._body = {**start, "status": 304}, b""
        await self._send({**start, "headers": headers.raw})
        await self._send({"type": "http.response.body", "body": self._body})


def _tagged(start: Message) -> bool:
    headers = Headers(raw=start["headers"])
    return start["status"] == 200 and headers.get("content-type", "") == "application/json" and "etag" not in headers
