"""An article's meaning: a vector from the model, kept as signed bytes. Only directions count, so no scale is kept."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
LIMIT = 127


def pack(vector: NDArray[np.floating]) -> bytes:
    """A vector [width] as int8 bytes, its largest entry 127 by magnitude; no bytes where it says nothing.

    >>> np.frombuffer(pack(np.array([0.5, -1.0])), np.int8).tolist()
    [64, -127]
    """
    return pack_rows(vector[None])[0]


def pack_rows(vectors: NDArray[np.floating]) -> list[bytes]:
    """`pack` of each row of [vectors, width]."""
    largest = np.abs(vectors).max(axis=1, initial=0.0).astype(np.float64)
    said = np.isfinite(largest) & (largest > 0)
    scaled = np.where(said[:, None], vectors, 0.0) / np.where(said, largest, 1.0)[:, None] * LIMIT
    rounded: NDArray[np.int8] = np.rint(scaled).astype(np.int8)
    return [row.tobytes() if speaks else b"" for row, speaks in zip(rounded, said.tolist(), strict=True)]


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
    return cosines(one, [other])[0]


def cosines(one: bytes, others: Sequence[bytes]) -> list[float]:
    """`cosine` of one with each of the others, in one product.

    Products of whole numbers up to 127 are exact in float32 as long as their sum is below 2^24, so in whatever order a
    machine adds, it finds the same.
    """
    found, width = [0.0] * len(others), len(one)
    like = [place for place, other in enumerate(others) if one and len(other) == width]
    if not like:
        return found
    exact: Any = np.float32 if width * LIMIT * LIMIT < 2**24 else np.float64
    packed = np.frombuffer(b"".join([one, *(others[place] for place in like)]), np.int8)
    rows: NDArray[Any] = packed.reshape(-1, width).astype(exact)
    own, *lengths = np.einsum("ij,ij->i", rows, rows).tolist()
    for place, product, length in zip(like, (rows[1:] @ rows[0]).tolist(), lengths, strict=True):
        found[place] = product / math.sqrt(length * own or 1.0)
    return found
