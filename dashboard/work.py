"""The pages of work: rules, backtests, subscriptions, feeds. What they show follows the address and the data."""

import asyncio
from typing import Any

import structlog
from dash import Dash, Input, Output, State, ctx
from dash.exceptions import PreventUpdate

from crosswind.dashboard import backtests_page, feeds, i18n, models_page, rules_page, subscriptions_page
from crosswind.dashboard.i18n import _
from crosswind.dashboard.login import who
from crosswind.dashboard.pages.frame import waiting
from crosswind.dashboard.patience import patient
from crosswind.dashboard.place import Place
from crosswind.dashboard.rules_desk import MAX_TEXT
from crosswind.dashboard.steady import only_new
from crosswind.dashboard.view import View
from crosswind.dashboard.work_api import Work, one_of, page_of
from crosswind.errors import BundleError, DataError
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.adapters.postgres.accounts import Role

_log = structlog.get_logger(__name__)
_DATA = (Input("url", "pathname"), Input("url", "search"), Input("pulse", "data"))
SHOWN = 100
"""Backtests on their page."""


def add_work_callbacks(app: Dash, work: Work) -> None:
    """Registers the callbacks of these pages."""
    _add_frame(app)
    _add_feeds(app, work)
    _add_subscriptions(app, work)
    _add_rules(app, work)
    _add_backtests(app, work)
    _add_models(app, work)


def _add_frame(app: Dash) -> None:
    @app.callback(Output("waiting", "children"), Output("skip", "children"), Input("url", "search"))
    async def words(search: str) -> Any:
        i18n.use(View.from_query(search).ui)
        return waiting(), _("Skip to content")


def _add_feeds(app: Dash, work: Work) -> None:
    @app.callback(Output("feeds", "children"), Output("feeds-known", "data"), *_DATA, State("feeds-known", "data"))
    @patient
    async def sources(_path: str, search: str, _pulse: Any, known: Any) -> Any:
        found = await asyncio.to_thread(lambda: feeds.read(work.reader, work.reader.status()))
        return only_new(known, feeds.page(found, Place.from_query(search), View.from_query(search)))


def _add_subscriptions(app: Dash, work: Work) -> None:
    @app.callback(
        Output("subscriptions", "children"), Output("subscriptions-known", "data"), *_DATA,
        State("subscriptions-known", "data"),
    )  # fmt: skip
    @patient
    async def subscriptions(_path: str, search: str, _pulse: Any, known: Any) -> Any:
        place = Place.from_query(search)
        found = await asyncio.to_thread(subscriptions_page.read, work.subscriptions, who(), place)
        return only_new(known, subscriptions_page.page(found, place, View.from_query(search)))


def _add_rules(app: Dash, work: Work) -> None:
    @app.callback(Output("rules", "children"), Output("rules-known", "data"), *_DATA, State("rules-known", "data"))
    @patient
    async def rules(_path: str, _search: str, _pulse: Any, known: Any) -> Any:
        try:
            found = await asyncio.to_thread(work.rules.current)
        except DataError as error:
            return only_new(known, rules_page.refused(str(error)))
        in_use = await asyncio.to_thread(work.rules.in_use)
        scored = await asyncio.to_thread(alert_orders.scorecard, work.reader.engine, work.reader.run, 90, in_use)
        return only_new(known, rules_page.page(found, scored))

    @app.callback(Output("rules-editor", "children"), Input("url", "pathname"), State("url", "search"))
    @patient
    async def editor(_path: str, _search: str) -> Any:
        try:
            return rules_page.editor(await asyncio.to_thread(work.rules.current), who())
        except DataError as error:
            return rules_page.refused(str(error))

    @app.callback(
        Output("rules-preview", "children"), Output("rules-checked", "value"), Input("rules-look", "n_clicks"),
        State("url", "search"), State("rules-text", "value"), prevent_initial_call=True,
    )  # fmt: skip
    @patient
    async def look(clicks: int, _search: str, text: Any) -> Any:
        if not clicks or not ctx.triggered_id:
            raise PreventUpdate
        if who().role < Role.ANALYST:
            return rules_page.refused(_("Previews are for analysts.")), ""
        try:
            found = await asyncio.to_thread(work.rules.preview, str(text or "")[: MAX_TEXT + 1])
        except DataError as error:
            return rules_page.refused(str(error)), ""
        return rules_page.previewed(found), found.checked


def _add_backtests(app: Dash, work: Work) -> None:
    @app.callback(
        Output("backtests", "children"), Output("backtest-open", "children"), Output("backtests-beat", "disabled"),
        Output("backtests-known", "data"), *_DATA, Input("backtests-beat", "n_intervals"),
        State("backtests-known", "data"),
    )  # fmt: skip
    @patient
    async def backtests(_path: str, search: str, _pulse: Any, _beat: Any, known: Any) -> Any:
        place, view = Place.from_query(search), View.from_query(search)
        found = await asyncio.to_thread(page_of, work.backtests, "", SHOWN)
        one, other = [
            await asyncio.to_thread(one_of, work.backtests, name) if name else None
            for name in (place.open, place.against)
        ]
        running = any(one.state == "running" for one in found.backtests)
        return only_new(known, backtests_page.page(found.backtests, place, view),
                        backtests_page.opened(one, other, place, view), not running)  # fmt: skip


def _add_models(app: Dash, work: Work) -> None:
    @app.callback(Output("models", "children"), Output("models-known", "data"), *_DATA, State("models-known", "data"))
    @patient
    async def models(_path: str, _search: str, _pulse: Any, known: Any) -> Any:
        found = await asyncio.to_thread(work.models.read)
        if who().role < Role.ADMIN:
            return only_new(known, models_page.page(found))
        try:
            return only_new(known, models_page.page(found, await asyncio.to_thread(work.models.bundles)))
        except BundleError as error:
            return only_new(known, models_page.page(found, problem=str(error)))
