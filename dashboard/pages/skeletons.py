"""The pages before they have data. Cards are there once and for all, so that a chart is updated, never rebuilt."""

from typing import Any

from dash import dcc, html

from crosswind.dashboard.components import labelled, series_href
from crosswind.dashboard.series import WINDOW_BINS
from crosswind.dashboard.view import View
from crosswind.models.taxonomy import TAXONOMY, TOPICS

_CARD: Any = {"displayModeBar": False, "displaylogo": False, "responsive": True}
_TALL: Any = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def skeleton(pathname: str | None, view: View) -> Any:
    """The page of a path."""
    if pathname in (None, "", "/"):
        return _overview(view)
    if pathname == "/alerts":
        return _alerts()
    if pathname == "/series" and view.topic in TOPICS:
        return _series(view.topic)
    return html.Section([html.H1("There is no such page"), dcc.Link("To the overview", href="/")], className="panel")


def _overview(view: View) -> Any:
    return html.Div(
        [
            html.H1("Overview", className="visually-hidden"),
            labelled(html.Section(id="figures", className="kpis"), "Key figures"),
            labelled(html.Section(id="movers", className="movers"), "Biggest movers"),
            _heading("Bad news by topic", _legend()),
            html.Section([_card(topic, view) for topic in TOPICS], className="cards"),
            html.Div(
                [
                    html.Section([_heading("Latest articles"), html.Div(id="pick"), html.Div(id="articles")],
                                 className="panel", id="articles-panel"),
                    html.Section([_heading("Negative share by language"),
                                  dcc.Graph(id="heat", config=_CARD, figure=_blank())], className="panel"),
                ],
                className="split",
            ),
        ]
    )  # fmt: skip


def _card(topic: str, view: View) -> Any:
    graph = dcc.Graph(id={"type": "trend", "topic": topic}, config=_CARD, figure=_blank(), style={"height": 200})
    return html.Article(
        [
            html.H3(dcc.Link(topic, href=series_href(view, topic), id={"type": "open", "topic": topic}),
                    title=TAXONOMY.descriptions[topic]),
            html.Div(id={"type": "summary", "topic": topic}, className="summary"),
            graph,
        ],
        id={"type": "card", "topic": topic},
        className="card",
    )  # fmt: skip


def _series(topic: str) -> Any:
    return html.Div(
        [
            html.P(dcc.Link("‹ Overview", href="/", id="back"), className="crumb"),
            html.H1(topic),
            html.P(TAXONOMY.descriptions[topic], className="quiet"),
            html.Section([html.Div(id="series-summary", className="summary"), _legend(),
                          dcc.Graph(id="series", config=_TALL, figure=_blank(), style={"height": 380})],
                         className="panel"),
            html.Section([_heading("Alerts"), html.Div(id="series-alerts")], className="panel"),
            html.Section([_heading("Articles"), html.Div(id="pick"), html.Div(id="articles")],
                         className="panel", id="articles-panel"),
        ]
    )  # fmt: skip


def _alerts() -> Any:
    note = html.P("Every surge that was open in the range, the newest first.", className="quiet")
    return html.Div([html.H1("Alerts"), note, html.Div(id="alerts")])


def _heading(text: str, *beside: Any) -> Any:
    return html.Div([html.H2(text), *beside], className="heading")


def _legend() -> Any:
    entries = [
        ("line", f"negative share, trailing {WINDOW_BINS} bars"),
        ("bar-negative", "negative articles"),
        ("bar-other", "other articles"),
        ("band", "alert"),
        ("silent", "no data"),
    ]
    return html.Ul([html.Li([html.I(className=f"key {key}"), text]) for key, text in entries], className="legend")


def _blank() -> dict[str, Any]:
    """A figure's place before its data is there, so that nothing jumps."""
    clear = "rgba(0,0,0,0)"
    hidden = {"visible": False}
    layout = {"paper_bgcolor": clear, "plot_bgcolor": clear, "xaxis": hidden, "yaxis": hidden}
    return {"data": [], "layout": layout}
