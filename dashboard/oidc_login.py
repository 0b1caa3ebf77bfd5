"""The way in by an identity provider: `/login/oidc` sends a browser there, `/login/oidc/back` takes it in again."""

import asyncio
from typing import Final

import structlog
from fastapi import FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from crosswind.dashboard.attempts import PATIENCE, Attempts, Refusal, Refused
from crosswind.dashboard.entrance import Entrance, local_path
from crosswind.dashboard.i18n import N_
from crosswind.dashboard.login import address_of, cookie_of
from crosswind.dashboard.oidc import Provider

START: Final = "/login/oidc"
BACK: Final = "/login/oidc/back"
"""Register this path, after the dashboard's address, as the redirect address at the provider."""

_SAID: Final = {
    Refusal.STATE: (400, N_("This login was not begun here, or took too long. Please begin again.")),
    Refusal.PROVIDER: (401, N_("The identity provider did not let you in.")),
    Refusal.TOKEN: (401, N_("The identity provider's answer could not be trusted.")),
    Refusal.ROLE: (403, N_("You are known, but have no role here. Ask whoever runs Crosswind for one.")),
    Refusal.UNREACHABLE: (503, N_("The identity provider does not answer as it should. Please try again later.")),
}
_OURS: Final = (Refusal.UNREACHABLE, Refusal.ROLE)
"""Refusals that are no sign of an attack, and count against nobody."""

_log = structlog.get_logger(__name__)


def add_oidc(server: FastAPI, entrance: Entrance, provider: Provider, public_url: str) -> None:
    """Adds both paths.

    Args:
        public_url: the dashboard's address as browsers reach it; empty: the one they ask for, which `Guard` keeps to
            loopback.
    """
    attempts, cookie = Attempts(), f"{entrance.cookie}-oidc"

    @server.get(START, include_in_schema=False)
    async def begin(request: Request, next: str = "/") -> Response:
        if stopped := _stopped(entrance, request):
            return stopped
        back = (public_url or f"http://{request.headers['host']}").rstrip("/") + BACK
        try:
            address, attempt = await provider.begin(attempts, back, local_path(next))
        except Refused as refused:
            return await _refuse(entrance, request, refused, provider.issuer)
        answer = RedirectResponse(address, 303, {"Cache-Control": "no-store"})
        entrance.give(answer, cookie, attempt.browser, int(PATIENCE))
        return answer

    @server.get(BACK, include_in_schema=False)
    async def back(request: Request, state: str = "", code: str = "", error: str = "", iss: str = "") -> Response:
        if stopped := _stopped(entrance, request):
            return stopped
        try:
            attempt = attempts.take(state, cookie_of(request.headers.get("cookie", ""), cookie))
            if error or not code or iss not in ("", provider.issuer):  # RFC 9207: who answers says so
                raise Refused(Refusal.PROVIDER, "an error" if error else "no code, or another issuer")
            person, role = await provider.finish(attempt, code)
        except Refused as refused:
            answer = await _refuse(entrance, request, refused, provider.issuer)
        else:
            account, token = await asyncio.to_thread(entrance.accounts.log_in_as, person, role)
            await asyncio.to_thread(entrance.accounts.note, account.name, "log in", account.name, address_of(request),
                                    provider=provider.issuer, role=role.name.lower())  # fmt: skip
            answer = entrance.admit(token, attempt.to)
        answer.delete_cookie(cookie, path="/", secure=entrance.secure, httponly=True, samesite="lax")
        answer.headers["Cache-Control"] = "no-store"
        return answer


def _stopped(entrance: Entrance, request: Request) -> Response | None:
    """The answer to who must wait, and to what is no step of a person from page to page: a picture on another site
    could else begin logins, and count failures, in the name of whoever looks at it."""
    if request.headers.get("sec-fetch-dest", "document") != "document":
        return entrance.page("/", N_("Please begin again."), 400)
    return entrance.too_many("", address_of(request), "/")


async def _refuse(entrance: Entrance, request: Request, refused: Refused, issuer: str) -> Response:
    """Nobody is let in: noted, counted and said."""
    address, accounts, person, name = address_of(request), entrance.accounts, refused.person, ""
    if refused.why not in _OURS:  # before anything is waited for: a burst finds it
        entrance.throttle.failed("", address)
    if person:
        await asyncio.to_thread(accounts.shut_out, person)
        name = person.account
    _log.warning("login by the identity provider refused", why=refused.why.value, cause=refused.cause)
    await asyncio.to_thread(accounts.note, name, "refused log in", name, address,
                            provider=issuer, why=refused.why.value)  # fmt: skip
    status, said = _SAID[refused.why]
    return entrance.page("/", said, status)
