"""`crosswind translate add|pairs|text|articles`. Torch is imported only when a translator is added."""

import json
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crosswind.errors import CrosswindError, DataError, ModelError, SettingsError
from crosswind.lines import json_of, lines_of
from crosswind.settings import Settings, load_settings
from crosswind.stream.domain.normalise import language_code

if TYPE_CHECKING:
    from crosswind.stream.adapters.translation import OnnxTranslator

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None)
translate = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Read foreign headlines: add translators, translate texts."
)
app.add_typer(translate, name="translate")

Where = Annotated[Path | None, typer.Option(help="folder of translators [default: CROSSWIND_TRANSLATORS]")]
DatabaseUrl = Annotated[str | None, typer.Option(help="postgresql://… [default: that of the running `crosswind up`]")]
DataDir = Annotated[Path | None, typer.Option(help="where the database lives [default: .crosswind]")]
CHUNK = 64
TAG = "; expected a tag such as 'de' or 'pt-BR'"


@translate.command("add")
def add(
    pair: Annotated[str, typer.Argument(help="source and target language, as in de-en")],
    model: Annotated[str, typer.Option(help="a MarianMT model: hub id or local folder")],
    translators: Where = None,
    revision: Annotated[str, typer.Option(help="of a hub id, where its safetensors lie on a branch")] = "main",
    prefix: Annotated[str, typer.Option(help="the target's piece, as in >>fra<<, where a model has several")] = "",
    max_tokens: Annotated[int, typer.Option(help="longer headlines are cut", min=8, max=512)] = 128,
    licence: Annotated[str, typer.Option(help="the model's licence, for the manifest")] = "unknown",
) -> None:
    """Export a MarianMT model to ONNX for one language pair. Needs the extra [train].

    Weights are read from safetensors only. The translator is written when it says what PyTorch says, else nothing is.

    Example: crosswind translate add de-en --model Helsinki-NLP/opus-mt-de-en --translators translators
    """
    from crosswind.export.translator import languages_of

    source, target = languages_of(pair)
    folder = _folder(_settings(translators))
    try:
        from crosswind.export.translation import Request, export_translator
    except ModuleNotFoundError as error:
        raise ModelError(f"adding a translator needs {error.name}: pip install 'crosswind[train]'") from None
    folder.mkdir(parents=True, exist_ok=True)
    request = Request(model, source, target, folder / pair, revision, prefix, max_tokens, licence)
    made = export_translator(request)
    typer.echo(f"{folder / pair}: {made.pair}, version {made.version}; serving finds it with "
               f"CROSSWIND_TRANSLATORS={folder}")  # fmt: skip


@translate.command("pairs")
def pairs(translators: Where = None) -> None:
    """List the language pairs that are there, after checking each translator's files."""
    from crosswind.export.translator import verify
    from crosswind.stream.adapters.translation import OnnxTranslator

    folder = _folder(_settings(translators))
    for source, target in OnnxTranslator(folder).pairs:
        found = verify(folder / f"{source}-{target}")
        typer.echo(f"{found.pair}  {found.version}  {found.base}  {found.licence}")


@translate.command("text")
def text(
    file: Annotated[Path, typer.Argument(help="JSON Lines with `text` or `title`, and `lang`; - for standard input")],
    to: Annotated[str, typer.Option(help="language to translate to, as in en")],
    source: Annotated[str | None, typer.Option("--from", help="language of lines that name none")] = None,
    translators: Where = None,
) -> None:
    """Translate texts: one JSON line per input line, in input order.

    A line that cannot be translated, as a blank one or one of a pair that is not there, has `error` in the
    translation's place; then the exit status is 3.
    """
    to, source = _language(to, "--to"), _language(source, "--from") if source is not None else None
    from crosswind.stream.adapters.translation import OnnxTranslator

    translator = OnnxTranslator(_folder(_settings(translators)), threads=0)
    bad = 0
    for chunk in _chunks(lines_of(file), CHUNK):
        for answer in _translated([_row(line, source) for line in chunk], to, translator):
            bad += "error" in answer
            sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if bad:
        raise DataError(f"{bad} lines were not translated; each has its error in its place")


