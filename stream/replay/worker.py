"""The worker process of a replay through Kafka."""

import os
import subprocess
import sys
from pathlib import Path

from crosswind.errors import ServiceError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.embedded import die_with_parent

RESTARTS = 5


class RunWorker:
    """The run's worker process; started again when it is killed."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self._settings, self._log = settings, folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._starts = 0

    @property
    def pid(self) -> int | None:
        """Its process id, while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def ensure(self) -> None:
        """Starts it when it is not running.

        Raises:
            ServiceError: it ended again and again.
        """
        if self.pid is not None:
            return
        if self._starts > RESTARTS:
            raise ServiceError(f"the replay's worker ended {self._starts} times; see {self._log}")
        self._starts += 1
        names = (name for name in Settings.model_fields if getattr(self._settings, name) is not None)
        given = {f"CROSSWIND_{name.upper()}": self._text(name) for name in names}
        folder = str(Path(__file__).resolve().parents[2])
        paths = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "crosswind", "worker"], env={**os.environ, "PYTHONPATH": paths, **given},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, preexec_fn=die_with_parent,
            )  # fmt: skip

    def stop(self) -> None:
        """Ends it: SIGTERM, SIGKILL after ten seconds."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _text(self, name: str) -> str:
        value = getattr(self._settings, name)
        return str(value.get_secret_value() if hasattr(value, "get_secret_value") else value)
