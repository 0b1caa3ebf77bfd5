"""Where bundles are kept: content-addressed, whole or not there, checked again when they are fetched."""

import json
import resource
import shutil
import subprocess
import sys
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractFileSystem
from fsspec.utils import infer_storage_options

from crosswind.errors import BundleError
from crosswind.export.bundle import MANIFEST, MODEL, TOKENIZER, verify
from crosswind.export.registry import Registry, fetch
from crosswind.export.signing import keygen, sign
from tests.integration.deployment.bundles import variant


@pytest.fixture(params=["folder", "memory"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "models") if request.param == "folder" else f"memory://{uuid.uuid4().hex}/models"


def test_what_is_added_is_found_and_fetched_as_it_was(address: str, tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(address)
    assert registry.bundles() == []
    added = registry.add(tiny_bundle)
    other = registry.add(variant(tiny_bundle, tmp_path / "other", "other"))
    assert registry.add(tiny_bundle) == added
    assert {manifest.version for manifest in registry.bundles()} == {added.version, other.version}
    assert registry.find("tiny") == registry.find(added.version[:6]) == added
    folder = fetch(registry.address(added.version), added.version, tmp_path / "cache")
    assert verify(folder) == added
    assert fetch(registry.address(added.version), added.version, tmp_path / "cache") == folder


def test_unknown_and_ambiguous_names_list_what_there_is(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    registry.add(tiny_bundle)
    registry.add(variant(tiny_bundle, tmp_path / "b", "tiny", licence="MIT"))
    with pytest.raises(BundleError, match=r"'huge' is no bundle of .* there are: tiny"):
        registry.find("huge")
    with pytest.raises(BundleError, match="names more than one"):
        registry.find("tiny")


def test_an_upload_that_did_not_end_is_not_listed_and_is_done_again(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models"))
    version = registry.add(tiny_bundle).version
    (tmp_path / "models" / version / MANIFEST).unlink()
    (tmp_path / "models" / version / MODEL).write_bytes(b"half")
    assert registry.bundles() == []
    registry.add(tiny_bundle)
    assert verify(tmp_path / "models" / version).version == version


def test_a_changed_remote_copy_is_refused_and_leaves_no_cache(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    version = registry.add(tiny_bundle).version
    files, root = fsspec.core.url_to_fs(registry.address(version))
    files.pipe_file(f"{root}/{MODEL}", files.cat_file(f"{root}/{MODEL}")[:-1] + b"x")
    with pytest.raises(BundleError, match="was altered"):
        fetch(registry.address(version), version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_changed_cache_is_fetched_anew(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    version = registry.add(tiny_bundle).version
    folder = fetch(registry.address(version), version, tmp_path / "cache")
    (folder / MODEL).write_bytes(b"x")
    assert verify(fetch(registry.address(version), version, tmp_path / "cache")).version == version


def test_a_remote_manifest_cannot_write_outside_the_cache(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    version = registry.add(tiny_bundle).version
    files, root = fsspec.core.url_to_fs(registry.address(version))
    manifest = json.loads(files.cat_file(f"{root}/{MANIFEST}"))
    manifest["files"]["../../evil"] = "0"
    files.pipe_file(f"{root}/{MANIFEST}", json.dumps(manifest).encode())
    with pytest.raises(BundleError, match="not a plain file name"):
        fetch(registry.address(version), version, tmp_path / "cache")


class NoCredentials(Exception):
    """As botocore's: no OSError."""


@pytest.mark.parametrize(
    ("error", "said"),
    [(PermissionError(13, "Access Denied"), "cannot read .*: Access Denied; is the address right"),
     (NoCredentials("unable to locate\ncredentials"), "cannot read .*: NoCredentials: unable to locate credentials"),
     (OSError(28, "No space left on device"), "cannot write .*: No space left on device")],
)  # fmt: skip
def test_a_fetch_that_fails_says_whether_reading_or_writing_did(
    error: Exception, said: str, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    version = registry.add(tiny_bundle).version
    failing(monkeypatch, "get_file", MODEL, error)
    with pytest.raises(BundleError, match=said):
        fetch(registry.address(version), version, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def failing(monkeypatch: pytest.MonkeyPatch, method: str, name: str, error: Exception) -> None:
    """The memory's file system fails at a file."""
    real = getattr(MemoryFileSystem, method)

    def fail(self: MemoryFileSystem, source: str, *rest: object) -> object:
        if source.endswith(name):
            raise error
        return real(self, source, *rest)

    monkeypatch.setattr(MemoryFileSystem, method, fail)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), NoCredentials("unable to locate")])
def test_an_upload_that_fails_leaves_a_remote_as_it_was(
    error: Exception, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, other = Registry(f"memory://{uuid.uuid4().hex}"), variant(tiny_bundle, tmp_path / "other", "other")
    there = registry.add(tiny_bundle)
    files, root = fsspec.core.url_to_fs(registry.address(there.version))
    files.rm(f"{root}/{TOKENIZER}")
    files.pipe_file(f"{root}/{MODEL}", b"altered")
    before = {path: files.cat_file(path) for path in files.find(root.rpartition("/")[0])}
    with monkeypatch.context() as patch:
        failing(patch, "put_file", TOKENIZER, error)
        failing(patch, "mv", f".{MODEL}", error)
        for folder in (tiny_bundle, other):
            with pytest.raises(BundleError, match=r"cannot add to .*; nothing was added"):
                registry.add(folder)
    assert {path: files.cat_file(path) for path in files.find(root.rpartition("/")[0])} == before
    registry.add(tiny_bundle)
    assert verify(fetch(registry.address(there.version), there.version, tmp_path / "cache")) == there


def test_what_is_there_is_not_written_again_and_keeps_its_signature(
    address: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    registry, signed = Registry(address), variant(tiny_bundle, tmp_path / "signed", "tiny")
    plain = registry.add(tiny_bundle)
    files, root = fsspec.core.url_to_fs(registry.address(plain.version))
    written = files.modified(f"{root}/{MODEL}")
    keygen(tmp_path / "key")
    sign(signed, tmp_path / "key")
    for folder in (signed, tiny_bundle):
        registry.add(folder)
        (kept,) = registry.bundles()
        assert kept == verify(signed) != plain
    assert files.modified(f"{root}/{MODEL}") == written


def test_an_address_that_holds_another_version_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"holds version .*; expected 0000"):
        fetch(str(tiny_bundle), "0000", tmp_path)


def test_no_such_kind_of_address_is_one_clear_error() -> None:
    with pytest.raises(BundleError, match="cannot open nowhere://x"):
        Registry("nowhere://x")


def test_a_disk_that_fills_half_way_adds_nothing_and_keeps_what_was_there(tiny_bundle: Path, tmp_path: Path) -> None:
    """A file may not grow beyond 1,000 bytes in the child: the graph is larger, so writing it ends half-way."""
    large = variant(tiny_bundle, tmp_path / "large", "large")
    models = tmp_path / "models"
    kept = Registry(str(models)).add(tiny_bundle).version
    code = f"from crosswind.export.registry import *; Registry({str(models)!r}).add(Path({str(large)!r}))"
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path(__file__).parents[3],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    )  # fmt: skip
    assert "File too large; nothing was added" in child.stderr
    assert [path.name for path in models.iterdir()] == [kept]
    assert verify(models / kept)
    shutil.rmtree(large)


def test_two_threads_fetch_one_version_and_copy_it_once(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"memory://{uuid.uuid4().hex}")
    version = registry.add(tiny_bundle).version
    real, copied, begun, go_on = MemoryFileSystem.get_file, [], threading.Event(), threading.Event()

    def slow(self: MemoryFileSystem, source: str, *rest: object) -> object:
        copied.append(source.rpartition("/")[2])
        begun.set()
        assert go_on.wait(60)
        return real(self, source, *rest)

    monkeypatch.setattr(MemoryFileSystem, "get_file", slow)
    with ThreadPoolExecutor(2) as threads:
        live = threads.submit(fetch, registry.address(version), version, tmp_path / "cache")
        assert begun.wait(60)
        shadow = threads.submit(fetch, registry.address(version), version, tmp_path / "cache")
        wait([shadow], 0.5)  # time to get into the way of the first, which is half-way
        go_on.set()
    assert live.result() == shadow.result() == tmp_path / "cache" / version
    assert verify(live.result()).version == version
    assert sorted(copied) == sorted(set(copied))
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [version]


class Remote(MemoryFileSystem):
    """As s3fs it asks for a listing once, as webhdfs:// its paths are without the host."""

    protocol = "toy"
    hosts: ClassVar[dict[str, tuple[dict[str, Any], list[str]]]] = {}
    find = AbstractFileSystem.find  # by listings; the memory's looks past them

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(host=host, **options)
        self.store, self.pseudo_dirs = self.hosts.setdefault(host, ({}, [""]))

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return super()._strip_protocol(infer_storage_options(path)["path"])

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": infer_storage_options(path)["host"]}

    def ls(self, path: str, detail: bool = True, **options: Any) -> list[Any]:
        path = self._strip_protocol(path)
        if path not in self.dircache:
            self.dircache[path] = super().ls(path, detail=True)
        return self.dircache[path] if detail else sorted(one["name"] for one in self.dircache[path])

    def invalidate_cache(self, path: str | None = None) -> None:
        self.dircache.clear()


@pytest.fixture
def remote() -> str:
    fsspec.register_implementation("toy", Remote, clobber=True)
    return f"toy://{uuid.uuid4().hex}/models"


def test_what_another_process_added_is_seen(remote: str, tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(remote)
    first = registry.add(tiny_bundle)
    assert registry.bundles() == [first]
    other = variant(tiny_bundle, tmp_path / "other", "other")
    version = verify(other).version
    theirs = Remote(infer_storage_options(remote)["host"], skip_instance_cache=True)
    for path in other.iterdir():
        theirs.pipe_file(f"/models/{version}/{path.name}", path.read_bytes())
    assert {manifest.version for manifest in registry.bundles()} == {first.version, version}
    assert registry.find("other").version == version


@pytest.mark.parametrize("end", ["", "/"])
def test_an_address_keeps_its_host(end: str, remote: str, tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(remote + end)
    version = registry.add(tiny_bundle).version
    assert registry.address(version) == f"{remote}/{version}"
    assert verify(fetch(registry.address(version), version, tmp_path / "cache")).version == version


def test_a_local_address_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Registry("models").address("0000") == f"file://{tmp_path}/models/0000"


def test_an_address_may_hold_brackets(tiny_bundle: Path, tmp_path: Path) -> None:
    registry = Registry(str(tmp_path / "models [prod]*"))
    added = registry.add(tiny_bundle)
    (tmp_path / "models [prod]*" / "notes.txt").write_text("beside it")
    assert registry.bundles() == [added]
