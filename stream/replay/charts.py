"""The charts of a backtest's report. plotly takes names for HTML, so they are escaped."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from crosswind.stream.domain.series import Series
from crosswind.stream.replay.backtest import Verdict
from crosswind.stream.replay.figures import Backtest
from crosswind.stream.replay.measures import lead_minutes
from crosswind.stream.replay.search import Found

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83")
_LAYOUT: dict[str, Any] = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "height": 380}


def timeline(found: Backtest) -> go.Figure:
    """Events as bars, alarms as points, one line per set of rules."""
    figure = go.Figure()
    verdicts = found.verdicts
    for event in verdicts[0].matched.events if verdicts else ():
        figure.add_vrect(event.onset, event.end, fillcolor="#fdae61", opacity=0.35, line_width=0)
    for number, verdict in enumerate(verdicts):
        for true, symbol in ((True, "circle"), (False, "x")):
            some = [alarm for alarm, place in zip(verdict.matched.alarms, verdict.matched.event, strict=True)
                    if (place >= 0) is true and alarm.leads]  # fmt: skip
            figure.add_scatter(
                x=[alarm.fired_at for alarm in some], y=[f"{escape(verdict.name)} "] * len(some), mode="markers",
                marker={"symbol": symbol, "size": 10, "color": COLOURS[number % len(COLOURS)]},
                name=f"{escape(verdict.name)}: {'true' if true else 'false'}",
                text=[escape(named(alarm.series)) for alarm in some], hovertemplate="%{x}<br>%{text}<extra></extra>",
            )  # fmt: skip
    return figure.update_layout(xaxis_title="event time (UTC)", **_LAYOUT)


def leads(verdicts: Sequence[Verdict]) -> go.Figure:
    """How long before the onset alarms came."""
    figure = go.Figure()
    for number, verdict in enumerate(verdicts):
        figure.add_histogram(x=lead_minutes(verdict.matched), name=escape(verdict.name), opacity=0.7,
                             marker_color=COLOURS[number % len(COLOURS)])  # fmt: skip
    return figure.update_layout(xaxis_title="minutes before the onset (negative: after it)", yaxis_title="events",
                                barmode="overlay", **_LAYOUT)  # fmt: skip


def calibration(verdicts: Sequence[Verdict]) -> go.Figure:
    """Measured false alarms against the budget; on the line it keeps its promise, below it is stricter."""
    figure = go.Figure()
    for number, verdict in enumerate(verdicts):
        rows = np.array(verdict.calibration, np.float64).reshape(-1, 4)
        # a logarithmic axis has no 0: what was not seen once is drawn at a tenth of the smallest budget
        shown = np.maximum(rows[:, 1], rows[:, 0].min(initial=1.0) / 10) if len(rows) else rows[:, 1]
        figure.add_scatter(x=rows[:, 0], y=shown, name=escape(verdict.name), mode="lines+markers",
                           marker_color=COLOURS[number % len(COLOURS)],
                           error_y={"array": rows[:, 3] - rows[:, 1], "arrayminus": rows[:, 1] - rows[:, 2]},
                           )  # fmt: skip
    figure.add_scatter(
        x=[0.01, 1.0], y=[0.01, 1.0], mode="lines", name="as promised", line={"dash": "dot", "color": "#666"}
    )
    return figure.update_layout(xaxis_title="budget, false alarms a month", yaxis_title="measured", xaxis_type="log",
                                yaxis_type="log", **_LAYOUT)  # fmt: skip


def surface(found: Found) -> go.Figure:
    """Score over the settings tried: a heat map of two settings, else one line per setting."""
    names = sorted({name for trial in found.trials for name in trial.values})
    scores = [trial.score for trial in found.trials]
    if len(names) == 2:
        xs, ys = ([str(trial.values[name]) for trial in found.trials] for name in names)
        figure = go.Figure(go.Heatmap(x=xs, y=ys, z=scores, colorscale="Viridis"))
        return figure.update_layout(xaxis={"title": names[0], "type": "category"},
                                    yaxis={"title": names[1], "type": "category"}, **_LAYOUT)  # fmt: skip
    figure = go.Figure()
    for name in names:
        figure.add_scatter(x=[str(trial.values[name]) for trial in found.trials], y=scores, mode="markers", name=name)
    return figure.update_layout(yaxis_title=found.objective, xaxis_type="category", **_LAYOUT)


def around(verdict: Verdict) -> go.Figure:
    """Cumulative average abnormal return around alarms."""
    figure, found = go.Figure(), verdict.study
    if found is not None:
        figure.add_scatter(x=found.steps, y=found.high, line={"width": 0}, showlegend=False, hoverinfo="skip")
        figure.add_scatter(x=found.steps, y=found.low, line={"width": 0}, fill="tonexty", name="95 % interval")
        figure.add_scatter(x=found.steps, y=found.mean, name="mean", line={"color": COLOURS[0]})
        figure.add_vline(0, line_dash="dot")
    return figure.update_layout(xaxis_title="price steps from the first price after the alarm",
                                yaxis_title="cumulative abnormal log return", **_LAYOUT)  # fmt: skip


def named(series: Series) -> str:
    """What a reader calls a series, not escaped."""
    return " · ".join(part for part in (series.topic, series.lang, series.entity) if part != "*") or "everything"
