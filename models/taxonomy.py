"""The labels, read from `taxonomy.toml`, the one place where they are written down."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crosswind.errors import ModelError

TAXONOMY_FILE: Final = Path(__file__).with_name("taxonomy.toml")


@dataclass(frozen=True)
class Taxonomy:
    """Topic and sentiment labels in the order of the model's outputs, each topic with its description."""

    topics: tuple[str, ...]
    sentiments: tuple[str, ...]
    descriptions: dict[str, str]
    sentiment_description: str


def read_taxonomy(path: Path = TAXONOMY_FILE) -> Taxonomy:
    """Read a taxonomy file.

    Raises:
        ModelError: the file lacks a part, or a label occurs twice.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        descriptions = {str(t["label"]): str(t["description"]) for t in raw["topic"]}
        topics = tuple(str(t["label"]) for t in raw["topic"])
        sentiments = tuple(str(s) for s in raw["sentiment"]["labels"])
        sentiment_description = str(raw["sentiment"]["description"])
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path.name}: not a taxonomy ({error!r})") from error
    if len(set(topics)) != len(topics) or len(set(sentiments)) != len(sentiments):
        raise ModelError(f"{path.name}: a label occurs twice")
    return Taxonomy(topics, sentiments, descriptions, sentiment_description)


TAXONOMY: Final = read_taxonomy()
TOPICS: Final[tuple[str, ...]] = TAXONOMY.topics
SENTIMENTS: Final[tuple[str, ...]] = TAXONOMY.sentiments
