"""Watchlist files: YAML, entity -> language -> names."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from crosswind.errors import SettingsError
from crosswind.stream.domain.watchlist import Watchlist, aliases_of
from crosswind.structs import known

Text = Annotated[str, Meta(min_length=1, max_length=200)]


@known
class WatchlistFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A watchlist file, version 1: names by language tag, `any` for every language."""

    version: Annotated[int, Meta(ge=1, le=1)]
    entities: dict[Text, dict[str, tuple[Text, ...]]]


def load_watchlist(path: Path | None) -> Watchlist | None:
    """The watchlist of a file; None without a path.

    Raises:
        SettingsError: the file cannot be read or is not a watchlist; says where.
    """
    if path is None:
        return None
    try:
        found = msgspec.yaml.decode(path.read_bytes(), type=WatchlistFile, strict=True)
    except OSError as error:
        raise SettingsError(f"cannot read the watchlist {path}: {error.strerror or error}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError(f"{path} is no watchlist: {str(error) or type(error).__name__}") from None
    try:
        return Watchlist(aliases_of(found.entities))
    except SettingsError as error:
        raise SettingsError(f"{path} is no watchlist: {error}") from None
