"""Replays that were made: a folder each, with what was asked, how far it is, and the alert log."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from crosswind.errors import DataError, SettingsError
from crosswind.stream.replay.log import difference, read_log

FOLDER = "replays"
RUNNING, DONE, STOPPED = "running", "done", "stopped"


@dataclass(frozen=True, slots=True)
class Run:
    """One replay.

    Attributes:
        way: `in-process` or `kafka`.
        asked: the options it was started with; a resumed run keeps them.
        state: `running` (or killed: it can be resumed), `done` or `stopped`.
        started_at: wall clock, RFC 3339.
        found: what came out: articles, bad rows, alerts, first and last event time, seconds, SHA-256 of the log.
    """

    run: str
    way: str
    asked: Mapping[str, Any]
    state: str
    started_at: str
    found: Mapping[str, Any] = field(default_factory=dict)


def folder_of(data_dir: Path, run: str) -> Path:
    """Where a run's files are.

    Raises:
        SettingsError: it is no run id.
    """
    if not run or not all((c.isalnum() and c.isascii()) or c in "-_" for c in run) or run == "live":
        raise SettingsError(f"{run!r} is no id of a replay; use lower-case letters, digits, - and _, and not `live`")
    return data_dir / FOLDER / run


def save_run(data_dir: Path, run: Run) -> None:
    """Writes its record."""
    folder = folder_of(data_dir, run.run)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "run.json.new"
    temporary.write_text(json.dumps(asdict(run), indent=1, default=str, sort_keys=True), "utf-8")
    temporary.replace(folder / "run.json")


def load_run(data_dir: Path, run: str) -> Run | None:
    """A run's record; None when there is no such run.

    Raises:
        DataError: the record cannot be read.
    """
    path = folder_of(data_dir, run) / "run.json"
    if not path.exists():
        return None
    try:
        return Run(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}; delete the run's folder") from None


def list_runs(data_dir: Path) -> list[Run]:
    """All runs, oldest first."""
    names = [path.parent.name for path in (data_dir / FOLDER).glob("*/run.json")]
    found = [run for name in names if (run := load_run(data_dir, name)) is not None]
    return sorted(found, key=lambda run: (run.started_at, run.run))


def delete_run(data_dir: Path, run: str) -> bool:
    """Removes a run's folder; returns whether there was one."""
    folder = folder_of(data_dir, run)
    there = folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
    return there


def keep_asked(folder: Path, asked: Mapping[str, Any]) -> None:
    """Notes what a folder's replay was asked for, so that none with other options goes on with it.

    Raises:
        SettingsError: one with other options is there.
        DataError: the note cannot be read.
    """
    path = folder / "asked.json"
    folder.mkdir(parents=True, exist_ok=True)
    if path.exists():
        try:
            known: dict[str, Any] = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}; delete the folder, or pass another one") from None
        changed = sorted(key for key in asked if asked[key] != known.get(key))
        if changed:
            raise SettingsError(f"{folder} holds a replay with another {', '.join(changed)}; pass another folder, or "
                                "delete it")  # fmt: skip
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(dict(asked)), "utf-8")
    temporary.replace(path)


def finished(run: Run, state: str, found: Mapping[str, Any]) -> Run:
    """The record at the end."""
    return replace(run, state=state, found=dict(found))


def compare(data_dir: Path, ours: str, theirs: str) -> dict[str, Any]:
    """Two runs' logs: equal or not, how much fired in each, and what fired in one only.

    Raises:
        DataError: a run is not there.
    """
    logs = []
    for name in (ours, theirs):
        path = folder_of(data_dir, name) / "alerts.jsonl"
        if not path.exists():
            raise DataError(f"there is no run {name}; see `crosswind runs list`")
        logs.append(read_log(path))
    left, right = difference(*logs)
    fired = [sum(row["cause"] == "fired" for row in log) for log in logs]
    return {
        "equal": logs[0] == logs[1],
        "fired": {ours: fired[0], theirs: fired[1]},
        "only": {ours: left, theirs: right},
    }
