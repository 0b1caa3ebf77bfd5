import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from crosswind.errors import SettingsError
from crosswind.models.network import Manifest, Network
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.trackers import Tracker, flat, open_tracker
from crosswind.models.training import Trainer
from tests.unit.models.tiny import TASKS


@pytest.fixture
def train(network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], tmp_path: Path):  # type: ignore[no-untyped-def]
    def run(tracker: Tracker) -> list[dict[str, object]]:
        plan = Plan(tmp_path / "run", epochs=2, batch=8, freeze=1, align_every=0, half=False)
        tracker.start({**vars(plan), "base": "tiny"})
        manifest = Manifest(base="tiny", tasks=TASKS)
        history = Trainer(network, tokenizer, rows[:32], rows[32:], [], plan, manifest, tracker).run()
        tracker.close()
        return history

    return run


def test_only_numbers_are_noted_by_their_path() -> None:
    assert flat({"a": {"b": {"c": 1}}, "d": "x", "e": None, "f": 0.5}) == {"a/b/c": 1.0, "f": 0.5}


def test_no_tracker_writes_nothing(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert len(train(open_tracker("none", tmp_path / "notes"))) == 2
    assert not (tmp_path / "notes").exists()


def test_tensorboard_has_every_epoch(train, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    history = train(open_tracker("tensorboard", tmp_path))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    noted = events.Scalars("loss")
    assert [event.step for event in noted] == [1, 2]
    assert [event.value for event in noted] == pytest.approx([record["loss"] for record in history])
    assert "sentiment_by_lang/en" in events.Tags()["scalars"]


def test_wandb_notes_offline(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    history = train(open_tracker("wandb", tmp_path))
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    (noted,) = run.glob("run-*.wandb")
    score, deadline = str(history[-1]["score"]).encode(), time.monotonic() + 60
    while score not in noted.read_bytes() and time.monotonic() < deadline:  # its service writes after `finish`
        time.sleep(0.1)
    content = noted.read_bytes()
    assert score in content
    assert b"sentiment_by_lang/en" in content
    host = socket.gethostname().encode()  # as JSON, and as a field of a message: a short name may lie in any bytes
    assert b'"' + host + b'"' not in content
    assert bytes([len(host)]) + host not in content


def test_mlflow_notes_beside_the_run(train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    history = train(open_tracker("mlflow", tmp_path))
    (run,) = mlflow.search_runs(experiment_names=["crosswind"], output_format="list")
    assert run.data.metrics["loss"] == pytest.approx(history[-1]["loss"])
    assert run.data.params["epochs"] == "2"


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="none, tensorboard, wandb, mlflow"):
        open_tracker("paper", tmp_path)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "mlflow"])
def test_a_tracker_that_is_not_installed_says_what_to_install(name: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules[{name!r}] = None; from pathlib import Path\n"
        "from crosswind.errors import SettingsError\nfrom crosswind.models.trackers import open_tracker\n"
        f"try: open_tracker({name!r}, Path({str(tmp_path)!r}))\nexcept SettingsError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"pip install {name}" in found.stdout
