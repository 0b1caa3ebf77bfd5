"""What a backtest found: its figures, for JSON, and its alarms, for CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from crosswind.cells import safe_text
from crosswind.stream.replay.backtest import Verdict
from crosswind.stream.replay.measures import Period
from crosswind.stream.replay.search import Fold, Found


@dataclass(frozen=True, slots=True)
class Backtest:
    """All that a report tells.

    Attributes:
        articles: by id, those that are the evidence of alarms.
        skipped: stretches of the walk forward before which no event lies, so that nothing could be chosen.
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
    skipped: int = 0


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
    plain["walk_forward_skipped"] = found.skipped
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


ALARM_COLUMNS = ("rules", "fired_at", "ended_at", "rule", "topic", "lang", "entity", "severity", "observed", "expected",
                 "told", "event", "lead_minutes", "evidence")  # fmt: skip


def alarm_table(verdict: Verdict) -> list[dict[str, Any]]:
    """One row per alarm, with `ALARM_COLUMNS`."""
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
    writer = csv.DictWriter(out, ALARM_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def _cell(value: Any) -> Any:
    return safe_text(value) if isinstance(value, str) else value
