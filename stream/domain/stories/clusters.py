"""Stories as they grow: articles in, each by event time and id, a story for each out.

Use, in process:

    stories = Stories(ExactIndex)                       # or `StoryIndex` of `crosswind.stream.adapters.story_index`
    for article in sorted(articles, key=lambda a: a.order):
        assignment = stories.assign(article)            # story id, novelty, reason, merges

The same articles in the same order give the same stories, however they are cut into batches; an article that was
assigned before gets the same answer and changes nothing. A story is named after its first article. Memory is bounded:
a story that began `window` ago is over and forgotten, however often it is told, and so is the oldest one beyond `most`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from hashlib import blake2b
from heapq import heappop, heappush

from crosswind.stream.domain.stories.decision import Candidate, Criteria, Match, Reason, choose, compare, together
from crosswind.stream.domain.stories.evidence import Told, Weigher, shipped
from crosswind.stream.domain.stories.facts import facts_of, head_of
from crosswind.stream.domain.stories.meaning import cosines, unpack
from crosswind.stream.domain.stories.numbers import Numbers
from crosswind.stream.domain.stories.signature import bands
from crosswind.stream.domain.stories.story import TELLINGS, Assignment, Index, Line, Merge, Novelty, Story, Telling
from crosswind.stream.domain.stories.table import Holders, Table

NEIGHBOURS = 4


@dataclass(frozen=True)
class _Article:
    """A telling, and what is found out about its text once, when it is asked for."""

    telling: Telling

    @cached_property
    def told(self) -> Told:
        one = self.telling
        return Told(facts_of(one.title), one.lang, frozenset(one.tags), one.meaning)

    @cached_property
    def bands(self) -> tuple[int, ...]:
        return _bands(head_of(self.telling.title))

    @cached_property
    def key(self) -> int:
        return int.from_bytes(blake2b(self.telling.title_key.encode(), digest_size=7).digest(), "big")


class Stories:
    """The stories of one run; see the module's docstring.

    Args:
        index: makes an index for vectors of a width; one is made for each bundle.
        window: event time after its first telling at which a story is over.
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
        self._stories: dict[str, Story] = {}
        self._oldest: list[tuple[datetime, str]] = []
        """A heap of stories by their first telling; one that got an earlier telling, come late, is in it twice."""
        self._numbers = Numbers()
        self._indexes: dict[tuple[str, int], Index] = {}
        self._texts = Table(self._numbers.alive)
        self._bands = Holders(self._numbers.__contains__, self._numbers.alive)
        self._members: dict[str, Assignment] = {}
        self._next = self._turn = 0
        self._now: datetime | None = None

    def __len__(self) -> int:
        return len(self._stories)

    def assign(self, telling: Telling) -> Assignment:
        """The article's story; found, or begun with it."""
        if known := self._assigned(telling.article_id):
            return known
        self._forget(telling.at)
        article = _Article(telling)
        matches = self._matches(article)
        match, reason = choose(matches, self._criteria)
        if match is None:
            return self._join(article, self._story(telling, telling.article_id), Assignment.first(telling.article_id))
        repeated = reason is Reason.SAME_TEXT
        merges = () if repeated else self._merge(article, match, matches)
        story = self._stories[merges[0].older if merges else match.story_id]
        novelty = Novelty.REPEATED if repeated else Novelty.FRESH
        return self._join(article, story, Assignment(telling.article_id, story.story_id, novelty, reason, match.cosine,
                                                     merges))  # fmt: skip

    def restore(self, telling: Telling, story_id: str, novelty: Novelty, reason: Reason, similarity: float) -> None:
        """Puts an article where it was put before; for starting again from what is stored, in the old order."""
        self._forget(telling.at)
        story = self._stories.get(story_id) or self._story(telling, story_id)
        self._join(_Article(telling), story, Assignment(telling.article_id, story_id, novelty, reason, similarity))

    def unite(self, merge: Merge, began: datetime) -> None:
        """Makes one of two stories that another memory found to be one; nothing where this one has not the younger.

        What was assigned since is put into the older one by `restore`, after all merges.

        Args:
            began: event time of the older one's first telling, by now.
        """
        younger = self._stories.get(merge.younger)
        if younger is None:
            return
        older = self._stories.get(merge.older) or self._begin(Story(merge.older, self._next, began, younger.last_at))
        self._precede(older, began)
        self._absorb(older, younger)

    def _assigned(self, article_id: str) -> Assignment | None:
        known = self._members.get(article_id)
        return known or (Assignment.first(article_id) if article_id in self._stories else None)

    def _story(self, telling: Telling, story_id: str) -> Story:
        return self._begin(Story(story_id, self._next, telling.at, telling.at))

    def _begin(self, story: Story) -> Story:
        self._next += 1
        self._stories[story.story_id] = story
        self._numbers.begin(story.number, story)
        heappush(self._oldest, (story.first_at, story.story_id))
        return story

    def _precede(self, story: Story, at: datetime) -> None:
        if at < story.first_at:
            story.first_at = at
            heappush(self._oldest, (at, story.story_id))

    def _join(self, article: _Article, story: Story, assignment: Assignment) -> Assignment:
        telling = article.telling
        self._precede(story, telling.at)
        story.last_at = max(story.last_at, telling.at)
        if telling.article_id != story.story_id:
            story.add(telling.article_id)
            self._members[telling.article_id] = assignment
        if self._at(self._texts, article.key) is None:
            self._texts.put(article.key, story.number)
        fresh = assignment.novelty is not Novelty.REPEATED or not story.lines  # retention may have taken the first away
        if fresh and len(story.lines) < TELLINGS:
            self._learn(story, article)
        return assignment

    def _learn(self, story: Story, article: _Article) -> None:
        telling = article.telling
        known = story.takes(telling)
        story.model = telling.model if known else story.model
        line = Line(self._turn, head_of(telling.title), telling.lang, telling.tags, telling.meaning if known else b"")
        self._turn += 1
        story.settle((*story.lines, line))
        for band in article.bands:
            self._bands.put(band, story.number)
        if known:
            self._place(story)

    def _place(self, story: Story) -> None:
        key = (story.model, len(story.centre))
        if key not in self._indexes:
            self._indexes[key] = self._make(len(story.centre))
        self._indexes[key].put(story.number, unpack(story.centre))

    def _matches(self, article: _Article) -> list[Match]:
        telling = article.telling
        known = self._at(self._texts, article.key)
        texts = {story.story_id: story for story in (known, *self._alike(article)) if story}
        near = {story.story_id: story for story in self._near(telling)}
        stories = [*near.values(), *(texts[story_id] for story_id in sorted(set(texts) - set(near)))]
        centres = [story.centre if story.model == telling.model else b"" for story in stories]
        close = cosines(telling.meaning, centres)
        candidates = [
            Candidate(story.story_id, value, _hours(telling.at, story), story.told(telling.model),
                      story is known)
            for story, value in zip(stories, close, strict=True)
            if story.story_id in texts or value >= self._criteria.near  # an index may be rough
        ]  # fmt: skip
        return compare(article.told, candidates, self._weigher, self._criteria)

    def _at(self, table: Table, key: int) -> Story | None:
        number = table.get(key)
        return None if number is None else self._numbers.get(number)

    def _alike(self, article: _Article) -> Iterator[Story]:
        """For each band of the article's, the last story that has a headline with it; a merge may have dropped one."""
        found: dict[int, Story] = {}
        for band in article.bands:
            stories = (self._numbers[number] for number in self._bands.get(band))
            sharing = (story for story in stories if any(band in _bands(line.title) for line in story.lines))
            if story := next(sharing, None):
                found[story.number] = story
        yield from found.values()

    def _near(self, telling: Telling) -> list[Story]:
        index = self._indexes.get((telling.model, len(telling.meaning)))
        if index is None or not telling.meaning:
            return []
        return [self._numbers[number] for number, _ in index.nearest(unpack(telling.meaning), NEIGHBOURS)]

    def _merge(self, article: _Article, best: Match, matches: Iterable[Match]) -> tuple[Merge, ...]:
        """Makes one of the story that the article joins and those it also fits, if their tellings fit together."""
        first, model = self._stories[best.story_id], article.telling.model
        line = self._criteria.merge
        also = [m for m in matches if m is not best and m.weight is not None and m.weight >= line]
        told = [*first.told(model), article.told]
        close = [s for m in also if self._fits(told, (s := self._stories[m.story_id]).told(model))]
        family = sorted([first, *close], key=lambda story: (story.first_at, story.story_id))
        for younger in family[1:]:
            self._absorb(family[0], younger)
        return tuple(Merge(younger.story_id, family[0].story_id) for younger in family[1:])

    def _fits(self, some: Sequence[Told], others: Sequence[Told]) -> bool:
        weight = together(some, others, self._weigher, self._criteria)
        return weight is not None and weight >= self._criteria.merge

    def _absorb(self, older: Story, younger: Story) -> None:
        self._drop(younger)
        older.numbers = (*older.numbers, younger.number, *younger.numbers)
        for number in (younger.number, *younger.numbers):
            self._numbers.give(number, older)  # what points at it now points here
        # As if all had come to the older one: reading the stories back after a restart must give the same.
        older.model = older.model if older.centre else younger.model
        older.settle(tuple(sorted((*older.lines, *younger.lines))))
        older.last_at = max(older.last_at, younger.last_at)
        for member in (younger.story_id, *younger.members):
            was = self._members.get(member, Assignment.first(member))
            older.add(member)
            self._members[member] = Assignment(member, older.story_id, was.novelty, was.reason, was.similarity)
        if older.centre:
            self._place(older)

    def _forget(self, at: datetime) -> None:
        """Drops every story that is over, in whatever order they were told: one read back anew knows none of them."""
        self._now = max(self._now or at, at)
        while self._oldest and (self._oldest[0][0] < self._now - self._window or len(self._stories) > self._most):
            story = self._stories.get(heappop(self._oldest)[1])
            if story is None:  # it became a part of another, or had a telling that came late
                continue
            self._drop(story)
            for member in story.members:
                del self._members[member]

    def _drop(self, story: Story) -> None:
        del self._stories[story.story_id]
        for number in (story.number, *story.numbers):
            self._numbers.drop(number)
        if story.centre:
            key = (story.model, len(story.centre))
            self._indexes[key].remove(story.number)
            if not len(self._indexes[key]):  # of a bundle that is no longer in use it would stay for good
                del self._indexes[key]


@lru_cache(8_192)
def _bands(head: str) -> tuple[int, ...]:
    return bands(facts_of(head).shingles)


def _hours(at: datetime, story: Story) -> float:
    return abs((at - story.last_at).total_seconds()) / 3600
