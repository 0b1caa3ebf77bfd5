"""Plotly figures as plain dictionaries. Pure: no dash, no sqlalchemy, no clock.

Plain, since building `graph_objects` for fifteen cards costs more than the queries behind them; tests read each back
with `go.Figure`, which validates it. Colours are Okabe and Ito's, told apart by colour-blind readers, and no meaning
hangs on colour alone: bands are hatched and labelled, missing data is dotted and labelled. Text and grid colours are
set by the style sheet, so that they follow the reader's light or dark preference.

Plotly reads a pseudo-HTML in every text. Whatever comes from data goes through `escape` first.
"""

import functools
import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from crosswind.dashboard.baseline import Expected
from crosswind.dashboard.series import Span, Trend

NEGATIVE: Final = "#D55E00"
VOLUME: Final = "#7FA7C9"
BAND: Final = "rgba(230,159,0,0.20)"
BAND_EDGE: Final = "#E69F00"
INK: Final = "#3B2200"
USUAL: Final = "rgba(86,96,114,0.16)"
USUAL_EDGE: Final = "#566072"
SILENT: Final = "rgba(128,128,128,0.14)"
HEAT: Final = [[0.0, "#F2E9DC"], [0.35, "#F0B27A"], [0.7, "#D55E00"], [1.0, "#7A2E00"]]

Figure = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Band:
    """A stretch of a chart that an alert covers.

    Attributes:
        end: aware, UTC; the span's end while the incident is open.
        label: what the hover says, not yet escaped.
    """

    topic: str
    start: datetime
    end: datetime
    label: str


@dataclass(frozen=True, slots=True)
class Words:
    """What the charts say, in the interface's language. Ours, not data: it may hold no markup all the same."""

    negative: str = "negative"
    negative_articles: str = "negative articles"
    other_articles: str = "other articles"
    expected: str = "expected"
    no_data: str = "no data"
    cell: str = "{negative} of {articles} negative"


ENGLISH: Final = Words()


def escape(text: str, limit: int = 120) -> str:
    """Text from data, harmless in Plotly's pseudo-HTML; bidi controls and other controls are taken out.

    >>> escape("<b>Bank</b>")
    '&lt;b&gt;Bank&lt;/b&gt;'
    """
    visible = "".join(char for char in text if char.isprintable())
    return html.escape(visible[:limit])


def trend_figure(
    trend: Trend | None,
    span: Span,
    *,
    bands: Sequence[Band],
    gaps: Sequence[tuple[datetime, datetime]],
    revision: str,
    tall: bool = False,
    zoom: tuple[str, str] | None = None,
    expected: Expected | None = None,
    words: Words = ENGLISH,
) -> Figure:
    """Negative share above volume for one topic.

    Args:
        trend: None: no article of this topic in the span.
        bands: alerts of this topic.
        gaps: stretches in which the whole feed was silent.
        revision: while it stays the same, Plotly keeps what the reader did to the chart.
        tall: the drill-down's size instead of a card's.
        zoom: the part of the time axis that is looked at, UTC without a zone; None: all of the span.
        expected: the usual range of the share, drawn behind it.
        words: what it says.
    """
    data = _usual(expected, span, words) if expected and expected.known else []
    data += _traces(trend, span, words) if trend else []
    data += [*_band_strip(bands, span), _anchor(span)]
    layout = _layout(span, bands, gaps, revision, tall, words)
    if zoom:
        layout["xaxis"] |= {"range": list(zoom), "autorange": False}
    return {"data": data, "layout": layout}


def _traces(trend: Trend, span: Span, words: Words) -> list[Figure]:
    (starts, middles, keys), step = _axis(span), span.step.total_seconds() * 1000
    other = [total - bad for total, bad in zip(trend.articles, trend.negative, strict=True)]
    bars = {"type": "bar", "x": starts, "yaxis": "y2", "offset": 0, "width": step, "customdata": keys}
    line = {
        "type": "scatter", "mode": "lines", "name": "negative share", "x": middles, "y": list(trend.share),
        "customdata": keys, "connectgaps": False,
        "line": {"color": NEGATIVE, "width": 2, "shape": "linear"}, "hovertemplate": _hover("%{y:.0%}", words.negative),
    }  # fmt: skip
    return [
        line,
        {**bars, "name": "negative articles", "y": list(trend.negative), "marker": {"color": NEGATIVE},
         "hovertemplate": _hover("%{y}", words.negative_articles)},
        {**bars, "name": "other articles", "y": other, "marker": {"color": VOLUME},
         "hovertemplate": _hover("%{y}", words.other_articles)},
    ]  # fmt: skip


