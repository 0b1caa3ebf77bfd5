"""Who may come in to the subscriptions: a token its own, somebody who is logged in their own, an admin to all.

Those of the command line are nobody's own: admins read them, and where no login is configured whoever asks is one.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Depends, Header, HTTPException, Request
from starlette.requests import HTTPConnection

from crosswind.dashboard.login import asking
from crosswind.dashboard.subscriptions_page import owner_of
from crosswind.stream.adapters.postgres.accounts import Account, Accounts, Role
from crosswind.stream.adapters.postgres.tokens import Token, Tokens

LISTENS: Final = "alerts:read"
"""The scope that a stream needs."""
PER_MINUTE, MOST = 240, 100
"""Calls a minute, and subscriptions, of somebody who is logged in to the pages."""
_MINUTE = 60.0


class Limiter:
    """So many calls per minute and token, in windows of a minute. Held in this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._windows: dict[str, tuple[float, int]] = {}

    def allows(self, token: Token) -> bool:
        """Counts a call; False when it is one too many."""
        now = self._clock()
        start, count = self._windows.get(token.token_id, (now, 0))
        if now - start >= _MINUTE:
            start, count = now, 0
        self._windows[token.token_id] = (start, count + 1)
        return count < token.per_minute


class Doors:
    """Who may come in: a bearer token with the scope that is needed, or somebody who is logged in to the pages."""

    def __init__(self, tokens: Tokens, accounts: Accounts) -> None:
        self._tokens, self._accounts, self._limiter = tokens, accounts, Limiter()

    def needs(self, scope: str) -> Any:
        """A dependency that gives the caller's token."""

        def dependency(request: Request, authorization: Annotated[str, Header(max_length=200)] = "") -> Token:
            if "\x00" in request.path_params.get("subscription_id", ""):
                raise HTTPException(400, "an id holds no NUL character; list the subscriptions to see their ids")
            token = self.find(authorization, scope) or (None if authorization else self._pass_of(request, scope))
            if token is None:
                raise HTTPException(401, f"send a token with the scope {scope}: Authorization: Bearer cwt_…")
            if not self._limiter.allows(token):
                raise HTTPException(429, f"more than {token.per_minute} calls a minute; wait a minute")
            return token

        return Depends(dependency)

    def _pass_of(self, request: Request, scope: str) -> Token | None:
        """What a page's user may do without a token: read, and from the role analyst on write, which is noted."""
        account: Account | None = getattr(request.state, "account", None)
        writing = scope == "subscriptions:write"
        if account is None or (writing and account.role < Role.ANALYST):
            return None
        if writing:
            what, address = request.path_params.get("subscription_id", ""), request.client
            self._accounts.note(account.name, f"{request.method.lower()} subscription", what[:100],
                                address.host if address else "", path=request.url.path[-60:])  # fmt: skip
        return _pass(account, scope)

    async def listener(self, connection: HTTPConnection) -> Token | None:
        """Who reads a stream, looked up anew: a token may have been revoked since, a login may have ended.

        Raises:
            DatabaseError: nobody knows, the database is away.
        """
        authorization = connection.headers.get("authorization", "")
        if authorization:
            return await asyncio.to_thread(self.find, authorization, LISTENS)
        account = await asking(connection)
        return _pass(account, LISTENS) if account else None

    def find(self, authorization: str, scope: str) -> Token | None:
        """The token of a header, when it may do that."""
        kind, _, plain = authorization.partition(" ")
        token = self._tokens.find(plain.strip()) if kind.lower() == "bearer" else None
        return token if token and scope in token.scopes else None


def _pass(account: Account, scope: str) -> Token:
    """What stands for the token of somebody who is logged in."""
    return Token(owner_of(account), account.name, (scope,), PER_MINUTE, MOST, datetime.now(UTC), None)
