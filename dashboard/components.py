"""Pieces of pages. Texts from data are children, which React renders as text; they never become markup."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from dash import dcc, html

from crosswind.dashboard.i18n import N_, _
from crosswind.dashboard.queries import MAX_INCIDENTS, Article, ArticlePage, Incident, Status
from crosswind.dashboard.scope import EntityNews
from crosswind.dashboard.series import Trend
from crosswind.dashboard.translated import Told, below
from crosswind.dashboard.view import Pick, View, stamp
from crosswind.stream.domain.bucket import ALL
from crosswind.stream.service.translation import Translation

NOTHING = "–"
NOBODY: Told = {}
"""No translations."""
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
    label = f"{SIGNS.get(article.sentiment, '')} {_('unsure') if article.unsure else _(article.sentiment)}"
    known = article.sentiment if article.sentiment in SIGNS else "neutral"
    return html.Span(label, className=f"sentiment {known}", title=odds)


def article_table(page: ArticlePage, view: View, path: str, told: Told = NOBODY) -> Any:
    """The list of articles with its way to older ones."""
    if not page.articles:
        return html.P(_("No article matches these filters."), className="quiet")
    columns = (_("Time (UTC)"), _("Sentiment"), _("Headline"), _("Topic"), _("Lang"), _("Source"))
    rows = [_article_row(article, view, told.get(article.article_id)) for article in page.articles]
    table = html.Table(
        [html.Thead(html.Tr([html.Th(name, scope="col") for name in columns])), html.Tbody(rows)], className="articles"
    )
    return html.Div([table, _pager(page, view, path)])


def _article_row(article: Article, view: View, told: Translation | None) -> Any:
    topic = dcc.Link(_(article.topic), href=series_href(view, article.topic))
    return html.Tr(
        [
            html.Td(when(article.published_at), className="time"),
            html.Td(sentiment_of(article)),
            html.Td([title_of(article), *below(told), *_names(article, view)], className="headline"),
            html.Td(topic, className="topic"),
            html.Td(html.Bdi(article.lang), className="lang"),
            html.Td(html.Bdi(article.source), className="source"),
        ],
        **_key(article.article_id),
    )


def _key(ident: str) -> Any:
    """What `assets/keep.js` tells a row or card by when its list is drawn anew."""
    return {"data-key": ident}


MAX_NAMES = 4
"""Entities linked below a headline."""


def _names(article: Article, view: View) -> list[Any]:
    names = [html.Bdi(dcc.Link(name, href=entity_href(view, name))) for name in article.entities[:MAX_NAMES]]
    return [html.Span(names, className="names")] if names else []


def _pager(page: ArticlePage, view: View, path: str) -> Any:
    links = []
    if view.before:
        links.append(dcc.Link(_("« Newest"), href=path + _with(view, before="").to_query(), className="button"))
    if page.next:
        links.append(dcc.Link(_("Older ›"), href=path + _with(view, before=page.next).to_query(), className="button"))
    return labelled(html.Nav(links, className="pager"), _("Pages of articles"))


def _with(view: View, **changes: Any) -> View:
    return replace(view, **changes)


def series_href(view: View, topic: str) -> str:
    """The address of a topic's own page with the same range and filters."""
    return "/series" + _with(view.plain, topic=topic).to_query()


def entity_href(view: View, entity: str) -> str:
    """The address of an entity's own page with the same range and filters."""
    return "/series" + _with(view.plain, entity=entity).to_query()


def card_summary(trend: Trend | None, alerts: int) -> Any:
    """A card's figures: share now, its change against the whole range, and the number of articles."""
    if trend is None:
        return html.P(_("no articles in this range"), className="quiet")
    change = trend.change
    parts: list[Any] = [html.Span([html.B(per_cent(trend.latest)), " " + _("negative now")])]
    if change is not None and abs(change) >= 0.01:
        sign, kind = ("▲ +", "worse") if change > 0 else ("▼ −", "better")
        parts.append(
            html.Span(f"{sign}{abs(change) * 100:.0f} pts", className=kind, title=_("against the whole range"))
        )
    parts.append(html.Span(_("{count} articles", count=f"{trend.total:,}"), className="quiet"))
    if alerts:
        count = _("⚠ {count} alert", count=1) if alerts == 1 else _("⚠ {count} alerts", count=alerts)
        parts.append(html.Span(count, className="badge alert"))
    return html.P(parts)


