"""What the documents show is executed: the walk-through from raw CSV to report, and the example notebook."""

import copy
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[3]
DOCS = ROOT / "docs"


def _first(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize("model", ["tiny", pytest.param("default", marks=[pytest.mark.full, pytest.mark.timeout(900)])])
def test_the_walk_through_from_raw_csv_to_report(tmp_path: Path, tiny_bundle: Path, model: str) -> None:
    page = (DOCS / "backtesting.md").read_text("utf-8")
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(tmp_path),
                   "CROSSWIND_MODEL": str(tiny_bundle) if model == "tiny" else "default"}  # fmt: skip
    subprocess.run([sys.executable, "-c", _first(page, "python")], cwd=tmp_path, env=environment, check=True)
    name, *arguments = shlex.split(_first(page, "console"))
    assert name == "crosswind"
    command = [sys.executable, "-m", "crosswind", *arguments]
    done = subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
    assert "report: report/report.html" in done.stdout
    report = json.loads((tmp_path / "report" / "report.json").read_text("utf-8"))
    assert report["rules"][0]["events"] == 3
    assert report["articles"] > 3000
    assert (tmp_path / "report" / "report.html").stat().st_size > 1_000_000
    if model == "default":
        assert report["rules"][0]["detected"] == 3


def test_the_example_notebook_runs_and_shows_what_it_showed() -> None:
    """The feed is the stored one, every cell says something, and the alarms speak of the crises."""
    stored = nbformat.read(DOCS / "replay.ipynb", as_version=4)
    fresh = copy.deepcopy(stored)
    NotebookClient(fresh, timeout=150, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}).execute()
    said, before = _said(fresh), _said(stored)
    assert (said[0], len(said)) == (before[0], len(before))
    assert len(said) == 5
    topics = re.findall(r"'([a-z]+)', '\d", said[0])
    assert len(topics) == 3
    assert all(topic in said[1] for topic in topics)


def _said(notebook: nbformat.NotebookNode) -> list[str]:
    return [output["data"]["text/plain"] for cell in notebook.cells if cell.cell_type == "code"
            for output in cell.outputs if output.output_type == "execute_result"]  # fmt: skip
