"""Feeds: how each source has been delivering lately, in event time. Arithmetic, not a guess at causes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from dash import dcc, html
from sqlalchemy import text

from crosswind.dashboard.components import NOTHING, ago, labelled, when
from crosswind.dashboard.i18n import _
from crosswind.dashboard.models_page import table
from crosswind.dashboard.place import Place
from crosswind.dashboard.queries import Reader, Status
from crosswind.dashboard.view import View

DAYS: Final = 7
NEWEST: Final = 50_000
"""Articles that are looked at, at most: the newest ones. A busy feed's week is then shorter, and said to be."""

QUIET, SILENT = 3.0, 7.0
"""Articles that were to be expected since the last one. Where articles came at a steady rate, chance alone would leave
such a gap in 5 of 100 and in 1 of 1,000 cases; news does not come steadily, so it is a hint and no alarm."""

_SOURCES = text("""
    SELECT source, count(*) AS articles, max(published_at) AS last, min(published_at) AS first,
           count(*) FILTER (WHERE published_at > :day) AS last_day,
           count(*) FILTER (WHERE sentiment = 'negative') AS negative,
           percentile_disc(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM first_seen_at - published_at)) AS lag,
           array_agg(DISTINCT lang) AS langs
    FROM (SELECT source, published_at, first_seen_at, sentiment, lang FROM article
          WHERE run = :run AND published_at > :since AND published_at <= :now
          ORDER BY published_at DESC, article_id DESC LIMIT :newest) AS lately
    GROUP BY source ORDER BY articles DESC, source LIMIT 500
""")


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """One source.

    Attributes:
        state: `flowing`, `quiet` or `silent`; `rare` where there are too few articles to tell.
        last: its newest article's event time.
        per_day: articles per day over the days looked at.
        last_day: articles of the last 24 hours.
        lag_seconds: median time from an article's publication to when we first saw it. Of a replay it means nothing.
    """

    source: str
    state: str
    last: datetime
    articles: int
    per_day: float
    last_day: int
    negative_share: float
    lag_seconds: float
    languages: list[str]


@dataclass(frozen=True, slots=True)
class Feeds:
    """All sources of the days looked at, the busiest first."""

    now: datetime | None
    since: datetime | None
    feeds: list[FeedHealth]


def read(reader: Reader, status: Status) -> Feeds:
    """The sources of the last week of event time. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    now = status.now
    if now is None:
        return Feeds(None, None, [])
    since, day = now - timedelta(days=DAYS), now - timedelta(days=1)
    values = {"run": reader.run, "now": now, "since": since, "day": day, "newest": NEWEST}
    rows = reader.rows(_SOURCES.bindparams(**values))
    first = min((row.first for row in rows), default=now)
    days = max((now - first) / timedelta(days=1), 1 / 24)
    return Feeds(now, first, [_health(row, now, days) for row in rows])


def _health(row: Any, now: datetime, days: float) -> FeedHealth:
    per_day = row.articles / days
    state = state_of(row.articles, per_day, (now - row.last) / timedelta(days=1))
    return FeedHealth(
        row.source, state, row.last, row.articles, per_day, row.last_day, row.negative / row.articles, float(row.lag),
        sorted(row.langs),
    )  # fmt: skip


def state_of(articles: int, per_day: float, silent_days: float) -> str:
    """What a gap since the last article means at a source's usual rate.

    >>> [state_of(70, 10.0, days) for days in (0.1, 0.4, 0.8)], state_of(2, 0.3, 30.0)
    (['flowing', 'quiet', 'silent'], 'rare')
    """
    missed = per_day * silent_days
    if articles < SILENT:
        return "rare"
    return "silent" if missed >= SILENT else "quiet" if missed >= QUIET else "flowing"


def page(found: Feeds, place: Place, view: View) -> Any:
    """The page's content: the states to narrow to, and the table."""
    if found.now is None:
        return html.P(_("No article has come yet."), className="quiet")
    names = _states()
    shown = [feed for feed in found.feeds if place.only in ("", feed.state)]
    columns = (_("Source"), _("State"), _("Last article (UTC)"), _("Last 24 h"), _("Usually per day"),
               _("Negative share"), _("Seen after"), _("Languages"))  # fmt: skip
    note = _("Since {start}, up to {end} UTC, in event time.", start=f"{found.since:%d %b %H:%M}",
             end=f"{found.now:%d %b %H:%M}")  # fmt: skip
    return [
        html.P(note, className="quiet"),
        _choices(found.feeds, names, place, view),
        table(columns, [_row(feed, names) for feed in shown], _("No source is in this state.")),
    ]


def _states() -> dict[str, str]:
    return {"flowing": _("● flowing"), "quiet": _("○ quiet"), "silent": _("⚠ silent"), "rare": _("· rare")}


def _choices(feeds: Sequence[FeedHealth], names: dict[str, str], place: Place, view: View) -> Any:
    counts = {name: sum(feed.state == name for feed in feeds) for name in names}
    links = [dcc.Link(f"{_('all')} {len(feeds):,}", href=place.href("/feeds", view, only=""),
                      className="choice" + " here" * (place.only == ""))]  # fmt: skip
    links += [
        dcc.Link(f"{names[name]} {count:,}", href=place.href("/feeds", view, only=name),
                 className="choice" + " here" * (place.only == name))
        for name, count in counts.items()
    ]  # fmt: skip
    return labelled(html.Nav(links, className="choices"), _("State"))


def _row(feed: FeedHealth, names: dict[str, str]) -> list[Any]:
    badge = {"flowing": "live", "silent": "alert"}.get(feed.state, "")
    lag = ago(feed.lag_seconds) if math.isfinite(feed.lag_seconds) and feed.lag_seconds >= 0 else NOTHING
    return [
        html.Bdi(feed.source, dir="auto"), html.Span(names[feed.state], className=f"badge {badge}"), when(feed.last),
        f"{feed.last_day:,}", f"{feed.per_day:,.1f}", f"{feed.negative_share:.0%}", lag,
        html.Bdi(", ".join(feed.languages[:6]) + (" …" if len(feed.languages) > 6 else "")),
    ]  # fmt: skip
