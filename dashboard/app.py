"""The composition root of the dashboard: one FastAPI server with the pages, the API and the streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from dash import Dash
from fastapi import FastAPI
from sqlalchemy import Engine

from crosswind.dashboard.api import add_api
from crosswind.dashboard.api_docs import add_docs
from crosswind.dashboard.callbacks import add_callbacks
from crosswind.dashboard.entrance import Entrance
from crosswind.dashboard.etags import ETags
from crosswind.dashboard.exports import add_exports
from crosswind.dashboard.live import Live
from crosswind.dashboard.login import Login, Throttle, add_login
from crosswind.dashboard.models_desk import ModelsDesk
from crosswind.dashboard.orders import add_orders
from crosswind.dashboard.pages.frame import frame
from crosswind.dashboard.pulse import Pulse
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.rules_desk import RulesDesk
from crosswind.dashboard.running_backtests import Backtests
from crosswind.dashboard.security import LOOPBACK, Guard, content_security_policy, host_name
from crosswind.dashboard.subscriptions_api import add_subscriptions
from crosswind.dashboard.work import add_work_callbacks
from crosswind.dashboard.work_api import Work, add_work
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Accounts
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions

if TYPE_CHECKING:
    from crosswind.stream.adapters.translation_desk import TranslationDesk

_INDEX = """<!DOCTYPE html>
<html lang="en">
    <head>
        {%metas%}
        <title>{%title%}</title>
        {%favicon%}
        {%css%}
    </head>
    <body>
        {%app_entry%}
        <footer>
            {%config%}
            {%scripts%}
            {%renderer%}
        </footer>
    </body>
</html>"""
_METAS = [
    {"name": "viewport", "content": "width=device-width, initial-scale=1"},
    {"name": "color-scheme", "content": "light dark"},
]


def create_app(settings: Settings, engine: Engine, writer: Engine | None = None) -> FastAPI:
    """The dashboard of one run, an ASGI application.

    Args:
        engine: best one of a role that can only read (`crosswind.stream.adapters.postgres.reader`).
        writer: what people say to alerts, and logins, are written with; None: nobody can act or log in.
    """
    reader = Reader(engine, settings.run)
    headlines = _headlines(settings, writer) if writer and settings.translators else None
    pulse, live = Pulse(reader.version), Live(reader, headlines=headlines)
    backtests = Backtests(settings, engine)
    server = FastAPI(
        title="Crosswind", version="1", lifespan=_lifespan(pulse, backtests, headlines), openapi_url="/openapi.json",
        docs_url=None, redoc_url=None,  # both fetch their scripts from elsewhere
    )  # fmt: skip

    @server.get("/health", include_in_schema=False)
    def health() -> dict[str, bool]:
        return {"ok": True}

    secure = settings.public_url.startswith("https://")
    cookie = "__Host-crosswind" if secure else "crosswind"  # browsers keep the first to this host, over TLS
    accounts = Accounts(writer) if writer and settings.auth != "none" else None
    if writer:
        add_orders(server, writer, settings.run, login=accounts is not None)
    entrance, also = _add_login(server, settings, accounts, cookie, secure) if accounts else (None, ())
    add_exports(server, reader)
    add_subscriptions(server, settings, writer or engine, pulse)
    work = Work(
        reader, RulesDesk(reader, engine, settings.rules), backtests, Accounts(writer or engine),
        ModelsDesk(settings, engine, writer or engine),
        Subscriptions(writer or engine, settings.run),  # the role that pages read through sees nobody's address
    )  # fmt: skip
    add_work(server, work)
    add_docs(server)
    add_api(server, reader, pulse, live)
    policy = content_security_policy(_add_pages(server, live, work))
    public = {host_name(urlsplit(settings.public_url).netloc)} - {""} if accounts else set()
    server.add_middleware(ETags)  # the last added is the first asked
    keeps = entrance.keeps if entrance else lambda account: True
    server.add_middleware(Login, accounts=accounts, cookie=cookie, also=also, keeps=keeps)
    server.add_middleware(Guard, policy=policy, hosts=(*LOOPBACK, *public))
    return server


def _add_login(
    server: FastAPI, settings: Settings, accounts: Accounts, cookie: str, secure: bool
) -> tuple[Entrance, tuple[str, ...]]:
    """Adds the ways to log in; returns what they share, and the paths of them that must be open."""
    passwords, provider = settings.auth in ("local", "both"), settings.auth in ("oidc", "both")
    entrance = Entrance(accounts, cookie, secure, Throttle(), passwords, provider)
    add_login(server, entrance)
    if not provider:
        return entrance, ()
    # Here, because only who has a provider needs Authlib.
    from crosswind.dashboard.oidc import Provider
    from crosswind.dashboard.oidc_login import BACK, START, add_oidc

    add_oidc(server, entrance, Provider(settings), settings.public_url)
    return entrance, (START, BACK)


def _add_pages(server: FastAPI, live: Live, work: Work) -> list[str]:
    """Mounts Dash; returns the hashes of its inline scripts."""
    given: Any = server  # typed as Flask's only; the FastAPI backend takes this one
    dash: Any = Dash(
        "crosswind.dashboard",
        server=given,
        backend="fastapi",
        title="Crosswind",
        update_title="",
        assets_folder=str(Path(__file__).parent / "assets"),
        index_string=_INDEX,
        meta_tags=_METAS,
        suppress_callback_exceptions=True,
        serve_locally=True,
        compress=True,
    )
    dash.layout = frame()
    add_callbacks(dash, live)
    add_work_callbacks(dash, work)
    # Dash finds its assets on the first request for `/`; who opened another page first got it without a style sheet
    dash._setup_server()
    return list(dash.csp_hashes())


def _headlines(settings: Settings, writer: Engine) -> "TranslationDesk | None":
    # Here, because only who translates needs ONNX Runtime.
    from crosswind.stream.adapters.translation_desk import TranslationDesk, open_translations

    translations = open_translations(settings, writer)
    return TranslationDesk(translations) if translations else None


def _lifespan(pulse: Pulse, backtests: Backtests, headlines: "TranslationDesk | None") -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(pulse.run())
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking
            await asyncio.to_thread(backtests.stop)
            if headlines:
                await asyncio.to_thread(headlines.close)

    return lifespan