def _hover(value: str, text: str) -> str:
    return f"{value} {escape(text)}<extra></extra>"


@functools.lru_cache(maxsize=16)
def _axis(span: Span) -> tuple[list[str], list[str], list[list[int]]]:
    """Starts, middles and `customdata` of a span's bins, the same for all cards of a page. Not to be changed."""
    starts, middles = [_plain(at) for at in span.times], [_plain(at + span.step / 2) for at in span.times]
    return starts, middles, [minutes_of(at, at + span.step) for at in span.times]


def _usual(expected: Expected, span: Span, words: Words) -> list[Figure]:
    """The usual range as an area, and the expected share as a dotted line in it."""
    middles = _axis(span)[1]
    edge = {"type": "scatter", "mode": "lines", "x": middles, "connectgaps": False, "hoverinfo": "skip",
            "line": {"width": 0, "color": USUAL_EDGE}}  # fmt: skip
    lows, highs = closed(expected)
    return [
        {**edge, "name": "usual, low", "y": lows},
        {**edge, "name": "usual, high", "y": highs, "fill": "tonexty", "fillcolor": USUAL},
        {**edge, "name": "expected share", "y": list(expected.share), "hoverinfo": "all",
         "line": {"width": 1.5, "dash": "dot", "color": USUAL_EDGE},
         "hovertemplate": _hover("%{y:.0%}", words.expected)},
    ]  # fmt: skip


def closed(expected: Expected) -> tuple[list[float], list[float]]:
    """Both edges of the usual range, where it is not known with no height: Plotly fills across gaps, edge to edge.

    >>> closed(Expected((None, 0.3, None), (None, 0.25, None), (None, 0.75, None)))
    ([0.5, 0.25, 0.5], [0.5, 0.75, 0.5])
    """
    known = [(low + high) / 2 for low, high in zip(expected.low, expected.high, strict=True)
             if low is not None and high is not None]  # fmt: skip
    middle, edges = known[0] if known else 0.0, list[tuple[float, float]]()
    for low, high in zip(expected.low, expected.high, strict=True):
        if low is None or high is None:
            edges.append((middle, middle))
        else:
            middle = (low + high) / 2
            edges.append((low, high))
    return [low for low, _ in edges], [high for _, high in edges]


def _anchor(span: Span) -> Figure:
    """An unseen line from end to end of the span, which the axis fits itself to.

    A range set by us would do the same, but a double click could then not bring the whole span back.
    """
    ends = [_plain(span.start), _plain(span.end)]
    line = {"width": 0, "color": "rgba(0,0,0,0)"}
    return {"type": "scatter", "mode": "lines", "x": ends, "y": [0, 0], "line": line, "hoverinfo": "skip"}


def _band_strip(bands: Sequence[Band], span: Span) -> list[Figure]:
    """A hatched strip along the top: it can be hovered and clicked, which Plotly's shapes cannot."""
    shown = [(band, max(band.start, span.start), min(band.end, span.end)) for band in bands]
    shown = [(band, start, end) for band, start, end in shown if start < end]
    if not shown:
        return []
    return [
        {
            "type": "bar", "name": "alert", "yaxis": "y3", "offset": 0, "y": [1] * len(shown),
            "x": [_plain(start) for _, start, _ in shown],
            "width": [max((end - start).total_seconds(), span.step.total_seconds()) * 1000 for _, start, end in shown],
            "customdata": [minutes_of(start, end) for _, start, end in shown],
            "text": [escape(band.label) for band, _, _ in shown], "textposition": "none",
            "hovertemplate": "%{text}<extra></extra>",
            "marker": {"color": BAND_EDGE, "line": {"color": NEGATIVE, "width": 1},
                       "pattern": {"shape": "/", "size": 5, "bgcolor": BAND_EDGE, "fgcolor": INK,
                                   "solidity": 0.3}},
        }
    ]  # fmt: skip


