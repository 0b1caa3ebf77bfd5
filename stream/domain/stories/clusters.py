"""Stories as they grow: articles in, each by event time and id, a story for each out.

Use, in process:

    stories = Stories(ExactIndex)                       # or `StoryIndex` of `crosswind.stream.adapters.story_index`
    for article in sorted(articles, key=lambda a: a.order):
        assignment = stories.assign(article)            # story id, novelty, reason, merges

The same articles in the same order give the same stories, however they are cut into batches; an article that was
assigned before gets the same answer and changes nothing. A story is named after its first article. Memory is bounded:
a story nobody told for `window` is forgotten, and so is the quietest one beyond `most`.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol

from crosswind.stream.domain.stories.decision import Criteria, Match, Reason, choose, compare, together
from crosswind.stream.domain.stories.evidence import Told, Weigher, shipped
from crosswind.stream.domain.stories.facts import facts_of
from crosswind.stream.domain.stories.meaning import Vector, cosine, middle, unpack
from crosswind.stream.domain.stories.signature import bands

NEIGHBOURS = 6
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


class Index(Protocol):
    """Finds the nearest of many vectors of one width."""

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
    """One event; `lines` are its first headlines, one per text, and `centre` the mean of their meanings."""

    story_id: str
    number: int
    first_at: datetime
    last_at: datetime
    lines: tuple[Line, ...] = ()
    centre: bytes = b""
    model: str = ""
    keys: tuple[str, ...] = ()
    members: list[str] = field(default_factory=list)
    bands: tuple[int, ...] = ()

    def settle(self, lines: tuple[Line, ...]) -> None:
        """Takes the first of some lines as its own."""
        self.lines = lines[:TELLINGS]
        meanings = [line.meaning for line in self.lines if line.meaning]
        self.centre = (middle(meanings) or meanings[0]) if len(meanings) > 1 else b"".join(meanings)

    def takes(self, telling: Telling) -> bool:
        """Whether the telling's meaning is of its kind."""
        like = not self.centre or (self.model, len(self.centre)) == (telling.model, len(telling.meaning))
        return bool(telling.meaning) and like

    def told(self, model: str) -> list[Told]:
        """Its headlines as they are compared with one that `model` gave its meaning."""
        known = model == self.model
        return [
            Told(facts_of(line.title), line.lang, frozenset(line.tags), line.meaning if known else b"")
            for line in self.lines
        ]


