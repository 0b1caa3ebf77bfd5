"""Serving the dashboard: on loopback only, unless people must log in and the way to them is TLS."""

import ipaddress
import socket
from collections.abc import Callable

import structlog
import uvicorn
from fastapi import FastAPI

from crosswind.dashboard.app import create_app
from crosswind.errors import ServiceError, SettingsError
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres import reader
from crosswind.stream.adapters.postgres.engine import connect

_log = structlog.get_logger(__name__)
STOP_SECONDS = 2
"""Open event streams never end by themselves; they are cut this long after a stop was asked for."""


def serve(settings: Settings, on_ready: Callable[[str], None] = lambda address: None) -> None:
    """Serves until SIGINT or SIGTERM.

    Args:
        on_ready: called with the address, `http://127.0.0.1:8050/`, once the port is ours.

    Raises:
        SettingsError: the host is not loopback, no database is set, or the role to read through can write.
        DatabaseError: that role cannot connect.
        ServiceError: the port is taken.
    """
    check_host(settings)
    if not settings.database_url:  # asked here, since `stream.bootstrap` would load the whole worker
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    address = settings.database_url.get_secret_value()
    reading = settings.read_database_url.get_secret_value() if settings.read_database_url else address
    engine, writer = connect(reading, read_only=True, pool_size=8), connect(address, pool_size=2)
    bound = bind(settings.host, settings.port)
    try:
        if settings.read_database_url:
            reader.check(engine)
        app = create_app(settings, engine, writer)
        server = uvicorn.Server(config_of(app, settings))
        on_ready(f"http://{settings.host}:{bound.getsockname()[1]}/")
        server.run(sockets=[bound])
    finally:
        bound.close()
        engine.dispose()
        writer.dispose()


def config_of(app: FastAPI, settings: Settings) -> uvicorn.Config:
    """How the dashboard is served. Whose header says where a request comes from decides whom wrong passwords shut out
    and whose address is in the audit log: only a proxy that was named is believed, not even one on loopback unasked."""
    proxies = settings.trusted_proxies
    if settings.auth != "none" and settings.public_url.startswith("https://") and not proxies:
        _log.warning("behind a proxy all logins come from one address, and failures of one person make all wait: set "
                     "CROSSWIND_TRUSTED_PROXIES to the proxy's address")  # fmt: skip
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=STOP_SECONDS,
        proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
    )  # fmt: skip


def check_host(settings: Settings) -> None:
    """Refuses an address that others can reach, unless they must log in, over TLS.

    Raises:
        SettingsError: it is not a loopback address, and there is no login, or passwords would travel in the clear.
    """
    host = settings.host
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if loopback:
        return
    if settings.auth == "none":
        raise SettingsError(
            f"CROSSWIND_HOST is {host!r}; without a login the dashboard listens on 127.0.0.1 only: set"
            " CROSSWIND_AUTH=local and add accounts with `crosswind users add`, or CROSSWIND_AUTH=oidc"
        )
    if not settings.public_url.startswith("https://"):
        raise SettingsError(
            f"CROSSWIND_HOST is {host!r}; passwords would travel in the clear: put a TLS proxy before it and set"
            " CROSSWIND_PUBLIC_URL to its https address"
        )


def bind(host: str, port: int) -> socket.socket:
    """A socket on that port, any free one for 0.

    Raises:
        ServiceError: the port is taken.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise ServiceError(f"cannot listen on {host}:{port}: {error.strerror}; choose another --port") from None
    return bound
