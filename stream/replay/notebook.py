"""What notebooks call; see the package's own docstring. The command line stands on the same functions."""

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import polars as pl

from crosswind.errors import SettingsError
from crosswind.settings import Settings, load_settings
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.contract import Alert
from crosswind.stream.replay import report
from crosswind.stream.replay.backtest import Verdict, budget_rules, calibrate, judge, walk
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.figures import ALARM_COLUMNS, Backtest, alarm_table, summary
from crosswind.stream.replay.files import open_files
from crosswind.stream.replay.inprocess import LATENESS, Plan, replay_in_process
from crosswind.stream.replay.judging import Judge
from crosswind.stream.replay.log import read_log
from crosswind.stream.replay.measures import Measures
from crosswind.stream.replay.preview import Preview, preview
from crosswind.stream.replay.runs import keep_asked
from crosswind.stream.replay.search import Fold, Found, grid_search, middle, optuna_search, walk_forward
from crosswind.stream.replay.sources import Source
from crosswind.stream.replay.stage import Clock, Stage
from crosswind.stream.replay.study import falls
from crosswind.stream.replay.truth import Event, Prices, load_truth
from crosswind.stream.service.rules import DEFAULT, RuleFile, read_rules, rule_set
from crosswind.stream.service.watchlists import load_watchlist

__all__ = ["Preview", "Result", "alerts_frame", "backtest", "preview", "replay"]


def replay(
    feed: "str | Path | Source", *, rules: "str | Path | None" = None, folder: Path | None = None,
    wanted: Filter = Filter(), clock: Clock = Clock.PUBLISHED, model: str = "default",  # noqa: B008 - frozen
) -> pl.DataFrame:  # fmt: skip
    """Replays a feed in this process and returns its alert log, one row per transition.

    Args:
        feed: a file, folder or glob of scored or unscored articles, or an opened source.
        rules: a rule file; None: the shipped rules.
        folder: keeps log and checkpoint there, and resumes what was asked for the same; None: a temporary one.
        model: scores articles that have no score.

    Stories are given unless the settings (`CROSSWIND_STORIES`) say no.

    Raises:
        CrosswindError: feed or rules cannot be used, or `folder` holds another replay.
    """
    found = rule_set(read_rules(Path(rules) if rules else DEFAULT))
    with tempfile.TemporaryDirectory(prefix="crosswind-replay-") as temporary:
        plan = Plan("notebook", found, folder or Path(temporary), clock=clock, stories=load_settings().stories)
        name = feed.name if isinstance(feed, Source) else str(feed)
        keep_asked(plan.folder, {"feed": name, "rules": found.version, "filter": repr(wanted), "clock": clock.value,
                                 "model": model, "stories": plan.stories})  # fmt: skip
        outcome = replay_in_process(lambda: opened(feed, wanted, model), plan)
        return alerts_frame(read_log(outcome.log))


def opened(feed: "str | Path | Source", wanted: Filter, model: str = "default") -> Source:
    """A source of files, or the one that is given."""
    return feed if isinstance(feed, Source) else open_files(str(feed), wanted, model_judge(model, load_settings()))


def model_judge(model: str, settings: Settings, *, again: bool = False) -> Judge:
    """Scores with a bundle as a worker with these settings would: only a bundle that it would trust, and with its
    watchlist. The bundle is opened when the first article needs it.

    Raises:
        SettingsError: the watchlist cannot be used.
    """
    kept: list[Any] = []

    def scorer() -> Any:
        if not kept:
            from crosswind.export.bundle import resolve
            from crosswind.stream.adapters.onnx_scorer import OnnxScorer

            kept.append(OnnxScorer(resolve(model), settings.device, settings.threads, settings.trusted_key))
        return kept[0]

    detectors: list[Any] = []

    def detect(text: str) -> str:
        if not detectors:
            from crosswind.stream.adapters.language import LangidDetector

            detectors.append(LangidDetector())
        return str(detectors[0].detect(text))

    return Judge(scorer, detect, again, watchlist=load_watchlist(settings.watchlist))