@translate.command("articles")
def articles(
    to: Annotated[str, typer.Option(help="language to translate to, as in en")],
    limit: Annotated[int, typer.Option(help="headlines at most, the newest first", min=1)] = 1000,
    run: Annotated[str, typer.Option(help="the run")] = "live",
    translators: Where = None,
    database_url: DatabaseUrl = None,
    data_dir: DataDir = None,
) -> None:
    """Translate stored headlines ahead of their readers. What is translated already is not done again.

    A pair that cannot be used does not hold up the others, nor do its headlines count; then the exit status is 4.
    """
    to = _language(to, "--to")
    from crosswind.cli import with_running
    from crosswind.stream.adapters.postgres.engine import connect, migrate
    from crosswind.stream.adapters.postgres.translations import PostgresTranslations
    from crosswind.stream.adapters.translation import OnnxTranslator
    from crosswind.stream.service.translation import Translations, why

    settings = with_running(_settings(translators, database_url=database_url, data_dir=data_dir))
    if not settings.database_url:
        raise SettingsError("no database: set CROSSWIND_DATABASE_URL to postgresql://…, or start `crosswind up` first")
    translator = OnnxTranslator(_folder(settings), threads=0)
    models = {source: translator.version(source, to) or "" for source, target in translator.pairs if target == to}
    if not models:
        raise ModelError(f"no translator to {to}: add one with `crosswind translate add`")
    engine = connect(settings.database_url.get_secret_value(), pool_size=1)
    broken: dict[str, str] = {}
    try:
        migrate(engine)
        store = PostgresTranslations(engine)
        service = Translations(translator, store, lambda pair, _, error: broken.update({pair: why(error)}))
        done = service.ahead(run, to, models, limit)
    finally:
        engine.dispose()
    typer.echo(f"{done} headlines translated to {to}, from {', '.join(models)}")
    if broken:
        raise ModelError("; ".join(f"{pair} cannot be used: {reason}" for pair, reason in sorted(broken.items())))


def _translated(rows: list[dict[str, str]], to: str, translator: "OnnxTranslator") -> Iterator[dict[str, str]]:
    for lang in sorted({row["lang"] for row in rows if "error" not in row}):
        mine = [row for row in rows if row.get("lang") == lang]
        try:
            version = translator.version(lang, to)
            found = translator.translate(lang, to, [row["text"] for row in mine])
        except CrosswindError as error:
            for row in mine:
                row["error"] = str(error)
            continue
        for row, said in zip(mine, found, strict=True):
            row |= {"translation": said, "to": to, "model": version or ""}
    yield from rows


def _row(line: bytes, source: str | None) -> dict[str, str]:
    try:
        row = json_of(line)
    except DataError as error:
        return {"error": str(error)}
    given = row if isinstance(row, dict) else {}
    found, lang = given.get("text", given.get("title")), given.get("lang", source)
    if not isinstance(found, str) or not found.strip():
        return {"error": "no text; expected an object with `text` or `title`"}
    if not isinstance(lang, str):
        return {"text": found, "error": "no `lang`; name it in the line, or with --from"}
    code = language_code(lang)
    return {"text": found, "lang": code} if code else {"text": found, "error": f"{lang!r} is no language{TAG}"}


def _language(tag: str, option: str) -> str:
    if code := language_code(tag):
        return code
    raise SettingsError(f"{option}: {tag!r} is no language{TAG}")


def _chunks(lines: Iterator[bytes], size: int) -> Iterator[list[bytes]]:
    while chunk := list(islice(lines, size)):
        yield chunk


def _settings(translators: Path | None, **more: object) -> Settings:
    return load_settings({"translators": translators, **more})


def _folder(settings: Settings) -> Path:
    if settings.translators is None:
        raise SettingsError("no translators: set CROSSWIND_TRANSLATORS to a folder, or pass --translators")
    return settings.translators
