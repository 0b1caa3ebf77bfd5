"""Exact and near duplicates: what validation and test must not share with training."""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crosswind.stream.domain.stories.signature import minima

NOISE: Final = re.compile(r"https?://\S+|@\w+|([\W\d_]+)")
PERMUTATIONS: Final = 48
BANDS: Final = 12
# Hebrew, Arabic and Syriac points, which writers set or leave out, by their canonical combining class.
_POINTS: Final = range(10, 37)
_SELECTORS: Final = frozenset(map(chr, range(0xFE00, 0xFE10)))


def fold(text: str) -> str:
    """What is left of a text when case, figures, links, punctuation and optional points do not count.

    Vowel signs and other marks that spell words, as in Hindi and Thai, count.
    """
    # The capital of Turkish i falls to i and a dot of its own.
    plain = unicodedata.normalize("NFKC", text).casefold().replace("i\u0307", "i")
    return NOISE.sub(_spelling, plain) or text


def _spelling(noise: re.Match[str]) -> str:
    """The marks in what is no letter: `\\W` takes them for punctuation."""
    rest = noise[1]
    if not rest or rest.isascii():
        return ""
    return "".join(c for c in rest if unicodedata.category(c) in ("Mn", "Mc") and c not in _SELECTORS
                   and unicodedata.combining(c) not in _POINTS)  # fmt: skip


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

    MinHash with 12 bands of 4 finds candidates (Broder 1997), of those at 0.8 all but two in a thousand; the true
    Jaccard similarity decides.

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
    factors, terms = np.random.default_rng(20260101).integers(0, 1 << 64, (2, PERMUTATIONS), dtype=np.uint64)
    return factors | np.uint64(1), terms


_FACTORS, _TERMS = _coefficients()


def _bands(text: str) -> list[bytes]:
    signature = minima(shingles(text), _FACTORS, _TERMS)
    return [part.tobytes() for part in np.split(signature, BANDS)]
