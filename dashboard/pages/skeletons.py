"""The pages before they have data. Cards are there once and for all, so that a chart is updated, never rebuilt."""

from typing import Any

from dash import dcc, html

from crosswind.dashboard import backtests_page, rules_page, subscriptions_page
from crosswind.dashboard.components import labelled, series_href
from crosswind.dashboard.content import scope_of
from crosswind.dashboard.figures import escape
from crosswind.dashboard.i18n import _
from crosswind.dashboard.series import WINDOW_BINS
from crosswind.dashboard.view import View
from crosswind.models.taxonomy import TAXONOMY, TOPICS

_CARD: Any = {"displayModeBar": False, "displaylogo": False, "responsive": True}
_TALL: Any = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}


def _feeds() -> Any:
    note = _("How each source has been delivering in the last week.")
    return html.Div([html.H1(_("Feeds")), html.P(note, className="quiet"), dcc.Store(id="feeds-known"),
                     html.Div(id="feeds")])  # fmt: skip


_WORK = {
    "/subscriptions": subscriptions_page.skeleton,
    "/rules": rules_page.skeleton,
    "/backtests": backtests_page.skeleton,
    "/feeds": _feeds,
}


def skeleton(pathname: str | None, view: View) -> Any:
    """The page of a path."""
    if pathname in (None, "", "/"):
        return _overview(view)
    if pathname == "/alerts":
        return _alerts()
    if pathname == "/models":
        return html.Div([html.H1(_("Models")), dcc.Store(id="models-known"), html.Div(id="models")])
    if pathname in _WORK:
        return _WORK[pathname]()
    if pathname == "/series" and (view.topic in TOPICS or (view.entity and not view.topic)):
        return _series(view)
    return html.Section(
        [html.H1(_("There is no such page")), dcc.Link(_("To the overview"), href="/")], className="panel"
    )


def _overview(view: View) -> Any:
    return html.Div(
        [
            html.H1(_("Overview"), className="visually-hidden"),
            labelled(html.Section(id="figures", className="kpis"), _("Key figures")),
            labelled(html.Section(id="movers", className="movers"), _("Biggest movers")),
            labelled(html.Section(id="entities", className="movers"), _("Names in the news")),
            dcc.Store(id="overview-answer"),
            dcc.Store(id="overview-known"),  # tags of what is shown here: only others are sent
            dcc.Store(id="articles-known"),
            dcc.Store(id="stories-known"),
            _heading(_("Bad news by topic"), _legend()),
            html.Section([_card(topic, view) for topic in TOPICS], className="cards"),
            html.Div(
                [
                    html.Section([_heading(_("Latest articles"), _exports()), html.Div(id="pick"),
                                  html.Div(id="articles")],
                                 className="panel", id="articles-panel"),
                    html.Section([_heading(_("Negative share by language")),
                                  dcc.Graph(id="heat", config=_CARD, figure=_blank())], className="panel"),
                ],
                className="split",
            ),
            html.Section([_heading(_("Stories")), html.Div(id="stories")], className="panel"),
        ]
    )  # fmt: skip


def _card(topic: str, view: View) -> Any:
    graph = dcc.Graph(id={"type": "trend", "topic": topic}, config=_CARD, figure=_blank(), style={"height": 200})
    return html.Article(
        [
            html.H3(dcc.Link(_(topic), href=series_href(view, topic), id={"type": "open", "topic": topic}),
                    title=TAXONOMY.descriptions[topic]),
            html.Div(id={"type": "summary", "topic": topic}, className="summary"),
            graph,
        ],
        id={"type": "card", "topic": topic},
        className="card",
    )  # fmt: skip


def _series(view: View) -> Any:
    note = TAXONOMY.descriptions[view.topic] if view.topic else _("Articles that name it, whatever their topic.")
    name = scope_of(view).name
    return html.Div(
        [
            html.P(dcc.Link(_("‹ Overview"), href="/", id="back"), className="crumb"),
            html.H1(html.Bdi(name if view.entity else _(name)), className="" if view.entity else "topic"),
            html.P(note, className="quiet"),
            dcc.Store(id="series-answer"),
            dcc.Store(id="series-known"),
            dcc.Store(id="articles-known"),
            dcc.Store(id="stories-known"),
            html.Section([html.Div(id="series-summary", className="summary"), _legend(usual=True),
                          dcc.Graph(id="series", config=_TALL, figure=_blank(), style={"height": 380}),
                          _png("series", name)], className="panel"),
            html.Section([_heading(_("Alerts")), html.Div(id="series-alerts")], className="panel"),
            html.Section([_heading(_("Articles"), _exports()), html.Div(id="pick"), html.Div(id="articles")],
                         className="panel", id="articles-panel"),
            html.Section([_heading(_("Stories")), html.Div(id="stories")], className="panel"),
        ]
    )  # fmt: skip


def _alerts() -> Any:
    note = html.P(_("Every surge that was open in the range, the newest first."), className="quiet")
    return html.Div([html.H1(_("Alerts")), note, dcc.Store(id="alerts-known"), html.Div(id="silences"),
                     html.Div(id="alerts")])  # fmt: skip


def _heading(text: str, *beside: Any) -> Any:
    return html.Div([html.H2(text), *beside], className="heading")


def _exports() -> Any:
    return html.Div(id="exports", className="exports")


def _png(chart: str, title: str) -> Any:
    given: Any = {"data-chart": chart, "data-title": escape(title)}
    return html.Button("PNG", className="button png", type="button", title=_("Save the chart as a picture"), **given)


def _legend(usual: bool = False) -> Any:
    entries = [
        ("line", _("negative share, trailing {count} bars", count=WINDOW_BINS)),
        ("bar-negative", _("negative articles")),
        ("bar-other", _("other articles")),
        ("band", _("alert")),
        ("silent", _("no data")),
        *[("usual", _("expected, usual range"))] * usual,
    ]
    return html.Ul([html.Li([html.I(className=f"key {key}"), text]) for key, text in entries], className="legend")


def _blank() -> dict[str, Any]:
    """A figure's place before its data is there, so that nothing jumps."""
    clear = "rgba(0,0,0,0)"
    hidden = {"visible": False}
    layout = {"paper_bgcolor": clear, "plot_bgcolor": clear, "xaxis": hidden, "yaxis": hidden}
    return {"data": [], "layout": layout}
