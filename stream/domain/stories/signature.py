"""MinHash signatures of headlines, cut into bands: two texts that share most letter runs share a band.

With 4 bands of 6 hashes, texts whose sets overlap by 0.6 / 0.8 / 0.9 share a band with probability 0.17 / 0.70 / 0.95
(1 - (1 - s^6)^4); what meaning finds beside it needs no text. Broder, 'On the resemblance and containment of
documents', 1997.
"""

from functools import lru_cache
from hashlib import blake2b

from datasketch import MinHash  # type: ignore[import-untyped]

BANDS, ROWS = 4, 6
_EMPTY = MinHash(num_perm=BANDS * ROWS, seed=1)


@lru_cache(65_536)
def bands(shingles: frozenset[str]) -> tuple[int, ...]:
    """One number per band, equal where two texts agree in all hashes of it; the same in every process."""
    signature = _EMPTY.copy()
    signature.update_batch([shingle.encode("utf-8", "surrogatepass") for shingle in sorted(shingles)])
    rows = signature.hashvalues.reshape(BANDS, ROWS)
    return tuple(int.from_bytes(_mix(band, row.tobytes()), "big") for band, row in enumerate(rows))


def _mix(band: int, raw: bytes) -> bytes:
    return blake2b(raw, digest_size=7, salt=bytes([band])).digest()
