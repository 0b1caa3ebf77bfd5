"""What surrounds every page: header with freshness, navigation, the filters, and the stores."""

from dataclasses import replace
from typing import Any

from dash import dcc, html

from crosswind.dashboard.components import labelled
from crosswind.dashboard.i18n import DEFAULT, _, current, languages
from crosswind.dashboard.place import Place
from crosswind.dashboard.view import DEFAULT_RANGE, RANGES, SENTIMENTS, View
from crosswind.models.taxonomy import TOPICS

PAGES = {
    "/": "Overview", "/alerts": "Alerts", "/subscriptions": "Subscriptions", "/rules": "Rules",
    "/backtests": "Backtests", "/models": "Models", "/feeds": "Feeds",
}  # fmt: skip
"""Path -> name; each name is in the catalogues."""


def frame() -> Any:
    """The layout of the whole application."""
    nothing = html.Section(waiting(), className="waiting", id="waiting")
    return html.Div(
        [
            dcc.Location(id="url", refresh="callback-nav"),
            dcc.Store(id="pulse"),
            dcc.Store(id="beat"),
            html.A(_("Skip to content"), href="#page", className="skip", id="skip"),
            html.Header(
                [
                    html.Div(
                        [
                            dcc.Link("Crosswind", href="/", className="brand", id="brand"),
                            labelled(html.Nav(id="navigation"), "Pages"),
                        ],
                        className="masthead",
                    ),
                    html.Div(id="cut", className="badge alert", role="alert"),
                    html.Div(id="freshness", className="freshness", role="status"),
                    html.Div(id="account", className="account"),
                ],
                className="top",
            ),
            html.Main([_filters(), nothing, html.Div(id="page")], id="main", className="loading"),
        ]
    )


def _filters() -> Any:
    ranges = [{"label": "All" if name == "all" else name.replace("h", " h"), "value": name} for name in RANGES]
    section = html.Section(
        [
            _labelled("Range", dcc.RadioItems(ranges, DEFAULT_RANGE, id="range", className="segments", inline=True)),
            _labelled("Topics", _many("topics", TOPICS, "all topics")),
            _labelled("Languages", _many("langs", (), "all languages")),
            _labelled("Sentiment", dcc.Dropdown(list(SENTIMENTS), id="sentiment", placeholder="all sentiments")),
        ],
        className="filters",
    )
    return labelled(section, "Filters")


def _many(name: str, options: tuple[str, ...], placeholder: str) -> Any:
    return dcc.Dropdown(list(options), id=name, multi=True, placeholder=placeholder)


def _labelled(label: str, control: Any) -> Any:
    return html.Div(
        [html.Span(label, className="label", id=f"label-{label.lower()}"), control], className=f"filter {label.lower()}"
    )


def waiting() -> list[Any]:
    """What stands where there is nothing yet."""
    return [
        html.H1(_("Waiting for articles")),
        html.P(_("The database is up and empty. The first trend appears here as soon as articles are scored; nothing "
                 "needs to be reloaded.")),
        html.P([_("Start the sample feed, or send your own:"), " ", html.Code("crosswind up"), ", ",
                html.Code("crosswind feed")]),
    ]  # fmt: skip


def navigation(pathname: str | None, view: View, search: str = "") -> list[Any]:
    """Links to the pages, with the filters taken along; the present one is marked."""
    query = view.plain.to_query()
    return [
        *(
            dcc.Link(_(name), href=path + query, className="here" if path == pathname else "")
            for path, name in PAGES.items()
        ),
        *_languages(pathname, view, Place.from_query(search)),
    ]


def _languages(pathname: str | None, view: View, place: Place) -> list[Any]:
    """The same page in the interface's other languages."""
    path = pathname or "/"
    return [
        dcc.Link(html.Span(name, lang=tag), href=path + place.to_query(replace(view, ui="" if tag == DEFAULT else tag)),
                  className="ui")
        for tag, name in languages().items() if tag != current()
    ]  # fmt: skip
