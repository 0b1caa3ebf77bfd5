"""What happens when the address, a control, a chart or the data changes.

The address is the one state. Controls and clicks only write a new address; every other callback reads it. The store
`pulse` is filled by `assets/live.js` from server-sent events, so that pages follow the data without polling; `beat`,
which drives the header's clocks alone, when the data is the same. (Dash
4.4's own WebSocket callbacks hold one persistent callback per page on the server, with a database look each; one shared
look and an event stream that browsers reconnect by themselves do the same for any number of readers.)
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog
from dash import ALL as EVERY
from dash import ClientsideFunction, Dash, Input, Output, State, ctx, html, no_update
from dash.exceptions import PreventUpdate

from crosswind.dashboard import components, i18n, inbox, stories, translated
from crosswind.dashboard.i18n import _
from crosswind.dashboard.live import Live, OverviewShown
from crosswind.dashboard.login import who
from crosswind.dashboard.pages.frame import navigation
from crosswind.dashboard.pages.skeletons import skeleton
from crosswind.dashboard.patience import patient
from crosswind.dashboard.queries import Incident
from crosswind.dashboard.steady import only_new, tag_of
from crosswind.dashboard.view import DEFAULT_RANGE, Pick, View
from crosswind.errors import DatabaseError
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.domain.bucket import ALL

_log = structlog.get_logger(__name__)
_ADDRESS = (Input("url", "pathname"), Input("url", "search"))
_DATA = (*_ADDRESS, Input("pulse", "data"))
HEAT = "*"
"""The heat map among the tags of the overview's charts, which are topics."""


def add_callbacks(app: Dash, live: Live) -> None:
    """Registers every callback of the pages."""
    _add_controls(app, live)
    _add_address(app)
    _add_header(app, live)
    _add_overview(app, live)
    _add_lists(app, live)
    _add_series(app, live)
    stories.add_stories(app, live, _DATA, patient)


def _add_controls(app: Dash, live: Live) -> None:
    values = ("range", "topics", "langs", "sentiment")

    @app.callback(
        Output("url", "search"),
        *(Output(name, "value") for name in values),
        Output("langs", "options"),
        Input("url", "search"),
        *(Input(name, "value") for name in values),
    )
    async def keep_in_step(search: str, span: str, topics: Any, langs: Any, sentiment: Any) -> tuple[Any, ...]:
        view = View.from_query(search)
        if ctx.triggered_id in values:
            changed = view.filtered(
                range=span or DEFAULT_RANGE, topics=tuple(topics or ()), langs=tuple(langs or ()),
                sentiment=sentiment or "",
            ).to_query()  # fmt: skip
            return (no_update if changed == view.to_query() else changed, *[no_update] * 5)
        # the languages come with their choice: a dropdown drops what is not among its options
        langs = await _languages(live, view)
        return (no_update, view.range, list(view.topics), list(view.langs), view.sentiment or None, langs)

    @app.callback(
        *(Output(f"label-{name}", "children") for name in ("range", "topics", "languages", "sentiment")),
        *(Output(name, "placeholder") for name in ("topics", "langs", "sentiment")),
        *(Output("account", f"data-{name}") for name in ("leave", "silent", "refused", "ui")),
        Output("brand", "href"), Output("cut", "children"), Input("url", "search"),
    )  # fmt: skip
    async def labels(search: str) -> tuple[str, ...]:
        ui = View.from_query(search).ui
        i18n.use(ui)
        texts = (_("Range"), _("Topics"), _("Languages"), _("Sentiment"))
        scripts = (_("Log out"), _("the server does not answer"), _("refused"), ui)
        return (*texts, _("all topics"), _("all languages"), _("all sentiments"), *scripts,
                "/" + View(ui=ui).to_query(), _("✕ no connection to the server"))  # fmt: skip

    @app.callback(
        Output("langs", "options", allow_duplicate=True),
        Input("pulse", "data"),
        State("url", "search"),
        State("langs", "value"),
        State("langs", "options"),
        prevent_initial_call=True,
    )
    @patient
    async def present(_pulse: Any, search: str, chosen: Any, offered: Any) -> Any:
        found = sorted({*await _languages(live, View.from_query(search)), *(chosen or ())})
        return no_update if found == offered else found


async def _languages(live: Live, view: View) -> list[str]:
    """What can be chosen: the languages of the range and those of the view; these alone without a database."""
    try:
        found = await live.counts(view)
    except DatabaseError:
        found = None
    return sorted({*(found.languages if found else ()), *view.langs})


