"""Inference: the bundle in service against the same weights elsewhere.

One run, same texts (12–64 tokens), same threads; every contender runs once per round, and its best round counts, so
that a busy moment of the machine does not decide.

    python bench/inference.py [BUNDLE] [MODEL_DIR] [--texts 512] [--rounds 3] [--threads 2] [--json FILE] [--docs]

BUNDLE: the shipped one. MODEL_DIR: the trained weights that it was exported from, runs/shipped or runs/trim.
OpenVINO's own int8 is measured where `pip install nncf` was done; Crosswind does not use it. Crosswind is measured on
ONNX Runtime (`--device cpu`), and in bfloat16 (`--device openvino`) where that is there.

`--docs` writes the figures into docs/models-in-production.md.

Bars: ours reaches at least 6 times transformers' `pipeline()` one by one with the same weights on ONNX Runtime, on its
faster device 12 times that of the teacher it was distilled from (--teacher; a bundle that was not distilled is its
own), gives on each device the labels of the same weights in fp32 to at least 99 % (all texts of the corpus's test half,
of whatever length), and reaches at least 60 % of the int8 matrix products that this machine can do.
"""

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.figures import write_figures
from bench.jobs.contenders import (
    HEADS,
    SHAPES,
    Answers,
    Contender,
    int8_speed,
    openvino_int8,
    pipeline,
    plain_int8,
    served,
    single,
)
from crosswind.errors import ProviderError
from crosswind.export.bundle import MODEL, SHIPPED, verify
from crosswind.export.running import encode
from crosswind.stream.adapters.onnx_scorer import OnnxScorer

SPEED, TEACHER_SPEED, AGREEMENT, LIMIT_SHARE = 6.0, 12.0, 0.99, 0.60
PRODUCTS = ("MatMulInteger", "MatMulIntegerToFloat", "MatMul")
COLUMNS = (("texts_per_second", 1), ("times", 2), ("agreement", 4))
DEVICES = {"cpu": "int8, ONNX Runtime", "openvino": "bfloat16, OpenVINO"}
DEFAULT_MODELS = (Path("runs/shipped"), Path("runs/trim"))
Bar = tuple[str, str, bool]
"""What is to be reached, what was measured, whether it holds."""


def main() -> int:
    os.environ.setdefault("CI", "true")  # OpenVINO's telemetry stays silent
    options = _options()
    verify(options.bundle)
    texts = _texts(options.bundle, options.texts)
    scorers = _scorers(options)
    ours = [Contender(_name(device), partial(served, scorer, texts)) for device, scorer in scorers.items()]
    with tempfile.TemporaryDirectory() as folder:
        others = _others(options, texts, Path(folder))
        limit = _race([*others, *ours], options)
    agreed = {device: _agreement(options.model_dir, scorer) for device, scorer in scorers.items() if options.model_dir}
    for scorer in scorers.values():
        scorer.close()
    return report(others, ours, _share(options.bundle, texts, ours[0], limit), agreed, options, len(texts))


def _name(device: str) -> str:
    return f"Crosswind, --device {device} ({DEVICES[device]})"


def _scorers(options: argparse.Namespace) -> dict[str, OnnxScorer]:
    """Device -> scorer; the CPU's first, and what is not there is left out with a line that says why."""
    found = {}
    for device in DEVICES:
        try:
            found[device] = OnnxScorer(options.bundle, device, options.threads)
        except ProviderError as error:
            print(f"not measured: {error}")
    return found


def _agreement(folder: Path, scorer: OnnxScorer) -> float:
    """On more texts than the race is run with: of 192 a single text is half a point."""
    from crosswind.export.texts import written_test

    texts = [row.text for row in written_test()]
    fp32 = pipeline(folder, texts, 32, "").run
    assert fp32 is not None
    return _agreeing(fp32(), served(scorer, texts))


def _agreeing(some: Answers, others: Answers) -> float:
    """Share of the labels of both heads."""
    return float(np.mean([one == other for head in HEADS
                          for one, other in zip(some[head], others[head], strict=True)]))  # fmt: skip


def _others(options: argparse.Namespace, texts: list[str], folder: Path) -> list[Contender]:
    """All but ours, the pipeline first; none where the trained weights are not there."""
    if not options.model_dir:
        print(f"{' and '.join(map(str, DEFAULT_MODELS))} are missing: without the trained weights that the bundle was "
              "exported from there is nothing to compare it with; `make bundle` makes them")  # fmt: skip
        return []
    import torch
    import transformers

    from crosswind.export.graph import write_graph
    from crosswind.export.sources import load_source

    transformers.logging.disable_progress_bar()
    logging.disable(logging.ERROR)  # that a class of ours is not in transformers' list of classifiers
    torch.set_num_threads(options.threads)
    source = load_source(options.model_dir)
    fp32 = folder / "fp32.onnx"
    write_graph(source.module, fp32)
    threads = options.threads
    found = [
        pipeline(options.model_dir, texts, 1, "transformers pipeline(), one by one"),
        pipeline(options.model_dir, texts, 32, "transformers pipeline(), batches of 32"),
        Contender("ONNX Runtime fp32, one by one", single(fp32, source, texts, threads)),
        *plain_int8(fp32, source, texts, threads),
        openvino_int8(fp32, source, texts, threads),
    ]
    if options.teacher:
        found.append(pipeline(options.teacher, texts, 1, "the teacher's pipeline(), one by one"))
    return found


