"""Inference on a GPU: ONNX Runtime with IOBinding against PyTorch fp16 + `torch.compile`, same weights, same texts.

    crosswind restore default --out runs/shipped
    crosswind export runs/shipped --precision fp16 --out runs/fp16
    python bench/inference_gpu.py runs/fp16 runs/shipped [--device cuda] [--texts 2048] [--json FILE]

Texts of 12–64 tokens from the written corpus, again and again. At batches of 1, 32 and 256 each contender scores them
from token ids to logits on the host; tokenisation is left out, but for `Crosswind`, which is the scorer as it serves.
Lengths are rounded up to 16 for all alike, so that `torch.compile` and the bound buffers see few shapes; each shape
runs once before the clock starts. `--device cpu` tries the code where there is no GPU; no figure counts then.

Bar: ONNX Runtime is not behind PyTorch at any batch, and both agree on at least 99 % of the labels.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]  # `bench` is not part of the installed package

from crosswind.export.bundle import MODEL, verify  # noqa: E402
from crosswind.export.running import encode  # noqa: E402
from crosswind.export.texts import written_test  # noqa: E402
from crosswind.stream.adapters.bound_runs import BoundRuns, fill, padded_length  # noqa: E402
from crosswind.stream.adapters.onnx_scorer import OnnxScorer  # noqa: E402
from crosswind.stream.adapters.providers import open_session  # noqa: E402

BATCHES = (1, 32, 256)
HEADS = ("topic", "sentiment")
AGREEMENT = 0.99
Ids = list[int]
Labels = NDArray[np.int64]
"""Per text the place of its topic and of its sentiment, [texts, 2]."""


@dataclass(frozen=True)
class Row:
    """One contender at one batch."""

    name: str
    batch: int
    texts_per_second: float
    agreement: float | None = None


def texts_of(bundle: Path, count: int) -> tuple[list[str], list[Ids]]:
    """Texts and their token ids."""
    manifest = verify(bundle)
    texts = [row.text for row in written_test()]
    ids = encode(bundle / "tokenizer.json", texts, manifest.max_tokens)
    fitting = [(text, one) for text, one in zip(texts, ids, strict=True) if 12 <= len(one) <= 64]
    chosen = [fitting[n % len(fitting)] for n in range(count)]
    return [text for text, _ in chosen], [one for _, one in chosen]


def onnx(bundle: Path, device: str, batch: int) -> Callable[[Sequence[Ids]], Labels]:
    """ONNX Runtime on bound buffers."""
    session = open_session(bundle / MODEL, device, verify(bundle).precision)
    runs = BoundRuns(session, HEADS, "cpu" if device == "cpu" else "cuda", batch)
    return lambda texts: np.array([[int(head[0].argmax()) for head in row] for row in runs.run(texts)])


def torch_compiled(folder: Path, device: str, batch: int) -> Callable[[Sequence[Ids]], Labels]:
    """PyTorch in half precision, compiled."""
    import torch

    from crosswind.export.sources import load_source

    half = torch.float16 if device == "cuda" else torch.bfloat16
    module = torch.compile(load_source(folder).module.to(device, half), dynamic=False)

    @torch.inference_mode()  # type: ignore[untyped-decorator]
    def run(texts: Sequence[Ids]) -> Labels:
        found = np.zeros((len(texts), len(HEADS)), np.int64)
        by_length: dict[int, list[int]] = {}
        for place, ids in enumerate(texts):
            by_length.setdefault(padded_length(len(ids)), []).append(place)
        for length, places in by_length.items():
            for start in range(0, len(places), batch):
                chunk = places[start : start + batch]
                given = (torch.from_numpy(part).to(device) for part in fill([texts[p] for p in chunk], length, batch))
                outputs = module(*given)
                for column, head in enumerate(HEADS):
                    found[chunk, column] = outputs[head].argmax(1).cpu().numpy()[: len(chunk)]
        return found

    return run


def timed(run: Callable[[Any], Any], texts: Any, rounds: int) -> tuple[float, Any]:
    """The best round's texts/s, and the answers; a first round, which compiles and allocates, does not count."""
    answers, best = run(texts), float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        answers = run(texts)
        best = min(best, time.perf_counter() - started)
    return len(texts) / best, answers


def measure(arguments: argparse.Namespace) -> list[Row]:
    """Every contender at every batch."""
    texts, ids = texts_of(arguments.bundle, arguments.texts)
    first = arguments.device.split(",")[0]
    rows = []
    for batch in arguments.batches:
        some = ids if batch > 1 else ids[: max(1, len(ids) // 16)]
        theirs, expected = timed(torch_compiled(arguments.model_dir, "cpu" if first == "cpu" else "cuda", batch), some,
                                 arguments.rounds)  # fmt: skip
        ours, found = timed(onnx(arguments.bundle, arguments.device, batch), some, arguments.rounds)
        rows.append(Row("PyTorch, half precision, torch.compile", batch, theirs))
        rows.append(Row("ONNX Runtime, IOBinding", batch, ours, float(np.mean(found == expected))))
    scorer = OnnxScorer(arguments.bundle, arguments.device)
    rate, _ = timed(scorer.score, texts, arguments.rounds)
    scorer.close()
    return [*rows, Row(f"Crosswind on {scorer.provider}, with its tokenizer", 32, rate)]


def name_of(device: str) -> str:
    """The device's own name."""
    import torch

    return "the CPU" if device.startswith("cpu") else str(torch.cuda.get_device_name(0))


def main() -> int:
    """Run the bench; 0 where every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("--device", default="cuda", help="as in settings: cuda, tensorrt, or tensorrt,cuda")
    parser.add_argument("--texts", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = measure(arguments)
    device = name_of(arguments.device)
    print(f"{device}; onnxruntime {ort.__version__}; {arguments.texts} texts, a sixteenth of them at batch 1\n")
    print("| | batch | texts/s | labels agree |\n|---|---:|---:|---:|")
    for row in rows:
        agree = "" if row.agreement is None else f"{row.agreement:.2%}"
        print(f"| {row.name} | {row.batch} | {row.texts_per_second:,.0f} | {agree} |")
    pairs = list(zip(rows[:-1:2], rows[1:-1:2], strict=True))
    behind = [ours.batch for theirs, ours in pairs if ours.texts_per_second < theirs.texts_per_second]
    agrees = all((ours.agreement or 0) >= AGREEMENT for _, ours in pairs)
    if arguments.json:
        content = {"device": device, "rows": [asdict(row) for row in rows]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    print(f"behind PyTorch at batches: {behind or 'none'}; labels agree on 99 %: {'yes' if agrees else 'NO'}")
    return 0 if agrees and not behind else 1


if __name__ == "__main__":
    sys.exit(main())
