"""`crosswind dlq`: look at the messages that were dead-lettered, and send them back once the cause is mended."""

import base64
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from crosswind.errors import ContractError, DataError, Reason, SettingsError
from crosswind.settings import Settings, load_settings
from crosswind.stream.adapters.kafka.dead_store import Letter, Replayer, read_letters
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import decode_raw, decode_scored
from crosswind.stream.domain.validate import Limits, to_article

app = typer.Typer(rich_markup_mode=None)
dlq = typer.Typer(help="Dead letters: list them, show one, replay them.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(dlq, name="dlq")

KafkaOption = Annotated[str | None, typer.Option(help="host:port[,host:port] of Kafka [that of `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="data folder of `crosswind up` [default: .crosswind]")]
Because = Annotated[list[Reason] | None, typer.Option(help="only these reasons; may be given several times")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON for a script")]
SHOWN = 100


@dlq.command("list")
def list_letters(
    reason: Because = None,
    everything: Annotated[bool, typer.Option("--all", help="those that were replayed, too")] = False,
    limit: Annotated[int, typer.Option(min=0, help="the latest so many; 0: all")] = SHOWN,
    kafka: KafkaOption = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest first: id, when, reason, where from, and what was wrong."""
    settings, bootstrap = _where(kafka, data_dir)
    found = [one for one in _chosen(read_letters(settings, bootstrap), reason) if everything or not one.replayed]
    found.sort(key=lambda letter: letter.written_at)
    shown = found[-limit:] if limit else found
    if as_json:
        typer.echo(json.dumps([_as_dict(letter) for letter in shown], indent=1, ensure_ascii=True))
        return
    for letter in shown:
        typer.echo(_line(letter))
    typer.echo(f"{len(shown)} of {len(found)} dead letters", err=True)


@dlq.command()
def show(
    letter_id: Annotated[str, typer.Argument(help="a letter's id, as `list` prints it")],
    raw: Annotated[bool, typer.Option("--raw", help="print the message's bytes and nothing else")] = False,
    kafka: KafkaOption = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter, with its message. Control characters are escaped, unless --raw."""
    settings, bootstrap = _where(kafka, data_dir)
    letter = _find(read_letters(settings, bootstrap), [letter_id])[0]
    if raw:
        typer.get_binary_stream("stdout").write(letter.value or b"")
        return
    content = {**_as_dict(letter), **_value(letter.value)}
    if as_json:
        typer.echo(json.dumps(content, indent=1, ensure_ascii=True))
        return
    for name, value in content.items():
        typer.echo(f"{name:<12} {json.dumps(value, ensure_ascii=True) if isinstance(value, str) else value}")


@dlq.command()
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="ids, as `list` prints them")] = None,
    reason: Because = None,
    everything: Annotated[bool, typer.Option("--all", help="every letter, whatever its reason")] = False,
    value: Annotated[Path | None, typer.Option(help="a file with the mended message; with one id only")] = None,
    force: Annotated[bool, typer.Option("--force", help="also those that would be dead-lettered again")] = False,
    kafka: KafkaOption = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Send dead letters back to the topic that they came from. What was replayed before is left alone.

    A message that still breaks its contract is not sent; exit status 3 says that there was one. A message that was
    sent twice all the same counts once: the stream knows articles by their id.
    """
    settings, bootstrap = _where(kafka, data_dir)
    if not (letter_ids or reason or everything):
        raise SettingsError("name the letters to replay: ids, --reason or --all")
    if value is not None and len(letter_ids or ()) != 1:
        raise SettingsError("--value mends one message: give exactly one id with it")
    letters = read_letters(settings, bootstrap)
    chosen = _chosen(_find(letters, letter_ids) if letter_ids else letters, reason)
    outcome = _replay(settings, bootstrap, chosen, _read(value), force)
    typer.echo(json.dumps(outcome.as_dict(), indent=1) if as_json else outcome.line())
    raise typer.Exit(DataError.exit_code if outcome.refused else 0)


@dataclass
class Outcome:
    """What became of the letters: ids, and for those that were refused, why."""

    sent: list[str]
    before: list[str]
    refused: dict[str, str]

    def as_dict(self) -> dict[str, Any]:
        """For a script."""
        return {"replayed": self.sent, "replayed_before": self.before, "refused": self.refused}

    def line(self) -> str:
        """For a person."""
        lines = [f"{letter_id} is not sent: {why}" for letter_id, why in self.refused.items()]
        counts = f"{len(self.sent)} replayed, {len(self.before)} were replayed before, {len(self.refused)} refused"
        return "\n".join([*lines, counts])


def _replay(
    settings: Settings, bootstrap: str, letters: Sequence[Letter], mended: bytes | None, force: bool
) -> Outcome:
    outcome = Outcome([], [letter.letter_id for letter in letters if letter.replayed], {})
    with Replayer(settings, bootstrap) as replayer:
        for letter in tqdm([letter for letter in letters if not letter.replayed], desc="replay", disable=None):
            content = mended if mended is not None else letter.value
            wrong = None if force else still_wrong(settings, letter, content)
            if wrong:
                outcome.refused[letter.letter_id] = wrong
                continue
            replayer.replay(letter, content)
            outcome.sent.append(letter.letter_id)
    return outcome


def still_wrong(settings: Settings, letter: Letter, value: bytes | None) -> str | None:
    """Why the message would be dead-lettered again, None when it would not."""
    limits = Limits(settings.max_bytes, timedelta(seconds=settings.future_seconds))
    try:
        if letter.topic == settings.scored_topic:
            decode_scored(value)
        else:
            raw = decode_raw(value, limits.max_bytes)
            to_article(raw, origin=Origin("", 0, 0), seen_at=datetime.now(UTC), limits=limits, detect=lambda _: "und")
    except ContractError as error:
        return f"{error.reason.value}: {error}"
    return None


def _where(kafka: str | None, data_dir: Path | None) -> tuple[Settings, str]:
    from crosswind.cli import with_running
    from crosswind.stream.bootstrap import kafka_address

    settings = with_running(load_settings({"kafka": kafka, "data_dir": data_dir}))
    return settings, kafka_address(settings)


def _chosen(letters: Sequence[Letter], reasons: Sequence[Reason] | None) -> list[Letter]:
    wanted = {reason.value for reason in reasons or ()}
    return [letter for letter in letters if not wanted or letter.reason in wanted]


def _find(letters: Sequence[Letter], wanted: Sequence[str]) -> list[Letter]:
    by_id = {letter.letter_id: letter for letter in letters}
    missing = [letter_id for letter_id in wanted if letter_id not in by_id]
    if missing:
        raise DataError(f"no dead letter {', '.join(missing)}; `crosswind dlq list --all` shows their ids")
    return [by_id[letter_id] for letter_id in dict.fromkeys(wanted)]


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from None


def _as_dict(letter: Letter) -> dict[str, Any]:
    return {
        "id": letter.letter_id,
        "reason": letter.reason,
        "error": letter.explanation,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "at": letter.written_at.isoformat(timespec="seconds"),
        "bytes": len(letter.value or b""),
        "replayed": letter.replayed,
    }


def _value(value: bytes | None) -> dict[str, str | None]:
    """The message as text where it is text, else as base64."""
    if value is None:
        return {"value": None}
    try:
        return {"value": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _line(letter: Letter) -> str:
    source = f"{letter.topic}-{letter.partition}:{letter.offset}" if letter.topic else "a feed"
    done = "  replayed" if letter.replayed else ""
    said = "".join(_escaped(letter.explanation[:120]))
    return f"{letter.letter_id:<10} {letter.written_at:%Y-%m-%d %H:%M:%S} {letter.reason:<15} {source:<24} {said}{done}"


def _escaped(text: str) -> Iterator[str]:
    """A message of ours may quote what a stranger wrote: nothing of it reaches the terminal as a control."""
    return (c if c.isprintable() else repr(c)[1:-1] for c in text)
