"""The backtest's report: one HTML file that needs no network, the same figures as JSON, the alarms as CSV.

Titles and names are what strangers wrote: they are escaped, and shown as text outside the charts.
"""

import csv
import html
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from crosswind.stream.domain.series import Series
from crosswind.stream.replay.backtest import Verdict
from crosswind.stream.replay.measures import Measures, Period, lead_minutes
from crosswind.stream.replay.search import Fold, Found
from crosswind.stream.replay.truth import Alarm

COLOURS = ("#2166ac", "#b2182b", "#1b7837", "#762a83")
_ROWS = (
    ("events", "Events"), ("detected", "Detected"), ("alarms", "Alarms told"), ("true_alarms", "True alarms"),
    ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("lead_median", "Lead, median (min)"),
    ("lead_q1", "Lead, lower quartile"), ("lead_q3", "Lead, upper quartile"),
    ("false_per_series_month", "False alarms per series and month"), ("under_alert", "Share of time under alert"),
    ("nab", "NAB score"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Backtest:
    """All that a report tells.

    Attributes:
        articles: by id, those that are the evidence of alarms.
    """

    title: str
    feed: str
    truth: str
    period: Period
    count: int
    verdicts: Sequence[Verdict]
    articles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    search: Found | None = None
    folds: Sequence[Fold] = ()


def summary(found: Backtest) -> dict[str, Any]:
    """The figures, for JSON."""
    plain: dict[str, Any] = {
        "title": found.title, "feed": found.feed, "truth": found.truth, "articles": found.count,
        "since": found.period.since.isoformat(), "until": found.period.until.isoformat(),
        "rules": [_verdict(verdict) for verdict in found.verdicts],
    }  # fmt: skip
    if found.search:
        plain["search"] = _search(found.search)
    plain["walk_forward"] = [
        {"since": fold.judged_on.since.isoformat(), "until": fold.judged_on.until.isoformat(),
         "values": dict(fold.values), "chosen": fold.chosen, "judged": fold.judged.plain()} for fold in found.folds
    ]  # fmt: skip
    return plain


def _verdict(verdict: Verdict) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "name": verdict.name, "version": verdict.version, **verdict.measures.plain(),
        "parts": {kind: {name: part.plain() for name, part in parts.items()} for kind, parts in verdict.parts.items()},
        "calibration": [dict(zip(("budget", "measured", "low", "high"), row, strict=True))
                        for row in verdict.calibration],
        "missed": [event.name for event, first in zip(verdict.matched.events, verdict.matched.first, strict=True)
                   if first is None],
    }  # fmt: skip
    if verdict.study:
        plain["study"] = {name: value.tolist() if isinstance(value, np.ndarray) else value
                          for name, value in asdict(verdict.study).items()}  # fmt: skip
    found: dict[str, Any] = _finite(plain)
    return found


def _search(found: Found) -> dict[str, Any]:
    return {
        "objective": found.objective, "split": found.judged_on.since.isoformat(),
        "trials": [{"values": dict(trial.values), "score": trial.score} for trial in found.trials],
        "judged": found.judged.plain(),
    }  # fmt: skip


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def alarm_table(verdict: Verdict) -> list[dict[str, Any]]:
    """One row per alarm."""
    rows = []
    for alarm, place in zip(verdict.matched.alarms, verdict.matched.event, strict=True):
        event = verdict.matched.events[place] if place >= 0 else None
        rows.append({
            "rules": verdict.name, "fired_at": alarm.fired_at.isoformat(),
            "ended_at": alarm.ended_at.isoformat() if alarm.ended_at else "", "rule": alarm.rule,
            "topic": alarm.series.topic, "lang": alarm.series.lang, "entity": alarm.series.entity,
            "severity": alarm.severity, "observed": alarm.observed, "expected": round(alarm.expected, 3),
            "told": alarm.leads, "event": event.name if event else "",
            "lead_minutes": (event.onset - alarm.fired_at).total_seconds() / 60 if event else "",
            "evidence": " ".join(alarm.evidence),
        })  # fmt: skip
    return rows


def as_csv(found: Backtest) -> str:
    """The alarms of all rules. Cells that a spreadsheet would take for a formula get an apostrophe."""
    rows = [row for verdict in found.verdicts for row in alarm_table(verdict)]
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["rules", "fired_at"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def write(found: Backtest, folder: Path) -> dict[str, Path]:
    """report.html, report.json and alarms.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {name: folder / name for name in ("report.html", "report.json", "alarms.csv")}
    files["report.html"].write_text(as_html(found), "utf-8")
    files["report.json"].write_text(json.dumps(summary(found), indent=1, ensure_ascii=False), "utf-8")
    files["alarms.csv"].write_text(as_csv(found), "utf-8")
    return files


def as_html(found: Backtest) -> str:
    """The report as one file; plotly.js is inside."""
    charts = [("Alarms and what really happened", timeline(found)), ("Lead times", leads(found.verdicts))]
    if any(verdict.calibration for verdict in found.verdicts):
        charts.append(("False alarms: promised and measured", calibration(found.verdicts)))
    if found.search:
        charts.append((f"Settings tried: {found.search.objective} on the period they were chosen on",
                       surface(found.search)))  # fmt: skip
    charts += [(f"Prices around the alarms of {verdict.name}", around(verdict))
               for verdict in found.verdicts if verdict.study]  # fmt: skip
    parts = [f"<h2>{_text(title)}</h2>{_div(figure, number)}" for number, (title, figure) in enumerate(charts)]
    body = "\n".join([_head(found), _figures_table(found), *parts, _folds(found), _slices(found), _evidence(found)])
    return _PAGE.format(title=_text(found.title), plotly=get_plotlyjs(), body=body)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }}
table {{ border-collapse: collapse; margin: 1rem 0; }} th, td {{ padding: .25rem .75rem; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }} tr + tr {{ border-top: 1px solid #ddd; }}
summary {{ cursor: pointer; }} li {{ unicode-bidi: isolate; }} .dim {{ color: #595959; }}
</style><script>{plotly}</script></head><body>
{body}
</body></html>
"""


def _head(found: Backtest) -> str:
    span = f"{found.period.since:%Y-%m-%d %H:%M} to {found.period.until:%Y-%m-%d %H:%M} UTC"
    said = f"{found.count:,} articles of {_text(found.feed)}, {span}; truth: {_text(found.truth)}"
    return f"<h1>{_text(found.title)}</h1><p class='dim'>{said}</p>"


def _figures_table(found: Backtest) -> str:
    names = "".join(f"<th>{_text(verdict.name)}</th>" for verdict in found.verdicts)
    rows = []
    for field_name, label in _ROWS:
        cells = "".join(f"<td>{_figure(verdict.measures, field_name)}</td>" for verdict in found.verdicts)
        rows.append(f"<tr><td>{label}</td>{cells}</tr>")
    return f"<table><tr><th></th>{names}</tr>{''.join(rows)}</table>"


def _figure(measures: Measures, name: str) -> str:
    value = getattr(measures, name)
    if isinstance(value, int):
        return f"{value:,}"
    if not np.isfinite(value):
        return "–"
    interval = measures.intervals.get(name)
    known = interval is not None and all(np.isfinite(interval))
    return f"{value:.3g}" + (
        f" <span class='dim'>[{interval[0]:.3g}, {interval[1]:.3g}]</span>" if known and interval else ""
    )


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
                x=[alarm.fired_at for alarm in some], y=[f"{_text(verdict.name)} "] * len(some), mode="markers",
                marker={"symbol": symbol, "size": 10, "color": COLOURS[number % len(COLOURS)]},
                name=f"{_text(verdict.name)}: {'true' if true else 'false'}",
                text=[_text(_named(alarm.series)) for alarm in some], hovertemplate="%{x}<br>%{text}<extra></extra>",
            )  # fmt: skip
    return figure.update_layout(xaxis_title="event time (UTC)", **_LAYOUT)


def leads(verdicts: Sequence[Verdict]) -> go.Figure:
    """How long before the onset alarms came."""
    figure = go.Figure()
    for number, verdict in enumerate(verdicts):
        figure.add_histogram(x=lead_minutes(verdict.matched), name=_text(verdict.name), opacity=0.7,
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
        figure.add_scatter(x=rows[:, 0], y=shown, name=_text(verdict.name), mode="lines+markers",
                           marker_color=COLOURS[number % len(COLOURS)],
                           error_y={"array": rows[:, 3] - rows[:, 1], "arrayminus": rows[:, 1] - rows[:, 2]},
                           )  # fmt: skip
    figure.add_scatter(
        x=[0.01, 1.0], y=[0.01, 1.0], mode="lines", name="as promised", line={"dash": "dot", "color": "#666"}
    )
    return figure.update_layout(xaxis_title="budget per series and month", yaxis_title="measured", xaxis_type="log",
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


_LAYOUT: dict[str, Any] = {"template": "plotly_white", "margin": {"l": 60, "r": 20, "t": 20, "b": 50}, "height": 380}


def _div(figure: go.Figure, number: int) -> str:
    made: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{number}",
                               config={"displaylogo": False, "responsive": True})  # fmt: skip
    return made


def _folds(found: Backtest) -> str:
    if not found.folds:
        return ""
    rows = "".join(
        f"<tr><td>{fold.judged_on.since:%Y-%m-%d} – {fold.judged_on.until:%Y-%m-%d}</td>"
        f"<td>{_text(', '.join(f'{name}={value}' for name, value in fold.values.items()))}</td>"
        f"<td>{fold.chosen:.3g}</td><td>{_figure(fold.judged, 'f1')}</td><td>{_figure(fold.judged, 'nab')}</td></tr>"
        for fold in found.folds
    )
    head = "<tr><th>judged on</th><th>settings</th><th>chosen at</th><th>F1</th><th>NAB</th></tr>"
    return f"<h2>Walk forward</h2><table>{head}{rows}</table>"


def _slices(found: Backtest) -> str:
    parts = []
    for kind, label in (("topic", "topic"), ("lang", "language")):
        for verdict in found.verdicts:
            rows = "".join(
                f"<tr><td>{_text(name)}</td><td>{part.alarms}</td><td>{_figure(part, 'precision')}</td>"
                f"<td>{_figure(part, 'recall')}</td><td>{_figure(part, 'false_per_series_month')}</td></tr>"
                for name, part in verdict.parts.get(kind, {}).items()
            )
            head = f"<tr><th>{label}</th><th>alarms</th><th>precision</th><th>recall</th><th>false</th></tr>"
            parts.append(f"<h2>Per {label}: {_text(verdict.name)}</h2><table>{head}{rows}</table>")
    return "\n".join(parts)


def _evidence(found: Backtest) -> str:
    """The articles behind each alarm that was told."""
    parts = ["<h2>The articles behind each alarm</h2>"]
    for verdict in found.verdicts:
        for alarm, place in zip(verdict.matched.alarms, verdict.matched.event, strict=True):
            if alarm.leads:
                event = _text(verdict.matched.events[place].name) if place >= 0 else "no event"
                parts.append(f"<details><summary>{alarm.fired_at:%Y-%m-%d %H:%M} {_text(_named(alarm.series))} "
                             f"({_text(verdict.name)}; {event})</summary><ul>{_items(alarm, found)}</ul>"
                             "</details>")  # fmt: skip
    return "\n".join(parts)


def _items(alarm: Alarm, found: Backtest) -> str:
    known = [found.articles[ident] for ident in alarm.evidence if ident in found.articles]
    return "".join(
        f"<li dir='auto'>{row['published_at']:%H:%M} {_text(row['title'])} <span class='dim'>{_text(row['source'])}, "
        f"{_text(row['lang'])}</span></li>" for row in known
    )  # fmt: skip


def _named(series: Series) -> str:
    return " · ".join(part for part in (series.topic, series.lang, series.entity) if part != "*") or "everything"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
