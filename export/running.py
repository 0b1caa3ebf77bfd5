"""Runs a graph on one thread, one text per run, and finds how many may share one. No torch."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from tokenizers import Tokenizer

from crosswind.errors import BundleError
from crosswind.export.bundle import Head

EMBEDDING = "embedding"
TOGETHER = 8
"""Texts in one run: at 20 tokens, eight gave 1.4 times the texts a second of one, and 32 no more."""
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Outputs:
    """What a model gave for n texts.

    Attributes:
        logits: float32 [n, labels] per head.
        embedding: float32 [n, width].
        texts_per_second: on one thread, one text per run; tokenisation is not counted.
    """

    logits: dict[str, Floats]
    embedding: Floats
    texts_per_second: float


def encode(tokenizer: Path, texts: Sequence[str], max_tokens: int) -> list[list[int]]:
    """Token ids per text, cut at `max_tokens`, special tokens included.

    Raises:
        BundleError: the file is not a tokenizer.
    """
    try:
        loaded = Tokenizer.from_file(str(tokenizer))
    except Exception as error:  # the library raises bare Exception
        raise BundleError(f"{tokenizer} is not a tokenizer: {error}") from None
    loaded.enable_truncation(max_tokens)
    loaded.no_padding()
    return [encoding.ids for encoding in loaded.encode_batch(list(texts))]


def open_graph(path: Path, threads: int = 1) -> ort.InferenceSession:
    """A CPU session.

    Raises:
        BundleError: ONNX Runtime cannot load the graph.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no public base
        raise BundleError(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0]}") from None


def check_heads(session: ort.InferenceSession, heads: Sequence[Head], path: Path) -> None:
    """Compares the graph's outputs with the heads that were promised.

    Raises:
        BundleError: an output is missing, or has more or fewer columns than its head has labels.
    """
    shapes = {output.name: output.shape for output in session.get_outputs()}
    for name, width in [*((head.name, len(head.labels)) for head in heads), (EMBEDDING, None)]:
        shape = shapes.get(name)
        if not shape or (width is not None and shape[-1] != width):
            wanted = f"{width} labels" if width is not None else "the pooled vector"
            raise BundleError(f"{path} gives {name!r} as {shape}; expected {wanted}")


def run_graph(path: Path, ids: Sequence[Sequence[int]], heads: Sequence[Head]) -> Outputs:
    """Scores every text alone; `OnnxScorer` gives the same bits.

    Raises:
        BundleError: the graph cannot be loaded or does not fit the heads.
    """
    session = open_graph(path)
    check_heads(session, heads, path)
    names = [*(head.name for head in heads), EMBEDDING]
    started = time.perf_counter()
    found = [session.run(names, feed(text)) for text in ids]
    seconds = time.perf_counter() - started
    columns = [np.concatenate([row[index] for row in found]) for index in range(len(names))]
    return Outputs(dict(zip(names[:-1], columns[:-1], strict=True)), columns[-1], len(ids) / seconds)


def together(path: Path, ids: Sequence[Sequence[int]], most: int = TOGETHER) -> int:
    """How many texts of one length may share a run: `most` where that changes no bit of any output, else 1.

    Args:
        ids: texts to try it on; where no two are of one length, the answer is 1.
    """
    session = open_graph(path)
    shared = [group for group in by_length(ids, most) if len(group) > 1]
    exact = all(same_alone(session, [ids[place] for place in group]) for group in shared)
    return most if shared and exact else 1


def same_alone(session: Any, ids: Sequence[Sequence[int]], step: int = 1) -> bool:
    """Whether these texts, which are of one length, give the same bits in one run as each alone, in every output."""
    names = [output.name for output in session.get_outputs()]
    joint = session.run(names, feed_many(ids, step))
    alone = [session.run(names, feed_many([text], step)) for text in ids]
    return all(np.array_equal(outputs[row], one[0])
               for row, own in enumerate(alone) for outputs, one in zip(joint, own, strict=True))  # fmt: skip


def rounded_up(tokens: int, step: int) -> int:
    """`tokens` rounded up to a multiple of `step`, at least one step.

    >>> [rounded_up(tokens, 16) for tokens in (0, 1, 16, 17)]
    [16, 16, 16, 32]
    """
    return max(step, -(-tokens // step) * step)


def padded(ids: Sequence[Sequence[int]], length: int) -> tuple["NDArray[np.int64]", "NDArray[np.int64]"]:
    """Ids and mask of texts of at most that length, int64 [texts, length] each."""
    tokens, mask = np.zeros((len(ids), length), np.int64), np.zeros((len(ids), length), np.int64)
    for row, one in enumerate(ids):
        tokens[row, : len(one)], mask[row, : len(one)] = one, 1
    return tokens, mask


def by_length(texts: Sequence[Sequence[int]], most: int, step: int = 1) -> list[list[int]]:
    """Positions of texts of the same number of tokens, at most so many together, the shortest first.

    Args:
        step: lengths count as the same when they are, rounded up to a multiple of it.

    >>> by_length([[1, 2], [3], [4, 5], [6, 7]], 2)
    [[1], [0, 2], [3]]
    >>> by_length([[1, 2], [3], [4, 5, 6]], 2, step=2)
    [[0, 1], [2]]
    """
    places: dict[int, list[int]] = {}
    for place, ids in enumerate(texts):
        places.setdefault(rounded_up(len(ids), step), []).append(place)
    return [group[start : start + most] for _, group in sorted(places.items()) for start in range(0, len(group), most)]


def feed_many(ids: Sequence[Sequence[int]], step: int = 1) -> dict[str, "NDArray[Any]"]:
    """The inputs of texts of the same length, see `by_length`: int64 [texts, length] each, padded to the step."""
    if step == 1:
        tokens = np.asarray(ids, dtype=np.int64)
        return {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
    tokens, mask = padded(ids, rounded_up(max(map(len, ids)), step))
    return {"input_ids": tokens, "attention_mask": mask}


def feed(ids: Sequence[int]) -> dict[str, "NDArray[Any]"]:
    """One text's inputs: int64 [1, length] each."""
    return feed_many([ids])
