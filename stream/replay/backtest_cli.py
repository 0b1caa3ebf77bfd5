"""`crosswind backtest`."""

import json
import math
from pathlib import Path
from typing import Annotated

import typer

from crosswind.errors import SettingsError
from crosswind.settings import Settings
from crosswind.stream.replay import runs as records
from crosswind.stream.replay.backtest import parse_grid
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.job import Job
from crosswind.stream.replay.notebook import Result, backtest
from crosswind.stream.replay.options import (
    AsJson,
    Database,
    DataDir,
    Kafka,
    Langs,
    Model,
    Since,
    Topics,
    Until,
    When,
    moment_of,
    progress_bar,
    settings_with,
)  # fmt: skip
from crosswind.stream.replay.report import as_html
from crosswind.stream.replay.search import OBJECTIVES
from crosswind.stream.replay.stage import Clock
from crosswind.stream.replay.topic import Stretch

app = typer.Typer(no_args_is_help=True)
Rules = Annotated[list[str], typer.Argument(metavar="RULES...", help="rule files, or `default`")]
Feed = Annotated[str, typer.Option(help="as for `crosswind replay`: files, `sample`, store[:RUN] or kafka:TOPIC")]
Truth = Annotated[Path, typer.Option(help="CSV or Parquet: onset, end, series (events), or time, price, name")]
Compare = Annotated[str | None, typer.Option(help="another rule file, side by side")]
Out = Annotated[Path, typer.Option(help="folder for report.html, report.json and alarms.csv")]
Grid = Annotated[list[str] | None, typer.Option(help="settings to try, e.g. evidence.headlines=4,6,8")]
Trials = Annotated[int, typer.Option(help="sample the grid so many times with Optuna; 0: every point", min=0)]
Objective = Annotated[str, typer.Option(help=f"what is best: {', '.join(OBJECTIVES)}")]
Split = Annotated[float, typer.Option(help="share of the period that settings are chosen on", min=0.1, max=0.9)]
Folds = Annotated[int, typer.Option(help="stretches of the walk forward", min=0)]
Budgets = Annotated[bool, typer.Option(help="measure the calibration of the false-alarm budget")]
Market = Annotated[str | None, typer.Option(help="prices: name of the index that abnormal returns are against")]
Keep = Annotated[str | None, typer.Option(help="keep it in the database by this name, for the dashboard")]


@app.command("backtest")
def backtest_command(
    rules: Rules, feed: Feed, truth: Truth, compare: Compare = None, out: Out = Path("backtest"), grid: Grid = None,
    trials: Trials = 0, objective: Objective = "f1", split: Split = 0.5, folds: Folds = 4, budgets: Budgets = True,
    market: Market = None, keep: Keep = None, since: Since = None, until: Until = None, topic: Topics = None,
    lang: Langs = None, when: When = Clock.KNOWN, model: Model = None, kafka: Kafka = None,
    database_url: Database = None, data_dir: DataDir = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Judge rules on an old feed: would they have warned, how early, with how many false alarms?

    Writes one HTML report that needs no network, its figures as JSON and its alarms as CSV.
    """
    if objective not in OBJECTIVES:
        raise SettingsError(f"--objective {objective}: expected one of {', '.join(OBJECTIVES)}")
    settings = settings_with(kafka, database_url, data_dir)
    asked = {"feed": feed, "model": model, "scores": None}
    record = records.Run("backtest", "in-process", asked, records.RUNNING, "")
    wanted = Filter(moment_of(since), moment_of(until), tuple(topic or ()), tuple(lang or ()))
    source = Job(settings, record, wanted, Stretch(), as_json).open()
    names = [*rules, *([compare] if compare else [])]
    with progress_bar("backtest", as_json) as bar:
        result = backtest(
            *names, feed=source, truth=truth, wanted=wanted, clock=when, grid=parse_grid(grid or []) or None,
            trials=trials, objective=objective, split=split, folds=folds, budgets=budgets, market=market,
            stories=settings.stories, progress=bar.advance, total=lambda rows: bar.total(rows, 0),
        )  # fmt: skip
    files = result.write(out)
    if keep:
        _keep(settings, keep, result)
    if as_json:
        typer.echo(json.dumps(result.summary()))
        return
    for verdict in result.found.verdicts:
        figures = verdict.measures
        lead = "none" if math.isnan(figures.lead_median) else f"{figures.lead_median:.0f} min"
        typer.echo(
            f"{verdict.name}: {figures.detected} of {figures.events} events, {figures.true_alarms} of {figures.alarms} "
            f"alarms true, median lead {lead}, "
            f"{figures.false_per_series_month:.3f} false alarms per series and month"
        )
    typer.echo(f"report: {files['report.html']}")


def _keep(settings: Settings, name: str, result: Result) -> None:
    from crosswind.stream.adapters.postgres.engine import connect, migrate
    from crosswind.stream.adapters.postgres.runs import save_backtest
    from crosswind.stream.bootstrap import database_address

    engine = connect(database_address(settings))
    migrate(engine)
    save_backtest(engine, name, result.found.title, result.summary(), as_html(result.found))
    engine.dispose()
