"""The export: graph, quantisation, parity, bundle. All or nothing. Needs the extra `[train]`."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile
from typing import Any, Literal

import numpy as np
import onnx
import structlog
import torch

from crosswind.errors import CrosswindError, ModelError
from crosswind.export import bundle
from crosswind.export.atomic import publish, staging
from crosswind.export.calibration import calibrate
from crosswind.export.fused import NAME, Shape, fuse
from crosswind.export.graph import OPSET, write_graph
from crosswind.export.half import to_fp16
from crosswind.export.parity import State, Verdict, answers, compare, judge
from crosswind.export.quantise import RECIPES, Recipe, quantise
from crosswind.export.report import Measured, Report, write_report
from crosswind.export.running import Outputs, encode, run_graph, together
from crosswind.export.sources import EMBEDDING, Ours, Source, load_source
from crosswind.models.rows import Row

Precision = Literal["fp32", "fp16", "int8"]
SMOKE = 12
TRIED = 256
"""Texts of parity that are run together, to see whether that changes a bit."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Request:
    """What is to be exported, and how.

    Attributes:
        rows: texts that parity is measured on; labels where they are known.
        calibration: texts for int8's scales; none of `rows`.
        smoke: texts of which the bundle keeps some, with the model's answers.
        head: name of a foreign classifier's only head.
        strict: see `parity.judge`.
        fused: try the graph of `fused.py` before the recipes, where the encoder is a BERT.
    """

    model: Path
    out: Path
    rows: Sequence[Row]
    calibration: Sequence[str]
    smoke: Sequence[str]
    precision: Precision = "int8"
    name: str = ""
    licence: str = "Apache-2.0"
    head: str = "sentiment"
    strict: bool = False
    recipes: Sequence[Recipe] = field(default=RECIPES)
    fused: bool = True


def export_bundle(request: Request) -> Report:
    """Exports a model; the bundle appears at `request.out` in one step, its parity report beside it.

    Raises:
        ModelError: the model cannot be exported or a gate failed; no bundle is written, a former one stays.
        BundleError: the place cannot be written; what was there is unchanged.
    """
    source = load_source(request.model, request.head)
    with staging(request.out) as folder:
        work, finished = folder / "work", folder / "bundle"
        work.mkdir()
        finished.mkdir()
        report = _measure(request, source, work)
        if report.failed:
            write_report(report, request.out, "rejected")
            raise ModelError(_refusal(report, request.out))
        copyfile(work / "chosen.onnx", finished / bundle.MODEL)
        copyfile(source.tokenizer, finished / bundle.TOKENIZER)
        manifest = bundle.seal(finished, _manifest(request, source, report, finished))
        publish(finished, request.out)
    report = report.of_version(manifest.version)
    write_report(report, request.out, "parity")
    return report


@dataclass(frozen=True)
class _Bench:
    """What each candidate is measured with."""

    request: Request
    source: Source
    ids: list[list[int]]
    reference: Outputs

    def measure(self, path: Path, precision: Precision, recipe: str = "") -> Measured:
        outputs = run_graph(path, self.ids, self.source.heads)
        found = [
            comparison
            for head in self.source.heads
            for comparison in compare(
                self.request.rows, head, self.reference.logits[head.name], outputs.logits[head.name],
                self.source.unsure_below if head.name == "sentiment" else 0.0,
            )
        ]  # fmt: skip
        verdicts = judge(precision, found, self.request.strict)
        measured = Measured(precision, recipe, path.stat().st_size, outputs.texts_per_second, found, verdicts)
        _log.info("measured", precision=precision, recipe=recipe, failed=len(measured.failed))
        return measured


def _measure(request: Request, source: Source, work: Path) -> Report:
    ids = encode(source.tokenizer, [row.text for row in request.rows], source.max_tokens)
    with _naming(source, "does not run on one text at a time, as the export needs it"):
        reference = run_torch(source, ids)
    bench = _Bench(request, source, ids, reference)
    fp32 = work / "fp32.onnx"
    write_graph(source.module, fp32)
    measured = [bench.measure(fp32, "fp32")]
    chosen = fp32
    if request.precision == "int8" and not measured[0].failed:
        with _naming(source, "cannot be brought to int8; export it with --precision fp32"):
            chosen, more = _choose_int8(bench, fp32, work)
        measured += more
    elif request.precision == "fp16" and not measured[0].failed:
        chosen = work / "fp16.onnx"
        to_fp16(fp32, chosen)
        measured.append(bench.measure(chosen, "fp16"))
    chosen.rename(work / "chosen.onnx")
    return Report(request.name or request.out.name, "", request.strict, bench.reference.texts_per_second, measured)


@contextmanager
def _naming(source: Source, what: str) -> Iterator[None]:
    """Says of which architecture a step does not go: one that shares weights between its layers (ALBERT), or judges by
    a token of its own (BART), is found out only where it breaks. A full disk is not the architecture's fault."""
    try:
        yield
    except (CrosswindError, OSError, MemoryError):
        raise
    except Exception as error:  # torch, onnx and numpy share no base
        kind = getattr(source.module.config, "model_type", "") or type(source.module).__name__
        cause = (str(error).splitlines() or [""])[0]
        raise ModelError(f"the architecture {kind} {what} ({type(error).__name__}: {cause})") from error


