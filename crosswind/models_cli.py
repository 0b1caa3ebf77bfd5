"""`crosswind models …` and `crosswind rescore`: bundles, what is live, and history under another bundle. No torch."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy import Engine

from crosswind.errors import ModelError, SettingsError
from crosswind.export.bundle import SHIPPED, Manifest, read_manifest, verify
from crosswind.settings import Settings, load_settings

if TYPE_CHECKING:
    from crosswind.export.registry import Registry
    from crosswind.stream.adapters.onnx_scorer import OnnxScorer
    from crosswind.stream.adapters.postgres.deployments import PostgresDeployments

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
models_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Keep bundles, put one live, take it back, compare, look back."
)
app.add_typer(models_app, name="models")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
Where = Annotated[str | None, typer.Option(help="a folder or fsspec address of bundles [default: DATA_DIR/models]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: that of the running `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="where database and bundles live [default: .crosswind]")]
Run = Annotated[str | None, typer.Option(help="the run [default: live]")]
Which = Annotated[str, typer.Argument(help="a name, a version or its beginning, a bundle's folder, or 'default'")]
Wait = Annotated[float, typer.Option(help="seconds to wait at most for the word of all workers; 0: do not wait")]


@models_app.command("list")
def list_models(registry: Where = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
                as_json: AsJson = False) -> None:  # fmt: skip
    """List the bundles that can be deployed, and mark what is live or in shadow where a database is known."""
    settings = _settings(locals())
    marks = _marks(settings)
    rows = [_row(manifest, marks) for manifest in [verify(SHIPPED), *_registry(settings).bundles()]]
    rows[0]["name"] += " (shipped)"
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False))
        return
    for row in rows:
        typer.echo(f"{row['version']}  {row['name']:28} {row['precision']:5} {row['languages']:3} languages  "
                   f"{', '.join(row['is'])}".rstrip())  # fmt: skip


@models_app.command("add")
def add(folder: Annotated[str, typer.Argument(help="a bundle's folder")], registry: Where = None,
        data_dir: DataDir = None, as_json: AsJson = False) -> None:  # fmt: skip
    """Check a bundle, smoke sentences included, and copy it to where bundles are kept, under its version."""
    settings = _settings(locals())
    scorer = _checked(Path(folder), settings)
    manifest = scorer.manifest
    _registry(settings).add(Path(folder), settings.trusted_key)
    address = _registry(settings).address(manifest.version)
    remark = f"; {scorer.remark}" if scorer.remark else ""
    _say({"version": manifest.version, "name": manifest.name, "address": address, "remark": scorer.remark}, as_json,
         f"{manifest.name} {manifest.version} is at {address}{remark}")  # fmt: skip


@models_app.command("deploy")
def deploy(which: Which, registry: Where = None, database_url: DatabaseUrl = None, data_dir: DataDir = None,
           run: Run = None, wait: Wait = 10.0, as_json: AsJson = False) -> None:  # fmt: skip
    """Put a bundle live: running workers change to it between two batches, later ones start with it.

    Exit status 4 when a worker refused it; then the former bundle is still live.
    """
    settings = _settings(locals())
    version, address = _bundle(which, settings)
    with _database(settings) as engine:
        _wish(engine, settings, version, address, "deploy", wait, as_json)


@models_app.command("rollback")
def rollback(to: Annotated[str | None, typer.Option(help="a version [default: what was live before]")] = None,
             registry: Where = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
             wait: Wait = 10.0, as_json: AsJson = False) -> None:  # fmt: skip
    """Put the former bundle live again. After a deployment that was refused: stay with what is live."""
    settings = _settings(locals())
    with _database(settings) as engine:
        former = _bundle(to, settings) if to else _book(engine).before(settings.run)
        if former is None:
            raise ModelError("no other bundle was live before; put one live with `crosswind models deploy`")
        version, address = former
        _wish(engine, settings, version, address, "rollback", wait, as_json)


@models_app.command("history")
def history(database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
            limit: Annotated[int, typer.Option(help="lines at most")] = 50, as_json: AsJson = False,
            ) -> None:  # fmt: skip
    """Show deployments and what became of them in each worker, newest first."""
    settings = _settings(locals())
    with _database(settings) as engine:
        rows = _book(engine).history(settings.run, limit)
    if as_json:
        typer.echo(json.dumps(rows, ensure_ascii=False, default=str))
        return
    for row in rows:
        typer.echo(f"{row['at']:%Y-%m-%d %H:%M:%S}  {row['slot']:6} {row['what']:8} {row['version']:16} "
                   f"{row['worker']} {row['message']}".rstrip())  # fmt: skip


@models_app.command("at")
def at(moment: Annotated[str, typer.Argument(help="e.g. 2026-11-20T10:00Z; without a zone: UTC")],
       database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
       as_json: AsJson = False) -> None:  # fmt: skip
    """Say which bundle was live at a moment. Exit status 1 when none was."""
    settings = _settings(locals())
    when = _moment(moment)
    with _database(settings) as engine:
        live = _book(engine).live_at(settings.run, when)
    if live is None:
        _say({"version": None}, as_json, f"no worker of run {settings.run} had started before {when.isoformat()}")
        raise typer.Exit(1)
    _say({"version": live.version, "address": live.address, "since": live.at.isoformat(), "worker": live.worker},
         as_json, f"{live.version} from {live.address}, since {live.at.isoformat()} ({live.worker})")  # fmt: skip


@models_app.command("shadow")
def shadow(which: Annotated[str | None, typer.Argument(help="start with this bundle [default: report]")] = None,
           share: Annotated[float, typer.Option(min=0, max=1, help="share of the articles")] = 1.0,
           stop: Annotated[bool, typer.Option("--stop", help="end the comparison")] = False,
           examples: Annotated[int, typer.Option(help="articles to show that are judged otherwise")] = 5,
           registry: Where = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
           wait: Wait = 10.0, as_json: AsJson = False) -> None:  # fmt: skip
    """Score what arrives with a candidate too, without publishing it, and report where the two disagree."""
    from crosswind.stream.service.deployment import PPM, Slot

    settings = _settings(locals())
    with _database(settings) as engine:
        if which or stop:
            version, address = _bundle(which, settings) if which and not stop else ("", "")
            _wish(engine, settings, version, address, "shadow", wait, as_json, Slot.SHADOW, round(share * PPM))
            return
        wanted = _book(engine).wanted(settings.run, Slot.SHADOW)
        if wanted is None or not wanted.version:
            raise ModelError("no bundle is in shadow; start with `crosswind models shadow BUNDLE`")
        _show_comparison(engine, settings.run, wanted.version, wanted.at, examples, as_json)


@app.command("rescore")
def rescore(since: Annotated[str, typer.Option(help="event time of the first article, e.g. 2026-11-01")],
            bundle: Annotated[str, typer.Option(help="name, version, folder or 'default'")],
            until: Annotated[str | None, typer.Option(help="event time before which it ends")] = None,
            registry: Where = None, database_url: DatabaseUrl = None, data_dir: DataDir = None, run: Run = None,
            threads: Annotated[int | None, typer.Option(help="articles scored at once; 0: one per core")] = None,
            as_json: AsJson = False) -> None:  # fmt: skip
    """Score stored articles again, with another bundle. What was published stays; the new scores lie beside it.

    Ctrl-C loses at most one chunk; the same command goes on where it was.
    """
    from tqdm import tqdm

    from crosswind.export.registry import fetch
    from crosswind.stream.adapters.postgres.score_versions import Selection, count_unscored
    from crosswind.stream.adapters.rescoring import rescore as score_again
    from crosswind.stream.adapters.swap import load_checked

    settings = _settings(locals())
    version, address = _bundle(bundle, settings)
    folder = fetch(address, version, settings.data_dir / "bundles", settings.trusted_key)
    scorer = load_checked(folder, None, settings.device, settings.threads, settings.trusted_key)
    with _database(settings) as engine:
        selection = Selection(settings.run, version, _moment(since), _moment(until) if until else None)
        total = count_unscored(engine, selection)
        gone: list[int] = []
        with tqdm(total=total, unit=" articles", file=sys.stderr, disable=None) as bar:
            done = score_again(engine, selection, scorer, bar.update, gone.append)
        scorer.close()
        if not as_json:
            left = f"; {sum(gone)} were dropped meanwhile, as old" if gone else ""
            typer.echo(f"{done} articles scored with {version}{left}")
        _show_comparison(engine, settings.run, version, None, 0, as_json)


def _wish(engine: Engine, settings: Settings, version: str, address: str, reason: str, wait: float, as_json: bool,
          slot: Any = None, share_ppm: int = 1_000_000) -> None:  # fmt: skip
    """Writes a deployment and waits for the workers' word on it."""
    from crosswind.answers import answers
    from crosswind.stream.service.deployment import Slot

    book = _book(engine)
    wished = book.wish(settings.run, slot or Slot.LIVE, version, address, reason=reason, share_ppm=share_ppm)
    found = answers(book, settings.run, wished, wait)
    said = found.said()
    _say({"seq": wished.seq, "slot": wished.slot.value, "version": version, "seconds": found.seconds,
          "taken_up": bool(found.heard), "workers": len(found.heard), "silent": found.silent, "remark": found.remark},
         as_json, f"{reason} {version or 'ended'}: {said}")  # fmt: skip


