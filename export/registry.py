"""Where bundles are kept: a directory, or any address that fsspec knows (`s3://…`, `gs://…`, `memory://…`).

One folder per version, `ADDRESS/VERSION/`, named by content, so that nothing there ever changes. The manifest is
written last: a folder without one is an upload that did not end, and is not listed.
"""

import errno
import hashlib
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import msgspec

from crosswind.errors import BundleError, CrosswindError
from crosswind.export.atomic import publish, staging
from crosswind.export.bundle import FORMAT, MANIFEST, SHIPPED, Manifest, verify
from crosswind.settings import Settings
from crosswind.structs import known

DEFAULT = "default"
"""The address of the shipped bundle, wherever it is installed."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""What a copy from a remote says of the place it is written to: no remote says so of reading."""
_FETCHING: dict[Path, threading.Lock] = {}
"""Live and shadow are two threads that may want one version at once: it is copied once. Processes do not wait."""


class Registry:
    """The bundles of one directory or address.

    Raises:
        BundleError: no such kind of address, or its package is not installed.
    """

    def __init__(self, address: str) -> None:
        self._files, self._root = _open(address)
        self._given = address if address.endswith("://") else f"{address.rstrip('/')}/"

    def bundles(self) -> list[Manifest]:
        """The manifests of all complete bundles, by name and version.

        Raises:
            BundleError: the place cannot be read.
        """
        with _reading(self._root):
            self._files.invalidate_cache()  # s3fs, for one, never asks again for what it has listed once
            if not self._files.isdir(self._root):
                return []
            # Listed, not globbed: the address may hold brackets, and no two file systems quote them alike.
            folders = [entry["name"] for entry in self._files.ls(self._root, detail=True)
                       if entry["type"] == "directory"]  # fmt: skip
            found = [self._read(f"{folder.rstrip('/')}/{MANIFEST}") for folder in folders]
        return sorted((m for m in found if m is not None), key=lambda m: (m.name, m.version))

    def add(self, folder: Path, trusted: str | None = None) -> Manifest:
        """Copies a bundle in. Of a version that is there already, only what is missing or altered is written.

        Raises:
            BundleError: the bundle does not verify, or the place cannot be read or written; what was there stays.
        """
        manifest = verify(folder, trusted)
        target = f"{self._root}/{manifest.version}"
        with _reading(target):
            self._files.invalidate_cache()
            fresh = not self._files.exists(target)
            wanted = [name for name, digest in sorted(manifest.files.items()) if not self._holds(target, name, digest)]
            wanted += [] if self._tells(target, manifest) else [MANIFEST]
        try:
            if wanted:
                self._files.makedirs(target, exist_ok=True)
            for name in wanted:
                self._put(folder / name, target)
        except Exception as error:  # a remote's library has errors of its own, which share no base
            if fresh:
                self._discard(target)
            raise BundleError(f"cannot add to {self._root}: {_reason(error)}; nothing was added") from error
        return manifest

    def find(self, what: str) -> Manifest:
        """The bundle of a name, a version, or the beginning of a version.

        Raises:
            BundleError: there is none, or more than one.
        """
        bundles = self.bundles()
        found = [m for m in bundles if what in (m.version, m.name) or (len(what) > 3 and m.version.startswith(what))]
        if len(found) == 1:
            return found[0]
        shown = ", ".join(f"{m.name} {m.version}" for m in found or bundles) or "none"
        problem = "names more than one bundle" if found else "is no bundle"
        raise BundleError(f"{what!r} {problem} of {self._root}; there are: {shown}")

    def address(self, version: str) -> str:
        """The address of a version, for `fetch`; absolute where it is local."""
        if "file" in self._files.protocol:
            return str(self._files.unstrip_protocol(f"{self._root}/{version}"))
        return f"{self._given}{version}"  # `unstrip_protocol` would lose the host of webhdfs:// or sftp://

    def _holds(self, target: str, name: str, digest: str) -> bool:
        try:
            with self._files.open(f"{target}/{name}", "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == digest
        except FileNotFoundError:
            return False

    def _tells(self, target: str, manifest: Manifest) -> bool:
        """Whether the manifest is there. A copy that is not signed does not take a signature away."""
        kept = self._read(f"{target}/{MANIFEST}")
        if kept is None:
            return False
        return kept == msgspec.structs.replace(manifest, signature=manifest.signature or kept.signature)

    def _read(self, path: str) -> Manifest | None:
        try:
            return msgspec.json.decode(self._files.cat_file(path), type=Manifest)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _put(self, file: Path, target: str) -> None:
        """Puts a file there under another name first, so that one that is there is replaced whole or stays."""
        partial = f"{target}/.{file.name}"
        try:
            self._files.put_file(str(file), partial)
            self._files.mv(partial, f"{target}/{file.name}")
        except BaseException:
            self._discard(partial)
            raise

    def _discard(self, path: str) -> None:
        with suppress(Exception):  # what failed may fail here again; without a manifest nothing of it is listed
            self._files.rm(path, recursive=True)


def registry_of(settings: Settings) -> Registry:
    """Where the settings say that bundles are kept.

    Raises:
        BundleError: no such kind of address, or its package is not installed.
    """
    return Registry(settings.registry or str((settings.data_dir / "models").absolute()))


def fetch(address: str, version: str, cache: Path, trusted: str | None = None) -> Path:
    """The local folder of a verified bundle: itself where it is local, else a copy in `cache`, made in one step.

    Raises:
        BundleError: it is not there, cannot be read, does not verify, or is of another version.
    """
    local = SHIPPED if address == DEFAULT else _local(address)
    folder = local or cache / version
    if local is None:
        with _FETCHING.setdefault(folder.absolute(), threading.Lock()):
            if not _is_cached(folder, version, trusted):
                _download(address, folder, trusted)
    found = verify(folder, trusted).version
    if found != version:
        raise BundleError(f"{address} holds version {found}; expected {version}")
    return folder


def _is_cached(folder: Path, version: str, trusted: str | None) -> bool:
    if not folder.exists():  # then nothing is removed below that another process puts there meanwhile
        return False
    try:
        return verify(folder, trusted).version == version
    except BundleError:
        shutil.rmtree(folder, ignore_errors=True)
        return False


def _download(address: str, folder: Path, trusted: str | None) -> None:
    files, root = _open(address)
    with staging(folder) as work:
        made = work / "bundle"
        made.mkdir()
        with _reading(address):
            files.invalidate_cache()
            try:
                files.get_file(f"{root}/{MANIFEST}", str(made / MANIFEST))
            except FileNotFoundError:
                raise BundleError(f"there is no bundle at {address}") from None
            for name in _names((made / MANIFEST).read_bytes(), address):
                files.get_file(f"{root}/{name}", str(made / name))
        verify(made, trusted)
        publish(made, folder)


@known
class _Names(msgspec.Struct):
    format: int
    files: dict[str, str]


def _names(manifest: bytes, address: str) -> Sequence[str]:
    """The files that a manifest lists. A name with a folder in it would be written outside."""
    try:
        read = msgspec.json.decode(manifest, type=_Names)
    except msgspec.DecodeError as error:
        raise BundleError(f"{address} has no readable manifest: {error}") from None
    if read.format != FORMAT:
        raise BundleError(f"{address} has format {read.format}; this Crosswind reads format {FORMAT}: upgrade it")
    bad = [name for name in read.files if name != Path(name).name or "\\" in name or name == MANIFEST]
    if bad:
        raise BundleError(f"{address} lists {bad[0]!r}, which is not a plain file name")
    return sorted(read.files)


def _open(address: str) -> tuple[Any, str]:
    try:
        files, root = fsspec.core.url_to_fs(address)
    except Exception as error:  # some log in here, with errors of their own
        raise BundleError(f"cannot open {address}: {error}") from None
    return files, str(root).rstrip("/")


@contextmanager
def _reading(address: str) -> Iterator[None]:
    """Whatever a file system's library raises becomes ours: botocore's errors, for one, are no OSErrors."""
    try:
        yield
    except CrosswindError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise
        raise BundleError(f"cannot read {address}: {_reason(error)}; is the address right, may it be read from here?"
                          ) from error  # fmt: skip


def _reason(error: Exception) -> str:
    told = error.strerror if isinstance(error, OSError) else None
    return told or " ".join(f"{type(error).__name__}: {error}".split())


def _local(address: str) -> Path | None:
    files, root = _open(address)
    return Path(root) if "file" in files.protocol else None
