"""The page of subscriptions: make one, test it, pause it, see what was delivered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dash import dcc, html

from crosswind.dashboard.components import NOTHING, labelled, when
from crosswind.dashboard.forms import button, choice, form, lines, word
from crosswind.dashboard.i18n import _
from crosswind.dashboard.models_page import table
from crosswind.dashboard.place import Place
from crosswind.dashboard.view import View
from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.accounts import Account, Role
from crosswind.stream.adapters.postgres.subscriptions import ALL, Delivery, Subscription, Subscriptions
from crosswind.stream.notify.domain.subscription import LANGUAGES, Standing

DELIVERIES = 50
_PATH = "/api/v1/subscriptions"


@dataclass(frozen=True, slots=True)
class Mine:
    """What somebody sees: their own subscriptions, an admin all of them; and the log of the one that is open."""

    found: Sequence[Subscription]
    open: Subscription | None
    log: Sequence[Delivery]


def owner_of(account: Account) -> str:
    """Whose subscriptions an account reads and changes: an admin all of them."""
    return ALL if account.role >= Role.ADMIN else own(account)


def own(account: Account) -> str:
    """The owner of what an account makes."""
    return account.owner


def read(store: Subscriptions, account: Account, place: Place) -> Mine:
    """What the page shows. Blocks.

    Raises:
        DatabaseError: the database cannot be reached or refuses.
    """
    owner = owner_of(account)
    found = store.list(owner)
    try:
        opened = store.get(place.open, owner) if place.open else None
    except DataError:  # deleted, or somebody else's: the link is old
        opened = None
    log = store.log(opened.subscription_id, DELIVERIES, owner) if opened else []
    return Mine(found, opened, log)


def skeleton() -> Any:
    """The page with its form, which is never drawn anew while somebody types."""
    channels = {"webhook": "webhook", "apprise": "apprise", "kafka": "kafka", "stream": "stream"}
    fields = [
        word(_("Name"), "name", _("for your own memory")),
        choice(_("Channel"), "channel", channels),
        word(_("Target"), "target", "https://…"),
        word(_("Topics"), "topics[]", "credit, macro"),
        word(_("Languages"), "languages[]", "en, zh"),
        lines(_("Names, one a line"), "entities[]", "Northgate Bank\nAmazon.com, Inc."),
        choice(_("At least"), "severity", {"warning": _("warning"), "critical": _("critical")}),
        choice(_("Messages in"), "language", {tag: tag for tag in LANGUAGES}),
        word(_("Messages per hour at most"), "cap_per_hour#", kind="number"),
        word(_("One message per so many minutes"), "digest_minutes#", kind="number"),
    ]  # fmt: skip
    note = _("Nothing in topics, languages and names means all of them. A webhook's signing key is shown once.")
    return html.Div(
        [
            html.H1(_("Subscriptions")),
            html.P(_("Who is told of alerts, and how. The same as `crosswind subscriptions`."), className="quiet"),
            dcc.Store(id="subscriptions-known"),
            html.Div(id="subscriptions"),
            labelled(
                html.Section([html.H2(_("Subscribe")), html.P(note, className="quiet"),
                              form(_PATH, fields, _("Subscribe"))], className="panel acting"),
                _("Subscribe"),
            ),
        ]
    )  # fmt: skip


def page(found: Mine, place: Place, view: View) -> Any:
    """The page's list, and the log of what is open."""
    columns = (_("Name"), _("State"), _("Channel"), _("Target"), _("About"), _("At least"), "")
    rows = [_row(one, place, view) for one in found.found]
    listed = html.Section([table(columns, rows, _("There is no subscription yet."))], className="panel")
    return [listed, *([_log(found.open, found.log, place, view)] if found.open else [])]


def _row(one: Subscription, place: Place, view: View) -> list[Any]:
    path, draft = f"{_PATH}/{one.subscription_id}", one.draft
    about = [*draft.filter.topics, *draft.filter.langs, *draft.filter.entities]
    pausing = (_("Resume"), "active") if one.state is not Standing.ACTIVE else (_("Pause"), "paused")
    acts = [button(_("Send a test"), f"{path}/test"), button(pausing[0], path, {"state": pausing[1]}, "PATCH")]
    name = html.Bdi(draft.name or one.subscription_id[:12], dir="auto")
    return [
        dcc.Link(name, href=place.href("/subscriptions", view, open=one.subscription_id)),
        html.Span(_state(one.state), className="badge " + ("live" if one.state is Standing.ACTIVE else ""),
                  title=one.state_reason),
        draft.channel.value, html.Bdi(one.shown or NOTHING), html.Bdi(", ".join(about) or _("everything")),
        _(draft.filter.min_severity), html.Div(acts, className="acts"),
    ]  # fmt: skip


def _state(state: Standing) -> str:
    words = {
        Standing.ACTIVE: _("● active"), Standing.PAUSED: _("○ paused"), Standing.DISABLED: _("✕ disabled"),
        Standing.UNSUBSCRIBED: _("✕ unsubscribed"),
    }  # fmt: skip
    return words[state]


def _log(one: Subscription, log: Sequence[Delivery], place: Place, view: View) -> Any:
    columns = (_("Time (UTC)"), _("Outcome"), _("Attempt"), _("Status"), _("Detail"), "ms")
    rows = [
        [when(tried.at), tried.outcome, tried.attempt, NOTHING if tried.status is None else tried.status,
         html.Bdi(tried.detail, dir="auto"), f"{tried.milliseconds:,}"]
        for tried in log
    ]  # fmt: skip
    close = dcc.Link(_("✕ close"), href=place.href("/subscriptions", view, open=""))
    delete = button(_("Delete"), f"{_PATH}/{one.subscription_id}", method="DELETE")
    head = html.Div([html.H2([_("Deliveries"), ": ", html.Bdi(one.draft.name or one.subscription_id)]), close, delete],
                    className="heading")  # fmt: skip
    return html.Section([head, table(columns, rows, _("Nothing was sent yet."))], className="panel", id="deliveries")
