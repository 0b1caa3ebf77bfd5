"""The page of backtests: start one, watch it, read its figures, compare two."""

from collections.abc import Callable, Sequence
from typing import Any

from dash import dcc, html

from crosswind.dashboard.components import NOTHING, labelled, per_cent, when
from crosswind.dashboard.forms import choice, form, word, writing
from crosswind.dashboard.i18n import _
from crosswind.dashboard.models_page import table
from crosswind.dashboard.place import Place
from crosswind.dashboard.view import View
from crosswind.dashboard.work_models import BacktestOut, FiguresOut

_PATH = "/backtests"
_EXAMPLE = "onset,end,topic,name\n2026-03-03T18:00:00Z,2026-03-03T22:00:00Z,credit,Northgate run"


def skeleton() -> Any:
    """The page with its form, which is never drawn anew while somebody types."""
    feeds = {"store": _("what is stored here"), "sample": _("the sample feed")}
    fields = [
        word(_("Name"), "name", "credit-2026"), choice(_("Feed"), "feed", feeds),
        word(_("From (UTC)"), "since", "2026-03-02T00:00:00Z"), word(_("To (UTC)"), "until", "2026-03-09T00:00:00Z"),
        writing(_("What really happened, CSV"), "truth", rows=5, placeholder=_EXAMPLE),
        writing(_("Rules, YAML; empty: those in use"), "rules", rows=5),
    ]  # fmt: skip
    note = _("Rules over old articles: would they have warned, how early, with how many false alarms? It runs in a "
             "process of its own that lets the live engine go first; one at a time.")  # fmt: skip
    return html.Div(
        [
            html.H1(_("Backtests")),
            html.P(note, className="quiet"),
            dcc.Store(id="backtests-known"),
            html.Div(id="backtest-open"),
            html.Div(id="backtests"),
            dcc.Interval(id="backtests-beat", interval=2000),
            labelled(html.Section([html.H2(_("Start a backtest")),
                                   form("/api/v1/backtests", fields, _("Start"))], className="panel acting"),
                     _("Start a backtest")),
        ]
    )  # fmt: skip


def page(found: Sequence[BacktestOut], place: Place, view: View) -> Any:
    """The list of all backtests."""
    columns = (_("Name"), _("State"), _("Made (UTC)"), _("Articles"), _("Events warned of"), _("Alarms true"), "")
    rows = [_row(one, place, view) for one in found]
    return html.Section([table(columns, rows, _("There is no backtest yet."))], className="panel")


def _row(one: BacktestOut, place: Place, view: View) -> list[Any]:
    best = one.rules[0] if one.rules else None
    name = html.Bdi(one.id)
    opens = dcc.Link(name, href=place.href(_PATH, view, open=one.id, against="")) if best else name
    compare = dcc.Link(_("compare"), href=place.href(_PATH, view, against=one.id))
    warned = f"{best.detected} / {best.events}" if best else NOTHING
    true = f"{best.true_alarms} / {best.alarms}" if best else NOTHING
    return [
        opens, _state(one), when(one.created_at), f"{one.done:,}", warned, true,
        compare if best and place.open not in ("", one.id) else None,
    ]  # fmt: skip


def _state(one: BacktestOut) -> Any:
    if one.state == "running":
        bar = html.Progress(value=str(one.done), max=str(max(one.total, 1)))
        return html.Span([labelled(bar, _("Progress")), f" {one.done:,} / {one.total:,}" if one.total else ""])
    words = {"done": _("✓ done"), "failed": _("✕ failed"), "stopped": _("✕ stopped")}
    badge = html.Span(words.get(one.state, one.state), className="badge" + " resolved" * (one.state == "done"))
    return html.Span([badge, html.Bdi(f" {one.problem}", className="quiet")] if one.problem else [badge])


def opened(one: BacktestOut | None, other: BacktestOut | None, place: Place, view: View) -> Any:
    """The figures of one backtest, with those of another beside them."""
    if one is None or not one.rules:
        return None
    sides = [(one, rule) for rule in one.rules]
    sides += [(other, rule) for rule in other.rules] if other else []
    columns = (_("Figure"), *(f"{side.id}: {rule.name}" for side, rule in sides))
    rows = [[name, *(said(rule) for _side, rule in sides)] for name, said in _figures()]
    links = [
        html.A(_("Report ›") + f" {each.id}", href=f"/api/v1/backtests/{each.id}/report", target="_blank",
               rel="noopener", className="button")
        for each in (one, other) if each
    ]  # fmt: skip
    close = dcc.Link(_("✕ close"), href=place.href(_PATH, view, open="", against=""))
    span = html.P([when(one.since), " – ", when(one.until), f" UTC, {one.articles:,} ", _("Articles")],
                  className="quiet")  # fmt: skip
    head = html.Div([html.H2(html.Bdi(one.title or one.id)), *links, close], className="heading")
    hint = [] if other else [html.P(_("Choose “compare” at another one below to see both."), className="quiet")]
    return html.Section([head, span, table(columns, rows, ""), *hint], className="panel", id="backtest-figures")


def _figures() -> list[tuple[str, Callable[[FiguresOut], str]]]:
    return [
        (_("Version"), lambda rule: rule.version),
        (_("Events"), lambda rule: f"{rule.events:,}"),
        (_("Events warned of"), lambda rule: f"{rule.detected:,}"),
        (_("Alarms"), lambda rule: f"{rule.alarms:,}"),
        (_("Alarms true"), lambda rule: f"{rule.true_alarms:,}"),
        (_("Precision"), lambda rule: per_cent(rule.precision)),
        (_("Recall"), lambda rule: per_cent(rule.recall)),
        ("F1", lambda rule: _number(rule.f1, 2)),
        (_("Median lead, minutes"), lambda rule: _number(rule.lead_median, 0)),
        (_("False alarms per series and month"), lambda rule: _number(rule.false_per_series_month, 3)),
        (_("Time under alert"), lambda rule: per_cent(rule.under_alert)),
    ]


def _number(value: float | None, digits: int) -> str:
    return NOTHING if value is None else f"{value:.{digits}f}"
