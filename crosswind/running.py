"""What a running `crosswind up` leaves for other commands: its addresses, in a file of the data folder."""

import json
import os
from pathlib import Path
from typing import Any

import psutil

from crosswind.errors import ServiceError

FILE = "up.json"


def read_running(data_dir: Path) -> dict[str, Any]:
    """The addresses of the `up` that runs in this data folder; empty when none does."""
    try:
        found: dict[str, Any] = json.loads((data_dir / FILE).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if _alive(found) else {}


def claim(data_dir: Path) -> None:
    """Refuses to start a second `up` on one data folder.

    Raises:
        ServiceError: naming the process that holds it.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    running = read_running(data_dir)
    if running and running["pid"] != os.getpid():
        raise ServiceError(f"`crosswind up` runs here already (process {running['pid']}); stop it, or pass --data-dir")
    write_running(data_dir, {})


def write_running(data_dir: Path, addresses: dict[str, Any]) -> None:
    """Says where our parts listen. Only addresses of embedded parts go in: never a password."""
    process = psutil.Process()
    content = {"pid": process.pid, "started": process.create_time(), **addresses}
    temporary = data_dir / f"{FILE}.new"
    temporary.write_text(json.dumps(content, indent=1), "utf-8")
    temporary.chmod(0o600)
    temporary.replace(data_dir / FILE)


def release(data_dir: Path) -> None:
    """Takes the file away again."""
    (data_dir / FILE).unlink(missing_ok=True)


def _alive(found: dict[str, Any]) -> bool:
    """Whether its process lives, and is not another one that got the same id."""
    try:
        return bool(psutil.Process(found["pid"]).create_time() == found["started"])
    except (psutil.Error, KeyError, TypeError):
        return False
