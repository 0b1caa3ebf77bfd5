"""How long articles and minutes are kept. Hours, incidents and the articles that incidents rest on stay for good."""

from dataclasses import dataclass
from datetime import datetime, timedelta

LEAST = timedelta(days=8)
"""Far more than is looked at one by one: a day of articles for alerts, three days for stories."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What is kept how long; None: for good.

    Attributes:
        articles: what is older is dropped with its scores, stories and meaning, and not taken in again.
        minutes: minutes of series that are older are dropped; the hours that hold their sums stay.
    """

    articles: timedelta | None = None
    minutes: timedelta | None = None

    @classmethod
    def of_days(cls, articles: int | None, minutes: int | None) -> "Policy":
        """From whole days."""
        return cls(*(None if days is None else timedelta(days=days) for days in (articles, minutes)))

    def __bool__(self) -> bool:
        """Whether anything is ever dropped."""
        return self.articles is not None or self.minutes is not None

    def horizons(self, evaluated_to: datetime) -> "Horizons":
        """What is kept from when on, once alerts are evaluated to then. Event time, so that a replay of last year's
        news is not dropped for its age.

        >>> from datetime import UTC
        >>> Policy.of_days(None, 30).horizons(datetime(2026, 3, 31, 7, 41, tzinfo=UTC)).minutes.isoformat()
        '2026-03-01T07:00:00+00:00'
        """
        hour = evaluated_to.replace(minute=0, second=0, microsecond=0)
        return Horizons(*(None if kept is None else hour - kept for kept in (self.articles, self.minutes)))


@dataclass(frozen=True, slots=True)
class Horizons:
    """Whole hours, aware; what is dated before is dropped. None: nothing is."""

    articles: datetime | None
    minutes: datetime | None


@dataclass(frozen=True, slots=True)
class Swept:
    """Rows that were dropped, or, in a dry run, would be."""

    articles: int = 0
    minutes: int = 0
    duplicates: int = 0
    stories: int = 0

    @property
    def rows(self) -> int:
        """All of them."""
        return self.articles + self.minutes + self.duplicates + self.stories
