"""Runs on an accelerator: many articles at once, in shapes that do not depend on their company.

A GPU is idle with one article at a time, and the kernels that it takes, so the last bits of a score, depend on the
shape of a batch. So every run has the same number of rows, filled up with copies, and a length that follows from the
article's own alone: an article is computed in the same shape whoever is with it. Inputs and outputs are bound to
buffers on the device, one set per length, so that a run allocates and copies nothing else.
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from crosswind.export.running import by_length, padded, rounded_up

ROWS = 32
"""Articles per run."""
STEP = 16
"""Lengths are multiples of it: few shapes, little padding."""
INPUTS = ("input_ids", "attention_mask")

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class _Bound:
    """The buffers of one length."""

    binding: Any
    inputs: tuple[Any, ...]


class BoundRuns:
    """Runs texts on a session by IOBinding. Safe to call from many threads: runs take turns.

    Args:
        device: where the buffers are: `cuda`, or `cpu`, where nothing is gained but everything can be tried.
        rows: articles per run.
    """

    def __init__(self, session: ort.InferenceSession, outputs: Sequence[str], device: str, rows: int = ROWS) -> None:
        self._session, self._outputs, self._device, self._rows = session, list(outputs), device, rows
        self._bound: dict[int, _Bound] = {}
        self._lock = threading.Lock()

    def run(self, texts: Sequence[Ids]) -> list[list[NDArray[Any]]]:
        """Per text its outputs, each [1, width], in order.

        Args:
            texts: token ids, special tokens included.
        """
        found: list[list[NDArray[Any]]] = [[] for _ in texts]
        for group in by_length(texts, self._rows, STEP):
            chunk = [texts[place] for place in group]
            outputs = self._run(chunk, padded_length(len(chunk[0])))
            for row, place in enumerate(group):
                found[place] = [output[row : row + 1] for output in outputs]
        return found

    def _run(self, texts: Sequence[Ids], length: int) -> list[NDArray[Any]]:
        tokens, mask = fill(texts, length, self._rows)
        with self._lock:
            bound = self._bound.get(length) or self._bind(length)
            for buffer, values in zip(bound.inputs, (tokens, mask), strict=True):
                buffer.update_inplace(values)
            self._session.run_with_iobinding(bound.binding)
            return [np.array(output) for output in bound.binding.copy_outputs_to_cpu()]

    def _bind(self, length: int) -> _Bound:
        binding = self._session.io_binding()
        shape = (self._rows, length)
        inputs = tuple(ort.OrtValue.ortvalue_from_shape_and_type(shape, np.int64, self._device, 0) for _ in INPUTS)
        for name, buffer in zip(INPUTS, inputs, strict=True):
            binding.bind_ortvalue_input(name, buffer)
        for name in self._outputs:
            binding.bind_output(name, self._device)
        self._bound[length] = _Bound(binding, inputs)
        return self._bound[length]


def padded_length(tokens: int) -> int:
    """The length that a text of so many tokens runs at.

    >>> [padded_length(tokens) for tokens in (0, 1, 16, 17)]
    [16, 16, 16, 32]
    """
    return rounded_up(tokens, STEP)


def fill(texts: Sequence[Ids], length: int, rows: int = ROWS) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Ids and mask, int64 [rows, length] each; rows that are left over repeat the first text."""
    return padded([*texts, *[texts[0]] * (rows - len(texts))], length)
