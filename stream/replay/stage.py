"""The staged feed: every article once, in event order, on disk. Memory stays bounded however long the feed is.

Articles go into one set of files per day of event time; a day is sorted when it is read. Copies of one article are
found by 64-bit hashes of ids, which are spread over files of their own and compared one file after the other. The
order does not depend on how the source was read: of several versions of one article the first received counts, or the
newest one where that is asked, and articles are ordered by event time and id. A row that the filters drop is not
written, but it may be the version that counts: then the article is not in the feed.
"""

import itertools
import json
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from crosswind.errors import DataError
from crosswind.stream.replay.columns import SCHEMA, TIME, WANTED
from crosswind.stream.replay.told import told

BUFFERED = 131_072
"""Rows in memory at most before they are written."""
BUCKETS = 64
DAY_MICROS = 86_400_000_000
_KEY = np.dtype([("id", "<u8"), ("seen", "<i8"), ("at", "<i8"), ("content", "<u8")])
_VERSION = np.dtype([*_KEY.descr, ("said", "<u8"), ("written", "?")])
"""What is told apart by: the key, what makes a version another one, and whether the row is on disk."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(StrEnum):
    """When an article counts.

    `PUBLISHED`: at its event time. `KNOWN`: not earlier than the engine could have known it, that is, at its receipt
    when that is more than the lateness after publication.
    """

    PUBLISHED = "published"
    KNOWN = "known"


class Stage:
    """A staged feed in a folder; an index file says that it is whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._index: dict[str, Any] = {"days": {}, "first": None, "last": None, "bad": 0, "meanings": False}
        self._out: dict[int, NDArray[np.void]] = {}
        if self.whole:
            self._load()

    @property
    def whole(self) -> bool:
        """Whether a source was taken in to its end."""
        return (self._folder / "index.json").exists()

    def fill(
        self, tables: Iterable[pa.Table], clock: Clock, lateness: timedelta, stories: bool = True, *,
        newest: bool = False, stop: Callable[[], bool] = lambda: False,
    ) -> int:  # fmt: skip
        """Takes the whole source in; returns how many articles it has.

        Args:
            stories: articles that have a meaning get their story, too.
            newest: see `Source.newest`.
            stop: asked before each table; once it says yes no more is taken in, and the stage is not whole.

        Raises:
            DataError: the disk does not take it.
        """
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            self._folder.mkdir(parents=True)
            writer = _Writer(self._folder, newest)
            for table in tables:
                if stop():
                    return 0
                writer.add(table, clock, lateness // timedelta(microseconds=1))
            self._index = writer.finish()
            self._load_copies()
            if stories and self._index["meanings"]:
                self._tell()
            temporary = self._folder / "index.new"
            temporary.write_text(json.dumps(self._index), "utf-8")
            temporary.replace(self._folder / "index.json")
        except OSError as error:
            raise DataError(f"the feed cannot be staged in {self._folder}: {error.strerror or error}") from error
        return self.rows

    @property
    def rows(self) -> int:
        """How many articles it has."""
        return int(sum(self._index["days"].values())) - sum(len(keys) for keys in self._out.values())

    @property
    def span(self) -> tuple[datetime, datetime] | None:
        """The first and the last event time; None: it is empty."""
        first, last = self._index["first"], self._index["last"]
        return None if first is None else (_moment(first), _moment(last))

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[pa.Table]:
        """The articles from `since` on, before `until`, in order, a day at a time, with their time in `event_at`."""
        low = -(2**62) if since is None else _micros(since)
        high = 2**62 if until is None else _micros(until)
        for day in sorted(int(day) for day in self._index["days"]):
            if day * DAY_MICROS < high and (day + 1) * DAY_MICROS > low:
                table = self._day(day)
                at = table["event_at"].cast(pa.int64()).to_numpy()
                first, end = np.searchsorted(at, low), np.searchsorted(at, high)
                if end > first:
                    yield table.slice(first, end - first)

    def articles(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """Some articles by id, e.g. the evidence of an alert."""
        wanted = pa.array(sorted(set(ids)), pa.string())
        found: list[dict[str, Any]] = []
        if len(wanted):
            for table in self.read():
                found += table.filter(pc.is_in(table["article_id"], wanted)).to_pylist()
        return found

    def count_before(self, moment: datetime) -> int:
        """How many articles lie before a moment."""
        edge = _micros(moment)
        days = {int(day): count - len(self._out.get(int(day), ())) for day, count in self._index["days"].items()}
        whole = sum(count for day, count in days.items() if (day + 1) * DAY_MICROS <= edge)
        if edge // DAY_MICROS in days:
            at = self._day(edge // DAY_MICROS)["event_at"].cast(pa.int64()).to_numpy()
            whole += int(np.searchsorted(at, edge))
        return int(whole)

    def close(self) -> None:
        """Nothing is held open."""

    def _day(self, day: int) -> pa.Table:
        parts = []
        for path in sorted(self._folder.glob(f"{day}.*.arrow")):
            with pa.OSFile(str(path)) as file:
                parts.append(pa.ipc.open_file(file).read_all())
        table = pa.concat_tables(parts)
        if day in self._out:
            keys = _keys(table)
            table = table.filter(pa.array(_kept(keys, self._out[day])))
        table = table.sort_by([("event_at", "ascending"), ("article_id", "ascending")])
        path = self._folder / f"story.{day}.npy"
        return table.append_column("story", pa.array(np.load(path).tolist(), pa.string())) if path.exists() else table

    def _tell(self) -> None:
        """Writes the story of each article, day by day, in the order in which a day is read."""
        days = sorted(int(day) for day in self._index["days"])
        for day, names in zip(days, told(self._day(day) for day in days), strict=True):
            np.save(self._folder / f"story.{day}.npy", np.array(names.to_pylist(), np.str_))

    def _load(self) -> None:
        self._index = json.loads((self._folder / "index.json").read_text("utf-8"))
        self._load_copies()

    def _load_copies(self) -> None:
        self._out = {}
        for path in self._folder.glob("*.out.npy"):
            self._out[int(path.name.split(".")[0])] = np.load(path)


class _Writer:
    """Spreads rows over days, and their keys over buckets."""

    def __init__(self, folder: Path, newest: bool) -> None:
        self._folder, self._newest = folder, newest
        self._waiting: dict[int, list[pa.Table]] = defaultdict(list)
        self._buffered = self._part = 0
        self._days: dict[int, int] = defaultdict(int)
        self._meanings = False
        self._first: int | None = None
        self._last: int | None = None

    def add(self, table: pa.Table, clock: Clock, lateness: int) -> None:
        if not len(table):
            return
        at = _event_times(table, clock, lateness)
        table = table.append_column("event_at", pa.array(at, pa.int64()).cast(TIME)).combine_chunks()
        written = table[WANTED].to_numpy() if WANTED in table.column_names else np.ones(len(table), bool)
        self._spread_keys(_versions(table, written, self._newest))
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
                self._find_copies(np.fromfile(path, _VERSION))
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
        others = keys["written"] & ~_counted(keys, self._newest)
        out = np.zeros(int(others.sum()), _KEY)
        for name in _KEY.names or ():
            out[name] = keys[name][others]
        for day in np.unique(out["at"] // DAY_MICROS):
            path = self._folder / f"{day}.out.npy"
            more = out[out["at"] // DAY_MICROS == day]
            np.save(path, np.concatenate([np.load(path), more]) if path.exists() else more)


def _event_times(table: pa.Table, clock: Clock, lateness: int) -> NDArray[np.int64]:
    """Microseconds at which articles count."""
    at: NDArray[np.int64] = table["published_at"].cast(pa.int64()).to_numpy()
    if clock is Clock.KNOWN:
        at = np.maximum(at, table["first_seen_at"].cast(pa.int64()).to_numpy() - lateness)
    return at


def _counted(keys: NDArray[np.void], newest: bool) -> NDArray[np.bool_]:
    """Of sorted keys the one that counts of each id: the first, or of those at its end that say the same, the first."""
    begins = np.append(True, keys["id"][1:] != keys["id"][:-1])
    if not newest:
        return begins
    versions = np.flatnonzero(begins | np.append(True, keys["said"][1:] != keys["said"][:-1]))
    found = np.zeros(len(keys), bool)
    found[versions[np.append(begins[versions][1:], True)]] = True
    return found


def _versions(table: pa.Table, written: NDArray[np.bool_], newest: bool) -> NDArray[np.void]:
    found, keys = np.zeros(len(table), _VERSION), _keys(table)
    for name in _KEY.names or ():
        found[name] = keys[name]
    if newest:
        found["said"] = _hash(table, ("title", "body", "lang", "entities"))
    found["written"] = written
    return found


def _keys(table: pa.Table) -> NDArray[np.void]:
    """Id, receipt, event time and content of each row, as numbers."""
    keys = np.zeros(len(table), _KEY)
    keys["id"] = _hash(table, ("article_id",))
    keys["seen"] = table["first_seen_at"].cast(pa.int64()).to_numpy()
    keys["at"] = table["event_at"].cast(pa.int64()).to_numpy()
    keys["content"] = _hash(table, ("title", "body", "lang", "entities", "source", "published_at", "topic", "sentiment",
                                    "model"))  # fmt: skip
    return keys


def _hash(table: pa.Table, names: tuple[str, ...]) -> NDArray[np.uint64]:
    table = table.select(list(names))
    if "entities" in names:  # lists are not hashed
        place = table.column_names.index("entities")
        table = table.set_column(place, "entities", pc.binary_join(table["entities"], "\x1f"))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame.hash_rows(seed=7).to_numpy()


def _kept(keys: NDArray[np.void], out: NDArray[np.void]) -> NDArray[np.bool_]:
    """Rows that are not out; of equal ones as many are out as `out` has."""
    counts: dict[bytes, int] = defaultdict(int)
    for key in out:
        counts[key.tobytes()] += 1
    kept = np.ones(len(keys), bool)
    for place in np.flatnonzero(np.isin(keys["id"], out["id"])):
        key = keys[place].tobytes()
        if counts[key] > 0:
            counts[key] -= 1
            kept[place] = False
    return kept


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _moment(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


def empty() -> pa.Table:
    """No article."""
    return SCHEMA.empty_table()
