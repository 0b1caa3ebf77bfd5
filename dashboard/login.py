"""Who is asking: sessions, the login page, and refusals of requests that another site made a browser send.

Where no login is configured the server listens on loopback only (`serve.py`) and whoever asks is `LOCAL`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from http.cookies import CookieError, SimpleCookie
from typing import Any, Final
from urllib.parse import parse_qsl, quote, urlsplit

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from crosswind.dashboard import i18n
from crosswind.dashboard.entrance import Entrance
from crosswind.dashboard.i18n import N_
from crosswind.errors import DatabaseError
from crosswind.stream.adapters.postgres.accounts import LOCAL, Account, Accounts, Role

OPEN: Final = (
    "/login", "/health", "/assets/", "/api/v1/subscriptions", "/api/v1/subscriptions/", "/api/v1/unsubscribe/",
)  # fmt: skip
"""Paths that are served before anybody has logged in; subscriptions ask for tokens of their own."""

FAILURES: Final = 5
"""Wrong passwords for one name from one address, and four times as many from one address, until it must wait."""

PAUSE: Final = 900.0
"""Seconds over which failures count."""

MAX_FORM: Final = 4096
_SAFE = ("GET", "HEAD", "OPTIONS")
_who: ContextVar[Account] = ContextVar("who asks")


def who() -> Account:
    """Who asks, for the callbacks of pages, which see no request; outside of one a viewer without a name."""
    return _who.get(Account("", Role.VIEWER))


class Throttle:
    """Counts failed logins, in this process.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failed: dict[tuple[str, str], deque[float]] = {}

    def wait(self, name: str, address: str) -> float:
        """Seconds until another attempt is heard; 0: now. Without a name only those from the address count."""
        now = self._clock()
        for key, most in {(name, address): FAILURES, ("", address): 4 * FAILURES}.items():
            times = self._failed.get(key, deque())
            while times and times[0] <= now - PAUSE:
                times.popleft()
            if len(times) >= most:
                return times[0] + PAUSE - now
        return 0.0

    def failed(self, name: str, address: str) -> float:
        """Notes a failure, or an attempt that may become one; returns what `forgive` wants."""
        now = self._clock()
        if len(self._failed) > 10_000:  # somebody tries names by the thousand: forget who is not waiting
            self._failed = {key: times for key, times in self._failed.items() if key[0] == ""}
        for key in {(name, address), ("", address)}:
            self._failed.setdefault(key, deque()).append(now)
        return now

    def forgive(self, name: str, address: str, at: float) -> None:
        """Takes back what was noted: it was no failure."""
        for key in {(name, address), ("", address)}:
            times = self._failed.get(key, deque())
            if at in times:
                times.remove(at)
            if not times:
                self._failed.pop(key, None)


