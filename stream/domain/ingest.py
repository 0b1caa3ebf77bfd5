"""What goes into the database with a batch, and what came of it."""

from dataclasses import dataclass
from datetime import datetime

from crosswind.stream.domain.article import ScoredArticle

LANES = 1024
"""More partitions than a topic may have (`settings.partitions`)."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One scored article as it was delivered.

    Attributes:
        partition: the `news.scored` partition it came on.
    """

    scored: ScoredArticle
    partition: int

    @property
    def lane(self) -> int:
        """The pair of `news.raw` and `news.scored` partition, as one number: watermarks are kept per lane.

        `news.scored` is keyed by article and so mixes all of `news.raw`; when one raw partition is read ahead of the
        others, a mark per scored partition would close buckets that the slower ones still have articles for.
        """
        return self.scored.article.origin.partition * LANES + self.partition

    @property
    def reached(self) -> datetime:
        """Event time that the article vouches for: when it was published, but no later than it was received.

        A date ahead of the clock is wrong, and at most an hour ahead is common (a feed's time zone). Believed, it would
        close buckets whose articles are still to come, and the alerts of all others would wait for the clock.
        """
        return min(self.scored.article.published_at, self.scored.article.first_seen_at)


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of a batch; the five counts sum to its length.

    Attributes:
        new: articles stored and counted.
        duplicates: another input of the same article that says nothing new; noted by origin, not counted again.
        redelivered: the very input that is already stored.
        changed: earliest minute (aware, UTC) whose buckets moved, None when nothing was new.
        expired: dated before what the run still keeps; they were counted while it did, or come too late to be.
        edited: another input of the same article that says something else; kept as a version, not counted again.
    """

    new: int
    duplicates: int
    redelivered: int
    changed: datetime | None
    expired: int = 0
    edited: int = 0