def _race(contenders: list[Contender], options: argparse.Namespace) -> float:
    """Rounds over all contenders; returns the best int8 products seen, in multiplications a second."""
    limit = 0.0
    for _ in range(options.rounds):
        for contender in contenders:
            if contender.run is None:
                continue
            started = time.perf_counter()
            contender.answers = contender.run()
            contender.seconds = min(contender.seconds, time.perf_counter() - started)
        limit = max(limit, *(int8_speed(shape, options.threads) for shape in SHAPES))
    return limit


def _share(bundle: Path, texts: list[str], ours: Contender, limit: float) -> dict[str, float]:
    """How much of the limit our matrix products reach. Counted once each, attention and all else not at all."""
    manifest = verify(bundle)
    tokens = sum(map(len, encode(bundle / "tokenizer.json", texts, manifest.max_tokens)))
    graph = onnx.load(str(bundle / MODEL)).graph
    sizes = {tensor.name: tensor.dims for tensor in graph.initializer}
    weights = {node.input[1] for node in graph.node if node.op_type in PRODUCTS}
    per_token = sum(int(np.prod(sizes[name])) for name in weights if name in sizes and not name.endswith("/apart"))
    reached = per_token * tokens / ours.seconds
    return {"limit": limit, "reached": reached, "share": reached / limit}


def report(
    others: list[Contender], ours: list[Contender], share: dict[str, float], agreed: dict[str, float],
    options: argparse.Namespace, count: int,
) -> int:  # fmt: skip
    base = others[0] if others else None
    rows = [_row(contender, base, count) for contender in [*others, *ours]]
    bars = _bars(rows[: len(others)], rows[len(others) :], share, agreed, options)
    how = (f"{options.threads} threads, {count} texts of 12 to 64 tokens, the best of {options.rounds} rounds; bundle "
           f"{verify(options.bundle).version}.")  # fmt: skip
    lines = _lines(rows, share, bars, how)
    print(lines)
    if options.docs:
        write_figures("models-in-production.md", "inference", lines)
    if options.json:
        content = {"threads": options.threads, "texts": count, "rows": rows, "int8": share, "agreement": agreed,
                   "bars": bars}  # fmt: skip
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0 if all(held for _, _, held in bars) else 1


def _lines(rows: list[dict[str, Any]], share: dict[str, float], bars: Sequence[Bar], how: str) -> str:
    """The report, in Markdown."""
    table = ["| | texts/s | times | same labels | |", "|---|---:|---:|---:|---|"]
    for row in rows:
        cells = [("" if row[key] is None else f"{row[key]:.{digits}f}") for key, digits in COLUMNS]
        table.append(f"| {row['name']} | {' | '.join(cells)} | {row['note']} |")
    found = ["| bar | measured | |", "|---|---:|---|"]
    words = {True: "holds", False: "**not reached**"}
    found += [f"| {name} | {measured} | {words[held]} |" for name, measured, held in bars]
    note = (f"int8 products: {share['reached'] / 1e9:.0f} of {share['limit'] / 1e9:.0f} thousand million a second that "
            "this machine does in ONNX Runtime.")  # fmt: skip
    return "\n".join([how, "", *table, "", note, "", *found])


def _bars(
    others: list[dict[str, Any]], ours: list[dict[str, Any]], share: dict[str, float], agreed: dict[str, float],
    options: argparse.Namespace,
) -> list[Bar]:  # fmt: skip
    bars: list[Bar] = [(f"at least {LIMIT_SHARE:.0%} of the int8 limit", f"{share['share']:.0%}",
                        share["share"] >= LIMIT_SHARE)]  # fmt: skip
    if not others:
        return bars
    teacher = others[-1] if options.teacher else others[0]
    times = max(row["texts_per_second"] for row in ours) / teacher["texts_per_second"]
    least = min(agreed.values())
    return [
        (f"at least {SPEED:g} times pipeline() one by one, on ONNX Runtime", f"{ours[0]['times']:.2f}",
         ours[0]["times"] >= SPEED),
        (f"at least {TEACHER_SPEED:g} times the teacher's, on the faster device", f"{times:.2f}",
         times >= TEACHER_SPEED),
        (f"the labels of the same weights, at least {AGREEMENT:.0%}",
         ", ".join(f"{device} {value:.2%}" for device, value in agreed.items()), least >= AGREEMENT),
        *bars,
    ]  # fmt: skip


def _row(contender: Contender, base: Contender | None, count: int) -> dict[str, Any]:
    speed = count / contender.seconds if contender.answers else None
    row = {"name": contender.name, "texts_per_second": speed, "times": None, "agreement": None, "note": contender.note}
    if base and base.answers and contender.answers:
        row["times"] = base.seconds / contender.seconds
        row["agreement"] = _agreeing(base.answers, contender.answers)
    return row


def _texts(bundle: Path, count: int) -> list[str]:
    """Texts of 12 to 64 tokens from the written corpus's test half, as evenly over its languages as the order gives."""
    from crosswind.export.texts import written_test

    texts = [row.text for row in written_test()]
    found = encode(bundle / "tokenizer.json", texts, verify(bundle).max_tokens)
    fitting = [text for text, ids in zip(texts, found, strict=True) if 12 <= len(ids) <= 64]
    return fitting[:: max(1, len(fitting) // count)][:count]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    there = next((folder for folder in DEFAULT_MODELS if folder.is_dir()), None)
    parser.add_argument("bundle", type=Path, nargs="?", default=SHIPPED)
    parser.add_argument("model_dir", type=Path, nargs="?", default=there)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/models-in-production.md")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
