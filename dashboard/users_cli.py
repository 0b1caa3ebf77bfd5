"""`crosswind users`: who may use the dashboard."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from crosswind.errors import DataError, SettingsError
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.accounts import Accounts, Role
from crosswind.stream.adapters.postgres.engine import connect

app = typer.Typer()
users = typer.Typer(help="Add, list and remove accounts of the dashboard; see who did what.", no_args_is_help=True)
app.add_typer(users, name="users")

DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: that of the running `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="data folder of the running `crosswind up` [default: .crosswind]")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
Name = Annotated[str, typer.Argument(help="letters, digits and . _ @ -")]


@users.command()
def add(
    name: Name,
    role: Annotated[
        str, typer.Option(help="viewer looks; analyst answers alerts; admin reads the audit log")
    ] = "viewer",
    password_stdin: Annotated[bool, typer.Option("--password-stdin", help="read it from the input")] = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Add an account, or give it a new password and role. Without --password-stdin a password is made and printed."""
    if role.upper() not in Role.__members__:
        raise DataError(f"{role!r} is no role; choose viewer, analyst or admin")
    password = typer.get_text_stream("stdin").readline().rstrip("\n") if password_stdin else secrets.token_urlsafe(15)
    with _accounts(database_url, data_dir) as accounts:
        accounts.add(name, password, Role[role.upper()])
        accounts.note("command line", "add account", name, "", role=role.lower())
    typer.echo(f"{name} is {role.lower()}" + ("" if password_stdin else f"; password: {password}"))


@users.command("list")
def show(as_json: AsJson = False, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """List the accounts with their roles."""
    with _accounts(database_url, data_dir) as accounts:
        found = [{"name": account.name, "role": account.role.name.lower()} for account in accounts.all()]
    if as_json:
        typer.echo(json.dumps(found, indent=1))
        return
    for account in found:
        typer.echo(f"{account['role']:8} {account['name']}")


@users.command()
def remove(name: Name, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Remove an account; its logins end at once, and its subscriptions are served no longer."""
    with _accounts(database_url, data_dir) as accounts:
        disabled = accounts.remove(name)
        accounts.note("command line", "remove account", name, "", disabled_subscriptions=disabled)
    typer.echo(f"{name} is removed; subscriptions disabled: {disabled}")


@users.command()
def audit(
    limit: Annotated[int, typer.Option(help="entries", min=1, max=10_000)] = 50,
    as_json: AsJson = False,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Show who changed what, and who logged in or was refused; newest first."""
    with _accounts(database_url, data_dir) as accounts:
        found = accounts.noted(limit)
    for entry in found:
        if as_json:
            typer.echo(json.dumps({**entry, "at": entry["at"].isoformat()}, ensure_ascii=False))
        else:
            typer.echo(f"{entry['at']:%Y-%m-%d %H:%M:%S}  {entry['actor']:16} {entry['action']:16} {entry['subject']}")


@contextmanager
def _accounts(database_url: str | None, data_dir: Path | None) -> Iterator[Accounts]:
    from crosswind.cli import with_running

    settings = with_running(load_settings({"database_url": database_url, "data_dir": data_dir}))
    if not settings.database_url:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    engine = connect(settings.database_url.get_secret_value())
    try:
        yield Accounts(engine)
    finally:
        engine.dispose()