def incident_card(
    incident: Incident, view: View, beside: Any = None, told: Told = NOBODY, until: datetime | None = None
) -> Any:
    """One alert with what was seen, what was expected, the headlines behind it, and what can be done about it.

    Args:
        until: event time that alerts have been evaluated to.
    """
    end = incident.resolved_at
    facts = [
        (_("negative articles"), f"{incident.observed:,}"),
        (_("expected"), f"{incident.expected:.1f}"),
        (_("negative share"), per_cent(incident.negative_share)),
        (_("sources"), f"{incident.sources:,}"),
        (_("headlines"), f"{incident.headlines:,}"),
        (_("languages"), ", ".join(incident.languages) or NOTHING),
        (_("p-value"), f"{incident.p_value:.1e}"),
        (_("rule"), f"{incident.rule} {incident.rule_version}"),
    ]
    return html.Article(
        [
            html.Header(
                [
                    html.Span(
                        _(_STATES.get(incident.state, incident.state)), className=f"badge {_state(incident.state)}"
                    ),
                    html.H3(html.Bdi(scope_of(incident))),
                    html.Span([when(incident.started_at), " → ", when(end) if end else _("now")], className="quiet"),
                ]
            ),
            html.Dl([html.Div([html.Dt(name), html.Dd(html.Bdi(value))]) for name, value in facts]),
            html.Ul(_evidence(incident, told), className="evidence"),
            dcc.Link(_("Articles of this alert ›"), href=_evidence_href(incident, view, until)),
            beside,
        ],
        className=f"incident {_state(incident.state)}",
        **_key(incident.incident_id),
    )


def _evidence(incident: Incident, told: Told) -> list[Any]:
    titles = incident.evidence
    # an article that is gone leaves a gap among the titles: then nobody knows which id a title has
    ids = incident.evidence_ids if len(incident.evidence_ids) == len(titles) else [""] * len(titles)
    return [html.Li([html.Bdi(title, dir="auto"), *below(told.get(i))]) for i, title in zip(ids, titles)]


_STATES = {
    "pending": N_("◔ pending"), "firing": N_("⚠ firing"), "no_data": N_("⚠ no data"), "resolved": N_("✓ resolved"),
    "lapsed": N_("✓ lapsed, never fired"),
}  # fmt: skip


def _state(state: str) -> str:
    return state if state in _STATES else "unknown"


def scope_of(incident: Incident) -> str:
    """What an incident is about, in words."""
    parts = [_("all topics") if incident.topic == ALL else incident.topic]
    parts += [] if incident.entity == ALL else [incident.entity]
    return " · ".join([*parts, _("all languages") if incident.lang == ALL else incident.lang])


def _evidence_href(incident: Incident, view: View, until: datetime | None = None) -> str:
    """Where an incident's articles are: on its own series' page, without the filters that would hide some of them."""
    topic, entity, lang = ("" if name == ALL else name for name in (incident.topic, incident.entity, incident.lang))
    path, topics = ("/series", view.topics) if topic or entity else ("/", ())
    there = _with(
        view.plain, topic=topic, entity=entity, topics=topics, langs=(lang,) if lang else (), novel=False,
        sentiment=view.sentiment if view.sentiment == "negative" else "",
    )  # fmt: skip
    return path + there.picked(pick_of(incident, until)).to_query()


_MINUTE, _HOUR = timedelta(minutes=1), timedelta(hours=1)


def pick_of(incident: Incident, until: datetime | None = None) -> Pick:
    """The articles of an incident as a pick: from the window that was counted in its first minute to its end.

    Args:
        until: event time that alerts have been evaluated to. An open incident's pick reaches to the end of that hour:
            to the minute, every open card would be another one each minute, and be drawn anew under its reader.
    """
    begun = incident.started_at.replace(second=0, microsecond=0)
    if incident.resolved_at:
        end = max(incident.resolved_at.replace(second=0, microsecond=0), begun) + _MINUTE
    else:
        reached = max(begun, incident.fired_at or begun, until or begun)
        end = reached.replace(minute=0, second=0, microsecond=0) + _HOUR
    return Pick(incident.topic, begun - (incident.window_minutes - 1) * _MINUTE, end)


def alert_list(
    incidents: Sequence[Incident], view: View, beside: Callable[[Incident], Any] = lambda incident: None,
    told: Told = NOBODY, until: datetime | None = None,
) -> Any:  # fmt: skip
    """Alerts, newest first; `until` is the event time that they have been evaluated to."""
    if not incidents:
        return html.P(_("No alert in this range. Bad news stayed within what is usual."), className="quiet")
    cards = [incident_card(incident, view, beside(incident), told, until) for incident in incidents]
    text = _("The newest {count}; there may be older ones. Choose a shorter range or fewer topics.",
             count=MAX_INCIDENTS)  # fmt: skip
    more = [html.P(text, className="quiet")] * _full(incidents)
    return html.Div([*more, *cards], className="incidents")


