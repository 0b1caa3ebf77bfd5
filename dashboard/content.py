"""What each page needs from the database, fetched in one go and turned into figures. No dash here."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from crosswind.dashboard import scope as scopes
from crosswind.dashboard.baseline import Expected, expected
from crosswind.dashboard.counts import Counts
from crosswind.dashboard.counts import read as read_counts
from crosswind.dashboard.figures import Band, Words, heat_figure, trend_figure
from crosswind.dashboard.i18n import _
from crosswind.dashboard.queries import PAGE, ArticlePage, Incident, Reader, Status, Wanted
from crosswind.dashboard.scope import EntityNews, Scope
from crosswind.dashboard.series import Span, Trend, gaps, span_of
from crosswind.dashboard.view import RANGES, View
from crosswind.errors import DataError
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.domain.bucket import ALL

MAX_LANGS = 20
"""Columns of the heat map; the rarest languages are left out."""


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything behind the overview's charts.

    Attributes:
        trends: topic -> trend; a topic without articles is absent.
        incidents: alerts of the span that fired, newest first, `MAX_INCIDENTS` at most.
        langs: languages of the span, the most frequent first.
    """

    span: Span
    trends: dict[str, Trend]
    incidents: list[Incident]
    gaps: tuple[tuple[datetime, datetime], ...]
    langs: list[str]
    counts: dict[tuple[str, str], tuple[int, int]]
    entities: list[EntityNews]

    @property
    def articles(self) -> int:
        """Articles in the span, over what the filters leave."""
        return sum(trend.total for trend in self.trends.values())

    @property
    def negative(self) -> int:
        """Negative articles in the span."""
        return sum(sum(trend.negative) for trend in self.trends.values())

    @property
    def movers(self) -> list[Trend]:
        """The four topics whose share moved most against the whole range, by at least five points."""
        moved = [trend for trend in self.trends.values() if trend.change is not None and abs(trend.change) >= 0.05]
        return sorted(moved, key=lambda trend: (-abs(trend.change or 0.0), trend.topic))[:4]

    def bands(self, topic: str) -> list[Band]:
        """The alerts on one topic's chart. Those of an entity are over all topics, and would be on every chart."""
        return [band_of(i, topic, self.span) for i in self.incidents if i.topic == topic]

    def figure(self, topic: str, view: View) -> dict[str, Any]:
        """One topic's chart."""
        revision = f"{view.range} {topic}"
        return trend_figure(
            self.trends.get(topic), self.span, bands=self.bands(topic), gaps=self.gaps, revision=revision, words=words()
        )

    def heat(self) -> dict[str, Any]:
        """The heat map of languages."""
        topics = [topic for topic in TOPICS if topic in self.trends]
        return heat_figure(topics, self.langs[:MAX_LANGS], self.counts, words())


@dataclass(frozen=True, slots=True)
class OneSeries:
    """Everything behind the series page."""

    scope: Scope
    span: Span
    trend: Trend
    expected: Expected
    incidents: list[Incident]
    gaps: tuple[tuple[datetime, datetime], ...]

    @property
    def bands(self) -> list[Band]:
        """Its alerts, as bands."""
        return [band_of(incident, self.scope.topic, self.span) for incident in self.incidents]

    def figure(self, view: View) -> dict[str, Any]:
        """Its chart."""
        return trend_figure(
            self.trend, self.span, bands=self.bands, gaps=self.gaps, revision=f"{view.range} {self.scope}", tall=True,
            expected=self.expected, words=words(),
        )  # fmt: skip


def words() -> Words:
    """What charts say in the language in use."""
    return Words(
        negative=_("negative"), negative_articles=_("negative articles"), other_articles=_("other articles"),
        expected=_("expected"), no_data=_("no data"), cell=_("{negative} of {articles} negative"),
    )  # fmt: skip


def scope_of(view: View) -> Scope:
    """The series that a view names."""
    return Scope(view.topic or ALL, view.langs, view.entity or ALL)


def topics_of(view: View) -> tuple[str, ...]:
    """The topics that a view's lists are about, empty for all: the filter counts only where its control is shown."""
    if view.topic:
        return (view.topic,)
    return () if view.entity else view.topics


def series(reader: Reader, view: View, status: Status, counts: Counts | None = None) -> OneSeries | None:
    """What the series page shows; None while the database is empty. Blocks.

    Args:
        counts: those of the view's span, when somebody has read them already.
    """
    span = span_for(view, status)
    if span is None:
        return None
    scope, known = scope_of(view), counts or read_counts(reader, span)
    of_names = scope.entity != ALL
    trend = scopes.trend(reader, span, scope) if of_names else known.trend(scope.topic, scope.langs)
    topics, topic = ((view.topic,) if view.topic else (), None) if of_names else ((), scope.topic)
    shown = reader.incidents(
        span.start, span.end, topics=topics, topic=topic, langs=view.langs, entity=scope.entity, fired=True
    )
    band = expected(trend, span, scopes.hourly(reader, span, scope))
    return OneSeries(scope, span, trend, band, shown, gaps(span, known.totals))


def band_of(incident: Incident, topic: str, span: Span) -> Band:
    """An incident as a band from its start to its end; an open one reaches to the span's end."""
    label = _("⚠ {severity} alert: {observed} negative, {expected} expected", severity=_(incident.severity),
              observed=incident.observed, expected=f"{incident.expected:.1f}")  # fmt: skip
    return Band(topic, incident.started_at, incident.resolved_at or span.end, label)


def span_for(view: View, status: Status) -> Span | None:
    """The span of event time that a view shows; None while there is nothing."""
    if status.now is None:
        return None
    return span_of(RANGES[view.range], status.now, status.earliest or status.now)


def overview(
    reader: Reader, view: View, status: Status, topics: Sequence[str] = (), counts: Counts | None = None
) -> Overview | None:
    """What the overview shows; None while the database is empty. Blocks.

    Args:
        counts: those of the view's span, when somebody has read them already.
    """
    span = span_for(view, status)
    if span is None:
        return None
    topics, known = topics or view.topics, counts or read_counts(reader, span)
    return Overview(
        span=span,
        trends=known.trends(topics, view.langs),
        incidents=reader.incidents(span.start, span.end, topics=topics, langs=view.langs, fired=True),
        gaps=gaps(span, known.totals),
        langs=list(known.languages),
        counts={(cell.topic, cell.lang): (cell.articles, cell.negative) for cell in known.cells},
        entities=scopes.entities(reader, span, view.langs),
    )


def articles(reader: Reader, view: View, status: Status, limit: int = PAGE) -> ArticlePage:
    """The list of articles of a view: those of its pick, else the newest of its range. Blocks."""
    span = span_for(view, status)
    if span is None:
        return ArticlePage([], None)
    topics = topics_of(view)
    if view.pick and view.pick.topic != ALL:
        topics = (view.pick.topic,)
    start, end = (view.pick.start, view.pick.end) if view.pick else (span.start, span.end)
    wanted = Wanted(topics, view.langs, view.sentiment, start, end, view.before, view.novel)
    try:
        return _articles(reader, wanted, view.entity, limit)
    except DataError:  # a link with a broken cursor starts again at the newest
        return _articles(reader, replace(wanted, before=""), view.entity, limit)


def _articles(reader: Reader, wanted: Wanted, entity: str, limit: int) -> ArticlePage:
    return scopes.mentions(reader, wanted, entity, limit) if entity else reader.articles(wanted, limit)
