"""Locks on files: whether a process is at work is the kernel's word, which it takes back however the process ends."""

import fcntl
from pathlib import Path


def is_held(path: Path) -> bool:
    """Whether a process holds the lock on a file; not where there is no such file."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look must not see one another
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
