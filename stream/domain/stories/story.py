"""What a story is made of: articles, headlines that are compared, and what came of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

from crosswind.stream.domain.stories.decision import Reason
from crosswind.stream.domain.stories.evidence import Told
from crosswind.stream.domain.stories.facts import facts_of
from crosswind.stream.domain.stories.meaning import Vector, middle

TELLINGS = 5
"""Headlines of a story that an article is compared with; later ones add to its counts only."""


class Novelty(StrEnum):
    """What an article adds: a story's first telling, another telling of it, or one already told."""

    FIRST = "first"
    FRESH = "fresh"
    REPEATED = "repeated"


@dataclass(frozen=True, slots=True)
class Telling:
    """What stories need to know of an article.

    Attributes:
        meaning: see `meaning.pack`; empty where the model gives none, and then only copies are found.
        model: the bundle that gave it: meanings of two bundles are never compared.
    """

    article_id: str
    at: datetime
    source: str
    lang: str
    title: str
    title_key: str
    tags: tuple[str, ...] = ()
    meaning: bytes = b""
    model: str = ""

    @property
    def order(self) -> tuple[datetime, str]:
        """Where it stands among all: event time, then id."""
        return self.at, self.article_id


@dataclass(frozen=True, slots=True)
class Merge:
    """Two stories turned out to be one; the younger is kept, as a part of the older."""

    younger: str
    older: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """Where an article belongs.

    Attributes:
        similarity: cosine with the story when it joined; 1 for its first article.
        merges: stories that became one with this article.
    """

    article_id: str
    story_id: str
    novelty: Novelty
    reason: Reason
    similarity: float
    merges: tuple[Merge, ...] = ()

    @classmethod
    def first(cls, article_id: str, story_id: str = "") -> "Assignment":
        """That of an article which began a story, its own or one that became a part of `story_id`."""
        return cls(article_id, story_id or article_id, Novelty.FIRST, Reason.NEW, 1.0)


class Index(Protocol):
    """Finds the nearest of many vectors of one width."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def put(self, key: int, vector: Vector) -> None:
        """Adds a vector of length 1, or replaces it."""
        ...

    def remove(self, key: int) -> None:
        """Forgets one that is there."""
        ...

    def nearest(self, vector: Vector, count: int) -> list[tuple[int, float]]:
        """Up to `count` keys with their cosine, the nearest first, ties by key."""
        ...


class Line(NamedTuple):
    """One headline of a story; `turn` counts the lines of all stories, so that lines of two can be put in order."""

    turn: int
    title: str
    lang: str
    tags: tuple[str, ...]
    meaning: bytes


@dataclass(slots=True, eq=False)
class Story:
    """One event. There may be a million of them in memory: what most do not need takes no room.

    Attributes:
        lines: its first headlines, one per text.
        centre: the mean of their meanings.
        members: its articles but the one that it is named after.
        numbers: those of stories that became a part of it.
    """

    story_id: str
    number: int
    first_at: datetime
    last_at: datetime
    lines: tuple[Line, ...] = ()
    centre: bytes = b""
    model: str = ""
    members: Sequence[str] = ()
    numbers: tuple[int, ...] = ()

    def settle(self, lines: tuple[Line, ...]) -> None:
        """Takes the first of some lines as its own."""
        self.lines = lines[:TELLINGS]
        meanings = [line.meaning for line in self.lines if line.meaning]
        self.centre = (middle(meanings) if len(meanings) > 1 else b"") or next(iter(meanings), b"")

    def add(self, article_id: str) -> None:
        """Notes a member."""
        if isinstance(self.members, list):
            self.members.append(article_id)
        else:
            self.members = [*self.members, article_id]

    def takes(self, telling: Telling) -> bool:
        """Whether the telling's meaning is of its kind."""
        like = not self.centre or (self.model, len(self.centre)) == (telling.model, len(telling.meaning))
        return bool(telling.meaning) and like

    def told(self, model: str) -> tuple[Told, ...]:
        """Its headlines as they are compared with one that `model` gave its meaning."""
        return _told(self.lines, model == self.model)


@lru_cache(512)
def _told(lines: tuple[Line, ...], known: bool) -> tuple[Told, ...]:
    """The headlines of a story that was looked at lately; most stories never are, so none keeps them itself."""
    return tuple(
        Told(facts_of(line.title), line.lang, frozenset(line.tags), line.meaning if known else b"") for line in lines
    )