def _show_comparison(engine: Engine, run: str, version: str, since: Any, examples: int, as_json: bool) -> None:
    from crosswind.stream.adapters.postgres import score_versions

    rows = score_versions.compared(engine, run, version, since)
    found = score_versions.examples(engine, run, version, since, examples) if examples else []
    if as_json:
        typer.echo(json.dumps({"version": version, "compared": rows, "examples": found}, ensure_ascii=False))
        return
    typer.echo(f"{version} against what was published")
    for row in rows:
        if row["lang"] == "*" or row["topic"] == "*":
            n = row["articles"]
            typer.echo(f"{row['lang']:4} {row['topic']:14} {n:7} articles  sentiment differs "
                       f"{row['sentiment_differs'] / n:6.1%}  topic {row['topic_differs'] / n:6.1%}  "
                       f"negative +{row['newly_negative']} -{row['no_longer_negative']}")  # fmt: skip
    for row in found:
        typer.echo(f"{row['lang']}: {row['topic']} {row['sentiment']} -> {row['candidate_topic']} "
                   f"{row['candidate_sentiment']}: {row['title']}")  # fmt: skip
    if not rows:
        typer.echo("nothing was compared yet")


def _settings(given: dict[str, Any]) -> Settings:
    from crosswind.cli import with_running

    names = ("registry", "database_url", "data_dir", "run", "threads")
    return with_running(load_settings({name: given[name] for name in names if name in given}))


