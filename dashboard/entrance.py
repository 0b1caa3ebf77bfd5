"""The login page and what the ways to log in share."""

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from fastapi.responses import HTMLResponse, RedirectResponse, Response

from crosswind.dashboard import i18n
from crosswind.dashboard.i18n import N_, _
from crosswind.dashboard.view import View
from crosswind.stream.adapters.postgres.accounts import BY_PROVIDER, LASTS, Account, Accounts

if TYPE_CHECKING:
    from crosswind.dashboard.login import Throttle


@dataclass(frozen=True, slots=True)
class Entrance:
    """What the ways to log in share.

    Attributes:
        cookie: name of the one that holds a login.
        secure: whether people come over TLS.
        passwords: whether names and passwords are asked for.
        provider: whether an identity provider is offered.
    """

    accounts: Accounts
    cookie: str
    secure: bool
    throttle: "Throttle"
    passwords: bool = True
    provider: bool = False

    def page(self, to: str, said: str = "", status: int = 200, wait: float = 0) -> Response:
        """The login page, in the language of the page that is wanted, else in the browser's, which that page then gets.

        Args:
            said: a text of the catalogues.
            wait: seconds, where somebody must wait.
        """
        place = local_path(to)
        if ui := View.from_query(urlsplit(place).query).ui:
            i18n.use(ui)
        elif i18n.current() != i18n.DEFAULT:
            place = _in_language(place, i18n.current())
        shown = _page(place, _(said), passwords=self.passwords, provider=self.provider)
        return HTMLResponse(shown, status, {"Retry-After": str(int(wait) + 1)} if wait > 0 else None)

    def too_many(self, name: str, address: str, to: str) -> Response | None:
        """The answer to somebody who must wait."""
        wait = self.throttle.wait(name, address)
        return self.page(to, N_("Too many attempts; wait a while."), 429, wait) if wait > 0 else None

    def keeps(self, account: Account) -> bool:
        """Whether a login that was made once still counts: its way in may have been closed since."""
        return self.provider if account.name.startswith(BY_PROVIDER) else self.passwords

    def admit(self, token: str, to: str) -> Response:
        """Lets somebody in with a new login."""
        answer = RedirectResponse(local_path(to), 303)
        self.give(answer, self.cookie, token, int(LASTS.total_seconds()))
        return answer

    def give(self, answer: Response, cookie: str, value: str, seconds: int) -> None:
        """Sets a cookie that no script reads and that no other site's request brings along, links apart."""
        answer.set_cookie(
            cookie, value, max_age=seconds, secure=self.secure, httponly=True, samesite="lax", path="/"
        )  # fmt: skip


def local_path(path: str) -> str:
    """A path on this server, whatever was asked for; the start page where it cannot be one of ours.

    >>> local_path("/series?topic=credit"), local_path("//evil.example"), local_path("https://evil.example")
    ('/series?topic=credit', '/', '/')
    """
    fine = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() and "\\" not in path
    return path if fine and _fields(path) is not None else "/"


def _fields(path: str) -> list[tuple[str, str]] | None:
    """The fields of its query; None: more than any page has."""
    try:
        return parse_qsl(urlsplit(path).query, max_num_fields=50)
    except ValueError:
        return None


def _page(to: str, said: str, *, passwords: bool, provider: bool) -> str:
    name, password, enter, provided = _("Name"), _("Password"), _("Log in"), _("Log in with single sign-on")
    fields = f"""<input type="hidden" name="next" value="{html.escape(to)}">
<label>{name} <input name="name" autocomplete="username" required autofocus></label>
<label>{password} <input name="password" type="password" autocomplete="current-password" required></label>
<button class="button" type="submit">{enter}</button>"""
    # a link: our policy lets no form lead to another host
    link = f'<a class="button" href="/login/oidc?next={quote(to, safe="")}">{provided}</a>'
    return f"""<!DOCTYPE html><html lang="{i18n.current()}"><head><meta charset="utf-8">
<title>Crosswind: {enter}</title><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark"><link rel="stylesheet" href="/assets/crosswind.css"></head><body>
<main id="main"><form class="panel login" method="post" action="/login"><h1>Crosswind</h1>
<p role="alert">{html.escape(said)}</p>
{fields if passwords else ""}{link if provider else ""}<p>{_others(to)}</p></form></main></body></html>"""


def _others(to: str) -> str:
    """The same page in the interface's other languages."""
    return " ".join(
        f'<a class="ui" lang="{tag}" href="/login?next={quote(_in_language(to, tag), safe="")}">{html.escape(name)}</a>'
        for tag, name in i18n.languages().items() if tag != i18n.current()
    )  # fmt: skip


def _in_language(path: str, tag: str) -> str:
    fields = [(name, value) for name, value in _fields(path) or () if name != "ui"]
    return f"{urlsplit(path).path}?{urlencode([*fields, ('ui', tag)], safe=',:')}"
