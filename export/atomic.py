"""A folder that is there as a whole or not at all: built beside its place, put there in one step."""

import ctypes
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crosswind.errors import BundleError
from crosswind.export.bundle import MANIFEST

_AT_FDCWD, _EXCHANGE = -100, 2


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A fresh folder beside `target`, on its file system; gone afterwards, whatever happens.

    Folders of exports that were killed are removed here: their process is gone.

    Raises:
        BundleError: `target` exists and is no bundle, or the disk is full or not writable. `target` is as before.
    """
    if target.exists() and not (target / MANIFEST).is_file():
        raise BundleError(f"{target} exists and is not a bundle; it will not be overwritten: choose another --out")
    _remove_leftovers(target)
    folder = target.parent / f".{target.name}.{os.getpid()}.partial"
    try:
        folder.mkdir(parents=True)
        yield folder
    except OSError as error:
        raise BundleError(f"cannot write {target}: {error.strerror or error}; what was there is unchanged") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, target: Path) -> None:
    """Puts a finished folder in the place of `target`; a former one is removed afterwards.

    Every file is on the disk before. On Linux the two change places in one step, so that a reader or a crash sees the
    old or the new one; elsewhere there is a moment with neither, and the old one lies beside as `.NAME.old`.

    Raises:
        OSError: `target` is as before.
    """
    for path in folder.iterdir():
        _sync(path)
    _sync(folder)
    if not target.exists():
        folder.rename(target)
    elif not _exchange(folder, target):
        former = target.parent / f".{target.name}.old"
        target.rename(former)
        folder.rename(target)
        shutil.rmtree(former)
    _sync(target.parent)


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
        process = path.name.removesuffix(".partial").rpartition(".")[2]
        if not process.isdigit() or not _alive(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
