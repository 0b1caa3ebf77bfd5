"""What a running `crosswind up` leaves for other commands: its addresses, in a file of the data folder.

Whether it runs is a lock's word, which the kernel takes back when the process ends, however it ends. Process ids are
given out again, and a process's start time moves with the wall clock.
"""

import fcntl
import json
import os
import time
from pathlib import Path
from typing import Any

from crosswind.errors import ServiceError, SettingsError
from crosswind.locks import is_held

FILE = "up.json"
LOCK = "up.lock"
"""Stays when `up` ends: who unlinks a file that another is about to lock lets both of them hold one."""
CLAIM_SECONDS = 0.5
"""Whoever asks holds the lock for an instant; it must not look like an `up` that runs."""


class Claim:
    """An `up`'s hold on its data folder, until `release` or the end of the process."""

    def __init__(self, data_dir: Path, lock: int) -> None:
        self._data_dir, self._lock = data_dir, lock

    def write(self, addresses: dict[str, Any]) -> None:
        """Says where our parts listen. Only addresses of embedded parts go in: never a password."""
        temporary = self._data_dir / f"{FILE}.new"
        temporary.write_text(json.dumps({"pid": os.getpid(), **addresses}, indent=1), "utf-8")
        temporary.chmod(0o600)
        temporary.replace(self._data_dir / FILE)

    def release(self) -> None:
        """Takes the file away again, then lets the next one in."""
        (self._data_dir / FILE).unlink(missing_ok=True)
        os.close(self._lock)


def read_running(data_dir: Path) -> dict[str, Any]:
    """The addresses of the `up` that runs in this data folder; empty when none does."""
    return _read(data_dir) if is_held(data_dir / LOCK) else {}


def claim(data_dir: Path) -> Claim:
    """Makes the data folder ours; a second `up` on it is refused.

    Raises:
        SettingsError: the folder cannot be made, or not be written to.
        ServiceError: naming the process that holds it.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        # Python marks the descriptor close-on-exec: no child of ours holds the lock on when we are gone
        lock = os.open(data_dir / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingsError(f"the data folder {data_dir} cannot be used: {error.strerror}; pass another --data-dir"
                            " (or CROSSWIND_DATA_DIR)") from None  # fmt: skip
    held = Claim(data_dir, lock)
    try:
        _lock(lock, data_dir)
        held.write({})  # over what one that was killed has left
    except BaseException:
        os.close(lock)
        raise
    return held


def _lock(lock: int, data_dir: Path) -> None:
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() < deadline:
                time.sleep(0.02)
                continue
            pid = _read(data_dir).get("pid")
            who = f" (process {pid})" if pid else ""
            said = f"`crosswind up` runs here already{who}; stop it, or pass --data-dir and --port"
            raise ServiceError(said) from None
        except OSError as error:  # a file system without locks
            raise SettingsError(f"{data_dir / LOCK} cannot be locked: {error.strerror}; pass a --data-dir on a local"
                                " file system") from None  # fmt: skip
        return


def _read(data_dir: Path) -> dict[str, Any]:
    try:
        found = json.loads((data_dir / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
