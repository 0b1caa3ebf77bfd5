"""What the pages read of stories: cards with the same event in several languages, and novelty over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Text, cast, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from crosswind.dashboard.content import span_for, topics_of
from crosswind.dashboard.novel import of_article
from crosswind.dashboard.queries import Incident, Reader, Status, among
from crosswind.dashboard.series import Span
from crosswind.dashboard.view import View
from crosswind.stream.adapters.postgres.schema import ArticleRow
from crosswind.stream.adapters.postgres.stories import Selection, available, counts
from crosswind.stream.adapters.postgres.story_tables import StoryMemberRow, StoryRow
from crosswind.stream.domain.bucket import ALL

CARDS: Final = 6
LANGUAGES: Final = 8
"""Languages of a story that are put side by side."""


@dataclass(frozen=True, slots=True)
class Line:
    """The first article of a story in one language; title and source are what strangers wrote."""

    article_id: str
    published_at: datetime
    source: str
    lang: str
    title: str


@dataclass(frozen=True, slots=True)
class Card:
    """One event, whole, whatever a view leaves of it: who told it first, how far it has spread, and `lines`, one per
    language, the first one first."""

    story_id: str
    title: str
    first_source: str
    first_at: datetime
    last_at: datetime
    articles: int
    sources: int
    langs: list[str]
    lines: list[Line]


@dataclass(frozen=True, slots=True)
class Told:
    """The stories of a view.

    Attributes:
        novelty: of each bin of the span: articles that begin a story, tell one anew, repeat one.
        available: whether this database can have stories.
    """

    span: Span
    cards: list[Card]
    novelty: list[tuple[int, int, int]]
    available: bool


def told(reader: Reader, view: View, status: Status) -> Told | None:
    """The stories of a view, those with most of its articles first; None while the database is empty. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    span = span_for(view, status)
    if span is None:
        return None
    chosen = Selection(reader.run, span.start, span.end, span.step, topics_of(view), view.langs, view.entity or ALL)
    cells = {row["cell"]: (row["first"], row["fresh"], row["repeated"]) for row in counts(reader.engine, chosen)}
    novelty = [cells.get(at, (0, 0, 0)) for at in span.times]
    ids = _ids(reader, view, span)
    found = sorted(cards(reader, ids), key=lambda card: ids.index(card.story_id))
    return Told(span, found, novelty, available(reader.engine))


def cards(reader: Reader, story_ids: Sequence[str]) -> list[Card]:
    """The cards of some stories, the most told first. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    if not story_ids:
        return []
    found = reader.rows(
        select(StoryRow.__table__).where(StoryRow.run == reader.run, StoryRow.story_id.in_(sorted(story_ids)))
    )
    lines: dict[str, list[Line]] = {}
    names = ("article_id", "published_at", "source", "lang", "title")
    query: Any = select(StoryMemberRow.story_id, *(getattr(ArticleRow, name) for name in names))
    query = query.join(ArticleRow, of_article()).where(
        StoryMemberRow.run == reader.run, StoryMemberRow.story_id.in_(sorted(story_ids))
    )
    query = query.distinct(StoryMemberRow.story_id, ArticleRow.lang).order_by(
        StoryMemberRow.story_id, ArticleRow.lang, ArticleRow.published_at, ArticleRow.article_id
    )
    for row in reader.rows(query):
        lines.setdefault(row.story_id, []).append(Line(*row[1:]))
    made = [
        Card(row.story_id, row.title, row.first_source, row.first_at, row.last_at, row.articles, len(row.sources),
             list(row.langs), sorted(lines.get(row.story_id, []), key=lambda line: line.published_at)[:LANGUAGES])
        for row in found
    ]  # fmt: skip
    return sorted(made, key=lambda card: (-card.articles, card.first_at, card.story_id))


def evidence(reader: Reader, incidents: Sequence[Incident]) -> dict[str, list[Card]]:
    """Incident id -> the stories that its evidence tells; those without any are absent. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    ids = sorted({article for incident in incidents for article in incident.evidence_ids})
    query = select(StoryMemberRow.article_id, StoryMemberRow.story_id)
    of = dict(
        tuple(row)
        for row in reader.rows(query.where(StoryMemberRow.run == reader.run, StoryMemberRow.article_id.in_(ids)))
    )
    known = cards(reader, sorted(set(of.values())))
    stories = {incident.incident_id: {of.get(one) for one in incident.evidence_ids} for incident in incidents}
    found = {key: [card for card in known if card.story_id in wanted] for key, wanted in stories.items()}
    return {key: some for key, some in found.items() if some}


def _ids(reader: Reader, view: View, span: Span) -> list[str]:
    """The stories with most of the articles that a view shows: those of its span, topics, languages and entity."""
    begun: Any = func.min(StoryMemberRow.at)
    query: Any = select(StoryMemberRow.story_id).where(
        StoryMemberRow.run == reader.run, StoryMemberRow.at >= span.start, StoryMemberRow.at < span.end
    )
    topics = topics_of(view)
    if topics or view.langs or view.entity:  # else every member is meant, and articles need not be read
        query = query.join(ArticleRow, of_article())
        query = among(among(query, ArticleRow.topic, topics), ArticleRow.lang, view.langs)
        query = query.where(ArticleRow.entities.contains(cast([view.entity], ARRAY(Text)))) if view.entity else query
    query = query.group_by(StoryMemberRow.story_id).order_by(func.count().desc(), begun, StoryMemberRow.story_id)
    return [row[0] for row in reader.rows(query.limit(CARDS))]
