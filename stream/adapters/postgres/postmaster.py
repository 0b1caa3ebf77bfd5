"""Which process serves a data folder of Postgres, and where: what its lock files say, checked against the process."""

import os
from pathlib import Path
from typing import Final

import psutil

LOCK: Final = "postmaster.pid"
"""In the data folder. Lines: process id, data folder, start, port, socket folder, addresses, shared memory, status."""
_SOCKET_LOCKS: Final = ".s.PGSQL.*.lock"
_SOCKET_FOLDER, _STATUS = 4, 7


def postmaster(folder: Path) -> psutil.Process | None:
    """The server that serves `folder`; None when there is none, whatever the lock file says.

    Raises:
        OSError: the lock file cannot be read.
    """
    pid = _named(folder / LOCK)
    return None if pid is None else _serving(pid, folder)


def is_ready(folder: Path) -> bool:
    """Whether the lock file says that the server lets clients in."""
    return _line(folder, _STATUS) == "ready"


def socket_of(folder: Path) -> str:
    """The folder of the socket that the server listens on."""
    return _line(folder, _SOCKET_FOLDER)


def forget_strangers(folder: Path, sockets: Path) -> None:
    """Removes lock files whose process id is another program's by now, as after a power cut. Postgres, which asks only
    whether some process has that id, would not start. An id that nobody has is left to it.

    Raises:
        OSError: one cannot be removed.
    """
    for lock in (folder / LOCK, *sockets.glob(_SOCKET_LOCKS)):
        pid = _named(lock)
        if pid is not None and psutil.pid_exists(pid) and _serving(pid, folder) is None:
            lock.unlink(missing_ok=True)


def _serving(pid: int, folder: Path) -> psutil.Process | None:
    """That process, if it is a live Postgres of this folder. Its start is not held against line 3 of the lock file:
    what the start of a process comes out as moves when the clock is set."""
    try:
        process = psutil.Process(pid)
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            return None
        words = process.cmdline()
        places = [words[n + 1] for n, word in enumerate(words[:-1]) if word == "-D"]
        if not any(_same(place, folder) for place in places) and not _same(process.cwd(), folder):
            return None
    except psutil.Error:
        return None
    return process


def _same(place: str, folder: Path) -> bool:
    try:
        return os.path.samefile(place, folder)
    except OSError:
        return False


def _named(lock: Path) -> int | None:
    """The process id in a lock file; None where there is no file or no id in it, on which Postgres has its own word."""
    try:
        return abs(int(lock.read_text("utf-8", "replace").split("\n", 1)[0]))  # below 0: a single backend
    except (FileNotFoundError, ValueError):
        return None


def _line(folder: Path, number: int) -> str:
    try:
        lines = (folder / LOCK).read_text("utf-8", "surrogateescape").splitlines()
    except FileNotFoundError:
        return ""
    return lines[number].strip() if len(lines) > number else ""