def _registry(settings: Settings) -> "Registry":
    from crosswind.export.registry import registry_of

    return registry_of(settings)


def _book(engine: Engine) -> "PostgresDeployments":
    from crosswind.stream.adapters.postgres.deployments import PostgresDeployments

    return PostgresDeployments(engine)


@contextmanager
def _database(settings: Settings) -> Iterator[Engine]:
    from crosswind.stream.adapters.postgres.engine import connect

    if settings.database_url is None:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    engine = connect(settings.database_url.get_secret_value(), pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()


def _checked(folder: Path, settings: Settings) -> "OnnxScorer":
    """A bundle that may be deployed: verified, loaded and asked its smoke sentences, here; closed again."""
    from crosswind.stream.adapters.swap import load_checked

    scorer = load_checked(folder, None, settings.device, settings.threads, settings.trusted_key)
    scorer.close()
    return scorer


def _bundle(which: str, settings: Settings) -> tuple[str, str]:
    """Version and address of a bundle; a folder is added to the registry first."""
    from crosswind.export.registry import DEFAULT

    if which in (DEFAULT, read_manifest(SHIPPED).version):
        return _checked(SHIPPED, settings).version, DEFAULT
    registry = _registry(settings)
    if (Path(which) / "manifest.json").is_file():
        _checked(Path(which), settings)
        version = registry.add(Path(which), settings.trusted_key).version
    else:
        version = registry.find(which).version
    return version, registry.address(version)


def _row(manifest: Manifest, marks: dict[str, str]) -> dict[str, Any]:
    return {"version": manifest.version, "name": manifest.name, "precision": manifest.precision,
            "languages": len(manifest.languages), "base": manifest.base, "signed": manifest.signature is not None,
            "is": [slot for slot, version in marks.items() if version == manifest.version]}  # fmt: skip


def _marks(settings: Settings) -> dict[str, str]:
    """What is live and in shadow; empty where no database is known."""
    from crosswind.stream.service.deployment import Slot

    if settings.database_url is None:
        return {}
    with _database(settings) as engine:
        live, wanted = _book(engine).live_at(settings.run), _book(engine).wanted(settings.run, Slot.SHADOW)
    return {"live": live.version if live else "", "shadow": wanted.version if wanted else ""}


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise SettingsError(f"{text!r} is no time; expected e.g. 2026-11-20T10:00Z or 2026-11-20") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _say(content: dict[str, Any], as_json: bool, line: str) -> None:
    typer.echo(json.dumps(content, ensure_ascii=False) if as_json else line)
