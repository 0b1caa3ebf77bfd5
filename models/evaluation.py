"""Measuring a model: per language and in total, as a table, as JSON and as an HTML report."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from crosswind.errors import DataError
from crosswind.models.metrics import accuracy, bootstrap, calibration_error, confusion, f1_from, softmax
from crosswind.models.rows import Row

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from crosswind.models.network import Task

Logits = dict[str, NDArray[np.float32]]
Classifier = Callable[[Sequence[str]], Logits]
ALL: Final = "all"


@dataclass(frozen=True)
class Score:
    """One task on one group of rows; `low` and `high` bound macro-F1 with 95 % confidence."""

    task: str
    group: str
    rows: int
    accuracy: float
    macro_f1: float
    low: float
    high: float
    ece: float
    labels: tuple[str, ...]
    confusion: list[list[int]]


def score(
    rows: Sequence[Row],
    logits: Logits,
    tasks: Iterable["Task"],
    temperature: dict[str, float] | None = None,
    by: str = "lang",
    unsure_below: float = 0.0,
) -> list[Score]:
    """Score every task on all rows that carry its label, and on each group of them.

    Args:
        rows: n rows.
        logits: [n, labels] per task.
        tasks: the heads.
        temperature: per task, 1 where absent.
        by: the field of `Row` that groups: `lang` or `source`.
        unsure_below: a sentiment less probable than this is answered with neutral, as in service; 0: never. The
            calibration error is that of the probabilities, which it does not change.

    Raises:
        DataError: no row carries any label, or one that the task does not know.
    """
    found: list[Score] = []
    for task in tasks:
        known = [i for i, row in enumerate(rows) if row.label(task.name) is not None]
        unknown = sorted({str(rows[i].label(task.name)) for i in known} - set(task.labels))
        if unknown:
            raise DataError(f"task {task.name}: labels {unknown} are not among {list(task.labels)}")
        truth = np.array([task.labels.index(str(rows[i].label(task.name))) for i in known], dtype=np.int64)
        probabilities = softmax(logits[task.name][known], (temperature or {}).get(task.name, 1.0))
        answers = _answers(task, probabilities, unsure_below)
        groups = np.array([str(getattr(rows[i], by)) for i in known])
        for name in [ALL, *sorted(set(groups.tolist()))] if known else []:
            chosen = np.ones(len(known), dtype=bool) if name == ALL else groups == name
            found.append(_score(task, name, truth[chosen], answers[chosen], probabilities[chosen]))
    if not found:
        raise DataError("no row carries a label of this model's tasks: nothing to evaluate")
    return found


def _answers(task: "Task", probabilities: NDArray[np.float64], unsure_below: float) -> NDArray[np.int64]:
    best: NDArray[np.int64] = probabilities.argmax(1)
    if task.name != "sentiment" or not unsure_below:
        return best
    return np.where(probabilities.max(1) < unsure_below, task.labels.index("neutral"), best)


def _score(
    task: "Task", group: str, truth: NDArray[np.int64], answers: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Score:  # fmt: skip
    table = confusion(truth.tolist(), answers.tolist(), len(task.labels))
    low, high = bootstrap(truth.tolist(), answers.tolist(), len(task.labels))
    return Score(
        task.name, group, len(truth), accuracy(truth.tolist(), answers.tolist()), f1_from(table), low, high,
        calibration_error(probabilities, truth.tolist()), task.labels, table.tolist(),
    )  # fmt: skip


def as_table(scores: Sequence[Score]) -> str:
    """A Markdown table, one line per task and group."""
    head = "| task | group | rows | accuracy | macro-F1 | 95 % | ECE |\n|---|---|---:|---:|---:|---|---:|"
    lines = [
        f"| {s.task} | {s.group} | {s.rows} | {s.accuracy:.3f} | {s.macro_f1:.3f} | {s.low:.3f} to {s.high:.3f} "
        f"| {s.ece:.3f} |"
        for s in scores
    ]
    return "\n".join([head, *lines])


def as_json(scores: Sequence[Score]) -> str:
    """The scores as a JSON list."""
    return json.dumps([asdict(s) for s in scores], ensure_ascii=False, indent=2)


def as_html(scores: Sequence[Score], title: str = "Crosswind: evaluation") -> str:
    """A page of its own: macro-F1 with intervals per group, and the confusion matrix of each task."""
    parts: list[str] = []
    for task in dict.fromkeys(s.task for s in scores):
        mine = [s for s in scores if s.task == task]
        for figure in (_bars(task, mine), _matrix(mine[0])):
            parts.append(figure.to_html(full_html=False, include_plotlyjs=not parts))
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>{body}</html>\n'


def _bars(task: str, scores: Sequence[Score]) -> "go.Figure":
    import plotly.graph_objects as go

    f1 = [s.macro_f1 for s in scores]
    bars = go.Bar(
        x=[f"{s.group} ({s.rows})" for s in scores],
        y=f1,
        error_y={"array": [s.high - s.macro_f1 for s in scores], "arrayminus": [s.macro_f1 - s.low for s in scores]},
        hovertext=[f"accuracy {s.accuracy:.3f}, ECE {s.ece:.3f}" for s in scores],
    )
    return go.Figure(bars, {"title": f"{task}: macro-F1 by group", "yaxis": {"range": [0, 1]}})


def _matrix(total: Score) -> "go.Figure":
    import plotly.graph_objects as go

    counts = np.array(total.confusion)
    shares = counts / np.maximum(1, counts.sum(1, keepdims=True))
    heat = go.Heatmap(z=shares, x=total.labels, y=total.labels, text=counts, texttemplate="%{text}", zmin=0, zmax=1)
    axes = {"xaxis": {"title": "answer"}, "yaxis": {"title": "truth", "autorange": "reversed"}}
    return go.Figure(heat, {"title": f"{total.task}: confusion, all rows", **axes})


def write_report(scores: Sequence[Score], folder: Path) -> None:
    """Write `scores.json`, `scores.md` and `report.html` into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.json").write_text(as_json(scores) + "\n", encoding="utf-8")
    (folder / "scores.md").write_text(as_table(scores) + "\n", encoding="utf-8")
    (folder / "report.html").write_text(as_html(scores), encoding="utf-8")


