"""The backtest's report: one HTML file that needs no network, the same figures as JSON, the alarms as CSV.

Titles and names are what strangers wrote: they are escaped, and shown as text outside the charts.
"""

import html
import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from crosswind.stream.replay.charts import around, calibration, leads, named, surface, timeline
from crosswind.stream.replay.figures import Backtest, as_csv, summary
from crosswind.stream.replay.measures import Measures
from crosswind.stream.replay.truth import Alarm

_ROWS = (
    ("events", "Events"), ("detected", "Detected"), ("alarms", "Alarms told"), ("true_alarms", "True alarms"),
    ("precision", "Precision"), ("recall", "Recall"), ("f1", "F1"), ("lead_median", "Lead, median (min)"),
    ("lead_q1", "Lead, lower quartile"), ("lead_q3", "Lead, upper quartile"),
    ("false_per_series_month", "False alarms per series and month"), ("under_alert", "Share of time under alert"),
    ("nab", "NAB score"),
)  # fmt: skip
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


def _div(figure: go.Figure, number: int) -> str:
    made: str = figure.to_html(full_html=False, include_plotlyjs=False, div_id=f"chart-{number}",
                               config={"displaylogo": False, "responsive": True})  # fmt: skip
    return made


def _folds(found: Backtest) -> str:
    if not found.folds and not found.skipped:
        return ""
    said = f"<p class='dim'>Left out, because no event lies before: {found.skipped} stretches.</p>"
    rows = "".join(
        f"<tr><td>{fold.judged_on.since:%Y-%m-%d} – {fold.judged_on.until:%Y-%m-%d}</td>"
        f"<td>{_text(', '.join(f'{name}={value}' for name, value in fold.values.items()))}</td>"
        f"<td>{fold.chosen:.3g}</td><td>{_figure(fold.judged, 'f1')}</td><td>{_figure(fold.judged, 'nab')}</td></tr>"
        for fold in found.folds
    )
    head = "<tr><th>judged on</th><th>settings</th><th>chosen at</th><th>F1</th><th>NAB</th></tr>"
    return f"<h2>Walk forward</h2><table>{head}{rows}</table>" + (said if found.skipped else "")


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
                parts.append(f"<details><summary>{alarm.fired_at:%Y-%m-%d %H:%M} {_text(named(alarm.series))} "
                             f"({_text(verdict.name)}; {event})</summary><ul>{_items(alarm, found)}</ul>"
                             "</details>")  # fmt: skip
    return "\n".join(parts)


def _items(alarm: Alarm, found: Backtest) -> str:
    known = [found.articles[ident] for ident in alarm.evidence if ident in found.articles]
    return "".join(
        f"<li dir='auto'>{row['published_at']:%H:%M} {_text(row['title'])} <span class='dim'>{_text(row['source'])}, "
        f"{_text(row['lang'])}</span></li>" for row in known
    )  # fmt: skip


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