class Login:
    """ASGI middleware: finds who asks, turns away who may not, and refuses what another site sent.

    Args:
        accounts: None: no login is configured, everybody is `LOCAL`.
        also: further paths that are served before anybody has logged in.
        keeps: whether a login of that account still counts.
    """

    def __init__(
        self, app: ASGIApp, accounts: Accounts | None, cookie: str, also: Sequence[str] = (),
        keeps: Callable[[Account], bool] = lambda account: True,
    ) -> None:  # fmt: skip
        self._app, self._accounts, self._cookie, self._also = app, accounts, cookie, frozenset(also)
        self._keeps = keeps

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes one connection on with its `account`, or answers it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        if scope["type"] == "http" and scope["method"] not in _SAFE and not same_origin(headers):
            await _problem(403, "this request came from another site")(scope, receive, send)
            return
        # A page of any site can open a WebSocket here, with our cookies and unasked: such a one bears nobody's login.
        ours = scope["type"] == "http" or same_origin(headers)

        async def asks() -> Account | None:
            return await self._who(headers) if ours else None

        account = await asks()
        if scope["path"].startswith("/login"):  # the other pages say in their address which language they are in
            i18n.use(i18n.accepted(headers.get("accept-language", "")[:200]))
        if account is None and scope["path"] not in self._also and not _open(scope["path"]):
            await self._turn_away(scope, receive, send)
            return
        scope.setdefault("state", {}).update(account=account, asks=asks)
        if account is not None:
            _who.set(account)  # each request is a task of its own, and threads that it starts get a copy
        await self._app(scope, receive, send)

    async def _who(self, headers: Headers) -> Account | None:
        if self._accounts is None:
            return LOCAL
        token = cookie_of(headers.get("cookie", ""), self._cookie)
        found = await asyncio.to_thread(self._accounts.of, token) if token else None
        return found if found is None or self._keeps(found) else None

    async def _turn_away(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path = scope["path"]
        page = scope["method"] == "GET" and not path.startswith(("/api/", "/_dash", "/export/"))
        answer: Response = _problem(401, "log in first, at /login")
        if page:
            query = scope.get("query_string", b"").decode("latin-1")
            answer = RedirectResponse("/login?next=" + quote(path + (f"?{query}" if query else ""), safe=""), 303)
        await answer(scope, receive, send)


def same_origin(headers: Headers) -> bool:
    """Whether a request that may change something was made by our own pages, or by no browser at all.

    Browsers say where a request comes from in `Sec-Fetch-Site` and `Origin`, which pages cannot forge; a request with
    cookies and neither is refused (OWASP, Cross-Site Request Forgery Prevention, fetch metadata).
    """
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site not in ("same-origin", "none"):
        return False
    # forms of our own pages say "null", because these forbid the browser to tell where it comes from (`security.py`)
    if origin is not None and (origin, site) != ("null", "same-origin"):
        return urlsplit(origin).netloc == headers.get("host")
    return site is not None or "cookie" not in headers


def cookie_of(header: str, name: str) -> str:
    """A cookie's value, or the empty string."""
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def account_of(request: Request) -> Account:
    """Who asks; for routes behind `Login`."""
    found: Account | None = getattr(request.state, "account", None)
    if found is None:
        raise HTTPException(401, "log in first, at /login")
    return found


async def still_in(request: Request) -> bool:
    """Whether who opened a stream may read on, looked up anew: a login may have ended since. Without `Login`: yes."""
    return not hasattr(request.state, "asks") or await asking(request) is not None


async def asking(connection: HTTPConnection) -> Account | None:
    """Who asks, looked up anew; None: nobody who is logged in, a page of another site's WebSocket, or no `Login`."""
    asks: Callable[[], Awaitable[Account | None]] | None = getattr(connection.state, "asks", None)
    return await asks() if asks else None


def needs(role: Role) -> Any:
    """A route's dependency: who asks, when they have that role at least; else 403."""

    def asked(request: Request) -> Account:
        account = account_of(request)
        if account.role < role:
            raise HTTPException(403, f"this needs the role {role.name.lower()}; yours is {account.role.name.lower()}")
        return account

    return Depends(asked)


def add_login(server: FastAPI, entrance: Entrance) -> None:
    """Adds the login page, and the way out."""
    accounts, cookie = entrance.accounts, entrance.cookie

    @server.get("/login", include_in_schema=False)
    def page(next: str = "/") -> Response:
        return entrance.page(next)

    @server.post("/logout", include_in_schema=False)
    async def log_out(request: Request) -> Response:
        await asyncio.to_thread(accounts.log_out, cookie_of(request.headers.get("cookie", ""), cookie))
        ui = (await _form(request)).get("ui", "")
        known = ui in i18n.languages() and ui != i18n.DEFAULT
        answer = RedirectResponse("/login?next=" + quote(f"/?ui={ui}", safe="") if known else "/login", 303)
        answer.delete_cookie(cookie, path="/", secure=entrance.secure, httponly=True, samesite="lax")
        return answer

    if entrance.passwords:
        _add_passwords(server, entrance)


def _add_passwords(server: FastAPI, entrance: Entrance) -> None:
    accounts = entrance.accounts

    @server.post("/login", include_in_schema=False)
    async def log_in(request: Request) -> Response:
        form = await _form(request)
        name, address, to = form.get("name", "")[:64], address_of(request), form.get("next", "/")
        if "\x00" in name:
            raise HTTPException(400, "a name holds no NUL character")
        if busy := entrance.too_many(name, address, to):
            return busy
        # Counted before the check, which takes a while: of a burst too, only so many are heard.
        noted = entrance.throttle.failed(name, address)
        try:
            token = await asyncio.to_thread(accounts.log_in, name, form.get("password", ""))
        except DatabaseError:
            entrance.throttle.forgive(name, address, noted)
            raise
        if token:
            entrance.throttle.forgive(name, address, noted)
        action = "log in" if token else "refused log in"
        await asyncio.to_thread(accounts.note, name, action, name, address)
        if token is None:
            return entrance.page(to, N_("Name and password do not fit."), 401)
        return entrance.admit(token, to)


async def _form(request: Request) -> dict[str, str]:
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_FORM:
            raise HTTPException(413, "that is too long for a login")
    try:
        return dict(parse_qsl(body.decode(), max_num_fields=10))
    except ValueError:
        raise HTTPException(400, "that is no login form") from None


def address_of(request: Request) -> str:
    """Where a request comes from: who connected, or who a trusted proxy says did (`serve.config_of`)."""
    return request.client.host if request.client else ""


def _open(path: str) -> bool:
    return any(path == one or (one.endswith("/") and path.startswith(one)) for one in OPEN)


def _problem(status: int, detail: str) -> JSONResponse:
    body = {"type": "about:blank", "title": "refused", "status": status, "detail": detail}
    return JSONResponse(body, status, media_type="application/problem+json")
