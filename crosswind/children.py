"""Child processes of `crosswind up`: started, watched, restarted, ended. None outlives us."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crosswind.errors import ServiceError
from crosswind.stream.adapters.kafka.embedded import die_with_parent

MAX_RESTARTS = 5
"""Restarts within `RESTART_WINDOW` seconds after which a child is given up: it will not get better by itself."""
RESTART_WINDOW = 60.0


@dataclass
class Child:
    """One `crosswind …` process of our own, with its log file.

    Attributes:
        name: for messages and the log file's name.
        arguments: of the `crosswind` command.
    """

    name: str
    arguments: Sequence[str]
    environment: Mapping[str, str]
    log: Path
    _process: subprocess.Popen[bytes] | None = None
    _starts: list[float] = field(default_factory=list)

    def start(self) -> None:
        """Starts it in a session of its own, so that a Ctrl-C in the terminal reaches only us."""
        self._starts.append(time.monotonic())
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crosswind", *self.arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    @property
    def pid(self) -> int | None:
        """Its process id, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def revive(self) -> int | None:
        """Starts it again if it has ended; returns the exit status that it ended with, None when it lives.

        Raises:
            ServiceError: it ended too often; the message has the last lines of its log.
        """
        if self._process is None or self._process.poll() is None:
            return None
        status = self._process.returncode
        recent = [start for start in self._starts if time.monotonic() - start < RESTART_WINDOW]
        if len(recent) >= MAX_RESTARTS:
            raise ServiceError(
                f"the {self.name} ended {len(recent)} times within a minute (exit {status}): {self.tail()}"
            )
        self.start()
        return status

    def tail(self) -> str:
        """The last line of its log, and where the log is."""
        try:
            lines = self.log.read_text("utf-8", "replace").strip().splitlines()
        except OSError:
            lines = []
        return f"{lines[-1][:300] if lines else 'no output'}; see {self.log}"

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def make_stop(self, deadline: float) -> None:
        """Waits until `deadline` (monotonic seconds), then SIGKILL."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
