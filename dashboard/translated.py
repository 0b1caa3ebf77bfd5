"""Translations below the headlines they belong to. What was translated is text from strangers too, never markup."""

from collections.abc import Mapping, Sequence
from typing import Any

from dash import html

from crosswind.dashboard import i18n
from crosswind.dashboard.i18n import _
from crosswind.dashboard.live import Live
from crosswind.stream.service.translation import Translation

Told = Mapping[str, Translation]
"""Translations by article id."""


async def told_of(live: Live, article_ids: Sequence[str]) -> Told:
    """What is known of some headlines in the interface's language; the rest comes with a later pulse."""
    target, ids = i18n.current(), tuple(article_ids)
    found: Told = await live.get(
        ("translations", target, ids), lambda: live.headlines.ask(live.reader.run, ids, target)
    )  # fmt: skip
    return found


def below(told: Translation | None) -> list[Any]:
    """The line below a headline: its translation, or that there is no translator; nothing while nothing is known."""
    if told is None:
        return []
    pair = f"{told.source}→{told.target}"
    if told.text is None:
        return [html.Span(_("no translator {pair}", pair=pair), className="translation quiet")]
    text = html.Bdi(told.text, dir="auto", lang=told.target)
    return [html.Span([html.Span(f"{pair} ", className="quiet"), text], className="translation")]
