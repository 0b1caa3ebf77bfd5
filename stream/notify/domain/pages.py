"""Where an alert is shown: the address of its page. Pure; the dashboard reads it back, a test compares."""

from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.subscription import concerns_all, over

BEFORE, AFTER = timedelta(hours=24), timedelta(hours=6)
"""What the chart shows around the alert: enough to see what was usual."""
_ALL = "*"


def page_of(address: str, alert: Alert) -> str:
    """The page of an alert: its series around that time, with the articles behind it; empty where there is none.

    Args:
        address: of the dashboard, without a slash at its end; empty: nobody knows it, so there is no link.
    """
    if not address or alert.rule == "test":
        return ""
    if concerns_all(alert):
        return f"{address}/alerts?range=all"
    at, minute = alert.at.replace(second=0, microsecond=0), timedelta(minutes=1)
    seen = "" if over(alert) else ",".join([alert.topic, *_span(at - alert.window * minute, at + minute)])
    given = {
        "range": "all", "langs": _named(alert.lang), "topic": _named(alert.topic), "entity": _named(alert.entity),
        "zoom": ",".join(_span(at - BEFORE, at + AFTER)), "pick": seen,
    }  # fmt: skip
    return f"{address}/series?{urlencode({name: value for name, value in given.items() if value}, safe=',:')}"


def _named(value: str) -> str:
    return "" if value == _ALL else value


def _span(start: datetime, end: datetime) -> list[str]:
    return [f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}" for moment in (start, end)]
