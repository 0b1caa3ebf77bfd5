"""What can be done about alerts on the pages: buttons that call the API, and the silences in force.

A button carries its request in `data-` attributes; `assets/actions.js` sends it. Who may not act does not see it, and
is refused by the API.
"""

import json
from collections.abc import Sequence
from typing import Any

from dash import html

from crosswind.dashboard.components import labelled, when
from crosswind.dashboard.i18n import _
from crosswind.dashboard.queries import Incident
from crosswind.stream.domain.silence import Silence

SILENCE_HOURS = (2, 24)


def actions(incident: Incident, useful: bool | None = None) -> Any:
    """The buttons of one alert.

    Args:
        useful: what the reader said of it; None: nothing yet.
    """
    path = f"/api/v1/incidents/{incident.incident_id}"
    matchers = [f"{name}={getattr(incident, name)}" for name in ("topic", "lang", "entity")]
    buttons = [
        *[_button(_("Acknowledge"), f"{path}/acknowledge", {})] * (incident.acknowledged_by is None),
        *(_button(_("Silence {hours} h", hours=hours), "/api/v1/silences", {"matchers": matchers, "hours": hours})
          for hours in SILENCE_HOURS),
        _button("✓ " * (useful is True) + _("Useful"), f"{path}/verdict", {"useful": True}),
        _button("✓ " * (useful is False) + _("Not useful"), f"{path}/verdict", {"useful": False}),
    ]  # fmt: skip
    return html.Div([*_said(incident), *buttons], className="acts")


def _said(incident: Incident) -> list[Any]:
    by = incident.acknowledged_by
    said = [html.Span([_("✓ taken by"), " ", html.Bdi(by)], className="badge resolved")] if by else []
    return said + [html.Span(_("🔇 silenced"), className="badge")] * incident.silenced


def _button(label: str, path: str, body: dict[str, Any], method: str = "POST") -> Any:
    given: Any = {"data-path": path, "data-body": json.dumps(body), "data-method": method}
    return html.Button(label, className="button act", type="button", **given)


def silence_list(silences: Sequence[Silence]) -> Any:
    """The silences in force, each with a way to end it."""
    if not silences:
        return None
    items = []
    for silence in silences:
        what = ", ".join(f"{m.field} {m.operator} {m.value}" for m in silence.matchers)
        end = _button(_("End"), f"/api/v1/silences/{silence.silence_id}", {}, "DELETE")
        items.append(html.Li([html.Bdi(what), " ", _("until"), " ", when(silence.ends_at), " ", end]))
    return labelled(html.Section([html.H2(_("Silences")), html.Ul(items)], className="panel silences"), _("Silences"))