def _full(incidents: Sequence[Incident]) -> bool:
    """Whether there may be more of them than were read."""
    return len(incidents) >= MAX_INCIDENTS


def freshness(status: Status) -> list[Any]:
    """The header's badge: whether data flows, how far event time has come, and which model judged the newest."""
    if status.now is None:
        return [html.Span(_("○ waiting"), className="badge")]
    quiet = status.quiet_seconds
    flowing = quiet is not None and quiet < 60
    label = _("● live") if flowing else _("○ quiet for {time}", time=ago(quiet))
    behind = (status.now - status.evaluated_to).total_seconds() if status.evaluated_to else None
    return [
        html.Span(label, className="badge live" if flowing else "badge", title=_("since the last article was stored")),
        _fact(_("data to"), [when(status.now), " UTC"]),
        _fact(_("alerts behind by"), NOTHING if behind is None else ago(max(0.0, behind))),
        _fact(_("model"), html.Code((status.model or NOTHING)[:16])),
        _fact(_("run"), html.Code(status.run)),
    ]


def _fact(name: str, value: Any) -> Any:
    return html.Span([html.Span(f"{name} ", className="quiet"), html.Span(value)], className="fact")


def ago(seconds: float | None) -> str:
    """A length of time in its largest unit.

    >>> ago(7300)
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
    about = _("all topics") if view.pick.topic == ALL else _(view.pick.topic)
    what = [html.B(about), " ", _("from"), " ", when(view.pick.start), " ", _("to"), " ", when(view.pick.end), " UTC "]
    return html.P([*what, dcc.Link(_("✕ show all"), href=path + view.picked(None).to_query())],
                  className="chip picked")  # fmt: skip


def key_figures(
    articles: int, negative: int, incidents: Sequence[Incident], langs: Sequence[str], query: str
) -> list[Any]:
    """The four figures above the charts; `query` is what the link to all alerts takes along."""
    still_open = sum(one.resolved_at is None and one.state != "pending" for one in incidents)
    share = negative / articles if articles else None
    shown = [
        (_("Articles"), f"{articles:,}", _("in this range")),
        (_("Negative share"), per_cent(share), _("{count} negative articles", count=f"{negative:,}")),
        (_("Alerts"), f"{len(incidents):,}" + "+" * _full(incidents), _("{count} open now", count=still_open)),
        (_("Languages"), f"{len(langs):,}", ", ".join(langs[:6]) + (" …" if len(langs) > 6 else "")),
    ]
    return [
        html.Div([html.Span(name, className="label"), html.Strong(value), html.Span(html.Bdi(note), className="quiet"),
                  *[dcc.Link(_("All alerts ›"), href="/alerts" + query, className="more")] * (name == _("Alerts"))],
                 className="kpi")
        for name, value, note in shown
    ]  # fmt: skip


def mover_list(movers: Sequence[Trend], view: View) -> list[Any]:
    """The topics that moved most, each a link to its own page."""
    if not movers:
        return []
    found: list[Any] = [html.Span(_("Moving now"), className="label")]
    for trend in movers:
        change = trend.change or 0.0
        sign, kind = ("▲ +", "worse") if change > 0 else ("▼ −", "better")
        moved = html.Span(f" {sign}{abs(change) * 100:.0f} pts", className=kind)
        found.append(dcc.Link([html.B(_(trend.topic)), moved], href=series_href(view, trend.topic), className="mover"))
    return found


def entity_list(found: Sequence[EntityNews], view: View) -> list[Any]:
    """The names with most bad news lately, each a link to its own page."""
    if not found:
        return []
    links: list[Any] = [html.Span(_("Most bad news, last 24 h"), className="label")]
    for news in found:
        text = f" {news.negative:,} / {news.articles:,}"
        count = html.Span(text, className="quiet", title=_("negative of all articles"))
        links.append(dcc.Link([html.B(html.Bdi(news.entity)), count], href=entity_href(view, news.entity),
                              className="mover"))  # fmt: skip
    return links


def export_links(view: View) -> list[Any]:
    """Files of what is shown."""
    query = view.to_query()
    return [
        html.A(f"{name} CSV", href=f"/export/{file}.csv{query}", download=f"crosswind-{file}.csv", className="button")
        for name, file in ((_("Articles"), "articles"), (_("Chart"), "trends"))
    ]