def alerts_frame(rows: Sequence[Mapping[str, Any]]) -> pl.DataFrame:
    """The lines of an alert log as a frame, `at` as aware times."""
    types = {field.name: field.type for field in msgspec.structs.fields(Alert)
             if field.name not in ("run", "incident_id", "v")}  # fmt: skip
    types |= {"incident": int, "group": int}  # numbers, see `log`
    schema = {name: pl.String() if name == "at" else _TYPES[kind] for name, kind in types.items()}
    frame = pl.DataFrame([dict(row) for row in rows], schema)
    times = pl.col("at").str.to_datetime(time_zone="UTC", time_unit="us")
    first = ("seq", "at", "cause", "incident")
    return frame.with_columns(times).select(*first, *sorted(schema.keys() - set(first)))


_TYPES: dict[Any, pl.DataType] = {
    str: pl.String(), int: pl.Int64(), float: pl.Float64(), bool: pl.Boolean(), list[str]: pl.List(pl.String())
}  # fmt: skip
"""Types are given, never guessed from rows: a column may have no value for long, and a frame no row."""


def _typed(kind: type) -> dict[str, pl.DataType]:
    return {name: _TYPES[found] for name, found in get_type_hints(kind).items() if found in _TYPES}


_ALARM: dict[str, pl.DataType] = {
    **dict.fromkeys(ALARM_COLUMNS, pl.String()),
    "observed": pl.Int64(), "expected": pl.Float64(), "told": pl.Boolean(), "lead_minutes": pl.Float64(),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """A backtest's outcome as frames; `found` has all of it."""

    found: Backtest

    @property
    def figures(self) -> pl.DataFrame:
        """One row per set of rules."""
        plain = [{"rules": verdict.name, **verdict.measures.plain()} for verdict in self.found.verdicts]
        return pl.DataFrame(plain, {"rules": pl.String(), **_typed(Measures)})

    @property
    def alarms(self) -> pl.DataFrame:
        """One row per alarm, with the event it spoke of."""
        rows = [row for verdict in self.found.verdicts for row in alarm_table(verdict)]
        told = [{**row, "lead_minutes": row["lead_minutes"] if row["event"] else None} for row in rows]
        return pl.DataFrame(told, _ALARM)

    def summary(self) -> dict[str, Any]:
        """What `report.json` has."""
        return summary(self.found)

    def write(self, folder: "str | Path") -> dict[str, Path]:
        """Writes report.html, report.json and alarms.csv."""
        return report.write(self.found, Path(folder))


def backtest(
    *rules: "str | Path", feed: "str | Path | Source", truth: "str | Path | list[Event] | Prices",
    wanted: Filter = Filter(), clock: Clock = Clock.KNOWN, model: str = "default",  # noqa: B008 - frozen
    grid: Mapping[str, Sequence[Any]] | None = None, trials: int = 0, objective: str = "f1", split: float = 0.5,
    folds: int = 4, budgets: bool = True, market: str | None = None, folder: Path | None = None,
    stories: bool | None = None,
    progress: Callable[[int], None] = lambda n: None, total: Callable[[int], None] = lambda n: None,
) -> Result:  # fmt: skip
    """Judges one or more rule files on a feed and a truth.

    Args:
        rules: rule files; `default` is the shipped one.
        wanted: which articles count, of files that are opened here; events of another topic or language are not
            judged, whatever the feed.
        clock: `KNOWN` lets no article count before it was received.
        grid: settings to try instead of those of the first rule file, by path; chosen on the first `split` of the
            period, judged on the rest.
        trials: sample the grid with Optuna so many times instead of trying every point.
        folds: stretches of the walk forward over the grid.
        budgets: measure the calibration of the false-alarm budget, too (five more rule sets).
        stories: articles that have a meaning get their story, and rules count stories; None: as the settings say.

    Raises:
        CrosswindError: rules, feed or truth cannot be used.
    """
    if not rules:
        raise SettingsError("no rules: name a rule file, or `default` for the shipped rules")
    if trials and not grid:
        raise SettingsError("--trials samples a grid: say which settings to try, e.g. --grid evidence.headlines=4,12")
    texts = {str(name): read_rules(DEFAULT if str(name) == "default" else Path(name)) for name in rules}
    known = load_truth(Path(truth)) if isinstance(truth, (str, Path)) else truth
    events = falls(known, market=market) if isinstance(known, Prices) else _asked(known, wanted)
    known = known if isinstance(known, Prices) else events
    with tempfile.TemporaryDirectory(prefix="crosswind-backtest-") as temporary:
        stage = Stage((folder or Path(temporary)) / "staged")
        with contextlib.closing(stage):
            source = opened(feed, wanted, model)
            told = load_settings().stories if stories is None else stories
            stage.fill(source.tables, clock, LATENESS, told, newest=source.newest)
            total(stage.rows)
            verdicts, period = _verdicts(stage, texts, known, events, budgets, market, progress)
            search, walked_folds = None, list[Fold]()
            if grid:
                first = next(iter(texts.values()))
                at = middle(period, split)
                search, walked_folds = _search(stage, first, grid, events, at, trials, objective, folds)
            skipped = folds - len(walked_folds) if grid and not trials else 0
            wanted_ids = [ident for verdict in verdicts for alarm in verdict.matched.alarms for ident in alarm.evidence]
            articles = {row["article_id"]: row for row in stage.articles(wanted_ids)}
            name = str(feed.name if isinstance(feed, Source) else feed)
            said = str(truth) if isinstance(truth, (str, Path)) else f"{len(events)} events"
            return Result(Backtest("Backtest of " + ", ".join(texts), name, said, period, stage.rows, verdicts,
                                   articles, search, walked_folds, skipped))  # fmt: skip


def _asked(events: list[Event], wanted: Filter) -> list[Event]:
    """The events that articles of the wanted topics and languages could tell of; the feed has no others."""
    return [event for event in events if (not wanted.topics or event.series.topic in (ALL, *wanted.topics))
            and (not wanted.langs or event.series.lang in (ALL, *wanted.langs))]  # fmt: skip


def _verdicts(
    stage: Stage, texts: Mapping[str, RuleFile], known: "list[Event] | Prices", events: list[Event], budgets: bool,
    market: str | None, progress: Callable[[int], None],
) -> tuple[list[Verdict], Any]:  # fmt: skip
    sets = {name: rule_set(text) for name, text in texts.items()}
    every = dict(sets)
    others = {name: budget_rules(text) if budgets else {} for name, text in texts.items()}
    every |= {f"{name} at {budget}": found for name, some in others.items() for budget, found in some.items()}
    walked = walk(stage, every, progress=progress)
    verdicts = []
    for name, found in sets.items():
        verdict = judge(
            name, found.version, walked.rows[name], walked.watched[name], known, walked.period, market=market
        )
        logs = {budget: walked.rows[f"{name} at {budget}"] for budget in others[name]}
        rows = calibrate(texts[name], logs, walked.watched[name], events, walked.period)
        verdicts.append(Verdict(verdict.name, verdict.version, verdict.measures, verdict.matched, verdict.parts, rows,
                                verdict.study))  # fmt: skip
    return verdicts, walked.period


def _search(
    stage: Stage, text: RuleFile, grid: Mapping[str, Sequence[Any]], events: list[Event], split: datetime, trials: int,
    objective: str, folds: int,
) -> tuple[Found, list[Fold]]:  # fmt: skip
    if trials:
        return optuna_search(stage, text, grid, events, split, trials=trials, objective=objective), []
    found, walked, choices = grid_search(stage, text, grid, events, split, objective=objective)
    return found, walk_forward(walked, choices, events, folds=folds, objective=objective) if folds else []


def default_data_dir() -> Path:
    """Where runs are kept unless told otherwise."""
    return load_settings().data_dir
