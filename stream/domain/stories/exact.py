"""The plain index: every vector is looked at. Exact and the same everywhere; right for some ten thousand stories."""

import numpy as np

from crosswind.stream.domain.stories.meaning import Vector

_FIRST = 1024


class ExactIndex:
    """Implements `clusters.Index` by one matrix product."""

    def __init__(self, width: int) -> None:
        self._rows = np.zeros((_FIRST, width), np.float32)
        self._keys: list[int] = []
        self._place: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def put(self, key: int, vector: Vector) -> None:
        """See `clusters.Index.put`."""
        if key not in self._place:
            if len(self._keys) == len(self._rows):
                self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._place[key] = len(self._keys)
            self._keys.append(key)
        self._rows[self._place[key]] = vector

    def remove(self, key: int) -> None:
        """See `clusters.Index.remove`."""
        place, last = self._place.pop(key), len(self._keys) - 1
        if place != last:
            self._rows[place] = self._rows[last]
            self._keys[place] = self._keys[last]
            self._place[self._keys[place]] = place
        self._keys.pop()

    def nearest(self, vector: Vector, count: int) -> list[tuple[int, float]]:
        """See `clusters.Index.nearest`."""
        if not self._keys:
            return []
        found = self._rows[: len(self._keys)] @ vector
        some = np.argpartition(-found, count - 1)[:count] if len(found) > count else np.arange(len(found))
        return sorted(((self._keys[i], float(found[i])) for i in some.tolist()), key=lambda one: (-one[1], one[0]))

    def items(self) -> list[tuple[int, Vector]]:
        """Every key with its vector, by key."""
        return [(key, self._rows[self._place[key]]) for key in sorted(self._place)]
