"""`crosswind replay` and `crosswind runs`."""

import json
from pathlib import Path
from typing import Any

import typer

from crosswind.errors import DataError
from crosswind.settings import load_settings
from crosswind.stream.replay import runs as records
from crosswind.stream.replay.columns import Filter
from crosswind.stream.replay.engine import Pace
from crosswind.stream.replay.inprocess import Outcome, Plan, forget_stage, replay_in_process
from crosswind.stream.replay.job import Job, check_options, record_of, stretch_of
from crosswind.stream.replay.options import (
    AsJson,
    AsOf,
    Batch,
    Database,
    DataDir,
    Feed,
    From,
    Kafka,
    Langs,
    Model,
    Notify,
    Partitions,
    Resume,
    Rules,
    RunName,
    Scores,
    Since,
    Sources,
    Speed,
    Through,
    To,
    Topics,
    Until,
    When,
    Workers,
    moment_of,
    progress_bar,
    settings_with,
    speed_of,
    stop_on_signals,
)  # fmt: skip
from crosswind.stream.replay.split import cores
from crosswind.stream.replay.stage import Clock
from crosswind.stream.service.rules import load_rules

app = typer.Typer(no_args_is_help=True)
runs_app = typer.Typer(help="Replays that were made: list, show, compare and delete them.", no_args_is_help=True)
app.add_typer(runs_app, name="runs")


