"""What the pages and the API read: SQL in, typed columns out. Nothing here writes.

'Now' is the newest event time that the stream believes, never the wall clock: a replayed year looks as it did then.
Every query is bounded and runs on an index (a test reads the plans).
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, and_, func, literal, or_, select, tuple_, union_all
from sqlalchemy.exc import SQLAlchemyError

from crosswind.dashboard import known
from crosswind.dashboard.novel import OTHER, first_ones
from crosswind.errors import DatabaseError, DataError
from crosswind.stream.adapters.postgres.alert_tables import SilenceRow, VerdictRow
from crosswind.stream.adapters.postgres.schema import (
    ArticleRow,
    EngineRow,
    IncidentRow,
    TransitionRow,
    WatermarkRow,
)
from crosswind.stream.adapters.postgres.story_tables import StoryMemberRow
from crosswind.stream.adapters.postgres.translation_tables import TranslationRow
from crosswind.stream.adapters.postgres.version_tables import VersionRow
from crosswind.stream.domain.bucket import ALL

PAGE = 25
"""Articles on one page of the list."""

MAX_INCIDENTS = 200
EVIDENCE = 5
"""Headlines shown as an incident's evidence."""


@dataclass(frozen=True, slots=True)
class Status:
    """How fresh the data is.

    Attributes:
        now: the newest event time believed; None: there is nothing yet.
        earliest: the oldest article's event time.
        newest: the newest article's event time, which may lie ahead of `now` until other articles confirm it.
        evaluated_to: event time up to which alerts were evaluated.
        quiet_seconds: wall-clock seconds since the last batch was stored, by the database's own clock.
        model: the model's version on the newest article.
    """

    run: str
    now: datetime | None
    earliest: datetime | None
    newest: datetime | None
    evaluated_to: datetime | None
    quiet_seconds: float | None
    model: str | None


@dataclass(frozen=True, slots=True)
class Article:
    """One row of the list of articles. Titles and sources are what strangers wrote: text, never markup.

    `versions`: 1, and one more for each edit.
    """

    article_id: str
    published_at: datetime
    source: str
    title: str
    url: str | None
    lang: str
    topic: str
    sentiment: str
    negative_ppm: int
    neutral_ppm: int
    positive_ppm: int
    unsure: bool
    entities: list[str]
    model: str
    versions: int = 1


@dataclass(frozen=True, slots=True)
class ArticlePage:
    """Some articles, newest first, and the cursor of the next older ones (None: that was all)."""

    articles: list[Article]
    next: str | None


@dataclass(frozen=True, slots=True)
class Incident:
    """One surge of bad news. `evidence` holds headlines, `evidence_ids` their article ids.

    `window_minutes`: what was counted lies in so many minutes, which end with a minute of the incident.
    """

    incident_id: str
    rule: str
    rule_version: str
    topic: str
    lang: str
    entity: str
    state: str
    severity: str
    started_at: datetime
    fired_at: datetime | None
    resolved_at: datetime | None
    observed: int
    expected: float
    p_value: float
    negative_share: float
    sources: int
    headlines: int
    languages: list[str]
    evidence: list[str]
    evidence_ids: list[str]
    model: str
    acknowledged_by: str | None = None
    silenced: bool = False
    leads: bool = True
    window_minutes: int = 60


