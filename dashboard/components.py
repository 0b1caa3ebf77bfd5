"""Pieces of pages. Texts from data are children, which React renders as text; they never become markup."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from dash import dcc, html

from crosswind.dashboard.queries import Article, ArticlePage, Incident, Status
from crosswind.dashboard.series import Trend
from crosswind.dashboard.view import Pick, View, stamp
from crosswind.stream.domain.bucket import ALL

NOTHING = "–"
SIGNS = {"negative": "▼", "neutral": "■", "positive": "▲"}
"""A sign beside each sentiment, for readers who do not see its colour."""


def labelled(component: Any, label: str) -> Any:
    """The component with an `aria-label`, which is no Python name and so no keyword argument."""
    setattr(component, "aria-label", label)
    return component


def when(moment: datetime | None) -> Any:
    """An event time in UTC, with its machine-readable form."""
    if moment is None:
        return NOTHING
    return html.Time(f"{moment.astimezone(UTC):%d %b %H:%M}", dateTime=stamp(moment), title=stamp(moment))


def per_cent(value: float | None) -> str:
    """A share as people read it; a dash where it is not known."""
    return NOTHING if value is None else f"{value:.0%}"


def safe_href(url: str | None) -> str | None:
    """The url when it is http or https with a host and holds no control character, else None."""
    if not url or not url.isprintable() or any(char.isspace() or char == "\\" for char in url):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def title_of(article: Article) -> Any:
    """A headline in its own direction, isolated from what stands around it; a link where it has a safe one."""
    text = html.Bdi(article.title or "(no title)", dir="auto", lang=_lang(article.lang))
    href = safe_href(article.url)
    if href is None:
        return text
    return html.A(text, href=href, target="_blank", rel="noopener noreferrer", referrerPolicy="no-referrer")


def _lang(lang: str) -> str:
    return lang if lang.isascii() and lang.isalpha() else "und"


def sentiment_of(article: Article) -> Any:
    """The sentiment with its sign, the probabilities in its tooltip."""
    odds = f"negative {article.negative_ppm / 1e6:.0%}, neutral {article.neutral_ppm / 1e6:.0%}, "
    odds += f"positive {article.positive_ppm / 1e6:.0%}"
    label = f"{SIGNS.get(article.sentiment, '')} {'unsure' if article.unsure else article.sentiment}"
    known = article.sentiment if article.sentiment in SIGNS else "neutral"
    return html.Span(label, className=f"sentiment {known}", title=odds)


def article_table(page: ArticlePage, view: View, path: str) -> Any:
    """The list of articles with its way to older ones."""
    if not page.articles:
        return html.P("No article matches these filters.", className="quiet")
    columns = ("Time (UTC)", "Sentiment", "Headline", "Topic", "Lang", "Source")
    rows = [_article_row(article, view) for article in page.articles]
    table = html.Table(
        [html.Thead(html.Tr([html.Th(name, scope="col") for name in columns])), html.Tbody(rows)], className="articles"
    )
    return html.Div([table, _pager(page, view, path)])


def _article_row(article: Article, view: View) -> Any:
    topic = dcc.Link(article.topic, href=series_href(view, article.topic))
    return html.Tr(
        [
            html.Td(when(article.published_at), className="time"),
            html.Td(sentiment_of(article)),
            html.Td(title_of(article), className="headline"),
            html.Td(topic, className="topic"),
            html.Td(html.Bdi(article.lang), className="lang"),
            html.Td(html.Bdi(article.source), className="source"),
        ]
    )


def _pager(page: ArticlePage, view: View, path: str) -> Any:
    links = []
    if view.before:
        links.append(dcc.Link("« Newest", href=path + _with(view, before="").to_query(), className="button"))
    if page.next:
        links.append(dcc.Link("Older ›", href=path + _with(view, before=page.next).to_query(), className="button"))
    return labelled(html.Nav(links, className="pager"), "Pages of articles")


def _with(view: View, **changes: Any) -> View:
    return replace(view, **changes)


def series_href(view: View, topic: str) -> str:
    """The address of a topic's own page with the same range and filters."""
    return "/series" + _with(view, topic=topic, pick=None, before="").to_query()


def card_summary(trend: Trend | None, alerts: int) -> Any:
    """A card's figures: share now, its change against the whole range, and the number of articles."""
    if trend is None:
        return html.P("no articles in this range", className="quiet")
    change = trend.change
    parts: list[Any] = [html.Span([html.B(per_cent(trend.latest)), " negative now"])]
    if change is not None and abs(change) >= 0.01:
        sign, kind = ("▲ +", "worse") if change > 0 else ("▼ −", "better")
        parts.append(html.Span(f"{sign}{abs(change) * 100:.0f} pts", className=kind, title="against the whole range"))
    parts.append(html.Span(f"{trend.total:,} articles", className="quiet"))
    if alerts:
        parts.append(html.Span(f"⚠ {alerts} alert{'s' if alerts > 1 else ''}", className="badge alert"))
    return html.P(parts)


