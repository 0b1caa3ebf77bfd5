"""`crosswind retention`: drop what is older than the policy keeps, now, or say what that would be."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from crosswind.errors import SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.adapters.postgres.retention import preview, sweep
from crosswind.stream.adapters.retention_loop import policy_of

app = typer.Typer(rich_markup_mode=None)


@app.command()
def retention(
    keep_articles_days: Annotated[int | None, typer.Option(help="days of articles that are kept, 8 at least")] = None,
    keep_minutes_days: Annotated[int | None, typer.Option(help="days of minute counts; hours stay for good")] = None,
    run: Annotated[str | None, typer.Option(help="the run [default: live]")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be dropped, and drop nothing")] = False,
    database_url: Annotated[str | None, typer.Option(help="postgresql://… [that of `crosswind up`]")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="data folder of `crosswind up` [default: .crosswind]")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON for a script")] = False,
) -> None:
    """Drop old articles and minute counts, in small batches, while workers go on. Counts per hour and alerts stay.

    Days count back from where alerts are evaluated to, in the articles' own time. A worker does the same every hour
    where CROSSWIND_KEEP_ARTICLES_DAYS or CROSSWIND_KEEP_MINUTES_DAYS is set. What was dropped is not taken in again.

    Example: crosswind retention --keep-articles-days 365 --keep-minutes-days 60 --dry-run
    """
    from crosswind.cli import with_running
    from crosswind.stream.bootstrap import database_address

    given = {"keep_articles_days": keep_articles_days, "keep_minutes_days": keep_minutes_days, "run": run,
             "database_url": database_url, "data_dir": data_dir}  # fmt: skip
    settings = with_running(load_settings(given))
    policy = policy_of(settings)
    if not policy:
        raise SettingsError("everything is kept: say --keep-articles-days, --keep-minutes-days or both")
    engine = connect(database_address(settings))
    try:
        swept = preview(engine, settings.run, policy) if dry_run else sweep(engine, settings.run, policy)
    finally:
        engine.dispose()
    if swept is None:
        raise SettingsError(f"another process drops what is old in run {settings.run}; try again later")
    counts = asdict(swept)
    words = ", ".join(f"{rows:,} {what}" for what, rows in counts.items())
    typer.echo(json.dumps(counts) if as_json else f"{'would drop' if dry_run else 'dropped'} {words}")
