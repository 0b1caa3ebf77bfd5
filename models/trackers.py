"""Experiment trackers behind one small port: none, TensorBoard, Weights & Biases, MLflow. Imported when asked for.

Nothing leaves the machine unless the tracker's own environment variables say where to: W&B runs offline without
WANDB_MODE, MLflow writes beside the run without MLFLOW_TRACKING_URI.
"""

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from crosswind.errors import SettingsError

NAMES: Final = ("none", "tensorboard", "wandb", "mlflow")
PROJECT: Final = "crosswind"


class Tracker(Protocol):
    """What a run is noted with."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """Notes what the run was asked for."""
        ...

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """Notes an epoch's record; what is no number is left out, what is nested gets a path."""
        ...

    def close(self) -> None:
        """Writes what is left."""
        ...


def flat(values: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The numbers of a record by their path.

    >>> flat({"loss": 0.5, "by_lang": {"en": 1}, "note": "x"})
    {'loss': 0.5, 'by_lang/en': 1.0}
    """
    found: dict[str, float] = {}
    for name, value in values.items():
        path = f"{above}/{name}" if above else str(name)
        if isinstance(value, Mapping):
            found |= flat(value, path)
        elif isinstance(value, int | float):
            found[path] = float(value)
    return found


class NoTracker:
    """Notes nothing."""

    def start(self, settings: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Tracker.log`."""

    def close(self) -> None:
        """See `Tracker.close`."""


class TensorBoard:
    """Event files in `FOLDER/tensorboard`; look with `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path) -> None:
        self._writer = _module("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(folder / "tensorboard"))

    def start(self, settings: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        lines = [f"    {name}: {value}" for name, value in settings.items()]
        self._writer.add_text("settings", "\n".join(lines))

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Tracker.log`."""
        for name, value in flat(values).items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """See `Tracker.close`."""
        self._writer.close()


class WandB:
    """A run of Weights & Biases in `FOLDER/wandb`; `wandb sync` uploads an offline one."""

    def __init__(self, folder: Path) -> None:
        self._wandb, self._folder = _module("wandb", "wandb"), folder
        self._run: Any = None

    def start(self, settings: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        # the host's name, its hardware and packages, and the program's source are nobody's business
        quiet = self._wandb.Settings(
            console="off", silent=True, save_code=False, disable_git=True, disable_code=True, host=PROJECT,
            x_disable_stats=True, x_disable_meta=True, x_save_requirements=False,
        )  # fmt: skip
        self._folder.mkdir(parents=True, exist_ok=True)
        self._run = self._wandb.init(project=PROJECT, dir=str(self._folder), config=dict(settings), settings=quiet,
                                     mode=os.environ.get("WANDB_MODE", "offline"))  # fmt: skip

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Tracker.log`."""
        self._run.log(flat(values), step=epoch)

    def close(self) -> None:
        """See `Tracker.close`."""
        if self._run is not None:
            self._run.finish()


class MLflow:
    """A run of MLflow, in `FOLDER/mlflow.db` or where MLFLOW_TRACKING_URI says."""

    def __init__(self, folder: Path) -> None:
        self._mlflow = _module("mlflow", "mlflow")
        if "MLFLOW_TRACKING_URI" not in os.environ:
            folder.mkdir(parents=True, exist_ok=True)
            self._mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")

    def start(self, settings: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""
        self._mlflow.set_experiment(PROJECT)
        self._mlflow.start_run()
        self._mlflow.log_params({name: str(value)[:500] for name, value in settings.items()})

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Tracker.log`."""
        self._mlflow.log_metrics(flat(values), step=epoch)

    def close(self) -> None:
        """See `Tracker.close`."""
        self._mlflow.end_run()


def open_tracker(name: str, folder: Path) -> Tracker:
    """A tracker by its name.

    Raises:
        SettingsError: there is no such tracker, or its package is not installed.
    """
    if name == "none":
        return NoTracker()
    if name not in NAMES:
        raise SettingsError(f"--tracker {name!r}: expected one of {', '.join(NAMES)}")
    kinds: dict[str, type[TensorBoard | WandB | MLflow]] = {"tensorboard": TensorBoard, "wandb": WandB,
                                                            "mlflow": MLflow}  # fmt: skip
    return kinds[name](folder)


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SettingsError(f"--tracker needs the package {package}: pip install {package} ({error})") from None