def _choose_int8(bench: _Bench, fp32: Path, work: Path) -> tuple[Path, list[Measured]]:
    """The first graph that passes, and all that were tried; where none passes, the last."""
    texts = encode(bench.source.tokenizer, bench.request.calibration, bench.source.max_tokens)
    inputs = calibrate(fp32, texts)
    path, tried = work / "int8.onnx", []
    shape = shape_of(bench.source) if bench.request.fused else None
    if shape is not None:
        fuse(fp32, path, shape, inputs, {head.name: len(head.labels) for head in bench.source.heads})
        tried.append(bench.measure(path, "int8", NAME))
        if not tried[-1].failed:
            return path, tried
    for recipe in bench.request.recipes:
        quantise(fp32, path, recipe, inputs)
        tried.append(bench.measure(path, "int8", recipe.name))
        if not tried[-1].failed:
            break
    return path, tried


def shape_of(source: Source) -> Shape | None:
    """What `fused.build` has to know of the encoder; None where it is no BERT that it knows."""
    config = source.module.config
    known = getattr(config, "model_type", "") == "bert" and config.hidden_act == "gelu"
    absolute = getattr(config, "position_embedding_type", "absolute") == "absolute"
    if not (isinstance(source.module, Ours) and known and absolute):
        return None
    return Shape(config.num_hidden_layers, config.num_attention_heads, config.layer_norm_eps)


def run_torch(source: Source, ids: Sequence[Sequence[int]]) -> Outputs:
    """The reference: PyTorch, fp32, one text per run on one thread."""
    rows: list[dict[str, torch.Tensor]] = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    started = time.perf_counter()
    with torch.inference_mode():
        for text in ids:
            tokens = torch.tensor([list(text)], dtype=torch.long)
            rows.append(source.module(tokens, torch.ones_like(tokens)))
    seconds = time.perf_counter() - started
    torch.set_num_threads(threads)
    columns = {name: np.concatenate([row[name].numpy() for row in rows]) for name in source.module.outputs()}
    embedding = columns.pop(EMBEDDING)
    return Outputs(columns, embedding, len(ids) / seconds)


def _refusal(report: Report, out: Path) -> str:
    failed: list[Verdict] = report.failed
    shown = "; ".join(str(verdict) for verdict in failed[:5]) + (f"; and {len(failed) - 5} more" * (len(failed) > 5))
    return f"no bundle was written, {len(failed)} gates failed: {shown}. See {out.name}.rejected.html beside it"


def _manifest(request: Request, source: Source, report: Report, folder: Path) -> dict[str, Any]:
    return {
        "name": request.name or request.out.name,
        "base": source.base,
        "languages": source.languages or sorted({row.lang for row in request.rows}),
        "heads": [{"name": h.name, "labels": h.labels, "temperature": h.temperature} for h in source.heads],
        "unsure_below": source.unsure_below,
        "max_tokens": source.max_tokens,
        "precision": request.precision,
        "opset": _opset(folder / bundle.MODEL),
        "data": source.data,
        "licence": request.licence,
        "metrics": {"training": source.metrics, "parity": report.summary()},
        "smoke": choose_smoke(request.smoke, source, folder),
        "vocabulary": source.rows,
        "together": together(folder / bundle.MODEL, _some_ids(request, source)),
        "command": f"crosswind export {request.model.name} --out {request.out.name} --precision {request.precision}",
    }


def _some_ids(request: Request, source: Source) -> list[list[int]]:
    texts = [row.text for row in request.rows][:TRIED]
    return encode(source.tokenizer, texts, source.max_tokens)


def _opset(path: Path) -> int:
    return max((o.version for o in onnx.load(str(path)).opset_import if o.domain in ("", "ai.onnx")), default=OPSET)


def choose_smoke(texts: Sequence[str], source: Source, folder: Path) -> list[dict[str, str]]:
    """Up to `SMOKE` texts with the bundle's answers: the surest of each, so that no machine's rounding matters."""
    if not texts:
        return []
    outputs = run_graph(folder / bundle.MODEL, encode(source.tokenizer, texts, source.max_tokens), source.heads)
    given = {h.name: answers(outputs.logits[h.name], h, source.unsure_below if h.name == "sentiment" else 0.0)
             for h in source.heads}  # fmt: skip
    gaps = [np.diff(np.sort(outputs.logits[h.name], 1)[:, -2:])[:, 0] / h.temperature for h in source.heads]
    surest = np.argsort(-np.minimum.reduce(gaps), kind="stable")
    found: dict[tuple[int, ...], dict[str, str]] = {}
    for index in surest.tolist():
        labels = {h.name: h.labels[given[h.name][index]] for h in source.heads}
        found.setdefault(tuple(int(given[h.name][index]) for h in source.heads), {"text": texts[index], **labels})
    return list(found.values())[:SMOKE]


def undecided(report: Report) -> list[Verdict]:
    """Gates that the number of texts does not settle."""
    return [verdict for verdict in report.chosen.verdicts if verdict.state is State.UNDECIDED]
