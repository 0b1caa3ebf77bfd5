"""How a feed is staged: its rows are spread over days on disk, their keys over buckets that are compared one by one."""

import itertools
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from crosswind.stream.replay.columns import TIME, WANTED
from crosswind.stream.replay.copies import KEY, VERSION, counted, versions_of
from crosswind.stream.replay.times import DAY_MICROS

BUFFERED = 131_072
"""Rows in memory at most before they are written."""
BUCKETS = 64


class Writer:
    """Spreads rows over days, and their keys over buckets."""

    def __init__(self, folder: Path, newest: bool) -> None:
        self._folder, self._newest = folder, newest
        self._waiting: dict[int, list[pa.Table]] = defaultdict(list)
        self._buffered = self._part = 0
        self._days: dict[int, int] = defaultdict(int)
        self._meanings = False
        self._first: int | None = None
        self._last: int | None = None

    def add(self, table: pa.Table, at: NDArray[np.int64]) -> None:
        """Takes rows in; `at`, int64 [rows], is when each counts, in microseconds."""
        if not len(table):
            return
        table = table.append_column("event_at", pa.array(at, pa.int64()).cast(TIME)).combine_chunks()
        written = table[WANTED].to_numpy() if WANTED in table.column_names else np.ones(len(table), bool)
        self._spread_keys(versions_of(table, written, self._newest))
        if WANTED in table.column_names:
            table = table.filter(table[WANTED]).drop_columns([WANTED])
            at = at[written]
        if not len(table):
            return
        self._meanings |= table["meaning"].null_count < len(table)
        low, high = int(at.min()), int(at.max())
        self._first = low if self._first is None else min(self._first, low)
        self._last = high if self._last is None else max(self._last, high)
        days = at // DAY_MICROS
        order = np.argsort(days, kind="stable")
        table = table.take(pa.array(order)) if (np.diff(days) < 0).any() else table
        days = days[order]
        edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
        for begin, end in itertools.pairwise(edges):
            self._waiting[int(days[begin])].append(table.slice(begin, end - begin))
            self._days[int(days[begin])] += end - begin
        self._buffered += len(table)
        if self._buffered >= BUFFERED:
            self._flush()

    def finish(self) -> dict[str, Any]:
        """Writes what is left and finds the copies; returns the index."""
        self._flush()
        for bucket in range(BUCKETS):
            path = self._folder / f"keys.{bucket}.bin"
            if path.exists():
                self._find_copies(np.fromfile(path, VERSION))
                path.unlink()
        return {"days": {str(day): count for day, count in self._days.items()}, "first": self._first,
                "last": self._last, "meanings": self._meanings}  # fmt: skip

    def _flush(self) -> None:
        self._part += 1
        for day, tables in self._waiting.items():
            table = pa.concat_tables(tables)
            path = self._folder / f"{day}.{self._part:06d}.arrow"
            with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
        self._waiting.clear()
        self._buffered = 0

    def _spread_keys(self, keys: NDArray[np.void]) -> None:
        buckets = (keys["id"] >> np.uint64(58)).astype(np.int64)
        order = np.argsort(buckets, kind="stable")
        keys, buckets = keys[order], buckets[order]
        edges = [0, *(np.flatnonzero(np.diff(buckets)) + 1).tolist(), len(keys)]
        for begin, end in itertools.pairwise(edges):
            with (self._folder / f"keys.{buckets[begin]}.bin").open("ab") as file:
                keys[begin:end].tofile(file)

    def _find_copies(self, keys: NDArray[np.void]) -> None:
        """Of several rows with one id all but the one that counts are noted as out, by day."""
        keys = np.sort(keys, order=["id", "seen", "at", "content"])
        others = keys["written"] & ~counted(keys, self._newest)
        out = np.zeros(int(others.sum()), KEY)
        for name in KEY.names or ():
            out[name] = keys[name][others]
        for day in np.unique(out["at"] // DAY_MICROS):
            path = self._folder / f"{day}.out.npy"
            more = out[out["at"] // DAY_MICROS == day]
            np.save(path, np.concatenate([np.load(path), more]) if path.exists() else more)
