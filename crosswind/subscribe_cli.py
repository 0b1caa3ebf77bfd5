"""`crosswind subscribe`, `crosswind subscriptions` and `crosswind notify`: who is told of alerts, and the telling."""

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crosswind.errors import DataError
from crosswind.settings import Settings, load_settings

if TYPE_CHECKING:
    from crosswind.stream.notify.domain.subscription import Draft

app = typer.Typer()
subscriptions = typer.Typer(help="List, pause, test and delete subscriptions; tokens of the API.", no_args_is_help=True)
app.add_typer(subscriptions, name="subscriptions")

AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: that of the running `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="data folder of the running `crosswind up` [default: .crosswind]")]
Id = Annotated[str, typer.Argument(help="the subscription's id")]
_SENT, _NOT_SENT = 0, 1


@app.command()
def subscribe(
    channel: Annotated[str, typer.Option(help="webhook, apprise, kafka or stream")],
    target: Annotated[str, typer.Option(help="https://…, an Apprise address, a topic; - reads it from input")] = "",
    topic: Annotated[list[str] | None, typer.Option(help="repeat for more; none: all")] = None,
    lang: Annotated[list[str] | None, typer.Option(help="language of the articles; repeat for more; none: all")] = None,
    entity: Annotated[list[str] | None, typer.Option(help="watched entity; repeat for more; none: all")] = None,
    severity: Annotated[str, typer.Option(help="at least warning, or critical")] = "warning",
    language: Annotated[str, typer.Option(help="of the messages: en zh de es fr ja it pt")] = "en",
    quiet: Annotated[str | None, typer.Option(help="e.g. 'Europe/Berlin 22:00-07:00'; critical still comes")] = None,
    cap: Annotated[int | None, typer.Option(help="messages per hour at most; more wait")] = None,
    digest: Annotated[int | None, typer.Option(help="one message for each so many minutes")] = None,
    template: Annotated[Path | None, typer.Option(help="a Jinja2 text of your own")] = None,
    name: Annotated[str, typer.Option(help="for your own memory")] = "",
    address: Annotated[str, typer.Option(help="of a dashboard to ask, in the database's place")] = "",
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Be told of alerts. The signing key of a webhook is printed this once.

    An Apprise address or a webhook's address may hold a secret: give it as `--target -` and type or pipe it in, so
    that it is not seen in the list of processes. With --address the dashboard there makes the subscription; where
    people must log in to it, put a token of `crosswind subscriptions tokens` into CROSSWIND_API_TOKEN.
    """
    from crosswind.stream.notify.domain.subscription import Channel, Draft, Filter

    if channel not in [kind.value for kind in Channel]:
        raise DataError(f"channel {channel!r}: expected webhook, apprise, kafka or stream")
    where = sys.stdin.readline().strip() if target == "-" else target
    wanted = Filter(_topics(topic or ()), _langs(lang or ()), tuple(entity or ()), severity)
    draft = Draft(Channel(channel), where, name, wanted, language, _quiet(quiet), cap, digest, _template(template))
    if address:
        made = _ask(address, draft)
    else:
        with _desk(database_url, data_dir) as desk:
            made = asdict(desk.add("cli", draft))
    if as_json:
        typer.echo(json.dumps(made))
        return
    typer.echo(made["subscription_id"])
    if made["secret"]:
        typer.echo(f"signing key, shown this once: {made['secret']}")


@subscriptions.command(name="list")
def show_all(database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List all subscriptions, without their secrets."""
    from crosswind.stream.notify.desk import shown

    with _desk(database_url, data_dir) as desk:
        found = [shown(each) for each in desk.store.list()]
    if as_json:
        typer.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for each in found:
        about = " ".join([*each["topics"], *each["languages"], *each["entities"]]) or "everything"
        state = f"{each['state']} {each['reason']}".strip()
        typer.echo(f"{each['id']}  {state:12}  {each['channel']:8}  {each['target']}  {about}  {each['name']}".rstrip())


@subscriptions.command()
def pause(subscription: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Send nothing for now. What waits already is kept until it is resumed."""
    _stand(subscription, "paused", database_url, data_dir)


@subscriptions.command()
def resume(subscription: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Send again, also after a receiver was gone."""
    _stand(subscription, "active", database_url, data_dir)


@subscriptions.command(name="test")
def send_test(
    subscription: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None, as_json: AsJson = False
) -> None:
    """Send a test message now. Exit status 1 when it was not taken."""
    with _desk(database_url, data_dir) as desk:
        tried = asyncio.run(desk.test(subscription))
    typer.echo(json.dumps(asdict(tried), default=str) if as_json else _line(tried))
    raise typer.Exit(_SENT if tried.outcome == "sent" else _NOT_SENT)


@subscriptions.command()
def log(
    subscription: Id,
    limit: Annotated[int, typer.Option(help="attempts shown at most", min=1, max=10_000)] = 50,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show the attempts to send, newest first."""
    with _desk(database_url, data_dir) as desk:
        found = desk.store.log(subscription, limit)
    for tried in found:
        typer.echo(json.dumps(asdict(tried), default=str) if as_json else _line(tried))


@subscriptions.command()
def delete(subscription: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Delete a subscription, its log and what waits for it."""
    with _desk(database_url, data_dir) as desk:
        desk.store.delete(subscription)


@subscriptions.command()
def rotate(subscription: Id, database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Make a new signing key and print it this once; the one before it signs along for a day."""
    with _desk(database_url, data_dir) as desk:
        typer.echo(desk.rotate(subscription) or "this channel has no signing key")


@subscriptions.command()
def tokens(
    create: Annotated[str | None, typer.Option(help="make one with this name and print it, this once")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="subscriptions:read or :write, alerts:read; repeat; none: all")
    ] = None,
    per_minute: Annotated[int, typer.Option(help="calls per minute at most", min=1)] = 120,
    at_most: Annotated[int, typer.Option(help="subscriptions at most", min=1)] = 100,
    revoke: Annotated[str | None, typer.Option(help="id of a token that must not work any more")] = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """List the API's tokens, make one, or revoke one."""
    from crosswind.stream.adapters.postgres.tokens import SCOPES, Tokens

    with _engine(_settings(database_url, data_dir)) as engine:
        known = Tokens(engine)
        if create:
            typer.echo(known.create(create, scope or SCOPES, per_minute, at_most))
        elif revoke:
            known.revoke(revoke)
        else:
            for each in known.list():
                state = "revoked" if each.revoked_at else "good"
                typer.echo(f"{each.token_id}  {state:7}  {' '.join(each.scopes)}  {each.per_minute}/min  {each.name}")


@app.command()
def notify(database_url: DatabaseUrl = None, data_dir: DataDir = None) -> None:
    """Send messages to subscribers until Ctrl-C. `crosswind up` runs one; more of them share the work safely."""
    from crosswind.stream.notify.bootstrap import run_notify

    raise typer.Exit(run_notify(_settings(database_url, data_dir)))


def _ask(address: str, draft: "Draft") -> dict[str, Any]:
    """Makes a subscription through the dashboard at that address."""
    from pydantic import ValidationError

    from crosswind.dashboard.client import Client
    from crosswind.dashboard.subscription_models import SubscriptionIn
    from crosswind.stream.adapters.postgres.subscriptions import quiet_to

    about, token = draft.filter, load_settings().api_token
    try:
        wanted = SubscriptionIn.model_validate({
            "channel": draft.channel.value, "target": draft.target, "name": draft.name, "topics": about.topics,
            "languages": about.langs, "entities": about.entities, "severity": about.min_severity,
            "language": draft.language, "quiet": quiet_to(draft.quiet), "cap_per_hour": draft.cap_per_hour,
            "digest_minutes": draft.digest_minutes, "template": draft.template,
        })  # fmt: skip
    except ValidationError as error:
        said = "; ".join(f"{item['loc'][0]}: {item['msg']}" for item in error.errors(include_url=False))
        raise DataError(f"the dashboard would refuse this: {said}") from None
    with Client(address, token.get_secret_value() if token else "") as client:
        made = client.subscribe(wanted)
    return {"subscription_id": made.id, "secret": made.secret, "unsubscribe": made.unsubscribe}


def _settings(database_url: str | None, data_dir: Path | None) -> Settings:
    from crosswind.cli import with_running

    return with_running(load_settings({"database_url": database_url, "data_dir": data_dir}))


@contextmanager
def _engine(settings: Settings) -> Iterator[Any]:
    from crosswind.stream.adapters.postgres.engine import connect
    from crosswind.stream.bootstrap import database_address

    engine = connect(database_address(settings), pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _desk(database_url: str | None, data_dir: Path | None) -> Iterator[Any]:
    from crosswind.stream.notify.desk import Desk

    settings = _settings(database_url, data_dir)
    with _engine(settings) as engine:
        yield Desk(settings, engine)


def _stand(subscription: str, state: str, database_url: str | None, data_dir: Path | None) -> None:
    from crosswind.stream.notify.domain.subscription import Standing

    with _desk(database_url, data_dir) as desk:
        desk.store.stand(subscription, Standing(state))


def _topics(words: Sequence[str]) -> tuple[str, ...]:
    """As the shipped model writes them, in any case; a bundle of your own may have others, which is said."""
    from crosswind.models.taxonomy import TOPICS

    found = tuple(word.casefold() if word.casefold() in TOPICS else word for word in words)
    for word in found:
        if word not in TOPICS:
            typer.echo(f"topic {word!r}: the shipped model has no such topic, only a bundle of your own may; it has "
                       f"{', '.join(TOPICS)}", err=True)  # fmt: skip
    return found


def _langs(words: Sequence[str]) -> tuple[str, ...]:
    """As articles have them: `DE` and `de-AT` are `de`. A feed may name any language, also one that is not detected."""
    from babel import Locale

    from crosswind.stream.adapters.language import COVERED
    from crosswind.stream.domain.normalise import language_code

    codes = [language_code(word) or "" for word in words]
    for word, code in zip(words, codes, strict=True):
        if code not in Locale("en").languages:
            raise DataError(f"language {word!r} is no ISO 639 code; detected are {', '.join(COVERED)}")
    return tuple(codes)


def _template(path: Path | None) -> str | None:
    try:
        return path.read_text("utf-8") if path else None
    except UnicodeDecodeError:
        raise DataError(f"the template {path} is no UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"cannot read the template {path}: {error.strerror or error}") from None


def _quiet(words: str | None) -> Any:
    from crosswind.stream.notify.domain.timing import quiet_hours

    if words is None:
        return None
    zone, _, hours = words.partition(" ")
    start, _, end = hours.strip().partition("-")
    return quiet_hours(zone, start, end)


def _line(tried: Any) -> str:
    status = tried.status or "-"
    return f"{tried.at:%Y-%m-%d %H:%M:%S}  {tried.outcome:7} {status}  attempt {tried.attempt}  {tried.detail}".rstrip()