@dataclass(frozen=True, slots=True)
class Transition:
    """One change of an incident's state; `seq` orders them within a run, `payload` is the alert message."""

    seq: int
    state: str
    incident_id: str
    at: datetime
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which articles: empty tuples and strings mean all; times are half open, None: unbounded; `novel`: of each
    story the first of them; `as_of`: as they were known then, not as they were counted. The last two are not asked
    together."""

    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    sentiment: str = ""
    start: datetime | None = None
    end: datetime | None = None
    before: str = ""
    novel: bool = False
    as_of: datetime | None = None


class Reader:
    """Reads one run. Every method blocks; call it from a thread.

    Args:
        engine: best one that can only read (`connect(url, read_only=True)`).

    Raises:
        DatabaseError: from every method, when the database cannot be reached or refuses.
    """

    def __init__(self, engine: Engine, run: str) -> None:
        self._engine, self._run = engine, run

    def status(self) -> Status:
        """How fresh the data is."""
        of_run = ArticleRow.run == self._run
        newest = select(ArticleRow.published_at, ArticleRow.model).where(of_run)
        newest = newest.order_by(ArticleRow.published_at.desc(), ArticleRow.article_id.desc()).limit(1)
        earliest = select(func.min(ArticleRow.published_at)).where(of_run)
        watermark = select(
            func.max(WatermarkRow.event_time).label("now"),
            func.extract("epoch", func.clock_timestamp() - func.max(WatermarkRow.moved_at)).label("quiet"),
        ).where(WatermarkRow.run == self._run)
        evaluated = select(EngineRow.evaluated_to).where(EngineRow.run == self._run)
        last, first = self.rows(newest), self.rows(earliest)
        mark, engine = self.rows(watermark), self.rows(evaluated)
        published, model = tuple(last[0]) if last else (None, None)
        quiet = None if mark[0].quiet is None else max(0.0, float(mark[0].quiet))
        to = engine[0][0] if engine else None
        return Status(self._run, mark[0].now or published, first[0][0], published, to, quiet, model)

    def version(self) -> str:
        """A word that changes whenever anything that the pages show has changed.

        Of the lanes' times the sum, not the newest: who took a time first may commit last, and is seen then.
        """
        lanes = func.sum(func.extract("epoch", WatermarkRow.moved_at))
        moved = select(lanes).where(WatermarkRow.run == self._run).scalar_subquery()
        seq = select(func.max(TransitionRow.seq)).where(TransitionRow.run == self._run).scalar_subquery()
        to = select(func.max(EngineRow.evaluated_to)).where(EngineRow.run == self._run).scalar_subquery()
        taken = select(func.max(IncidentRow.acknowledged_at)).where(IncidentRow.run == self._run).scalar_subquery()
        said = select(func.max(VerdictRow.given_at)).where(VerdictRow.run == self._run).scalar_subquery()
        told = select(func.max(StoryMemberRow.seq)).where(StoryMemberRow.run == self._run).scalar_subquery()
        made = select(func.max(TranslationRow.made_at)).where(TranslationRow.run == self._run).scalar_subquery()
        silences = select(func.count(), func.count(SilenceRow.ended_at)).where(SilenceRow.run == self._run).subquery()
        row = self.rows(select(moved, seq, to, taken, said, told, made, silences))[0]
        return "|".join("" if value is None else str(value) for value in row)

    def articles(self, wanted: Wanted, limit: int = PAGE) -> ArticlePage:
        """Articles, newest first, by keyset: a page costs the same however deep it lies.

        Raises:
            DataError: the cursor is not one of ours.
        """
        if wanted.as_of is None:
            query = self._wanted(ArticleRow, known.versions(), wanted, limit)
            rows = self._first_ones(query, wanted, limit) if wanted.novel else self.rows(query)
        else:  # each half on an index of its own
            halves = [
                self._wanted(ArticleRow, literal(1).label("versions"), wanted, limit, known.unedited(wanted.as_of)),
                self._wanted(VersionRow, VersionRow.version.label("versions"), wanted, limit,
                             known.newest(wanted.as_of)),
            ]  # fmt: skip
            both = union_all(*(half.subquery().select() for half in halves)).subquery()
            query = select(both).order_by(both.c.published_at.desc(), both.c.article_id.desc()).limit(limit + 1)
            rows = self.rows(query)
        found = [Article(**row._asdict()) for row in rows]
        page = found[:limit]
        return ArticlePage(page, encode_cursor(page[-1]) if len(found) > limit else None)

    def _first_ones(self, query: Any, wanted: Wanted, limit: int) -> Sequence[Any]:
        return first_ones(self.rows, self._run, query, limit + 1, passes(OTHER, wanted))

    def _wanted(self, table: Any, versions: Any, wanted: Wanted, limit: int, more: Sequence[Any] = ()) -> Any:
        """The newest rows of `article` or `article_version` that are wanted."""
        query = select(*fields_of(table), versions).where(table.run == self._run, *more, *passes(table, wanted))
        if wanted.before:
            query = query.where(tuple_(table.published_at, table.article_id) < decode_cursor(wanted.before))
        return query.order_by(table.published_at.desc(), table.article_id.desc()).limit(limit + 1)

    def incidents(
        self,
        start: datetime,
        end: datetime,
        *,
        topics: Sequence[str] = (),
        langs: Sequence[str] = (),
        topic: str | None = None,
        entity: str | None = None,
        fired: bool = False,
        before: tuple[datetime, str] | None = None,
        limit: int = MAX_INCIDENTS,
    ) -> list[Incident]:
        """Incidents that were open at some time of the span, newest first, `limit` at most.

        One over all languages is kept under every language filter: it is about them too. One over all topics likewise,
        but not where `topic` names one.

        Args:
            fired: only those that did. Hundreds may lapse unfired, and would fill the limit.
            before: start and id of the last one of the page before.
        """
        names = [name for name in Incident.__dataclass_fields__ if name != "evidence_ids"]
        query = select(*(getattr(IncidentRow, name) for name in names)).where(
            IncidentRow.run == self._run,
            IncidentRow.started_at < end,
            or_(IncidentRow.resolved_at.is_(None), IncidentRow.resolved_at >= start),
        )
        query = among(query, IncidentRow.topic, (*topics, ALL) if topics else ())
        query = among(query, IncidentRow.lang, (*langs, ALL) if langs else ())
        query = query if topic is None else query.where(IncidentRow.topic == topic)
        query = query if entity is None else query.where(IncidentRow.entity == entity)
        query = query.where(IncidentRow.fired_at.is_not(None)) if fired else query
        if before:
            same = and_(IncidentRow.started_at == before[0], IncidentRow.incident_id > before[1])
            query = query.where(or_(IncidentRow.started_at < before[0], same))
        query = query.order_by(IncidentRow.started_at.desc(), IncidentRow.incident_id).limit(limit)
        rows = [row._asdict() for row in self.rows(query)]
        titles = self._titles({article_id for row in rows for article_id in row["evidence"][:EVIDENCE]})
        return [_incident(row, titles) for row in rows]

    def verdicts(self, given_by: str, incident_ids: Sequence[str]) -> dict[str, bool]:
        """What one person said of some incidents, by incident id: whether it was useful."""
        query: Any = select(VerdictRow.incident_id, VerdictRow.useful).where(
            VerdictRow.run == self._run, VerdictRow.given_by == given_by, VerdictRow.incident_id.in_(incident_ids)
        )
        return {row.incident_id: row.useful for row in self.rows(query)}

    def transitions_after(self, seq: int, limit: int = 100) -> list[Transition]:
        """Changes of incidents after `seq`, in order."""
        names = Transition.__dataclass_fields__
        query = select(*(getattr(TransitionRow, name) for name in names))
        query = query.where(TransitionRow.run == self._run, TransitionRow.seq > seq)
        return [Transition(**row._asdict()) for row in self.rows(query.order_by(TransitionRow.seq).limit(limit))]

    def last_seq(self) -> int:
        """The newest transition's number, 0 when there is none."""
        found = self.rows(select(func.max(TransitionRow.seq)).where(TransitionRow.run == self._run))[0][0]
        return int(found or 0)

    def _titles(self, ids: set[str]) -> dict[str, str]:
        if not ids:
            return {}
        query: Any = select(ArticleRow.article_id, ArticleRow.title)
        rows = self.rows(query.where(ArticleRow.run == self._run, ArticleRow.article_id.in_(sorted(ids))))
        return {row.article_id: row.title for row in rows}

    @property
    def run(self) -> str:
        """The run that is read."""
        return self._run

    @property
    def engine(self) -> Engine:
        """What is read from."""
        return self._engine

    def rows(self, query: Any) -> Sequence[Any]:
        """All rows of a query.

        Raises:
            DatabaseError: the database cannot be reached or refuses.
        """
        try:
            with self._engine.connect() as connection:
                return connection.execute(query).all()
        except SQLAlchemyError as error:
            cause = str(getattr(error, "orig", None) or type(error).__name__).splitlines()[0]
            raise DatabaseError(f"the database did not answer: {cause}; is it running and migrated?") from error


