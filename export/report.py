"""The parity report: JSON, and one HTML page with Plotly that needs no network."""

import html
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from crosswind.export.parity import AGREEMENT, ALL, F1_DROP, FP32_LIMIT, Comparison, State, Verdict

FORMAT = 1


@dataclass(frozen=True)
class Measured:
    """One precision, as it was measured against PyTorch.

    Attributes:
        size: bytes of the graph.
        texts_per_second: one text per run, one thread, tokenisation not counted.
    """

    precision: str
    recipe: str
    size: int
    texts_per_second: float
    comparisons: Sequence[Comparison]
    verdicts: Sequence[Verdict]

    @property
    def failed(self) -> list[Verdict]:
        """The gates that failed."""
        return [verdict for verdict in self.verdicts if verdict.state is State.FAILED]


@dataclass(frozen=True)
class Report:
    """All that an export measured; the last precision is the one that was chosen.

    Attributes:
        version: the bundle's, empty where none was written.
        torch_texts_per_second: the reference, run the same way.
    """

    name: str
    version: str
    strict: bool
    torch_texts_per_second: float
    measured: Sequence[Measured]

    @property
    def chosen(self) -> Measured:
        """What went into the bundle, or would have."""
        return self.measured[-1]

    @property
    def failed(self) -> list[Verdict]:
        """The gates that the chosen precision failed."""
        return self.chosen.failed

    def of_version(self, version: str) -> "Report":
        """The same report, of a bundle that is now written."""
        return replace(self, version=version)

    def summary(self) -> dict[str, Any]:
        """What the manifest keeps: figures over all languages, and the worst language. No speeds: they are this
        machine's, and a version must not depend on them."""
        rows = [c for c in self.chosen.comparisons if c.lang == ALL]
        worst = min(self.chosen.comparisons, key=lambda c: c.agreement)
        figures = {
            c.head: {"texts": c.texts, "agreement": round(c.agreement, 6), "macro_f1_drop": _rounded(c.drop),
                     "largest_difference": _significant(c.largest)} for c in rows
        }  # fmt: skip
        undecided = sorted({v.lang for v in self.chosen.verdicts if v.state is State.UNDECIDED})
        return {"recipe": self.chosen.recipe, "heads": figures, "undecided": undecided,
                "worst": {"lang": worst.lang, "head": worst.head, "agreement": round(worst.agreement, 6)}}  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The report's JSON."""
        return {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "strict": self.strict,
            "limits": {"fp32": FP32_LIMIT, "agreement": AGREEMENT, "macro_f1_drop": F1_DROP},
            "torch_texts_per_second": self.torch_texts_per_second,
            "precisions": [
                {
                    "precision": m.precision,
                    "recipe": m.recipe,
                    "bytes": m.size,
                    "texts_per_second": m.texts_per_second,
                    "languages": [c.to_json() for c in m.comparisons],
                    "gates": [asdict(v) for v in m.verdicts],
                }
                for m in self.measured
            ],
        }


def write_report(report: Report, out: Path, kind: str) -> None:
    """Writes `OUT.KIND.json` and `OUT.KIND.html` beside a bundle's folder, each in one step.

    What is no finite number is null in the JSON.
    """
    content = msgspec.json.format(msgspec.json.encode(report.to_json()), indent=1).decode() + "\n"
    for suffix, text in (("json", content), ("html", to_html(report))):
        path = out.parent / f"{out.name}.{kind}.{suffix}"
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def to_html(report: Report) -> str:
    """One page: the gates in words, a table of precisions, bars per language."""
    charts = "".join(
        figure(report, head).to_html(full_html=False, include_plotlyjs=not number)
        for number, head in enumerate(sorted({c.head for c in report.chosen.comparisons}))
    )
    title = f"Parity of {html.escape(report.name)} {html.escape(report.version)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        "<style>body{font:16px system-ui;margin:2rem auto;max-width:75rem;padding:0 1rem}"
        "td,th{padding:.2rem .8rem;text-align:right}</style>"
        f"<h1>{title}</h1>{_sentences(report)}{_table(report)}{charts}</html>"
    )


def figure(report: Report, head: str) -> "go.Figure":
    """Agreement and macro-F1 change per language of one head, one bar per precision."""
    chart = make_subplots(rows=2, cols=1, shared_xaxes=True, subplot_titles=(
        f"{head}: share of texts with the same label as PyTorch", f"{head}: macro-F1 change in points"))  # fmt: skip
    for measured in report.measured:
        rows = [c for c in measured.comparisons if c.head == head]
        langs = ["all" if c.lang == ALL else f"{c.lang} ({c.texts})" for c in rows]
        name = f"{measured.precision} {measured.recipe}".strip()
        chart.add_bar(x=langs, y=[c.agreement for c in rows], name=name, row=1, col=1)
        chart.add_bar(x=langs, y=[-100 * (c.drop or 0.0) for c in rows], name=name, showlegend=False, row=2, col=1)
    chart.add_hline(y=AGREEMENT, line_dash="dot", row=1, col=1)
    chart.add_hline(y=-100 * F1_DROP, line_dash="dot", row=2, col=1)
    chart.update_layout(height=640, template="plotly_white")
    chart.update_yaxes(range=[0.9, 1.0], tickformat=".0%", row=1, col=1)
    return chart


def _sentences(report: Report) -> str:
    groups = [("Failed gates", State.FAILED), ("Beyond the limit, but too few texts to tell from chance",
                                               State.UNDECIDED)]  # fmt: skip
    text = ""
    for title, state in groups:
        found = [verdict for verdict in report.chosen.verdicts if verdict.state is state]
        items = "".join(f"<li>{html.escape(str(verdict))}" for verdict in found) or "<li>none"
        text += f"<h2>{title}</h2><ul>{items}</ul>"
    return text


def _table(report: Report) -> str:
    lines = [f"<tr><td>PyTorch fp32<td><td>{report.torch_texts_per_second:,.0f}<td><td><td>"]
    for m in report.measured:
        total = [c for c in m.comparisons if c.lang == ALL]
        lines.append(
            f"<tr><td>{html.escape(m.precision)} {html.escape(m.recipe)}<td>{m.size / 1e6:,.1f}"
            f"<td>{m.texts_per_second:,.0f}<td>{max(c.largest for c in total):.2g}"
            f"<td>{sum(c.mean for c in total) / len(total):.2g}<td>{min(c.agreement for c in total):.2%}"
        )
    head = "<tr><th>precision<th>MB<th>texts/s, one thread<th>largest<th>mean difference<th>agreement"
    return f"<h2>Precisions</h2><table>{head}{''.join(lines)}</table>"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)


def _significant(value: float) -> float:
    return float(f"{value:.2g}")
