"""Whether a backtest runs is asked of the process that works on it, whichever dashboard started it."""

import subprocess
import sys
from pathlib import Path

from crosswind.dashboard.backtest_job import Progress, write_progress
from crosswind.dashboard.running_backtests import FOLDER, Backtests, _locked
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.engine import connect


def dashboards(data: Path) -> list[Backtests]:
    """Two on one data folder; asking how far one is asks nothing of the database."""
    engine = connect("postgresql://nobody@127.0.0.1:1/nothing")
    return [Backtests(Settings(data_dir=data), engine) for _ in range(2)]


def test_every_dashboard_sees_it_run_until_its_process_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "first"
    folder.mkdir(parents=True)
    with _locked(folder) as lock:
        write_progress(folder, Progress("running", 500, 1000))
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    try:
        for backtests in dashboards(tmp_path):
            assert backtests.progress("first") == Progress("running", 500, 1000)
    finally:
        child.kill()
        child.communicate()
    for backtests in dashboards(tmp_path):
        assert [one.state for one in backtests.unfinished().values()] == ["stopped"]


def test_what_was_noted_as_running_and_never_begun_has_stopped(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER / "first"
    folder.mkdir(parents=True)
    write_progress(folder, Progress("running"))
    found = dashboards(tmp_path)[0].progress("first")
    assert found is not None
    assert found.state == "stopped"
    assert dashboards(tmp_path)[0].progress("../first") is None
