"""The index of stories: exact while that is fast, then usearch's HNSW graph in int8.

usearch over hnswlib (float32 only: 1.5 GB for a million vectors of 384) and faiss (no deletion from HNSW): it keeps
vectors as int8, replaces and deletes. One thread per call, so that the same calls build the same graph.
"""

import numpy as np
from usearch.compiled import MetricKind, ScalarKind
from usearch.index import Index

from crosswind.stream.domain.stories.exact import ExactIndex
from crosswind.stream.domain.stories.meaning import Vector

EXACT = 10_000
"""Up to so many stories every vector is looked at: a millisecond at most, and nothing is missed."""
_MARGIN = 4
"""More are asked of the graph than are wanted, because its order is approximate."""


class StoryIndex:
    """Implements `crosswind.stream.domain.stories.clusters.Index`."""

    def __init__(self, width: int, exact: int = EXACT) -> None:
        self._width, self._limit = width, exact
        self._exact: ExactIndex | None = ExactIndex(width)
        self._graph: Index | None = None

    def __len__(self) -> int:
        return len(self._exact if self._exact is not None else self._require())

    def put(self, key: int, vector: Vector) -> None:
        """See `Index.put`."""
        if self._exact is not None:
            self._exact.put(key, vector)
            if len(self._exact) > self._limit:
                self._change_over(self._exact)
            return
        graph = self._require()
        if graph.contains(key):
            graph.remove(key)
        graph.add(key, vector, threads=1)

    def remove(self, key: int) -> None:
        """See `Index.remove`."""
        if self._exact is not None:
            self._exact.remove(key)
        else:
            self._require().remove(key)

    def nearest(self, vector: Vector, count: int) -> list[tuple[int, float]]:
        """See `Index.nearest`."""
        if self._exact is not None:
            return self._exact.nearest(vector, count)
        found = self._require().search(vector, count + _MARGIN, threads=1)
        pairs = [(int(k), 1.0 - float(d)) for k, d in zip(found.keys, found.distances, strict=True)]
        return sorted(pairs, key=lambda one: (-one[1], one[0]))[:count]

    @property
    def approximate(self) -> bool:
        """Whether it has grown beyond looking at every vector."""
        return self._exact is None

    def _change_over(self, exact: ExactIndex) -> None:
        self._graph = Index(
            ndim=self._width, metric=MetricKind.Cos, dtype=ScalarKind.I8, connectivity=16, expansion_add=64,
            expansion_search=64,
        )  # fmt: skip
        for key, vector in exact.items():
            self._graph.add(key, np.ascontiguousarray(vector), threads=1)
        self._exact = None

    def _require(self) -> Index:
        assert self._graph is not None
        return self._graph
