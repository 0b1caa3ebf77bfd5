"""Which of several rows with one article id counts, told by numbers: what each row says is hashed to 64 bits."""

from collections import defaultdict

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

KEY = np.dtype([("id", "<u8"), ("seen", "<i8"), ("at", "<i8"), ("content", "<u8")])
VERSION = np.dtype([*KEY.descr, ("said", "<u8"), ("written", "?")])
"""What is told apart by: the key, what makes a version another one, and whether the row is on disk."""


def keys_of(table: pa.Table) -> NDArray[np.void]:
    """Id, receipt, event time and content of each row, as numbers."""
    keys = np.zeros(len(table), KEY)
    keys["id"] = _hash(table, ("article_id",))
    keys["seen"] = table["first_seen_at"].cast(pa.int64()).to_numpy()
    keys["at"] = table["event_at"].cast(pa.int64()).to_numpy()
    keys["content"] = _hash(table, ("title", "body", "lang", "entities", "source", "published_at", "topic", "sentiment",
                                    "model"))  # fmt: skip
    return keys


def versions_of(table: pa.Table, written: NDArray[np.bool_], newest: bool) -> NDArray[np.void]:
    """`VERSION` of each row; what an article says is told apart only where the newest version is asked."""
    found, keys = np.zeros(len(table), VERSION), keys_of(table)
    for name in KEY.names or ():
        found[name] = keys[name]
    if newest:
        found["said"] = _hash(table, ("title", "body", "lang", "entities"))
    found["written"] = written
    return found


def counted(keys: NDArray[np.void], newest: bool) -> NDArray[np.bool_]:
    """Of sorted keys the one that counts of each id: the first, or of those at its end that say the same, the first."""
    begins = np.append(True, keys["id"][1:] != keys["id"][:-1])
    if not newest:
        return begins
    begun = np.flatnonzero(begins | np.append(True, keys["said"][1:] != keys["said"][:-1]))
    found = np.zeros(len(keys), bool)
    found[begun[np.append(begins[begun][1:], True)]] = True
    return found


def kept(keys: NDArray[np.void], out: NDArray[np.void]) -> NDArray[np.bool_]:
    """Rows that are not out; of equal ones as many are out as `out` has."""
    counts: dict[bytes, int] = defaultdict(int)
    for key in out:
        counts[key.tobytes()] += 1
    stays = np.ones(len(keys), bool)
    for place in np.flatnonzero(np.isin(keys["id"], out["id"])):
        key = keys[place].tobytes()
        if counts[key] > 0:
            counts[key] -= 1
            stays[place] = False
    return stays


def _hash(table: pa.Table, names: tuple[str, ...]) -> NDArray[np.uint64]:
    table = table.select(list(names))
    if "entities" in names:  # lists are not hashed
        place = table.column_names.index("entities")
        table = table.set_column(place, "entities", pc.binary_join(table["entities"], "\x1f"))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.hash_rows(seed=7).to_numpy()
