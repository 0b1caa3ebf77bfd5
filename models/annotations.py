"""Labels given by hand to texts of the shared data, one file per source in `corpus/annotations/`.

A file holds no text. Its lines are `key<TAB>topic` or `key<TAB>topic<TAB>sentiment`; the key is `key_of(text)`, or the
id of a sentence of ntrex128, whose labels count in every language it is told in.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from crosswind.errors import DataError
from crosswind.models import sources
from crosswind.models.rows import Row
from crosswind.models.taxonomy import SENTIMENTS, TOPICS

FOLDER: Final = Path(__file__).with_name("corpus") / "annotations"
PARALLEL_WEIGHT: Final = 0.5
"""Of a parallel sentence's loss: some can be told only by their neighbours, which a classifier does not see."""
OTHER_SHARE: Final = 0.15
"""Of the languages in which a parallel sentence about no business is taken: nearly nine in ten of them are."""


class Label(msgspec.Struct, frozen=True):
    """What an annotator said of a text."""

    topic: str
    sentiment: str | None = None


def key_of(text: str) -> str:
    """The key of a cleaned text: 16 hexadecimal digits of its BLAKE2b digest.

    >>> key_of("Profit rises")
    '67f1131ed84ac739'
    """
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def read(source: str, folder: Path = FOLDER) -> dict[str, Label]:
    """The labels of a source by key; empty where it has no file.

    Raises:
        DataError: naming the line that is not as it should be.
    """
    path = folder / f"{source}.tsv"
    if not path.is_file():
        return {}
    found: dict[str, Label] = {}
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        key, *labels = line.split("\t")
        if not key or key in found or not 1 <= len(labels) <= 2:
            raise DataError(f"annotations/{path.name}:{number}: expected a new key, a topic and at most a sentiment")
        label = Label(*labels)
        if label.topic not in TOPICS or label.sentiment not in (None, *SENTIMENTS):
            raise DataError(f"annotations/{path.name}:{number}: unknown label in {labels}")
        found[key] = label
    return found


def annotated(rows: Sequence[Row], labels: dict[str, Label]) -> list[Row]:
    """The rows, with the topic that an annotator gave to their text."""
    return [
        msgspec.structs.replace(row, topic=label.topic) if (label := labels.get(key_of(row.text))) else row
        for row in rows
    ]


def parallel_rows(texts: Iterable[tuple[str, str, str]], labels: dict[str, Label]) -> list[Row]:
    """Rows of parallel sentences.

    Args:
        texts: id, language and text of each.

    Returns:
        A row for each that has a label, those about no business in some languages only and without their sentiment:
        the more general news a model saw, the more foreign financial news it called neutral.
    """
    found = []
    for key, lang, text in texts:
        label = labels.get(key)
        if label is None or (label.topic == "other" and not _drawn(key, lang)):
            continue
        sentiment = label.sentiment if label.topic != "other" else None
        found.append(Row(text=text, lang=lang, source=sources.PARALLEL, topic=label.topic, sentiment=sentiment,
                         weight=PARALLEL_WEIGHT, group=key))  # fmt: skip
    return found


def _drawn(key: str, lang: str) -> bool:
    return int(key_of(f"{key}:{lang}"), 16) < OTHER_SHARE * 2**64
