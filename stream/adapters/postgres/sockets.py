"""Where the embedded Postgres puts its socket."""

import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import Final

from crosswind.errors import ServiceError

_PLAIN: Final = re.compile(r"[\w./@~-]+")
"""Paths that mean the same to a shell, in Postgres's list of socket folders and in a database address."""
_LONGEST: Final = 90
"""Bytes. A socket's whole path has at most 103 on some systems, and its name takes 13."""


def socket_folder(data: Path, owner: int) -> Path:
    """The data folder itself; where its path has a space or the like, or is too long for a socket, a folder in the
    temporary folder that user `owner` alone can enter. Always the same one for the same data folder.

    Raises:
        ServiceError: somebody else has a folder there.
    """
    if _PLAIN.fullmatch(str(data)) and len(os.fsencode(data)) <= _LONGEST:
        return data
    place = tempfile.gettempdir()
    if not _PLAIN.fullmatch(place) or len(os.fsencode(place)) > _LONGEST // 2:
        place = "/tmp"
    name = hashlib.sha256(os.fsencode(data)).hexdigest()[:16]
    folder = Path(place) / f"crosswind-{owner}-{name}"
    try:
        folder.mkdir(mode=0o700)
        if owner != os.geteuid():
            os.chown(folder, owner, -1)
    except FileExistsError:
        pass
    found = folder.lstat()  # not `stat`: a link may lead to where others look
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner or found.st_mode & 0o077:
        raise ServiceError(
            f"{folder}, where the socket of the embedded Postgres belongs, is not a folder of its user's alone; remove"
            f" it, or keep the data in a folder with a short path without spaces (--data-dir), instead of {data}"
        )
    return folder
