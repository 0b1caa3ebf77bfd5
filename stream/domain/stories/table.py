"""Which story a text points at: whole numbers to whole numbers, for millions of them, in two flat arrays."""

from array import array
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_EMPTY: Final = 2**64 - 1
_SMALLEST: Final = 1024
_FULL: Final = 0.6
"""Share of the slots in use from which the table is made anew."""


class Table:
    """Keys below 2^60 to values below 2^32; a dict of Python's takes five times the room.

    Nothing is taken out one by one: an entry whose value is no longer alive goes when the table is made anew, so it
    never holds much more than what is alive.

    Args:
        alive: which of some values [n] are still wanted, bool [n].
    """

    def __init__(self, alive: Callable[[NDArray[np.uint32]], NDArray[np.bool_]]) -> None:
        self._alive = alive
        self._make(_SMALLEST)

    def __len__(self) -> int:
        return self._used

    def get(self, key: int) -> int | None:
        """A key's value; None where it has none, or one that was no longer alive when the table was made anew."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] == key else None

    def put(self, key: int, value: int) -> None:
        """Gives a key a value, in the place of one that it has."""
        slot = self._slot(key)
        if self._keys[slot] != key:
            if self._used >= _FULL * len(self._keys):
                self._renew()
                slot = self._slot(key)
            self._used += 1
        self._keys[slot], self._values[slot] = key, value

    def _slot(self, key: int) -> int:
        keys, slot = self._keys, (key ^ key >> 29) & self._mask
        while keys[slot] not in (key, _EMPTY):
            slot = (slot + 1) & self._mask
        return slot

    def _make(self, size: int) -> None:
        self._keys, self._values = array("Q", [_EMPTY]) * size, array("I", [0]) * size
        self._mask, self._used = size - 1, 0

    def _renew(self) -> None:
        keys, values = np.frombuffer(self._keys, np.uint64), np.frombuffer(self._values, np.uint32)
        kept = keys != _EMPTY
        kept[kept] = self._alive(values[kept])
        keys, values = keys[kept], values[kept]
        size = _SMALLEST
        while size * _FULL / 2 < len(keys):
            size *= 2
        self._make(size)
        self._fill(keys, values)

    def _fill(self, keys: NDArray[np.uint64], values: NDArray[np.uint32]) -> None:
        """Puts distinct keys into the empty table, all that find a free slot at once, the others one further on."""
        mine: NDArray[Any] = np.frombuffer(self._keys, np.uint64)
        theirs: NDArray[Any] = np.frombuffer(self._values, np.uint32)
        self._used = len(keys)
        slots = (keys ^ keys >> np.uint64(29)) & np.uint64(self._mask)
        while len(keys):
            free = np.flatnonzero(mine[slots] == _EMPTY)
            _, first = np.unique(slots[free], return_index=True)
            placed = free[first]
            mine[slots[placed]], theirs[slots[placed]] = keys[placed], values[placed]
            rest = np.ones(len(keys), bool)
            rest[placed] = False
            keys, values = keys[rest], values[rest]
            slots = (slots[rest] + np.uint64(1)) & np.uint64(self._mask)


class Holders:
    """Keys to all the values that they were given, the last one first; of those that are alive.

    Nearly every key is given one value in its life: that lies in a `Table`, and only what others hide lies beside it.
    So what is dead hides nothing: it is as if it had never been there.

    Args:
        lives: whether a value is still wanted.
        alive: the same of some values [n] at once, bool [n].
    """

    def __init__(self, lives: Callable[[int], bool], alive: Callable[[NDArray[np.uint32]], NDArray[np.bool_]]) -> None:
        self._lives, self._last = lives, Table(alive)
        self._hidden: dict[int, list[int]] = {}
        self._noted, self._most = 0, _SMALLEST

    def put(self, key: int, value: int) -> None:
        """Gives a key one more value."""
        held = self._last.get(key)
        if held is not None and held != value and self._lives(held):
            self._hidden.setdefault(key, []).append(held)
            self._noted += 1
            if self._noted > self._most:
                self._sweep()
        self._last.put(key, value)

    def get(self, key: int) -> Iterator[int]:
        """A key's values that are alive, the last one first."""
        last = self._last.get(key)
        if last is not None and self._lives(last):
            yield last
        yield from filter(self._lives, reversed(self._hidden.get(key, ())))

    def _sweep(self) -> None:
        """Drops what is dead; done each time that twice as many are hidden as were alive the last time."""
        kept = {key: list(filter(self._lives, values)) for key, values in self._hidden.items()}
        self._hidden = {key: values for key, values in kept.items() if values}
        self._noted = sum(map(len, self._hidden.values()))
        self._most = max(_SMALLEST, 2 * self._noted)
