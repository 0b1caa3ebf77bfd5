"""The staged feed: every article once, in event order, on disk. Memory stays bounded however long the feed is.

Articles go into one set of files per day of event time; a day is sorted when it is read. Copies of one article are
found by 64-bit hashes of ids, which are spread over files of their own and compared one file after the other. The
order does not depend on how the source was read: of several versions of one article the first received counts, or the
newest one where that is asked, and articles are ordered by event time and id. A row that the filters drop is not
written, but it may be the version that counts: then the article is not in the feed.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from crosswind.errors import DataError
from crosswind.stream.replay.copies import kept, keys_of
from crosswind.stream.replay.staging import Writer
from crosswind.stream.replay.times import DAY_MICROS, from_micros, to_micros
from crosswind.stream.replay.told import told


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
            writer = Writer(self._folder, newest)
            for table in tables:
                if stop():
                    return 0
                writer.add(table, _event_times(table, clock, lateness))
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
        return None if first is None else (from_micros(first), from_micros(last))

    def read(self, since: datetime | None = None, until: datetime | None = None) -> Iterator[pa.Table]:
        """The articles from `since` on, before `until`, in order, a day at a time, with their time in `event_at`."""
        low = -(2**62) if since is None else to_micros(since)
        high = 2**62 if until is None else to_micros(until)
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
        edge = to_micros(moment)
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
            keys = keys_of(table)
            table = table.filter(pa.array(kept(keys, self._out[day])))
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


def _event_times(table: pa.Table, clock: Clock, lateness: timedelta) -> NDArray[np.int64]:
    """Microseconds at which articles count."""
    at: NDArray[np.int64] = table["published_at"].cast(pa.int64()).to_numpy()
    if clock is Clock.KNOWN:
        at = np.maximum(at, table["first_seen_at"].cast(pa.int64()).to_numpy() - lateness // timedelta(microseconds=1))
    return at
