"""One `crosswind up` on one data folder, whatever the clock says and however the one before ended."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from crosswind.errors import ServiceError, SettingsError
from crosswind.running import FILE, claim, read_running

_HOLDER = """
import subprocess, sys
from pathlib import Path
from crosswind.running import claim
held = claim(Path(sys.argv[1]))
held.write({"port": 8050})
child = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(child.pid, flush=True)
sys.stdin.readline()
child.kill()
held.release()
"""
_RACER = """
import sys
from pathlib import Path
from crosswind.errors import ServiceError
from crosswind.running import claim
for number in range(8):
    sys.stdin.readline()
    try:
        claim(Path(sys.argv[1]) / str(number))
        print("mine", flush=True)
    except ServiceError:
        print("refused", flush=True)
sys.stdin.readline()  # it must not end, and let go, while the other still tries
"""


def _python(code: str, folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", code, str(folder)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _say(process: "subprocess.Popen[str]") -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@contextmanager
def _holder(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """An `up` that runs, and the id of a child of its."""
    with _python(_HOLDER, folder) as process:
        try:
            yield process, int(_hear(process))
        finally:
            process.kill()


def test_a_folder_has_one_up_and_is_free_after_it(tmp_path: Path) -> None:
    with _holder(tmp_path) as (first, _):
        assert read_running(tmp_path) == {"pid": first.pid, "port": 8050}
        with pytest.raises(ServiceError, match=rf"process {first.pid}\).*--data-dir and --port"):
            claim(tmp_path)
        assert read_running(tmp_path)["port"] == 8050  # who is refused takes nothing away
        _say(first)
        assert first.wait(20) == 0
    assert read_running(tmp_path) == {}
    claim(tmp_path).release()


def test_what_the_file_says_of_times_and_ids_does_not_count(tmp_path: Path) -> None:
    """A process's start, as the kernel tells it, moves when the wall clock is set."""
    with _holder(tmp_path) as (first, _):
        said = json.loads((tmp_path / FILE).read_text()) | {"pid": 2**22 + 1, "started": 1.0}
        (tmp_path / FILE).write_text(json.dumps(said))
        assert read_running(tmp_path)["port"] == 8050
        with pytest.raises(ServiceError):
            claim(tmp_path)
        _say(first)
        assert first.wait(20) == 0


def test_a_killed_up_holds_nothing_although_its_child_lives(tmp_path: Path) -> None:
    with _holder(tmp_path) as (first, child):
        first.kill()
        first.wait(20)
        try:
            assert Path(f"/proc/{child}").exists()
            assert read_running(tmp_path) == {}
            held = claim(tmp_path)
            assert "port" not in read_running(tmp_path)
            held.release()
        finally:
            subprocess.run(["kill", "-9", str(child)], check=True)


def test_of_two_that_start_at_once_one_is_refused(tmp_path: Path) -> None:
    with _python(_RACER, tmp_path) as one, _python(_RACER, tmp_path) as other:
        for _ in range(8):
            _say(one), _say(other)
            assert sorted((_hear(one), _hear(other))) == ["mine", "refused"]


def test_who_only_looks_refuses_nobody(tmp_path: Path) -> None:
    claim(tmp_path).release()
    looking = "import sys; from pathlib import Path; from crosswind.running import read_running; print(flush=True)\n"
    with _python(looking + "while True: read_running(Path(sys.argv[1]))", tmp_path) as looker:
        assert _hear(looker) == ""
        try:
            for _ in range(200):
                claim(tmp_path).release()
        finally:
            looker.kill()


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nope"])
def test_a_folder_that_cannot_be_made_is_a_setting(folder: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SettingsError, match="--data-dir"):
        claim(tmp_path / folder)
    assert read_running(tmp_path / folder) == {}
