"""`crosswind rules` and `crosswind alerts`: rule files, and what people say to alerts."""

import getpass
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from sqlalchemy import Engine

from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.domain.rules import Per, RuleSet
from crosswind.stream.domain.scorecard import Measure
from crosswind.stream.domain.silence import parse_matcher
from crosswind.stream.service.rule_tests import run_tests
from crosswind.stream.service.rules import DEFAULT, duration, load_rules, schema

if TYPE_CHECKING:
    from crosswind.stream.replay.leads import Lead
    from crosswind.stream.replay.truth import Event

app = typer.Typer()
rules = typer.Typer(help="Check, test and show alert rules.", no_args_is_help=True)
alerts = typer.Typer(help="Acknowledge, judge and silence alerts; see how rules have done.", no_args_is_help=True)
app.add_typer(rules, name="rules")
app.add_typer(alerts, name="alerts")

File = Annotated[Path | None, typer.Argument(help="a rule file [default: CROSSWIND_RULES, else the shipped rules]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: that of the running `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="data folder of the running `crosswind up` [default: .crosswind]")]
Run = Annotated[str | None, typer.Option(help="the run [default: live]")]
By = Annotated[str | None, typer.Option(help="who says so [default: you]")]
Id = Annotated[str, typer.Argument(help="the incident's id, or its beginning")]


@rules.command()
def check(file: File = None, as_json: AsJson = False) -> None:
    """Say whether a rule file can be used. Exit status 2 when not, with what is wrong and where."""
    found = load_rules(_file(file))
    _print_rules(found, as_json)


@rules.command("test")
def run(file: Annotated[Path, typer.Argument(help="a file of rule tests")], as_json: AsJson = False) -> None:
    """Run rule tests: input series, times, expected alerts. Exit status 1 when an expectation does not hold."""
    outcomes = run_tests(file)
    failed = [outcome for outcome in outcomes if outcome.problem]
    if as_json:
        typer.echo(json.dumps([asdict(outcome) for outcome in outcomes], indent=1))
    else:
        for outcome in outcomes:
            verdict = "FAILED" if outcome.problem else "ok"
            typer.echo(f"{verdict:6} {outcome.test}, at {outcome.at}  {outcome.problem}".rstrip())
        typer.echo(f"{len(outcomes) - len(failed)} of {len(outcomes)} expectations hold")
    raise typer.Exit(1 if failed else 0)


@rules.command()
def show(
    file: File = None,
    as_schema: Annotated[bool, typer.Option("--schema", help="print the JSON Schema of rule files")] = False,
) -> None:
    """Print the rules in use, as they are written; or the JSON Schema that editors can check them by."""
    if as_schema:
        typer.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
        return
    path = _file(file) or DEFAULT
    found = load_rules(path)
    typer.echo(f"# {path.name}, version {found.version}\n{path.read_text('utf-8')}", nl=False)


@alerts.command()
def ack(
    incident: Id, by: By = None, run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None
) -> None:
    """Take an incident on: it is not repeated until it is resolved. The first one who does has it."""
    with _database(database_url, data_dir, run) as (engine, settings):
        who = alert_orders.acknowledge(engine, settings.run, incident, by or getpass.getuser())
    typer.echo(f"acknowledged by {who}")


@alerts.command()
def mark(
    incident: Id,
    useful: Annotated[bool, typer.Option("--useful/--not-useful", help="was it worth telling?")],
    by: By = None, run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None,
) -> None:  # fmt: skip
    """Say whether an incident was worth telling. The scorecard counts it."""
    with _database(database_url, data_dir, run) as (engine, settings):
        alert_orders.judge(engine, settings.run, incident, by or getpass.getuser(), useful)


@alerts.command()
def silence(
    matchers: Annotated[list[str], typer.Argument(help="e.g. topic=credit lang!=de entity~Bank*; all must match")],
    lasts: Annotated[str, typer.Option("--for", help="event time, e.g. 2h")],
    comment: Annotated[str, typer.Option(help="why")] = "",
    by: By = None, run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None,
) -> None:  # fmt: skip
    """Silence what matches, for a while. Incidents go on; they are told when the silence ends while they fire."""
    parsed = [parse_matcher(matcher) for matcher in matchers]
    with _database(database_url, data_dir, run) as (engine, settings):
        made = alert_orders.silence(engine, settings.run, parsed, duration(lasts), by or getpass.getuser(), comment)
    typer.echo(f"{made.silence_id} until {made.ends_at:%Y-%m-%d %H:%M} UTC")


@alerts.command()
def silences(
    run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """List the silences in force."""
    with _database(database_url, data_dir, run) as (engine, settings):
        found = alert_orders.silences(engine, settings.run)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
        return
    for one in found:
        what = " ".join(f"{m.field}{m.operator}{m.value}" for m in one.matchers)
        typer.echo(f"{one.silence_id}  until {one.ends_at:%Y-%m-%d %H:%M} UTC  {what}")


@alerts.command()
def unsilence(
    silence_id: Annotated[str, typer.Argument(help="as `crosswind alerts silences` lists it")],
    run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None,
) -> None:  # fmt: skip
    """End a silence now."""
    with _database(database_url, data_dir, run) as (engine, settings):
        alert_orders.end_silence(engine, settings.run, silence_id)


@alerts.command()
def scorecard(
    days: Annotated[int, typer.Option(min=1, help="of event time, up to the last evaluated minute")] = 90,
    truth: Annotated[Path | None, typer.Option(help="labelled events or prices, as for a backtest: lead times")] = None,
    run: Run = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say how each version of each rule has done: told, useful, useless, told per month, lead time.

    Told per month is of each series that the rule watches, or of the whole rule, whichever its budget is for.
    The lead is the median of minutes from the first alarm to an event's onset, over events that were found; below 0
    the alarm came after it. Events count that lie wholly within the days.
    """
    labelled = _truth(truth) if truth else None  # before the database is asked: a bad file is said at once
    in_use = load_rules(_file(None))
    with _database(database_url, data_dir, run) as (engine, settings):
        found = alert_orders.scorecard(engine, settings.run, days, in_use)
        led = _led(engine, settings.run, days, labelled) if labelled is not None else {}
    if as_json:
        cards = [{**asdict(one), **_plain_lead(led.get((one.rule, one.rule_version)))} for one in found]
        typer.echo(json.dumps(cards, indent=1))
        return
    heads = f"{'told':>6}{'useful':>8}{'useless':>9}{'precision':>11}{'told/month':>12}  {'of':18}{'budget':>8}"
    typer.echo(f"{'rule':24} {'version':14}{heads}" + f"{'found':>10}{'lead':>10}" * (truth is not None))
    for one in found:
        precision = "-" if one.precision is None else f"{one.precision:.2f}"
        more = _lead_words(led.get((one.rule, one.rule_version))) if truth else ""
        version = one.rule_version + "*" * (not one.measure.current)
        typer.echo(f"{one.rule:24} {version:14}{one.fired:6}{one.useful:8}{one.useless:9}{precision:>11}"
                   f"{one.told_per_month:12.4f}  {_measure_words(one.measure)}{more}".rstrip())  # fmt: skip
    if not all(one.measure.current for one in found):
        typer.echo("* not in the rules now: counted by the series that the rule of its name watches now, or for the "
                   "whole rule where none has its name")  # fmt: skip


def _measure_words(by: Measure) -> str:
    of = f"each of {by.series} series" if by.per is Per.SERIES else "the whole rule"
    return f"{of:18}{'-' if by.at_most is None else f'{by.at_most:g}':>8}"


def _truth(path: Path) -> "list[Event]":
    from crosswind.stream.replay.study import falls
    from crosswind.stream.replay.truth import Prices, load_truth

    found = load_truth(path)
    return falls(found) if isinstance(found, Prices) else found


def _led(engine: Engine, run: str, days: int, labelled: "list[Event]") -> "dict[tuple[str, str], Lead]":
    from crosswind.stream.replay.leads import leads

    since, until, found = alert_orders.fired(engine, run, days)
    return leads(found, labelled, since, until)


def _plain_lead(lead: "Lead | None") -> dict[str, float | int | None]:
    return asdict(lead) if lead else {}


def _lead_words(lead: "Lead | None") -> str:
    if lead is None:
        return f"{'-':>10}{'-':>10}"
    minutes = "-" if lead.lead_minutes is None else f"{lead.lead_minutes:.0f} min"
    return f"{f'{lead.detected} of {lead.events}':>10}{minutes:>10}"


def _file(given: Path | None) -> Path | None:
    return given or load_settings().rules


def _print_rules(found: RuleSet, as_json: bool) -> None:
    plain = [{"name": rule.name, "version": rule.version, "detector": rule.detector.name,
              "at_most": rule.budget.at_most, "per": rule.budget.per.value} for rule in found.rules]  # fmt: skip
    if as_json:
        typer.echo(json.dumps({"version": found.version, "rules": plain}, indent=1))
        return
    for rule in plain:
        typer.echo(f"{rule['name']} {rule['version']}: {rule['detector']}, at most {rule['at_most']} false alarms a "
                   f"month per {rule['per']}")  # fmt: skip


@contextmanager
def _database(url: str | None, data_dir: Path | None, run: str | None) -> Iterator[tuple[Engine, Settings]]:
    from crosswind.cli import with_running
    from crosswind.stream.bootstrap import database_address

    settings = with_running(load_settings({"database_url": url, "data_dir": data_dir, "run": run}))
    engine = connect(database_address(settings))
    try:
        yield engine, settings
    finally:
        engine.dispose()