@app.command()
def replay(
    feed: Feed, run: RunName = None, rules: Rules = None, speed: Speed = "max", since: Since = None,
    until: Until = None, topic: Topics = None, lang: Langs = None, source: Sources = None, as_of: AsOf = None,
    when: When = Clock.PUBLISHED, model: Model = None, scores: Scores = None, first: From = None, to: To = None,
    through_kafka: Through = False, partitions: Partitions = 4, notify: Notify = False, batch: Batch = 0,
    workers: Workers = 1, resume: Resume = False, kafka: Kafka = None, database_url: Database = None,
    data_dir: DataDir = None, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Replay old articles through the alert engine, in event time. The same feed and rules give the same alert log.

    The log is DATA_DIR/replays/RUN/alerts.jsonl: canonical JSON Lines, the same bytes at any speed. Ctrl-C stops;
    --resume goes on. Exit status 130 when it was stopped.
    """
    settings = settings_with(kafka, database_url, data_dir)
    pace, loaded = speed_of(speed), load_rules(rules or settings.rules)
    asked = {
        "feed": feed, "rules": str(rules) if rules else None, "since": since, "until": until, "topic": topic,
        "lang": lang, "source": source, "as_of": as_of, "clock": when.value, "model": model, "scores": scores,
        "from": first, "to": to, "through_kafka": through_kafka, "partitions": partitions, "notify": notify,
        "rules_version": loaded.version,
    }  # fmt: skip
    check_options(feed, scores, first, to)
    wanted = Filter(moment_of(since), moment_of(until), tuple(topic or ()), tuple(lang or ()), tuple(source or ()),
                    moment_of(as_of))  # fmt: skip
    stretch = stretch_of(first, to)
    record = record_of(settings.data_dir, run, asked, resume=resume)
    job = Job(settings, record, wanted, stretch, as_json)
    with stop_on_signals() as stop, progress_bar("replay", as_json) as bar:
        plan = Plan(
            record.run, loaded, records.folder_of(settings.data_dir, record.run), Pace(pace, wait=stop.wait), when,
            batch=batch, total=bar.total, progress=bar.advance, stop=stop.is_set, workers=workers or cores(),
            stories=settings.stories,
        )  # fmt: skip
        outcome = job.through(plan) if through_kafka else replay_in_process(job.open, plan)
    _end(settings.data_dir, record, outcome, plan.folder, as_json)


def _end(data_dir: Path, record: records.Run, outcome: Outcome, folder: Path, as_json: bool) -> None:
    state = records.DONE if outcome.finished else records.STOPPED
    records.save_run(data_dir, records.finished(record, state, outcome.plain()))
    if outcome.finished:
        forget_stage(folder)
    plain = {"run": record.run, "state": state, **outcome.plain()}
    typer.echo(json.dumps(plain) if as_json else _said(record.run, outcome))
    raise typer.Exit(0 if outcome.finished else 130)


@runs_app.command("list")
def list_command(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """All replays, oldest first."""
    found = records.list_runs(load_settings({"data_dir": data_dir}).data_dir)
    if as_json:
        typer.echo(json.dumps([_plain(run) for run in found]))
        return
    for run in found:
        fired = run.found.get("fired", "–")
        typer.echo(
            f"{run.run:<28} {run.state:<8} {run.way:<10} {run.started_at[:19]}  {fired} fired  {run.asked['feed']}"
        )


@runs_app.command("show")
def show_command(run: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """One replay: what was asked, what came out."""
    found = records.load_run(load_settings({"data_dir": data_dir}).data_dir, run)
    if found is None:
        raise DataError(f"there is no run {run}; see `crosswind runs list`")
    plain = _plain(found)
    if as_json:
        typer.echo(json.dumps(plain))
        return
    asked, outcome = plain.pop("asked"), plain.pop("found")
    for name, value in {**plain, **asked, **outcome}.items():
        if value not in (None, [], {}):
            typer.echo(f"{name:<14} {value}")


@runs_app.command("compare")
def compare_command(run: str, other: str, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Two replays: whether their alert logs are equal, and what fired in one only. Exit status 1 when they differ."""
    found = records.compare(load_settings({"data_dir": data_dir}).data_dir, run, other)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        typer.echo("the alert logs are equal" if found["equal"] else "the alert logs differ")
        for name in (run, other):
            typer.echo(f"{name}: {found['fired'][name]} fired, {len(found['only'][name])} of them here only")
            for at, rule, topic, lang, entity in found["only"][name][:20]:
                typer.echo(f"  {at} {rule} {topic}/{lang}/{entity}")
    raise typer.Exit(0 if found["equal"] else 1)


@runs_app.command("delete")
def delete_command(
    run: str, kafka: Kafka = None, database_url: Database = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Remove a replay: its folder, and its rows and topics where it went through Kafka."""
    settings = settings_with(kafka, database_url, data_dir)
    found = records.load_run(settings.data_dir, run)
    rows, topics = 0, list[str]()
    if found is not None and found.way == "kafka":
        from crosswind.stream.adapters.postgres.engine import connect
        from crosswind.stream.bootstrap import database_address, kafka_address
        from crosswind.stream.replay.removal import delete_rows, delete_topics

        engine = connect(database_address(settings))
        rows = delete_rows(engine, run)
        engine.dispose()
        topics = delete_topics(kafka_address(settings), run, settings)
    there = records.delete_run(settings.data_dir, run)
    if not there:
        raise DataError(f"there is no run {run}; see `crosswind runs list`")
    said = {"run": run, "articles": rows, "topics": topics}
    typer.echo(json.dumps(said) if as_json else f"{run} is deleted" + (f", {rows:,} articles" if rows else ""))


def _said(run: str, outcome: Outcome) -> str:
    end = "done" if outcome.finished else "stopped; go on with --resume"
    bad = f", {outcome.bad:,} bad rows" if outcome.bad else ""
    rate = outcome.articles / max(outcome.seconds, 1e-9)
    return (f"{run}: {end}: {outcome.articles:,} articles{bad}, {outcome.fired} alarms, {outcome.seconds:.1f} s "
            f"({rate:,.0f}/s)\n{outcome.log}")  # fmt: skip


def _plain(run: records.Run) -> dict[str, Any]:
    return {"run": run.run, "way": run.way, "state": run.state, "started_at": run.started_at, "asked": dict(run.asked),
            "found": dict(run.found)}  # fmt: skip
