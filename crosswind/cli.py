"""The command line: one door to every room. Rooms are imported when their command runs, so that `--help` is quick."""

import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from crosswind import __version__
from crosswind.errors import CrosswindError
from crosswind.settings import Settings, load_settings

app = typer.Typer(
    help="Watches financial news in many languages as it streams in, and warns when bad news surges.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ROOMS = {
    "feed": "crosswind.stream.feed.cli",
    "dlq": "crosswind.dlq",
    "data": "crosswind.models.cli",
    "train": "crosswind.models.cli",
    "evaluate": "crosswind.models.cli",
    "restore": "crosswind.models.cli",
    "average": "crosswind.models.cli",
    "export": "crosswind.export.cli",
    "bundle": "crosswind.export.cli",
    "translate": "crosswind.translate_cli",
    "rules": "crosswind.stream.alert_cli",
    "alerts": "crosswind.stream.alert_cli",
    "models": "crosswind.models_cli",
    "rescore": "crosswind.models_cli",
    "subscribe": "crosswind.subscribe_cli",
    "subscriptions": "crosswind.subscribe_cli",
    "notify": "crosswind.subscribe_cli",
    "replay": "crosswind.stream.replay.cli",
    "runs": "crosswind.stream.replay.cli",
    "backtest": "crosswind.stream.replay.backtest_cli",
    "users": "crosswind.dashboard.users_cli",
    "retention": "crosswind.stream.retention_cli",
}
"""Commands that live in a room: command -> module that has a typer app with it."""

Kafka = Annotated[str | None, typer.Option(help="host:port[,host:port] of Kafka [default: the embedded broker]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: the embedded Postgres]")]
Model = Annotated[str | None, typer.Option(help="a bundle's folder [default: the shipped bundle]")]
Device = Annotated[
    str | None, typer.Option(help="cpu, openvino, cuda, tensorrt, or several by commas; refuses to start where none is")
]
Port = Annotated[int | None, typer.Option(help="the dashboard's port; 0 for any free one [default: 8050]")]
DataDir = Annotated[Path | None, typer.Option(help="where database and logs live [default: .crosswind]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]


@app.command()
def up(
    kafka: Kafka = None,
    database_url: DatabaseUrl = None,
    model: Model = None,
    feed: Annotated[str | None, typer.Option(help="a JSONL, CSV or Parquet file [default: the sample feed]")] = None,
    speed: Annotated[float | None, typer.Option(help="event seconds played per second [default: 3600]")] = None,
    port: Port = None,
    device: Device = None,
    data_dir: DataDir = None,
    no_feed: Annotated[bool, typer.Option("--no-feed", help="start everything, play nothing")] = False,
) -> None:
    """Start broker, database, worker and dashboard, play a feed, print alerts. Ctrl-C stops all of it.

    Every option can be set by an environment variable instead, e.g. CROSSWIND_KAFKA or CROSSWIND_DATABASE_URL.
    """
    from crosswind.up import run_up

    settings = load_settings(_given(locals(), without=("no_feed",)))
    raise typer.Exit(run_up(settings, play_feed=not no_feed))


@app.command()
def worker(
    kafka: Kafka = None,
    database_url: DatabaseUrl = None,
    model: Model = None,
    device: Device = None,
    data_dir: DataDir = None,
    worker_port: Annotated[int | None, typer.Option(help="port of health and metrics, on loopback; 0: any")] = None,
) -> None:
    """Run one worker: score news.raw, store trends, raise alerts. Run more of them to share the partitions."""
    from crosswind.stream.worker import run_worker

    raise typer.Exit(run_worker(load_settings(_given(locals()))))


@app.command()
def dashboard(
    database_url: DatabaseUrl = None,
    port: Port = None,
    host: Annotated[
        str | None, typer.Option(help="address to listen on; loopback unless log-in is on [default: 127.0.0.1]")
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Serve the dashboard and its API."""
    from crosswind.dashboard.serve import serve

    serve(with_running(load_settings(_given(locals()))))


@app.command()
def migrate(database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Bring the database's schema up to date. Workers do this by themselves when they start."""
    from crosswind.stream.adapters.postgres.engine import connect
    from crosswind.stream.adapters.postgres.engine import migrate as bring_up_to_date
    from crosswind.stream.bootstrap import database_address

    engine = connect(database_address(with_running(load_settings(_given(locals())))))
    bring_up_to_date(engine)
    engine.dispose()


@app.command()
def score(
    file: Annotated[Path, typer.Argument(help="JSON Lines with `text`, or `title` and `body`; - for standard input")],
    model: Model = None,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="texts scored at the same time; 0: one per core")] = None,
) -> None:
    """Judge texts: one JSON line per input line, in input order.

    Each line has id, lang, topic, sentiment, probabilities and model. A line that cannot be read gives a line with
    `error` in its place, and exit status 3 at the end.
    """
    from crosswind.score import score_file

    raise typer.Exit(score_file(file, load_settings(_given(locals(), without=("file",))), sys.stdout))


@app.command()
def status(
    kafka: Kafka = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Say at a glance how broker, database, lag, model and provider are. Exit status 1 when a part is not well."""
    from crosswind.status import collect, render

    found = collect(with_running(load_settings(_given(locals(), without=("as_json",)))))
    typer.echo(json.dumps(found, indent=1) if as_json else render(found))
    raise typer.Exit(0 if found["ok"] else 1)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="print the version and leave")] = False,
) -> None:
    """Watches financial news in many languages as it streams in, and warns when bad news surges."""
    if show:
        typer.echo(__version__)
        raise typer.Exit


def with_running(settings: Settings) -> Settings:
    """The settings, completed by the addresses of the `crosswind up` that runs in the data folder, if one does."""
    from crosswind.running import read_running

    running = read_running(settings.data_dir)
    missing = {name: running.get(name) for name in ("kafka", "database_url") if getattr(settings, name) is None}
    if "database_url" in missing:  # the pages' role is of the same database
        missing["read_database_url"] = running.get("read_database_url")
    for name in ("worker_port", "model"):
        if name in running and name not in settings.model_fields_set:
            missing[name] = running[name]
    return load_settings({**settings.model_dump(exclude_unset=True, round_trip=True), **missing})


def main() -> None:
    """Runs the command line. Errors of ours are one line on stderr and their exit status, never a traceback."""
    _mount(sys.argv[1] if len(sys.argv) > 1 else "")
    try:
        app()
    except CrosswindError as error:
        typer.echo(f"crosswind: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our output left, e.g. `| head`
        sys.stderr.close()
        sys.exit(141)


def _mount(command: str) -> None:
    """Adds the rooms' commands: only the one that is called, or all of them for the help page."""
    modules = {ROOMS[command]} if command in ROOMS else set() if command in _OWN else set(ROOMS.values())
    for module in sorted(modules):
        try:
            room = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name and error.name.startswith("crosswind"):
                raise
            _mount_missing(module, error.name or "a package")
            continue
        app.add_typer(room.app)


def _mount_missing(module: str, package: str) -> None:
    """A room whose packages are not installed answers each of its commands with what to install."""
    for name in [name for name, home in ROOMS.items() if home == module]:

        def missing(package: str = package) -> None:
            typer.echo(f"crosswind: this command needs {package}: pip install 'crosswind[train]'", err=True)
            raise typer.Exit(4)

        app.command(name, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})(missing)


_OWN = {"up", "worker", "dashboard", "migrate", "score", "status", "--version"}


def _given(options: dict[str, Any], without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {name: value for name, value in options.items() if name not in without}
