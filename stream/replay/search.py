"""Search for better rule settings: chosen on one period, judged on another. Choosing never sees the later one."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from crosswind.errors import DataError, SettingsError
from crosswind.stream.replay.backtest import Walked, walk, with_values
from crosswind.stream.replay.measures import Measures, Period, match, measure
from crosswind.stream.replay.stage import Stage
from crosswind.stream.replay.truth import Event, alarms_of
from crosswind.stream.service.rules import RuleFile, rule_set

MOST = 200
OBJECTIVES = ("f1", "nab", "recall", "precision")


@dataclass(frozen=True, slots=True)
class Trial:
    """One choice of settings, and how good it was in the period it was chosen on."""

    values: Mapping[str, Any]
    score: float
    measures: Measures


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a search.

    Attributes:
        trials: all of them, the best first.
        judged: the best one's figures on the later period.
    """

    objective: str
    chosen_on: Period
    judged_on: Period
    trials: Sequence[Trial]
    judged: Measures


@dataclass(frozen=True, slots=True)
class Fold:
    """One step of a walk forward: chosen on everything before, judged on what follows."""

    chosen_on: Period
    judged_on: Period
    values: Mapping[str, Any]
    chosen: float
    judged: Measures


def points(grid: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations.

    Raises:
        SettingsError: there are too many.
    """
    count = int(np.prod([len(values) for values in grid.values()])) if grid else 1
    if count > MOST:
        raise SettingsError(f"the grid has {count} points, more than {MOST}; use --trials to sample it")
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def grid_search(
    stage: Stage, text: RuleFile, grid: Mapping[str, Sequence[Any]], events: Sequence[Event], split: datetime,
    *, objective: str = "f1", progress: Callable[[int], None] = lambda n: None,
) -> tuple[Found, Walked, list[dict[str, Any]]]:  # fmt: skip
    """Every point of a grid in one pass, chosen before `split`, judged after it.

    Raises:
        DataError: no event lies before the split: there is nothing to choose by.
    """
    choices = points(grid)
    walked = walk(stage, {str(n): rule_set(with_values(text, values)) for n, values in enumerate(choices)},
                  progress=progress)  # fmt: skip
    before, after = _halves(walked.period, split)
    _something_in(before, events)
    trials = [_trial(walked, str(n), values, events, before, objective) for n, values in enumerate(choices)]
    order = sorted(range(len(trials)), key=lambda n: (-trials[n].score, n))
    judged = _figures(walked, str(order[0]), events, after)
    return Found(objective, before, after, [trials[n] for n in order], judged), walked, choices


def walk_forward(
    walked: Walked, choices: Sequence[Mapping[str, Any]], events: Sequence[Event], *, folds: int = 4,
    objective: str = "f1",
) -> list[Fold]:  # fmt: skip
    """Chooses again and again with all that is known by then, and judges on the next stretch.

    Stretches before which no event lies are left out: there is nothing to choose by.
    """
    period = walked.period
    edges = [period.after(period.length * fold / (folds + 1)) for fold in range(1, folds + 2)]
    found = []
    for split, until in itertools.pairwise(edges):
        before, after = period.part(period.since, split), period.part(split, until)
        if not any(before.counts(event) for event in events):
            continue
        trials = [_trial(walked, str(n), values, events, before, objective) for n, values in enumerate(choices)]
        best = min(range(len(trials)), key=lambda n: (-trials[n].score, n))
        found.append(Fold(before, after, choices[best], trials[best].score, _figures(walked, str(best), events, after)))
    return found


def optuna_search(
    stage: Stage, text: RuleFile, grid: Mapping[str, Sequence[Any]], events: Sequence[Event], split: datetime,
    *, trials: int, objective: str = "f1", seed: int = 1, progress: Callable[[int], None] = lambda n: None,
) -> Found:  # fmt: skip
    """Optuna's TPE sampler over the choices of a grid; numbers are sampled between the smallest and largest one.

    Raises:
        SettingsError: Optuna is not installed.
        DataError: no event lies before the split: there is nothing to choose by.
    """
    try:
        import optuna
    except ModuleNotFoundError:
        raise SettingsError("--trials needs Optuna: pip install optuna; --grid alone does not") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    done: list[Trial] = []

    def attempt(trial: Any) -> float:
        values = {path: _suggest(trial, path, choices) for path, choices in grid.items()}
        walked = walk(stage, {"0": rule_set(with_values(text, values))}, until=split, progress=progress)
        before, _ = _halves(walked.period, split)
        _something_in(before, events)
        done.append(_trial(walked, "0", values, events, before, objective))
        return done[-1].score

    optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed)).optimize(attempt, trials)
    done.sort(key=lambda trial: -trial.score)
    walked = walk(stage, {"0": rule_set(with_values(text, done[0].values))})
    before, after = _halves(walked.period, split)
    return Found(objective, before, after, done, _figures(walked, "0", events, after))


def _halves(period: Period, split: datetime) -> tuple[Period, Period]:
    return period.part(period.since, split), period.part(split, period.until)


def _something_in(period: Period, events: Sequence[Event]) -> None:
    if not any(period.counts(event) for event in events):
        raise DataError(
            f"none of the {len(events)} labelled events lies between {period.since:%Y-%m-%dT%H:%M:%SZ} and "
            f"{period.until:%Y-%m-%dT%H:%M:%SZ}, where settings are chosen: any choice would be as good as another; "
            "move the split with --split, give more events, or leave out --grid"
        )


def _suggest(trial: Any, path: str, choices: Sequence[Any]) -> Any:
    if all(isinstance(choice, int) for choice in choices):
        return trial.suggest_int(path, min(choices), max(choices))
    if all(isinstance(choice, (int, float)) for choice in choices):
        return trial.suggest_float(path, min(choices), max(choices), log=min(choices) > 0)
    return trial.suggest_categorical(path, list(choices))


def _trial(
    walked: Walked, name: str, values: Mapping[str, Any], events: Sequence[Event], period: Period, objective: str
) -> Trial:  # fmt: skip
    figures = _figures(walked, name, events, period)
    score = float(getattr(figures, objective))
    return Trial(values, score if np.isfinite(score) else 0.0, figures)


def _figures(walked: Walked, name: str, events: Sequence[Event], period: Period) -> Measures:
    """Of alarms in the period only; those open at its end count as if it were now."""
    alarms = [alarm for alarm in alarms_of(walked.rows[name]) if alarm.fired_at < period.until]
    return measure(match(alarms, events, period), period, max(len(walked.watched[name]), 1), resamples=200)


def middle(period: Period, share: float) -> datetime:
    """The minute at a share of a period.

    Raises:
        DataError: it is the period's first: nothing is left to choose settings on.
    """
    minutes = int(period.length * share / timedelta(minutes=1))
    if minutes < 1:
        raise DataError(
            f"the feed goes from {period.since:%Y-%m-%dT%H:%M:%SZ} to {period.until:%Y-%m-%dT%H:%M:%SZ}: too short to "
            "choose settings on one part and judge them on the rest; give a longer feed, or leave out --grid"
        )
    return period.after(timedelta(minutes=minutes))