class Stories:
    """The stories of one run; see the module's docstring.

    Args:
        index: makes an index for vectors of a width; one is made for each bundle.
        window: event time after which a story that nobody tells is over.
        most: stories kept at most.
        weigher: weighs two headlines; the shipped one if None.
    """

    def __init__(
        self,
        index: Callable[[int], Index],
        criteria: Criteria = Criteria(),  # noqa: B008 - frozen
        window: timedelta = timedelta(days=3),
        most: int = 1_000_000,
        weigher: Weigher | None = None,
    ) -> None:
        self._make, self._criteria, self._window, self._most = index, criteria, window, most
        self._weigher = weigher or shipped()
        self._stories: OrderedDict[str, Story] = OrderedDict()
        self._numbers: dict[int, str] = {}
        self._indexes: dict[tuple[str, int], Index] = {}
        self._texts: dict[str, str] = {}
        self._bands: dict[int, str] = {}
        self._members: dict[str, Assignment] = {}
        self._next = self._turn = 0
        self._now: datetime | None = None

    def __len__(self) -> int:
        return len(self._stories)

    def assign(self, telling: Telling) -> Assignment:
        """The article's story; found, or begun with it."""
        if telling.article_id in self._members:
            return self._members[telling.article_id]
        self._forget(telling.at)
        matches = self._matches(telling)
        match, reason = choose(matches, self._criteria)
        if match is None:
            return self._begin(telling)
        repeated = reason is Reason.SAME_TEXT
        merges = () if repeated else self._merge(telling, match, matches)
        story = self._stories[merges[0].older if merges else match.story_id]
        return self._join(telling, story, Novelty.REPEATED if repeated else Novelty.FRESH, reason, match.cosine, merges)

    def restore(self, telling: Telling, story_id: str, novelty: Novelty, reason: Reason, similarity: float) -> None:
        """Puts an article where it was put before; for starting again from what is stored, in the old order."""
        self._forget(telling.at)
        story = self._stories.get(story_id) or self._story(telling, story_id)
        self._join(telling, story, novelty, reason, similarity, ())

    def _story(self, telling: Telling, story_id: str) -> Story:
        story = Story(story_id, self._next, telling.at, telling.at)
        self._next += 1
        self._stories[story_id] = story
        self._numbers[story.number] = story_id
        return story

    def _begin(self, telling: Telling) -> Assignment:
        story = self._story(telling, telling.article_id)
        return self._join(telling, story, Novelty.FIRST, Reason.NEW, 1.0, ())

    def _join(
        self, telling: Telling, story: Story, novelty: Novelty, reason: Reason, similarity: float,
        merges: tuple[Merge, ...],
    ) -> Assignment:  # fmt: skip
        assignment = Assignment(telling.article_id, story.story_id, novelty, reason, similarity, merges)
        story.first_at, story.last_at = min(story.first_at, telling.at), max(story.last_at, telling.at)
        story.members.append(telling.article_id)
        self._members[telling.article_id] = assignment
        if self._texts.setdefault(telling.title_key, story.story_id) == story.story_id:
            story.keys = (*story.keys, telling.title_key) if telling.title_key not in story.keys else story.keys
        if novelty is not Novelty.REPEATED and len(story.lines) < TELLINGS:
            self._learn(story, telling)
        self._stories.move_to_end(story.story_id)
        return assignment

    def _learn(self, story: Story, telling: Telling) -> None:
        known = story.takes(telling)
        story.model = telling.model if known else story.model
        line = Line(self._turn, telling.title, telling.lang, telling.tags, telling.meaning if known else b"")
        self._turn += 1
        story.settle((*story.lines, line))
        found = bands(facts_of(telling.title).shingles)
        story.bands = (*story.bands, *found)
        for band in found:
            self._bands[band] = story.story_id
        if known:
            self._place(story)

    def _place(self, story: Story) -> None:
        key = (story.model, len(story.centre))
        if key not in self._indexes:
            self._indexes[key] = self._make(len(story.centre))
        self._indexes[key].put(story.number, unpack(story.centre))

    def _matches(self, telling: Telling) -> list[Match]:
        near = self._near(telling)
        article = _told(telling)
        known = self._texts.get(telling.title_key)
        texts = {known, *(self._bands.get(b) for b in bands(article.facts.shingles))}
        for story_id in sorted(found for found in texts if found and found in self._stories and found not in near):
            near[story_id] = self._cosine(telling, self._stories[story_id])
        told = {story_id: self._stories[story_id].told(telling.model) for story_id in near}
        found = [
            compare(story_id, close, article, told[story_id], self._weigher, self._criteria)
            for story_id, close in near.items()
        ]
        # A story remembers the keys of all its headlines, also of those beyond the tellings that are compared.
        return [replace(match, text=1.0) if match.story_id == known else match for match in found]

    def _near(self, telling: Telling) -> dict[str, float]:
        index = self._indexes.get((telling.model, len(telling.meaning)))
        if index is None or not telling.meaning:
            return {}
        names = [self._numbers[number] for number, _ in index.nearest(unpack(telling.meaning), NEIGHBOURS)]
        close = {name: self._cosine(telling, self._stories[name]) for name in names}  # an index may be rough
        return {name: value for name, value in close.items() if value >= self._criteria.near}

    def _cosine(self, telling: Telling, story: Story) -> float:
        return cosine(telling.meaning, story.centre) if story.model == telling.model else 0.0

    def _merge(self, telling: Telling, best: Match, matches: Iterable[Match]) -> tuple[Merge, ...]:
        """Makes one of the story that the article joins and those it also fits, if their tellings fit together."""
        first, article = self._stories[best.story_id], _told(telling)
        line = self._criteria.merge
        also = [m for m in matches if m is not best and m.weight is not None and m.weight >= line]
        told = [*first.told(telling.model), article]
        close = [s for m in also if self._fits(told, (s := self._stories[m.story_id]).told(telling.model))]
        family = sorted([first, *close], key=lambda story: (story.first_at, story.story_id))
        for younger in family[1:]:
            self._absorb(family[0], younger)
        return tuple(Merge(younger.story_id, family[0].story_id) for younger in family[1:])

    def _fits(self, some: list[Told], others: list[Told]) -> bool:
        weight = together(some, others, self._weigher, self._criteria)
        return weight is not None and weight >= self._criteria.merge

    def _absorb(self, older: Story, younger: Story) -> None:
        owned = [band for band in younger.bands if self._bands.get(band) == younger.story_id]
        self._drop(younger)
        # As if all had come to the older one: reading the stories back after a restart must give the same.
        older.settle(tuple(sorted((*older.lines, *younger.lines))))
        older.last_at = max(older.last_at, younger.last_at)
        known = {band for line in older.lines for band in bands(facts_of(line.title).shingles)}
        gone = [band for band in (*older.bands, *younger.bands) if band not in known]
        older.keys = (*older.keys, *younger.keys)
        older.bands = tuple(band for band in (*older.bands, *younger.bands) if band in known)
        older.members += younger.members
        for key in younger.keys:
            self._texts[key] = older.story_id
        for band in owned:
            self._bands[band] = older.story_id
        for band in gone:
            if self._bands.get(band) == older.story_id:
                del self._bands[band]
        for member in younger.members:
            was = self._members[member]
            self._members[member] = Assignment(member, older.story_id, was.novelty, was.reason, was.similarity)
        self._place(older)

    def _forget(self, at: datetime) -> None:
        self._now = max(self._now or at, at)
        while self._stories:
            story = next(iter(self._stories.values()))
            if len(self._stories) <= self._most and self._now - story.last_at <= self._window:
                return
            self._drop(story)
            for member in story.members:
                del self._members[member]

    def _drop(self, story: Story) -> None:
        del self._stories[story.story_id]
        del self._numbers[story.number]
        if story.centre:
            self._indexes[(story.model, len(story.centre))].remove(story.number)
        for key in story.keys:
            self._texts.pop(key, None)
        for band in story.bands:
            if self._bands.get(band) == story.story_id:
                del self._bands[band]


def _told(telling: Telling) -> Told:
    return Told(facts_of(telling.title), telling.lang, frozenset(telling.tags), telling.meaning)
