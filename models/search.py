"""Search for a run's parameters with Optuna: tree-structured Parzen estimator, median pruner, one log to resume from.

A trial that is worse at some epoch than the median of those before it is ended there. The study lies in the folder:
the same command goes on where a killed one stopped, and does no trial twice.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from crosswind.errors import SettingsError

if TYPE_CHECKING:
    import optuna

    from crosswind.models.inputs import Inputs
    from crosswind.models.network import Task
    from crosswind.models.tokens import Plan
    from crosswind.models.trackers import Tracker

HEADS: Final = 10.0
"""The heads' learning rate over the encoder's."""


@dataclass(frozen=True)
class Choice:
    """What is searched over: the encoder's learning rate, rows a step, texts per pattern, frozen layers, smoothing."""

    rate: float
    batch: int
    fillings: int
    freeze: int
    smoothing: float


@dataclass(frozen=True)
class Tried:
    """A trial: `score` is its best epoch's, None where it has none; `state` complete, pruned or fail."""

    number: int
    state: str
    score: float | None
    choice: Choice


Train = Callable[[Choice, Path, "Tracker"], None]
"""Trains with a choice in a folder, and logs each epoch's record, `score` in it."""


class _Reporter:
    """Implements `Tracker`: tells the pruner, and ends the trial when it says so."""

    def __init__(self, trial: "optuna.Trial") -> None:
        self._trial, self.best = trial, -1.0

    def start(self, settings: Mapping[str, Any]) -> None:
        """See `Tracker.start`."""

    def log(self, epoch: int, values: Mapping[str, Any]) -> None:
        """See `Tracker.log`."""
        import optuna

        self.best = max(self.best, float(values["score"]))
        self._trial.report(self.best, epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned

    def close(self) -> None:
        """See `Tracker.close`."""


def search(train: Train, folder: Path, trials: int, layers: int, seed: int = 0) -> list[Tried]:
    """Runs trials until there are `trials` of them, those of earlier calls included.

    Args:
        layers: of the encoder; no more than half of them are frozen.

    Returns:
        All trials, the best first. `search.md` and `search.json` in the folder say the same.

    Raises:
        SettingsError: optuna is not installed.
    """
    try:
        import optuna
        from optuna.storages.journal import JournalFileBackend
    except ImportError:
        raise SettingsError("--search needs the package optuna: pip install optuna") from None
    folder.mkdir(parents=True, exist_ok=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    backend = JournalFileBackend(str(folder / "search.log"))
    study = optuna.create_study(
        study_name="crosswind", direction="maximize", load_if_exists=True,
        storage=optuna.storages.JournalStorage(backend), pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )  # fmt: skip
    # A sampler with the seed of an earlier call would propose its trials again, also where that call was killed.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))

    def objective(trial: "optuna.Trial") -> float:
        reporter = _Reporter(trial)
        train(_choose(trial, layers), folder / f"trial-{trial.number}", reporter)
        return reporter.best

    done = sum(trial.state.is_finished() for trial in study.trials)
    study.optimize(objective, n_trials=max(0, trials - done))
    found = sorted((_tried(trial) for trial in study.trials if trial.state.is_finished()), key=_rank)
    _write(found, folder)
    return found


def trainer(inputs: "Inputs", plan: "Plan", tasks: "tuple[Task, ...]") -> Train:
    """Training by the recipe, a choice put over what was asked for."""
    from crosswind.models import recipe

    def train(choice: Choice, folder: Path, tracker: "Tracker") -> None:
        mine = replace(plan, out=folder, rate=choice.rate, head_rate=HEADS * choice.rate, batch=choice.batch,
                       freeze=choice.freeze)  # fmt: skip
        smoothed = [replace(task, smoothing=choice.smoothing) for task in tasks]
        recipe.run(replace(inputs, fillings=choice.fillings), mine, smoothed, "crosswind train --search", tracker)

    return train


def as_table(found: list[Tried]) -> str:
    """The trials as a Markdown table, the best first."""
    lines = ["| trial | state | score | rate | batch | fillings | freeze | smoothing |",
             "|---:|---|---:|---:|---:|---:|---:|---:|"]  # fmt: skip
    for tried in found:
        score = "" if tried.score is None else f"{tried.score:.4f}"
        c = tried.choice
        lines.append(f"| {tried.number} | {tried.state} | {score} | {c.rate:.2e} | {c.batch} | {c.fillings} | "
                     f"{c.freeze} | {c.smoothing:.3f} |")  # fmt: skip
    return "\n".join(lines)


def _choose(trial: "optuna.Trial", layers: int) -> Choice:
    return Choice(
        rate=trial.suggest_float("rate", 2e-5, 4e-4, log=True),
        batch=trial.suggest_categorical("batch", [16, 32, 48, 64]),
        fillings=trial.suggest_int("fillings", 1, 4),
        freeze=trial.suggest_int("freeze", 0, layers // 2),
        smoothing=trial.suggest_float("smoothing", 0.0, 0.15),
    )


def _tried(trial: "optuna.trial.FrozenTrial") -> Tried:
    values = list(trial.intermediate_values.values())
    score = trial.value if trial.value is not None else max(values, default=None)
    return Tried(trial.number, trial.state.name.lower(), score, Choice(**trial.params))


def _rank(tried: Tried) -> tuple[bool, float, int]:
    """Complete trials first: a pruned one's score is that of its few epochs."""
    return tried.state != "complete", -(tried.score if tried.score is not None else -1.0), tried.number


def _write(found: list[Tried], folder: Path) -> None:
    (folder / "search.json").write_text(json.dumps([asdict(tried) for tried in found], indent=1) + "\n", "utf-8")
    (folder / "search.md").write_text(as_table(found) + "\n", "utf-8")
