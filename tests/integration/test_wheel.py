"""The wheel: its files, and that it runs from an empty environment."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NEEDED = {
    "crosswind/cli.py",
    "crosswind/stream/agents.py",
    "crosswind/stream/adapters/postgres/migrations/script.py.mako",
    "crosswind/stream/feed/sample/news.jsonl.gz",
    "crosswind/stream/feed/sample/truth.json",
    "crosswind/models/taxonomy.toml",
    "crosswind/models/corpus/en.yaml",
    "crosswind/models/bundle/model.onnx",
    "crosswind/models/bundle/tokenizer.json",
    "crosswind/models/bundle/manifest.json",
    "crosswind/export/bundle.py",
    "crosswind/dashboard/serve.py",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(folder), "."]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (found,) = folder.glob("crosswind-*.whl")
    return found


def test_the_wheel_holds_what_it_needs(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED, NEEDED - names
    code = {name for name in names if ".dist-info/" not in name}
    assert all(name.startswith("crosswind/") for name in code), "nothing lies outside the package"
    assert not any("/tests/" in name or name.endswith(".pyc") for name in code)


def test_every_module_of_the_tree_is_in_the_wheel(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for room in ("stream", "models", "export", "dashboard"):
        for path in (ROOT / room).rglob("*.py"):
            assert f"crosswind/{path.relative_to(ROOT)}" in names


def test_it_runs_from_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", wheel], check=True, capture_output=True)
    # What it depends on is borrowed from this environment: the install from the registry is `make .venv`'s to prove.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    environment = {"PYTHONPATH": os.pathsep.join([str(site), *borrowed]), "PATH": os.environ["PATH"]}
    command = [tmp_path / "venv" / "bin" / "crosswind", "--help"]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    for name in ("up", "worker", "dashboard", "score", "status", "feed", "export", "train"):
        assert name in result.stdout
    where = subprocess.run(
        [python, "-c", "import crosswind.stream; print(crosswind.stream.__file__)"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert where.stdout.startswith(str(site))
