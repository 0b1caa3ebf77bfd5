"""What the stream needs from the world. Adapters implement these; tests pass fakes."""

from collections.abc import Sequence
from typing import Protocol

from crosswind.stream.domain.article import Score
from crosswind.stream.domain.ingest import Delivery, Ingested


class Scorer(Protocol):
    """Judges articles. The score of an article never depends on its batch."""

    @property
    def version(self) -> str:
        """The bundle's content-addressed version."""
        ...

    @property
    def provider(self) -> str:
        """The inference provider in use, e.g. `CPUExecutionProvider`."""
        ...

    def score(self, texts: Sequence[str]) -> list[Score]:
        """One score per text, in order. Blocking; call it in the inference executor."""
        ...


class LanguageDetector(Protocol):
    """Names the language of a text when the article does not."""

    def detect(self, text: str) -> str:
        """ISO 639-1 where there is one, else 639-3; `und` when it cannot tell."""
        ...


class TrendStore(Protocol):
    """The truth: article rows and buckets, moved together in one transaction."""

    def ingest(self, run: str, deliveries: Sequence[Delivery]) -> Ingested:
        """Stores what is new, counts it into buckets, keeps edits as versions beside what is counted, notes duplicates
        and moves the watermark, all or nothing.

        Raises:
            DatabaseError: nothing was stored; safe to call again with the same deliveries.
        """
        ...

    def close(self) -> None:
        """Gives the connections back."""
        ...