def fields_of(table: Any) -> list[Any]:
    """The columns of a list of articles that both tables have; `versions` is not among them."""
    return [getattr(table, name) for name in Article.__dataclass_fields__ if name != "versions"]


def passes(table: Any, wanted: Wanted) -> list[Any]:
    """The conditions by which a row of `article` or `article_version` is wanted, but for the cursor and `novel`."""
    every = [
        table.topic.in_(wanted.topics) if wanted.topics else None,
        table.lang.in_(wanted.langs) if wanted.langs else None,
        table.sentiment == wanted.sentiment if wanted.sentiment else None,
        table.published_at >= wanted.start if wanted.start else None,
        table.published_at < wanted.end if wanted.end else None,
    ]
    return [one for one in every if one is not None]


def among(query: Any, column: Any, values: Sequence[str]) -> Any:
    """The query narrowed to some values of a column; none: not narrowed."""
    return query.where(column.in_(values)) if values else query


def _incident(row: dict[str, Any], titles: dict[str, str]) -> Incident:
    ids = row["evidence"][:EVIDENCE]
    return Incident(**{**row, "evidence": [titles[i] for i in ids if i in titles], "evidence_ids": ids})


def encode_cursor(article: Article) -> str:
    """The cursor of what is older than an article."""
    key = f"{article.published_at.astimezone(UTC).isoformat()}|{article.article_id}"
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[datetime, str]:
    """Publication time and id of the article that a cursor was made of.

    Raises:
        DataError: it is not one of ours.
    """
    try:
        key = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        moment, _, article_id = key.partition("|")
        at = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error):
        raise DataError("this cursor is not one of ours; start again without it") from None
    if at.tzinfo is None or "\x00" in article_id:
        raise DataError("this cursor is not one of ours; start again without it")
    return at, article_id
