"""What goes into the database with a batch, and what came of it."""

from dataclasses import dataclass
from datetime import datetime

from crosswind.stream.domain.article import ScoredArticle


@dataclass(frozen=True, slots=True)
class Delivery:
    """One scored article as it was delivered.

    Attributes:
        partition: the `news.scored` partition it came on; watermarks are kept per partition.
    """

    scored: ScoredArticle
    partition: int


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch; the three counts sum to its length.

    Attributes:
        new: articles stored and counted.
        duplicates: another input with the same article id; noted by origin, not counted again.
        redelivered: the very input that is already stored.
        changed: earliest minute (aware, UTC) whose buckets moved, None when nothing was new.
    """

    new: int
    duplicates: int
    redelivered: int
    changed: datetime | None