def classifier(folder: Path, batch: int = 64, title: str = "") -> Classifier:
    """A MODEL_DIR as a function from texts to logits, run by torch on the CPU in full precision.

    Args:
        title: of a progress bar; none is shown without one.

    Raises:
        ModelError: the folder is not a MODEL_DIR.
    """
    import torch

    from crosswind.models.network import load_model

    network, tokenizer, manifest = load_model(folder)

    @torch.inference_mode()
    def classify(texts: Sequence[str]) -> Logits:
        found = {t.name: np.zeros((len(texts), len(t.labels)), dtype=np.float32) for t in network.tasks}
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        for at in tqdm(range(0, len(order), batch), desc=title, unit=f" × {batch} texts", disable=not title):
            chosen = order[at : at + batch]
            encoded = tokenizer(
                [manifest.prefix + texts[i] for i in chosen],
                truncation=True, max_length=manifest.max_tokens, padding=True, return_tensors="pt",
            )  # fmt: skip
            for name, values in network(encoded["input_ids"], encoded["attention_mask"]).items():
                found[name][chosen] = values.numpy()
        return found

    return classify


def direction(logits_positive: NDArray[np.float32], logits_negative: NDArray[np.float32]) -> tuple[float, float]:
    """How often counterfactual pairs come out right.

    Args:
        logits_positive: sentiment logits [pairs, 3] of the good halves, labels in the taxonomy's order.
        logits_negative: the same of the bad halves.

    Returns:
        The share whose good half has the higher (positive minus negative) probability, and the stricter share whose
        good half is called positive and bad half negative; (0, 0) for no pairs.
    """
    if not len(logits_positive):
        return 0.0, 0.0
    good, bad = softmax(logits_positive), softmax(logits_negative)
    right = (good[:, 0] - good[:, 2]) > (bad[:, 0] - bad[:, 2])
    strict = (good.argmax(1) == 0) & (bad.argmax(1) == 2)
    return float(right.mean()), float(strict.mean())
