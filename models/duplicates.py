"""Exact and near duplicates: what validation and test must not share with training."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

NOISE: Final = re.compile(r"https?://\S+|@\w+|[\W\d_]+")
PERMUTATIONS: Final = 32
BANDS: Final = 8
_PRIME: Final = (1 << 61) - 1


def fold(text: str) -> str:
    """What is left of a text when case, figures, links and punctuation do not count."""
    return NOISE.sub("", unicodedata.normalize("NFKC", text).casefold()) or text


def shingles(text: str, width: int = 4) -> set[str]:
    """Character n-grams of the folded text; the text itself where it is shorter."""
    folded = fold(text)
    return {folded[i : i + width] for i in range(max(1, len(folded) - width + 1))}


def similarity(a: str, b: str) -> float:
    """Jaccard similarity of two texts' shingles, 0 to 1."""
    left, right = shingles(a), shingles(b)
    return len(left & right) / len(left | right)


def near_duplicates(texts: Sequence[str], against: Iterable[str], threshold: float = 0.8) -> set[int]:
    """Which of `texts` are exact or near duplicates of a text in `against`.

    MinHash with 8 bands of 4 finds candidates (Broder 1997), the true Jaccard similarity decides.

    Returns:
        Positions in `texts`.
    """
    others = list(against)
    exact = {fold(other) for other in others}
    tables: list[dict[bytes, list[int]]] = [defaultdict(list) for _ in range(BANDS)]
    for i, other in enumerate(others):
        for table, key in zip(tables, _bands(other), strict=True):
            table[key].append(i)
    found: set[int] = set()
    for i, text in enumerate(texts):
        if fold(text) in exact:
            found.add(i)
            continue
        candidates = {j for table, key in zip(tables, _bands(text), strict=True) for j in table.get(key, [])[:20]}
        if any(similarity(text, others[j]) >= threshold for j in candidates):
            found.add(i)
    return found


def _coefficients() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    rng = np.random.default_rng(20260101)
    a = rng.integers(1, 1 << 31, PERMUTATIONS, dtype=np.uint64)
    b = rng.integers(0, 1 << 31, PERMUTATIONS, dtype=np.uint64)
    return a, b


_A, _B = _coefficients()


def _bands(text: str) -> list[bytes]:
    # CRC spreads well enough here and, unlike hash(), does not change between runs.
    import zlib

    values = np.array([zlib.crc32(s.encode()) for s in shingles(text)], dtype=np.uint64)
    signature = ((values[:, None] * _A + _B) % np.uint64(_PRIME)).min(0)
    return [part.tobytes() for part in np.split(signature, BANDS)]
