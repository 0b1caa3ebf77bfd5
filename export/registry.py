"""Where bundles are kept: a directory, or any address that fsspec knows (`s3://…`, `gs://…`, `memory://…`).

One folder per version, `ADDRESS/VERSION/`, named by content, so that nothing there ever changes. The manifest is
written last: a folder without one is an upload that did not end, and is not listed.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fsspec  # type: ignore[import-untyped]
import msgspec

from crosswind.errors import BundleError
from crosswind.export.atomic import publish, staging
from crosswind.export.bundle import FORMAT, MANIFEST, SHIPPED, Manifest, verify
from crosswind.settings import Settings

DEFAULT = "default"
"""The address of the shipped bundle, wherever it is installed."""


class Registry:
    """The bundles of one directory or address.

    Raises:
        BundleError: no such kind of address, or its package is not installed.
    """

    def __init__(self, address: str) -> None:
        self._files, self._root = _open(address)

    def bundles(self) -> list[Manifest]:
        """The manifests of all complete bundles, by name and version."""
        if not self._files.isdir(self._root):
            return []
        found = [self._read(path) for path in self._files.glob(f"{self._root}/*/{MANIFEST}")]
        return sorted((m for m in found if m is not None), key=lambda m: (m.name, m.version))

    def add(self, folder: Path, trusted: str | None = None) -> Manifest:
        """Copies a bundle in; one that is there already and whole is left alone.

        Raises:
            BundleError: the bundle does not verify, or the place cannot be written; what was there is unchanged.
        """
        manifest = verify(folder, trusted)
        target = f"{self._root}/{manifest.version}"
        if self._whole(manifest):
            return manifest
        try:
            self._files.makedirs(target, exist_ok=True)
            self._remove(f"{target}/{MANIFEST}")
            for name in sorted(manifest.files):
                self._files.put_file(str(folder / name), f"{target}/{name}")
            self._files.put_file(str(folder / MANIFEST), f"{target}/.{MANIFEST}")
            self._files.mv(f"{target}/.{MANIFEST}", f"{target}/{MANIFEST}")
        except OSError as error:
            self._files.rm(target, recursive=True)
            raise BundleError(f"cannot add to {self._root}: {error.strerror or error}; nothing was added") from error
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
        """The address of a version, for `fetch`."""
        return str(self._files.unstrip_protocol(f"{self._root}/{version}"))

    def _whole(self, manifest: Manifest) -> bool:
        """Whether a local copy verifies, signature included; a remote one is written again: same content."""
        local = _local(self.address(manifest.version))
        try:
            return local is not None and verify(local) == manifest
        except BundleError:
            return False

    def _read(self, path: str) -> Manifest | None:
        try:
            return msgspec.json.decode(self._files.cat_file(path), type=Manifest)
        except msgspec.DecodeError:
            return None

    def _remove(self, path: str) -> None:
        if self._files.exists(path):
            self._files.rm(path)


def registry_of(settings: Settings) -> Registry:
    """Where the settings say that bundles are kept.

    Raises:
        BundleError: no such kind of address, or its package is not installed.
    """
    return Registry(settings.registry or str((settings.data_dir / "models").absolute()))


def fetch(address: str, version: str, cache: Path, trusted: str | None = None) -> Path:
    """The local folder of a verified bundle: itself where it is local, else a copy in `cache`, made in one step.

    Raises:
        BundleError: it is not there, does not verify, or is of another version.
    """
    local = SHIPPED if address == DEFAULT else _local(address)
    folder = local or cache / version
    if local is None and not _is_cached(folder, version, trusted):
        _download(address, folder, trusted)
    found = verify(folder, trusted).version
    if found != version:
        raise BundleError(f"{address} holds version {found}; expected {version}")
    return folder


def _is_cached(folder: Path, version: str, trusted: str | None) -> bool:
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
        try:
            files.get_file(f"{root}/{MANIFEST}", str(made / MANIFEST))
        except FileNotFoundError:
            raise BundleError(f"there is no bundle at {address}") from None
        for name in _names((made / MANIFEST).read_bytes(), address):
            files.get_file(f"{root}/{name}", str(made / name))
        verify(made, trusted)
        publish(made, folder)


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
    except (ValueError, ImportError) as error:
        raise BundleError(f"cannot open {address}: {error}") from None
    return files, str(root).rstrip("/")


def _local(address: str) -> Path | None:
    files, root = _open(address)
    return Path(root) if "file" in files.protocol else None
