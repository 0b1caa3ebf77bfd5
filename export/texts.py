"""Texts that parity is measured on, that int8 is calibrated with, and that a bundle checks itself with."""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from crosswind.errors import DataError
from crosswind.models import written
from crosswind.models.rows import Row


class _Line(msgspec.Struct):
    text: str
    lang: str = "und"
    topic: str | None = None
    sentiment: str | None = None


def written_test(languages: Sequence[str] = ()) -> list[Row]:
    """The written corpus's `test` cells, which never train; of all its languages, or of those that are named."""
    wanted = [lang for lang in written.languages() if not languages or lang in languages]
    return [row for lang in wanted for row in written.check_rows(lang)]


def calibration(per_language: int = 24, seed: int = 0) -> list[str]:
    """Texts for int8's scales, from the written corpus's training half: a test text must not shape the model."""
    found = []
    for lang in written.languages():
        rows = written.training_rows(lang, fillings=1, seed=seed)
        found += [row.text for row in random.Random(f"{seed}:{lang}").sample(rows, min(per_language, len(rows)))]
    return found


def read_texts(path: Path) -> list[Row]:
    """A JSON Lines file with `text`, and optionally `lang`, `topic` and `sentiment`.

    Raises:
        DataError: naming the first line that cannot be read, or that there is none.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = msgspec.json.decode(line, type=_Line)
        except msgspec.DecodeError as error:
            raise DataError(f"{path}, line {number}: {error}; expected an object with `text`") from None
        rows.append(Row(text=read.text, lang=read.lang, source=path.stem, topic=read.topic, sentiment=read.sentiment))
    if not rows:
        raise DataError(f"{path} has no texts")
    return rows


def languages_of(rows: Iterable[Row]) -> list[str]:
    """The languages of some rows, sorted."""
    return sorted({row.lang for row in rows})