def incident_card(incident: Incident, view: View) -> Any:
    """One alert with what was seen, what was expected, and the headlines behind it."""
    end = incident.resolved_at
    facts = [
        ("negative articles", f"{incident.observed:,}"),
        ("expected", f"{incident.expected:.1f}"),
        ("negative share", per_cent(incident.negative_share)),
        ("sources", f"{incident.sources:,}"),
        ("headlines", f"{incident.headlines:,}"),
        ("languages", ", ".join(incident.languages) or NOTHING),
        ("p-value", f"{incident.p_value:.1e}"),
        ("rule", f"{incident.rule} {incident.rule_version}"),
    ]
    pick = pick_of(incident)
    return html.Article(
        [
            html.Header(
                [
                    html.Span(_STATES.get(incident.state, incident.state), className=f"badge {_state(incident.state)}"),
                    html.H3(html.Bdi(scope_of(incident))),
                    html.Span([when(incident.started_at), " → ", when(end) if end else "now"], className="quiet"),
                ]
            ),
            html.Dl([html.Div([html.Dt(name), html.Dd(html.Bdi(value))]) for name, value in facts]),
            html.Ul([html.Li(html.Bdi(title, dir="auto")) for title in incident.evidence], className="evidence"),
            dcc.Link("Articles of this alert ›", href="/" + view.picked(pick).to_query()) if pick else None,
        ],
        className=f"incident {_state(incident.state)}",
    )


_STATES = {"pending": "◔ pending", "firing": "⚠ firing", "resolved": "✓ resolved"}


def _state(state: str) -> str:
    return state if state in _STATES else "unknown"


def scope_of(incident: Incident) -> str:
    """What an incident is about, in words."""
    parts = ["all topics" if incident.topic == ALL else incident.topic]
    parts += [] if incident.entity == ALL else [incident.entity]
    return " · ".join([*parts, "all languages" if incident.lang == ALL else incident.lang])


def pick_of(incident: Incident) -> Pick | None:
    """The articles of an incident as a pick; None for one over all topics, which no pick can name."""
    end = incident.resolved_at or incident.fired_at or incident.started_at
    start = incident.started_at.replace(microsecond=0)
    if incident.topic == ALL:
        return None
    return Pick(incident.topic, start, max(end.replace(microsecond=0), start) + timedelta(minutes=1))


def alert_list(incidents: Sequence[Incident], view: View) -> Any:
    """Alerts, newest first."""
    if not incidents:
        return html.P("No alert in this range. Bad news stayed within what is usual.", className="quiet")
    return html.Div([incident_card(incident, view) for incident in incidents], className="incidents")


def freshness(status: Status) -> list[Any]:
    """The header's badge: whether data flows, how far event time has come, and which model judged the newest."""
    if status.now is None:
        return [html.Span("○ waiting", className="badge")]
    quiet = status.quiet_seconds
    flowing = quiet is not None and quiet < 60
    label = "● live" if flowing else f"○ quiet for {_ago(quiet)}"
    behind = (status.now - status.evaluated_to).total_seconds() if status.evaluated_to else None
    return [
        html.Span(label, className="badge live" if flowing else "badge", title="since the last article was stored"),
        _fact("data to", [when(status.now), " UTC"]),
        _fact("alerts behind by", NOTHING if behind is None else _ago(max(0.0, behind))),
        _fact("model", html.Code((status.model or NOTHING)[:16])),
        _fact("run", html.Code(status.run)),
    ]


def _fact(name: str, value: Any) -> Any:
    return html.Span([html.Span(f"{name} ", className="quiet"), html.Span(value)], className="fact")


def _ago(seconds: float | None) -> str:
    """A length of time in its largest unit.

    >>> _ago(7300)
    '2 h'
    """
    if seconds is None:
        return NOTHING
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def pick_note(view: View, path: str) -> Any:
    """What the list of articles is narrowed to, with a way back."""
    if view.pick is None:
        return None
    what = [html.B(view.pick.topic), " from ", when(view.pick.start), " to ", when(view.pick.end), " UTC "]
    return html.P([*what, dcc.Link("✕ show all", href=path + view.picked(None).to_query())], className="chip")


def key_figures(
    articles: int, negative: int, incidents: Sequence[Incident], langs: Sequence[str], query: str
) -> list[Any]:
    """The four figures above the charts; `query` is what the link to all alerts takes along."""
    still_open = sum(incident.state == "firing" for incident in incidents)
    share = negative / articles if articles else None
    shown = [
        ("Articles", f"{articles:,}", "in this range"),
        ("Negative share", per_cent(share), f"{negative:,} negative articles"),
        ("Alerts", f"{len(incidents):,}", f"{still_open} open now"),
        ("Languages", f"{len(langs):,}", ", ".join(langs[:6]) + (" …" if len(langs) > 6 else "")),
    ]
    return [
        html.Div([html.Span(name, className="label"), html.Strong(value), html.Span(html.Bdi(note), className="quiet"),
                  dcc.Link("All alerts ›", href="/alerts" + query, className="more") if name == "Alerts" else None],
                 className="kpi")
        for name, value, note in shown
    ]  # fmt: skip


def mover_list(movers: Sequence[Trend], view: View) -> list[Any]:
    """The topics that moved most, each a link to its own page."""
    if not movers:
        return []
    found: list[Any] = [html.Span("Moving now", className="label")]
    for trend in movers:
        change = trend.change or 0.0
        sign, kind = ("▲ +", "worse") if change > 0 else ("▼ −", "better")
        moved = html.Span(f" {sign}{abs(change) * 100:.0f} pts", className=kind)
        found.append(dcc.Link([html.B(trend.topic), moved], href=series_href(view, trend.topic), className="mover"))
    return found
