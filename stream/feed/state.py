"""What the RSS reader remembers between two runs, in a JSON file."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from crosswind.errors import DataError
from crosswind.stream.feed.rss import FeedState


def load_states(path: Path) -> dict[str, FeedState]:
    """The states by address; empty when there is no file yet.

    Raises:
        DataError: the file holds something else.
    """
    try:
        found = msgspec.json.decode(path.read_bytes(), type=list[FeedState])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path} is not a state file: {error}; delete it to start afresh") from error
    return {state.url: state for state in found}


def save_states(path: Path, states: Mapping[str, FeedState]) -> None:
    """Writes the file whole or not at all: a crash leaves the old one."""
    draft = path.with_name(path.name + ".new")
    try:
        draft.write_bytes(msgspec.json.encode(list(states.values())))
        os.replace(draft, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error}; choose another --state") from error
