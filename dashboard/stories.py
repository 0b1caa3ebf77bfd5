"""Stories on the pages: cards with the same event in several languages, novelty over time, and the filter for it.

Titles and sources are what strangers wrote: they are children, which React renders as text, each in its own direction.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dash import Dash, Output, State, dcc, html

from crosswind.dashboard import story_queries
from crosswind.dashboard.components import labelled, when
from crosswind.dashboard.figures import NEGATIVE, VOLUME, Figure
from crosswind.dashboard.i18n import _
from crosswind.dashboard.live import Live
from crosswind.dashboard.queries import Incident
from crosswind.dashboard.steady import only_new
from crosswind.dashboard.story_queries import Card, Told
from crosswind.dashboard.view import View

REPEATED = "#B9BEC6"
Beside = Callable[[Incident], Any]


def add_stories(app: Dash, live: Live, data: Sequence[Any], patient: Callable[[Any], Any]) -> None:
    """Fills `stories`, on whatever page has it."""

    @app.callback(
        Output("stories", "children"), Output("stories-known", "data"), *data, State("stories-known", "data")
    )  # fmt: skip
    @patient
    async def stories(_path: str, search: str, _pulse: Any, known: Any) -> tuple[Any, ...]:
        view = replace(View.from_query(search), sentiment="", zoom=None, pick=None, before="", novel=False)
        status = await live.status()
        key = ("stories", replace(view, ui=""), status.now, status.earliest)
        return only_new(known, panel(await live.get(key, lambda: story_queries.told(live.reader, view, status))))


async def beside(live: Live, incidents: Sequence[Incident], actions: Beside) -> Beside:
    """What stands below each alert: the stories behind it, then what can be done about it."""
    found = await asyncio.to_thread(story_queries.evidence, live.reader, incidents)
    return lambda incident: html.Div([evidence(found, incident), actions(incident)])


def evidence(found: Mapping[str, list[Card]], incident: Incident) -> Any:
    """The stories behind an alert; nothing where its articles have none."""
    cards = found.get(incident.incident_id)
    key: Any = {"data-key": f"stories {incident.incident_id}"}  # stays open when the list is drawn anew
    return html.Details([html.Summary(_("Stories behind it")), *map(story_card, cards)], **key) if cards else None


def panel(told: Told | None) -> Any:
    """Novelty over time and the most told stories, or why there are none."""
    if told is None:
        return None
    if not told.available:
        return html.P(_("Stories are off: the database has no pgvector."), className="quiet")
    if not told.cards:
        return html.P(
            _("No story here yet: the model gives no meaning of articles, or they are too new."), className="quiet"
        )
    chart = dcc.Graph(figure=novelty_figure(told), style={"height": 150},
                      config={"displayModeBar": False, "displaylogo": False, "responsive": True})  # fmt: skip
    return html.Div([labelled(html.Div(chart), _("New and repeated articles")), *map(story_card, told.cards)])


def story_card(card: Card) -> Any:
    """One event: how many tell it, who was first, and its headline in each language."""
    spread = _("{count} articles", count=f"{card.articles:,}")
    spread += " · " + _("{count} sources", count=f"{card.sources:,}")
    spread += " · " + _("{count} languages", count=len(card.langs))
    first = html.Span([_("first:"), " ", html.Bdi(card.first_source), " ", when(card.first_at), " → ",
                       when(card.last_at)], className="quiet")  # fmt: skip
    lines = [
        html.Li([html.Span(html.Bdi(line.lang), className="badge"), " ", html.Bdi(line.title, dir="auto"), " ",
                 html.Span([html.Bdi(line.source), " ", when(line.published_at)], className="quiet")])
        for line in card.lines
    ]  # fmt: skip
    head = html.Header([html.H3(html.Bdi(card.title, dir="auto")), html.Span(spread), first])
    return html.Article([head, html.Ul(lines, className="evidence")], className="incident story")


def novelty_figure(told: Told) -> Figure:
    """Articles per bin that begin a story, tell one anew and repeat one, stacked."""
    times = [at.strftime("%Y-%m-%dT%H:%M:%S") for at in told.span.times]
    named = ((_("new story"), NEGATIVE), (_("told anew"), VOLUME), (_("repeated"), REPEATED))
    bars = [
        {"type": "bar", "name": name, "x": times, "y": [cell[place] for cell in told.novelty],
         "marker": {"color": color}}
        for place, (name, color) in enumerate(named)
    ]  # fmt: skip
    clear = "rgba(0,0,0,0)"
    layout = {"barmode": "stack", "bargap": 0.05, "paper_bgcolor": clear, "plot_bgcolor": clear, "showlegend": True,
              "legend": {"orientation": "h"}, "margin": {"l": 40, "r": 8, "t": 8, "b": 24}, "xaxis": {"type": "date"},
              "yaxis": {"rangemode": "tozero"}, "uirevision": "novelty"}  # fmt: skip
    return {"data": bars, "layout": layout}


def novel_link(view: View, path: str) -> Any:
    """Narrows the list of articles to one of each story, or widens it again."""
    text = _("✕ show repetitions") if view.novel else _("Only new stories")
    there = replace(view, novel=not view.novel, before="")
    return html.P(dcc.Link(text, href=path + there.to_query(), className="button"), className="chip")
