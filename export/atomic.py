"""A folder that is there as a whole or not at all: built beside its place, put there in one step."""

import ctypes
import errno
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from crosswind.errors import BundleError
from crosswind.export.bundle import MANIFEST

_AT_FDCWD, _EXCHANGE = -100, 2
_ABANDONED = 24 * 3600.0
"""Seconds without a write after which a folder of another container or machine is taken for left: nobody here can see
whether its process lives."""
_SPACE = ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid")


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target`, on its file system; gone afterwards, whatever happens.

    Several may build for one target at a time, in threads, processes and containers: each has a folder of its own.
    Folders of exports that were killed are removed here: their process is gone, or nothing was written for a day.

    Raises:
        BundleError: `target` exists and is no bundle, or the disk is full or not writable. `target` is as before.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} exists and is not a bundle; it will not be overwritten: choose another --out")
    _remove_leftovers(target)
    folder: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{target.name}.{_space()}.{os.getpid()}."
        folder = Path(tempfile.mkdtemp(prefix=prefix, suffix=".partial", dir=target.parent))
        yield folder
    except OSError as error:
        raise BundleError(f"cannot write {target}: {error.strerror or error}; what was there is unchanged") from error
    finally:
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> None:
    """Puts a finished folder in the place of `target`; a former one is removed afterwards.

    Every file is on the disk before. On Linux the two change places in one step, so that a reader or a crash sees the
    old or the new one; elsewhere there is a moment with neither, and the old one lies beside as `.NAME.old`. One that a
    killed export left there goes when the new one is in its place.

    Raises:
        OSError: `target` is as before.
    """
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)
    former = target.parent / f".{target.name}.old"
    if (target.exists() or not _moved(folder, target)) and not _exchange(folder, target):
        shutil.rmtree(former, ignore_errors=True)
        target.rename(former)
        folder.rename(target)
    shutil.rmtree(former, ignore_errors=True)
    _sync(target.parent)


def _moved(folder: Path, target: Path) -> bool:
    """Renames; False where another has put a folder there in the meantime."""
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _exchange(one: Path, other: Path) -> bool:
    """Linux's renameat2 with RENAME_EXCHANGE; False where system or file system has none."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE) == 0)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(target: Path) -> None:
    for path in target.parent.glob(f".{target.name}.*.partial"):
        space, _, process = path.name.removesuffix(".partial").rpartition(".")[0].rpartition(".")
        known = process.isdigit() and space.endswith(f".{_space()}")
        if not _alive(int(process)) if known else time.time() - _written(path) > _ABANDONED:
            shutil.rmtree(path, ignore_errors=True)


def _space() -> str:
    """Where a process id means something: a digest of machine, boot and container. Containers often share the id 1."""
    parts = [platform.node()]
    for path in map(Path, _SPACE):  # systems without /proc have no containers either
        with suppress(OSError):
            parts.append(str(path.readlink()) if path.is_symlink() else path.read_text("ascii"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _written(folder: Path) -> float:
    """When something was written in a folder last, seconds; now where it cannot be told."""
    try:
        return max(path.lstat().st_mtime for path in [folder, *folder.rglob("*")])
    except OSError:  # it goes while we look
        return time.time()


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
