"""MinHash signatures of headlines, cut into bands: two texts that share most letter runs share a band.

With 4 bands of 6 hashes, texts whose sets overlap by 0.6 / 0.8 / 0.9 share a band with probability 0.17 / 0.70 / 0.95
(1 - (1 - s^6)^4); what meaning finds beside it needs no text. Broder, 'On the resemblance and containment of
documents', 1997. The hashes are multiply-add-shift (Dietzfelbinger, 'Universal hashing and k-wise independent random
variables via integer arithmetic without primes', 1996) over CRC-32: a headline takes some ten microseconds, where
datasketch's SHA-1 of every letter run takes ten times that.
"""

import zlib
from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

BANDS, ROWS = 4, 6
_rng = np.random.default_rng(1)
_FACTORS, _TERMS, _MIX = _rng.integers(0, 2**64, (3, BANDS * ROWS), np.uint64)
_FACTORS |= np.uint64(1)
_MIX = (_MIX | np.uint64(1)).reshape(BANDS, ROWS)


def bands(shingles: Collection[str]) -> tuple[int, ...]:
    """One number per band, equal where two texts agree in all hashes of it; the same everywhere. None of no letter."""
    if not shingles:
        return ()
    least = minima(shingles, _FACTORS, _TERMS).reshape(BANDS, ROWS)
    mixed = (least * _MIX).sum(axis=1, dtype=np.uint64) >> np.uint64(6)
    return tuple((mixed + np.arange(BANDS, dtype=np.uint64)).tolist())


def minima(shingles: Collection[str], factors: NDArray[np.uint64], terms: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The least hash of some letter runs, one or more, under each of n permutations.

    Args:
        factors, terms: [n], of all 64 bits, factors odd: the product has to run over, or the permutations are alike.
    """
    crcs = [zlib.crc32(shingle.encode("utf-8", "surrogatepass")) for shingle in shingles]
    values = np.array(crcs, np.uint64)[:, None] * factors + terms
    least: NDArray[np.uint64] = (values >> np.uint64(32)).min(axis=0)
    return least
