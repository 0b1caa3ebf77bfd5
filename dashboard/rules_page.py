"""The page of rules: what is in use and how it has done; an editor that previews before it saves."""

from collections.abc import Sequence
from typing import Any

from dash import dcc, html

from crosswind.dashboard.components import NOTHING, labelled, per_cent, when
from crosswind.dashboard.forms import form, writing
from crosswind.dashboard.i18n import _
from crosswind.dashboard.models_page import table
from crosswind.dashboard.rules_desk import DAYS, Fired, PreviewOut, RulesOut
from crosswind.stream.adapters.postgres.accounts import Account, Role
from crosswind.stream.adapters.postgres.alert_orders import Scored
from crosswind.stream.domain.bucket import ALL

_PATH = "/api/v1/rules"


def skeleton() -> Any:
    """The page; its editor is filled once, so that nothing overwrites what somebody types."""
    note = _(
        "What would have fired over the last {days} days of stored minutes, without a backtest's exactness: it "
        "counts every article as a headline and a source of its own, so a little more fires than live.",
        days=DAYS,
    )
    return html.Div(
        [
            html.H1(_("Rules")),
            dcc.Store(id="rules-known"),
            html.Div(id="rules"),
            html.Section([html.H2(_("Edit")), html.P(note, className="quiet"), html.Div(id="rules-editor"),
                          dcc.Loading(html.Div(id="rules-preview"), delay_show=200)], className="panel acting"),
        ]
    )  # fmt: skip


def editor(found: RulesOut, account: Account) -> Any:
    """The text of the rules with what can be done with it. The hidden fields go along when it is saved."""
    checked = dcc.Input(name="checked", type="hidden", value="", id="rules-checked")
    area = writing(_("Rules, YAML"), "text", found.text, rows=24, ident="rules-text")
    look = html.Button(_("Preview {days} days", days=DAYS), id="rules-look", className="button strong", type="button",
                       n_clicks=0)  # fmt: skip
    if account.role < Role.ADMIN:
        return _looking([area, checked, html.Div([look], className="sends")], _("Only an admin saves rules."))
    if not found.editable:
        said = _("The shipped rules are in use and cannot be changed here. Set CROSSWIND_RULES to a file of yours.")
        return _looking([area, checked, html.Div([look], className="sends")], said)
    over = dcc.Input(name="over", type="hidden", value=found.digest, id="rules-over")
    return form(_PATH, [area, checked, over], _("Save"), method="PUT", beside=[look])


def _looking(parts: Sequence[Any], said: str) -> Any:
    return html.Div([*parts, html.P(said, className="quiet")], className="ask")


def page(found: RulesOut, scored: Sequence[Scored]) -> Any:
    """What is in use, and how each version has done."""
    columns = (_("rule"), _("Version"), _("Statistic"), _("False alarms a month"), _("Watches"))
    rows = [
        [rule.name, html.Code(rule.version), rule.detector, f"≤ {rule.at_most:g} / {_(rule.per)}",
         ", ".join(rule.kinds)]
        for rule in found.rules
    ]  # fmt: skip
    problem = [html.P(["✕ ", html.Bdi(found.problem)], className="problem", role="alert")] if found.problem else []
    return [
        labelled(html.Section([html.H2(_("In use")), *problem, table(columns, rows, _("No rule can be used."))],
                              className="panel"), _("In use")),
        labelled(html.Section([html.H2(_("How they have done, last 90 days")), *_scores(scored, found)],
                              className="panel"),
                 _("How they have done, last 90 days")),
    ]  # fmt: skip


def _scores(scored: Sequence[Scored], found: RulesOut) -> list[Any]:
    columns = (_("rule"), _("Version"), _("Told"), _("Useful"), _("Not useful"), _("Precision"), _("Told a month"))
    rows = [
        [one.rule, _version(one, found), f"{one.fired:,}", f"{one.useful:,}", f"{one.useless:,}",
         per_cent(one.precision), f"{one.told_per_month:.3f} / {_(one.measure.per)}"]
        for one in scored
    ]  # fmt: skip
    shown = table(columns, rows, _("No alert was told in this time."))
    said = _(
        "Told a month: of each series that the rule watches and that had an article, or of the whole rule, whichever "
        "its budget of false alarms is for. What was worth telling counts too, so it may lie above the budget."
    )
    old = _(
        "What a version no longer in use watched is not known: it is counted by what the rule of its name watches "
        "now, or for the whole rule where none has its name."
    )
    notes = [said] * bool(scored) + [old] * (not all(one.measure.current for one in scored))
    return [shown, *[html.P(note, className="quiet") for note in notes]]


def _version(one: Scored, found: RulesOut) -> Any:
    """With a word where it is not in use; while the file cannot be used the engine goes on with what it had."""
    gone = not one.measure.current and not found.problem
    return [html.Code(one.rule_version), *[html.Span(" " + _("no longer in use"), className="quiet")] * gone]


def previewed(found: PreviewOut) -> Any:
    """What a preview says."""
    if found.since is None:
        return html.P(_("There are no stored minutes to look at yet."), className="quiet")
    before = NOTHING if found.before is None else f"{found.before:,}"
    facts = [
        (_("Alarms"), f"{found.alarms:,}"), (_("With the rules in use"), before), (_("Series"), f"{found.series:,}"),
        (_("Minutes stored since"), when(found.since)),
    ]  # fmt: skip
    notes = [_("Far too loud: only the loudest hours were judged.")] * found.cut
    notes += [_("Only the series with most bad news were looked at.")] * found.capped
    return html.Div(
        [
            html.H3(_("Preview"), id="previewed"),
            html.Dl([html.Div([html.Dt(name), html.Dd(value)]) for name, value in facts], className="facts"),
            *[html.P(f"⚠ {note}") for note in notes],
            table((_("Time (UTC)"), _("Topic"), _("Lang"), _("Name")), [_fired(one) for one in found.fired],
                  _("Nothing would have fired.")),
        ],
        className="previewed",
    )  # fmt: skip


def _fired(one: Fired) -> list[Any]:
    return [
        when(one.at), _("all topics") if one.topic == ALL else _(one.topic),
        _("all languages") if one.lang == ALL else one.lang,
        html.Bdi(NOTHING if one.entity == ALL else one.entity, dir="auto"),
    ]  # fmt: skip


def refused(problem: str) -> Any:
    """Rules that cannot be used, and why."""
    return html.P(["✕ ", html.Bdi(problem)], className="problem", role="alert")
