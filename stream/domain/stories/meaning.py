"""An article's meaning: a vector from the model, kept as signed bytes. Only directions count, so no scale is kept."""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
LIMIT = 127


def pack(vector: NDArray[np.floating]) -> bytes:
    """A vector [width] as int8 bytes, its largest entry 127 by magnitude; no bytes where it says nothing.

    >>> np.frombuffer(pack(np.array([0.5, -1.0])), np.int8).tolist()
    [64, -127]
    """
    largest = float(np.abs(vector).max(initial=0.0))
    if not np.isfinite(largest) or largest == 0.0:
        return b""
    rounded: NDArray[np.int8] = np.rint(np.asarray(vector, np.float64) / largest * LIMIT).astype(np.int8)
    return rounded.tobytes()


def unpack(packed: bytes) -> Vector:
    """The direction of a packed vector: float32 [width] of length 1."""
    vector = np.frombuffer(packed, np.int8).astype(np.float32)
    length = float(np.sqrt((vector * vector).sum()))
    return vector / np.float32(length or 1.0)


def middle(packed: Iterable[bytes]) -> bytes:
    """The mean direction of some meanings of one width, packed; each counts alike.

    >>> middle([pack(np.array([1.0, 0.0])), pack(np.array([0.0, 1.0]))]) == pack(np.array([1.0, 1.0]))
    True
    """
    return pack(np.sum([unpack(one) for one in packed], axis=0))


def cosine(one: bytes, other: bytes) -> float:
    """Cosine of two packed meanings; 0 where one is missing or their widths differ. The same on every machine."""
    if not one or len(one) != len(other):
        return 0.0
    a, b = (np.frombuffer(packed, np.int8).astype(np.int64) for packed in (one, other))
    return int(a @ b) / math.sqrt(int(a @ a) * int(b @ b) or 1)
