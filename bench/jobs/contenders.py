"""Ways of scoring texts that `bench/inference.py` races, and how fast int8 products can be here."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from crosswind.export.running import encode, feed, open_graph
from crosswind.stream.adapters.onnx_scorer import OnnxScorer

HEADS = ("topic", "sentiment")
SHAPES = ((512, 384, 1536), (512, 1536, 384), (1024, 1024, 1024), (2048, 2048, 2048))
"""Rows, inputs and outputs of the products that the limit is looked for with: the model's own, and larger ones."""

Answers = dict[str, list[str]]


@dataclass
class Contender:
    """One way of scoring the texts; `run` answers all of them. Without one, `note` says why it is not measured."""

    name: str
    run: Callable[[], Answers] | None
    note: str = ""
    seconds: float = float("inf")
    answers: Answers | None = None


def served(scorer: OnnxScorer, texts: Sequence[str]) -> Answers:
    scores = scorer.score(texts)
    return {"topic": [score.topic for score in scores], "sentiment": [score.sentiment.value for score in scores]}


def pipeline(folder: Path, texts: list[str], batch: int, name: str) -> Contender:
    """transformers' own `pipeline()` over the same weights: both heads' logits side by side, as one classifier."""
    import torch
    from transformers import AutoTokenizer, PreTrainedModel, TextClassificationPipeline
    from transformers.modeling_outputs import SequenceClassifierOutput

    from crosswind.export.sources import load_source

    source = load_source(folder)
    labels = [f"{head.name}/{label}" for head in source.heads for label in head.labels]

    class Both(PreTrainedModel):  # type: ignore[misc]
        config_class = type(source.module.config)
        _supports_sdpa = True

        def __init__(self) -> None:
            config = source.module.config
            config.num_labels, config.id2label = len(labels), dict(enumerate(labels))
            super().__init__(config)
            self.module = source.module

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: Any) -> SequenceClassifierOutput:
            found = self.module(input_ids, attention_mask)
            return SequenceClassifierOutput(logits=torch.cat([found[head.name] for head in source.heads], 1))

    tokenizer = AutoTokenizer.from_pretrained(folder)
    pipe = TextClassificationPipeline(model=Both().eval(), tokenizer=tokenizer, device="cpu")

    def run() -> Answers:
        calls = {"top_k": None, "function_to_apply": "none", "truncation": True, "max_length": source.max_tokens}
        found = pipe(texts, batch_size=batch, **calls) if batch > 1 else [pipe([text], **calls)[0] for text in texts]
        logits = [{item["label"]: item["score"] for item in row} for row in found]
        return _labels(source, {
            h.name: np.asarray([[row[f"{h.name}/{label}"] for label in h.labels] for row in logits], np.float32)
            for h in source.heads
        })  # fmt: skip

    return Contender(name, run)


def single(graph: Path, source: Any, texts: Sequence[str], threads: int) -> Callable[[], Answers]:
    """One text per run, `threads` runs at the same time, as serving does."""
    session = open_graph(graph)

    def run() -> Answers:
        ids = encode(source.tokenizer, texts, source.max_tokens)
        with ThreadPoolExecutor(threads) as pool:
            found = list(pool.map(lambda one: session.run(list(HEADS), feed(one)), ids))
        return _labels(source, {head: np.concatenate([row[n] for row in found]) for n, head in enumerate(HEADS)})

    return run