def _layout(
    span: Span, bands: Sequence[Band], gaps: Sequence[tuple[datetime, datetime]], revision: str, tall: bool,
    words: Words,
) -> Figure:  # fmt: skip
    axis = {"fixedrange": True, "zeroline": False, "ticks": "", "automargin": False}
    return {
        "uirevision": revision,
        "margin": {"l": 38, "r": 8, "t": 4, "b": 34},
        "barmode": "stack", "bargap": 0, "hovermode": "x", "dragmode": "zoom", "showlegend": False,
        "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 11},
        "hoverlabel": {"align": "left", "namelength": 0},
        "xaxis": {"type": "date", "nticks": 9 if tall else 4,
                  "showgrid": False, "zeroline": False, "anchor": "y2", "hoverformat": "%d %b %H:%M UTC",
                  "tickformatstops": [{"dtickrange": [None, 86399999], "value": "%H:%M\n%d %b"},
                                      {"dtickrange": [86400000, None], "value": "%d %b\n%Y"}]},
        "yaxis": {**axis, "domain": [0.40, 0.92], "range": [0, 1.02], "tickformat": ".0%", "tickvals": [0, 0.5, 1]},
        "yaxis2": {**axis, "domain": [0.0, 0.30], "rangemode": "tozero", "nticks": 3, "tickformat": "d"},
        "yaxis3": {**axis, "domain": [0.94, 1.0], "range": [0, 1], "visible": False},
        "shapes": [*(_rectangle(b.start, b.end, BAND, "solid") for b in bands),
                   *(_rectangle(start, end, SILENT, "dot") for start, end in gaps)],
        "annotations": [_note(start, end, escape(words.no_data)) for start, end in gaps],
    }  # fmt: skip


def minutes_of(start: datetime, end: datetime) -> list[int]:
    """A stretch of time as a point's `customdata`: its first minute since 1970 and its length in minutes, rounded out.

    Integers, since three hundred points carry one each.

    >>> minutes_of(datetime(1970, 1, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 1, 4, 30, tzinfo=UTC))
    [60, 5]
    """
    first, last = int(start.timestamp() // 60), int(-(-end.timestamp() // 60))
    return [first, last - first]


def _rectangle(start: datetime, end: datetime, color: str, dash: str) -> Figure:
    edge = {"width": 1, "dash": dash, "color": BAND_EDGE if dash == "solid" else "#888"}
    return {
        "type": "rect", "layer": "below", "xref": "x", "yref": "paper", "y0": 0, "y1": 0.93,
        "x0": _plain(start), "x1": _plain(end), "fillcolor": color, "line": edge,
    }  # fmt: skip


def _note(start: datetime, end: datetime, text: str) -> Figure:
    return {
        "x": _plain(start + (end - start) / 2), "xref": "x", "y": 0.66, "yref": "paper", "text": text,
        "showarrow": False, "textangle": -90, "font": {"size": 10},
    }  # fmt: skip


def heat_figure(
    topics: Sequence[str], langs: Sequence[str], counts: dict[tuple[str, str], tuple[int, int]], words: Words = ENGLISH
) -> Figure:
    """Negative share by topic (rows, top down) and language (columns); cells with too few articles stay empty.

    Args:
        counts: (topic, lang) -> (articles, negative).
    """
    shares = [[_share(counts.get((topic, lang))) for lang in langs] for topic in topics]
    hover = [
        [f"{escape(topic)} · {escape(lang)}: {_cell(words, *counts.get((topic, lang), (0, 0)))}" for lang in langs]
        for topic in topics
    ]  # fmt: skip
    return {
        "data": [{
            "type": "heatmap", "x": [escape(lang) for lang in langs], "y": [escape(topic) for topic in topics],
            "z": shares, "text": [["" if s is None else f"{s:.0%}" for s in row] for row in shares],
            "customdata": hover, "texttemplate": "%{text}", "hovertemplate": "%{customdata}<extra></extra>",
            "zmin": 0, "zmax": 1, "xgap": 2, "ygap": 2, "colorscale": HEAT, "showscale": False,
            "textfont": {"size": 10},
        }],
        "layout": {
            "height": 60 + 24 * max(1, len(topics)), "margin": {"l": 84, "r": 4, "t": 22, "b": 4},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"family": "system-ui, sans-serif", "size": 11},
            "xaxis": {"side": "top", "fixedrange": True, "showgrid": False, "type": "category", "ticks": ""},
            "yaxis": {"autorange": "reversed", "fixedrange": True, "showgrid": False, "type": "category", "ticks": ""},
        },
    }  # fmt: skip


def _cell(words: Words, articles: int, negative: int) -> str:
    return escape(words.cell.format(negative=negative, articles=articles))


def _share(found: tuple[int, int] | None) -> float | None:
    """A cell's share; below three articles it would be noise painted in a strong colour."""
    return round(found[1] / found[0], 4) if found and found[0] >= 3 else None


def _plain(moment: datetime) -> str:
    """UTC without a zone: Plotly would shift a zoned time into the reader's own."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds")