def _add_address(app: Dash) -> None:

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input({"type": "trend", "topic": EVERY}, "clickData"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def open_point(_clicks: Any, search: str) -> str:
        topic = ctx.triggered_id["topic"] if ctx.triggered_id else ""
        return _picked(topic, ctx.triggered[0]["value"], search)

    @app.callback(
        Output("url", "search", allow_duplicate=True),
        Input("series", "clickData"),
        State("url", "search"),
        prevent_initial_call=True,
    )
    async def open_series_point(click: Any, search: str) -> str:
        return _picked(View.from_query(search).topic or ALL, click, search)

    @app.callback(
        Output("url", "pathname", allow_duplicate=True), Output("url", "search", allow_duplicate=True),
        Input("heat", "clickData"), State("url", "search"), prevent_initial_call=True,
    )  # fmt: skip
    async def open_cell(click: Any, search: str) -> tuple[str, str]:
        try:
            topic, lang = click["points"][0]["y"], click["points"][0]["x"]
        except (KeyError, IndexError, TypeError):
            raise PreventUpdate from None
        if topic not in TOPICS:
            raise PreventUpdate
        view = replace(View.from_query(search).plain, langs=(str(lang),))
        return tuple(components.series_href(view, topic).split("?", 1))  # type: ignore[return-value]

    @app.callback(
        Output("page", "children"), Output("page", "data-shown"), Output("navigation", "children"), *_ADDRESS,
        State("page", "data-shown"),
    )  # fmt: skip
    async def open_page(pathname: str, search: str, shown: str | None) -> tuple[Any, ...]:
        view = View.from_query(search)
        i18n.use(view.ui)
        wanted = f"{pathname} {view.topic} {view.entity}" if pathname == "/series" else pathname
        wanted = f"{wanted} {i18n.current()}"
        if wanted == shown:  # only the filters changed: the charts stay, with their zoom
            return no_update, no_update, navigation(pathname, view, search)
        return skeleton(pathname, view), wanted, navigation(pathname, view, search)


def _picked(topic: str, click: Any, search: str) -> str:
    """The address after a click on a chart."""
    try:
        minute, length = (int(number) for number in click["points"][0]["customdata"])
        start, end = (datetime.fromtimestamp(60 * m, UTC) for m in (minute, minute + length))
    except (KeyError, IndexError, TypeError, ValueError, OverflowError, OSError):
        raise PreventUpdate from None
    return View.from_query(search).picked(Pick(topic, start, end)).to_query()


def _add_header(app: Dash, live: Live) -> None:
    @app.callback(
        Output("freshness", "children"), Output("main", "className"), *_DATA, Input("beat", "data")
    )  # fmt: skip
    async def header(path: str, search: str, _pulse: Any, _beat: Any) -> tuple[Any, Any]:
        i18n.use(View.from_query(search).ui)
        try:
            status = await live.status()
        except DatabaseError as error:
            _log.warning("the header could not be refreshed", error=str(error))
            badge = html.Span(_("✕ database does not answer"), className="badge alert")
            return [badge, html.Span(_("what is shown may be old"), className="quiet")], no_update
        place = (path or "/").strip("/") or "overview"
        return components.freshness(status), f"ready on-{place}" if status.now else "empty"


def _add_overview(app: Dash, live: Live) -> None:
    in_browser: Any = app  # its type is not written down

    @app.callback(
        Output("overview-answer", "data"),
        *(Output({"type": kind, "topic": EVERY}, prop)
          for kind, prop in (("summary", "children"), ("card", "className"), ("open", "href"))),
        Output("figures", "children"), Output("movers", "children"), Output("entities", "children"),
        Output("heat", "figure"), Output("overview-known", "data"), *_DATA, State("overview-known", "data"),
    )  # fmt: skip
    @patient
    async def overview(_path: str, search: str, _pulse: Any, known: dict[str, str] | None) -> tuple[Any, ...]:
        view = View.from_query(search)
        shown = await live.overview(view)
        if shown is None:
            raise PreventUpdate
        found, fresh = shown.found, _fresh()
        topics = [output["id"]["topic"] for output in ctx.outputs_list[1]]
        lists = {
            "#figures": components.key_figures(found.articles, found.negative, found.incidents, found.langs,
                                               view.plain.to_query()),
            "#movers": components.mover_list(found.movers, view),
            "#entities": components.entity_list(found.entities, view),
        }  # fmt: skip
        tags, changed = _changed(shown, {} if fresh else known or {}, lists)

        def each(make: Callable[[str], Any]) -> list[Any]:
            return [make(topic) if topic in changed else no_update for topic in topics]

        def of_card(topic: str) -> str:
            hidden = bool(view.topics) and topic not in view.topics
            return _card_class(hidden, len(found.bands(topic)), topic in found.trends)

        return (
            {"figures": {topic: shown.charts[topic].text for topic in changed & set(shown.charts)}, "fresh": fresh},
            each(lambda topic: components.card_summary(found.trends.get(topic), len(found.bands(topic)))),
            each(of_card),
            each(lambda topic: components.series_href(view, topic)),
            *(made if name in changed else no_update for name, made in lists.items()),
            found.heat() if HEAT in changed else no_update,
            tags,
        )  # fmt: skip

    in_browser.clientside_callback(
        ClientsideFunction("crosswind", "overview"),
        Output({"type": "trend", "topic": EVERY}, "figure"), Input("overview-answer", "data"),
        prevent_initial_call=True,
    )  # fmt: skip


def _changed(
    shown: OverviewShown, known: dict[str, str], lists: dict[str, Any]
) -> tuple[dict[str, str], set[str]]:  # fmt: skip
    """The tags of what is shown now, and the topics (and `HEAT`, and lists) that differ from what the page knows."""
    tags = {topic: chart.tag for topic, chart in shown.charts.items()} | {HEAT: shown.heat.tag}
    tags |= {name: tag_of(made) for name, made in lists.items()}
    hidden = {topic for topic in TOPICS if topic not in tags}
    changed = {name for name, tag in tags.items() if known.get(name) != tag}
    return tags, changed if known else changed | hidden


def _fresh() -> bool:
    """Whether the answer is to a new address: that starts unzoomed, or as the address says; news keeps the zoom."""
    return bool(ctx.triggered_id != "pulse")


def _card_class(hidden: bool, alerts: int, known: bool) -> str:
    return " ".join(["card", *["hidden"] * hidden, *["alerted"] * bool(alerts), *["unknown"] * (not known)])


def _add_lists(app: Dash, live: Live) -> None:
    @app.callback(
        Output("articles", "children"), Output("pick", "children"), Output("exports", "children"),
        Output("articles-known", "data"), *_DATA, State("articles-known", "data"),
    )  # fmt: skip
    @patient
    async def articles(path: str, search: str, _pulse: Any, known: Any) -> tuple[Any, ...]:
        view = View.from_query(search)
        page = await live.articles(view)
        told = await translated.told_of(live, [article.article_id for article in page.articles])
        table = components.article_table(page, view, path or "/", told)
        chips = [components.pick_note(view, path or "/"), stories.novel_link(view, path or "/")]
        return only_new(known, table, chips, components.export_links(view))

    @app.callback(
        Output("alerts", "children"), Output("silences", "children"), Output("alerts-known", "data"), *_DATA,
        State("alerts-known", "data"),
    )  # fmt: skip
    @patient
    async def alerts(_path: str, search: str, _pulse: Any, known: Any) -> tuple[Any, ...]:
        view = View.from_query(search)
        reader = live.reader
        silences = await live.get("silences", lambda: alert_orders.silences(reader.engine, reader.run))
        shown = await _alert_list(live, await live.incidents(view), view)
        return only_new(known, shown, inbox.silence_list(silences))


async def _alert_list(live: Live, found: list[Incident], view: View) -> Any:
    """Alerts with the stories behind them, translations, and what the reader can do and said about them."""
    ids, name = tuple(incident.incident_id for incident in found), who().name
    said = await live.get(("verdicts", name, ids), lambda: live.reader.verdicts(name, ids))
    below = await stories.beside(live, found, lambda one: inbox.actions(one, said.get(one.incident_id)))
    told = await translated.told_of(live, [i for incident in found for i in incident.evidence_ids])
    status = await live.status()
    return components.alert_list(found, view, below, told, status.evaluated_to or status.now)


def _add_series(app: Dash, live: Live) -> None:
    in_browser: Any = app  # its type is not written down

    @app.callback(
        Output("series-answer", "data"), Output("series-summary", "children"), Output("series-alerts", "children"),
        Output("back", "href"), Output("series-known", "data"), *_DATA, State("series-known", "data"),
    )  # fmt: skip
    @patient
    async def series(_path: str, search: str, _pulse: Any, known: Any) -> tuple[Any, ...]:
        view = View.from_query(search)
        if view.topic not in TOPICS and not view.entity:
            raise PreventUpdate
        shown = await live.series(view)
        if shown is None:
            raise PreventUpdate
        found = shown.found
        summary = components.card_summary(found.trend if found.trend.total else None, len(found.bands))
        answer = {"figure": shown.chart.text, "fresh": _fresh()}
        listed = await _alert_list(live, found.incidents, view)
        return only_new(known, answer, summary, listed, "/" + view.plain.to_query())

    in_browser.clientside_callback(
        ClientsideFunction("crosswind", "series"), Output("series", "figure"), Input("series-answer", "data"),
        prevent_initial_call=True,
    )  # fmt: skip
    in_browser.clientside_callback(
        ClientsideFunction("crosswind", "zoomed"), Output("url", "search", allow_duplicate=True),
        Input("series", "relayoutData"), prevent_initial_call=True,
    )  # fmt: skip
