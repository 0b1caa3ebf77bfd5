"""Lines of a file or of standard input, for the commands that answer line by line."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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


def json_of(line: bytes) -> Any:
    """What a line of JSON says.

    Raises:
        DataError: it is no JSON, or holds half of a surrogate pair, which is no character: no tokenizer takes it, and
            no answer that repeats it could be written.
    """
    try:
        found = json.loads(line)
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        raise DataError(f"holds {half}, which is half of a surrogate pair and no character") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON: {error}") from None
    return found
