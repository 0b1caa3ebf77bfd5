"""A dashboard served for a test: the real server in a thread, on a free port."""

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, Literal

import uvicorn
from pydantic import SecretStr

from crosswind.dashboard.app import create_app
from crosswind.dashboard.serve import bind, config_of
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.reader import reader_url

DEADLINE = 20.0
Auth = Literal["none", "local", "oidc", "both"]


@contextlib.contextmanager
def served(database_url: str, auth: Auth = "none", **settings: Any) -> Iterator[str]:
    """The address, without a slash at its end, of a dashboard on that database; `settings` are further ones."""
    engine, writer = connect(reader_url(database_url), read_only=True), connect(database_url)
    wanted = Settings(database_url=SecretStr(database_url), auth=auth, **settings)
    app = create_app(wanted, engine, writer)
    config = config_of(app, wanted)
    config.timeout_graceful_shutdown = 1  # tests leave streams open
    server = uvicorn.Server(config)
    with bind("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, name="dashboard", daemon=True)
        thread.start()
        _wait(server, thread)
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
        server.should_exit = True
        thread.join(DEADLINE)
    engine.dispose()
    writer.dispose()


def _wait(server: uvicorn.Server, thread: threading.Thread) -> None:
    deadline = time.monotonic() + DEADLINE
    while not server.started:
        assert thread.is_alive(), "the dashboard ended before it answered"
        assert time.monotonic() < deadline, "the dashboard did not start in time"
        time.sleep(0.02)
