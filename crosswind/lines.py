"""Lines of a file or of standard input, for the commands that answer line by line."""

import sys
from collections.abc import Iterator
from pathlib import Path

from crosswind.errors import DataError


def lines_of(file: Path) -> Iterator[bytes]:
    """The lines as bytes; `-` is standard input.

    Raises:
        DataError: the file cannot be read.
    """
    if str(file) == "-":
        yield from sys.stdin.buffer
        return
    try:
        with file.open("rb") as opened:
            yield from opened
    except OSError as error:
        raise DataError(f"cannot read {file}: {error.strerror or error}") from None
