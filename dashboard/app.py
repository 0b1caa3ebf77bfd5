"""The composition root of the dashboard: one FastAPI server with the pages, the API and the streams."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dash import Dash
from fastapi import FastAPI
from sqlalchemy import Engine

from crosswind.dashboard.api import add_api
from crosswind.dashboard.callbacks import add_callbacks
from crosswind.dashboard.etags import ETags
from crosswind.dashboard.exports import add_exports
from crosswind.dashboard.login import Login, Throttle, add_login
from crosswind.dashboard.orders import add_orders
from crosswind.dashboard.pages.frame import frame
from crosswind.dashboard.pulse import Pulse
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.security import LOOPBACK, Guard, content_security_policy, host_name
from crosswind.dashboard.subscriptions_api import add_subscriptions
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.accounts import Accounts

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
        engine: best one that can only read.
        writer: what people say to alerts, and logins, are written with; None: nobody can act or log in.
    """
    reader = Reader(engine, settings.run)
    pulse = Pulse(reader.version)
    server = FastAPI(
        title="Crosswind", version="1", lifespan=_lifespan(pulse), openapi_url="/openapi.json",
        docs_url=None, redoc_url=None,  # both fetch their scripts from elsewhere
    )  # fmt: skip

    @server.get("/health", include_in_schema=False)
    def health() -> dict[str, bool]:
        return {"ok": True}

    secure = settings.public_url.startswith("https://")
    cookie = "__Host-crosswind" if secure else "crosswind"  # browsers keep the first to this host, over TLS
    accounts = Accounts(writer) if writer and settings.auth == "local" else None
    if writer:
        add_orders(server, writer, settings.run, login=accounts is not None)
    if accounts:
        add_login(server, accounts, cookie, secure, Throttle())
    add_exports(server, reader)
    add_subscriptions(server, settings, engine, pulse)
    add_api(server, reader, pulse)
    policy = content_security_policy(_add_pages(server, reader))
    public = {host_name(urlsplit(settings.public_url).netloc)} if accounts else set()
    server.add_middleware(ETags)  # the last added is the first asked
    server.add_middleware(Login, accounts=accounts, cookie=cookie)
    server.add_middleware(Guard, policy=policy, hosts=(*LOOPBACK, *public))
    return server


def _add_pages(server: FastAPI, reader: Reader) -> list[str]:
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
    add_callbacks(dash, reader)
    # Dash finds its assets on the first request for `/`; who opened another page first got it without a style sheet
    dash._setup_server()
    return list(dash.csp_hashes())


def _lifespan(pulse: Pulse) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        looking = asyncio.create_task(pulse.run())
        try:
            yield
        finally:
            looking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await looking

    return lifespan
