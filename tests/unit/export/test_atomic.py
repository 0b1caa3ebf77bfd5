import errno
import os
import shutil
from pathlib import Path

import pytest

from crosswind.errors import BundleError
from crosswind.export import atomic
from crosswind.export.atomic import publish, staging
from crosswind.export.bundle import MANIFEST


def former(target: Path) -> None:
    target.mkdir()
    (target / MANIFEST).write_text("former")


def build(target: Path, content: str) -> None:
    with staging(target) as folder:
        made = folder / "bundle"
        made.mkdir()
        (made / MANIFEST).write_text(content)
        publish(made, target)


def test_a_new_folder_replaces_a_former_one_and_leaves_nothing_beside(tmp_path: Path) -> None:
    former(tmp_path / "b")
    build(tmp_path / "b", "new")
    assert (tmp_path / "b" / MANIFEST).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_full_disk_is_one_clear_error_and_the_former_bundle_stays(tmp_path: Path) -> None:
    former(tmp_path / "b")
    with pytest.raises(BundleError, match=r"cannot write .*No space left.*unchanged"), staging(tmp_path / "b"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert (tmp_path / "b" / MANIFEST).read_text() == "former"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_a_killed_export_left_is_removed_by_the_next(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with staging(tmp_path / "b"):
            os.write(writer, b"in")
            os.kill(os.getpid(), 9)
    assert os.read(reader, 2) == b"in"
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    build(tmp_path / "b", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_that_is_no_bundle_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(BundleError, match="is not a bundle"):
        build(tmp_path / "b", "new")
    assert (tmp_path / "b" / "thesis.txt").read_text() == "mine"


def test_two_that_build_for_one_target_at_a_time_do_not_touch_each_other(tmp_path: Path) -> None:
    with staging(tmp_path / "b") as one, staging(tmp_path / "b") as other:
        for folder in (one, other):
            (folder / "bundle").mkdir()
            (folder / "bundle" / MANIFEST).write_text(folder.name)
        publish(one / "bundle", tmp_path / "b")
        publish(other / "bundle", tmp_path / "b")
    assert (tmp_path / "b" / MANIFEST).read_text() == other.name
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_a_folder_of_another_container_is_left_for_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("platform.node", lambda: "another")
        elsewhere.setattr("os.getpid", lambda: 2**22 + 1)  # no process here has this id
        with staging(tmp_path / "b") as theirs:
            kept = shutil.copytree(theirs, tmp_path / "kept")
    (kept / "graph").write_text("x")
    kept.rename(theirs)
    build(tmp_path / "b", "new")
    assert (theirs / "graph").read_text() == "x"
    for path in (theirs / "graph", theirs):
        os.utime(path, (0, 0))
    build(tmp_path / "b", "newer")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_was_left_while_a_former_bundle_went_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two folders cannot change places in one step."""
    monkeypatch.setattr(atomic, "_exchange", lambda one, other: False)
    former(tmp_path / "b")
    former(tmp_path / ".b.old")
    build(tmp_path / "b", "new")
    assert (tmp_path / "b" / MANIFEST).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