def plain_int8(fp32: Path, source: Any, texts: Sequence[str], threads: int) -> list[Contender]:
    """ONNX Runtime's own dynamic int8. Fast, but a score there depends on its batch."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    plain = fp32.with_name("plain.onnx")
    quantize_dynamic(fp32, plain, weight_type=QuantType.QInt8)
    session = open_graph(plain, threads)
    note = "scores move with the batch"
    return [
        Contender("ONNX Runtime dynamic int8, batches of 32", _batched(session, source, texts, 32, False), note),
        Contender("ONNX Runtime dynamic int8, sorted by length, of 8", _batched(session, source, texts, 8, True), note),
    ]


def _batched(session: Any, source: Any, texts: Sequence[str], size: int, by_length: bool) -> Callable[[], Answers]:
    def run() -> Answers:
        ids = encode(source.tokenizer, texts, source.max_tokens)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i])) if by_length else list(range(len(ids)))
        logits: dict[str, list[Any]] = {head: [None] * len(ids) for head in HEADS}
        for start in range(0, len(order), size):
            chunk = order[start : start + size]
            tokens, mask = _padded([ids[i] for i in chunk], source.module.config.pad_token_id)
            found = session.run(list(HEADS), {"input_ids": tokens, "attention_mask": mask})
            for head, values in zip(HEADS, found, strict=True):
                for i, row in zip(chunk, values, strict=True):
                    logits[head][i] = row
        return _labels(source, {head: np.asarray(rows) for head, rows in logits.items()})

    return run


def openvino_int8(fp32: Path, source: Any, texts: Sequence[str], threads: int) -> Contender:
    """OpenVINO's static int8 by NNCF, calibrated with texts that are not measured, requests side by side."""
    name = "OpenVINO int8 (NNCF), one by one"
    try:
        import nncf
        import openvino as ov
    except ModuleNotFoundError as error:
        return Contender(name, None, f"not measured: {error.name} is not installed (pip install openvino nncf)")
    nncf.set_log_level(50)
    core = ov.Core()
    model = core.read_model(fp32)
    samples = [feed(ids) for ids in encode(source.tokenizer, _others_than(texts)[:64], source.max_tokens)]
    model = nncf.quantize(model, nncf.Dataset(samples), model_type=nncf.ModelType.TRANSFORMER, subset_size=len(samples))
    compiled = core.compile_model(model, "CPU", {
        "PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads,
    })  # fmt: skip
    queue = ov.AsyncInferQueue(compiled, threads)

    def run() -> Answers:
        ids = encode(source.tokenizer, texts, source.max_tokens)
        logits: dict[str, list[Any]] = {head: [None] * len(ids) for head in HEADS}

        def keep(request: Any, place: int) -> None:
            for head in HEADS:
                logits[head][place] = request.get_tensor(head).data[0].copy()

        queue.set_callback(keep)
        for place, one in enumerate(ids):
            queue.start_async(feed(one), place)
        queue.wait_all()
        return _labels(source, {head: np.asarray(rows) for head, rows in logits.items()})

    return Contender(name, run, f"openvino {ov.__version__.split('-')[0]}")


def _padded(ids: Sequence[Sequence[int]], pad: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    tokens = np.full((len(ids), max(map(len, ids))), pad, np.int64)
    mask = np.zeros_like(tokens)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    return tokens, mask


def _labels(source: Any, logits: dict[str, NDArray[np.float32]]) -> Answers:
    from crosswind.export.parity import answers

    unsure = {"sentiment": source.unsure_below}
    return {
        head.name: [head.labels[place]
                    for place in answers(logits[head.name], head, unsure.get(head.name, 0.0)).tolist()]
        for head in source.heads if head.name in HEADS
    }  # fmt: skip


def _others_than(texts: Sequence[str]) -> list[str]:
    """Texts of the same kind that are not among the measured ones, of all languages."""
    from crosswind.export.texts import written_test

    measured = set(texts)
    rest = [row.text for row in written_test() if row.text not in measured]
    return rest[:: max(1, len(rest) // 64)]


def int8_speed(shape: tuple[int, int, int], threads: int, seconds: float = 0.4) -> float:
    """Multiplications a second of u8 × s8 products in ONNX Runtime, each thread with products of its own."""
    rows, inputs, outputs = shape
    rng = np.random.default_rng(0)
    weights = numpy_helper.from_array(rng.integers(-127, 128, (inputs, outputs)).astype(np.int8), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])], "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [rows, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [rows, outputs])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    single = ort.SessionOptions()
    single.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), single, providers=["CPUExecutionProvider"])
    x = rng.integers(0, 256, (rows, inputs)).astype(np.uint8)

    def work(_: int) -> int:
        done, ends = 0, time.perf_counter() + seconds
        while time.perf_counter() < ends:
            session.run(None, {"x": x})
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        session.run(None, {"x": x})
        started = time.perf_counter()
        runs = sum(pool.map(work, range(threads)))
        return runs * rows * inputs * outputs / (time.perf_counter() - started)
