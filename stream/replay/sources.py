"""What a replay reads: an opened source, which gives tables of scored articles."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa


@dataclass(slots=True)
class Source:
    """An opened source.

    Attributes:
        tables: scored articles, filtered; read once.
        bad: rows that were no articles, counted while `tables` is read.
        newest: of several versions of an article the newest one counts; else the first.
    """

    name: str
    tables: Iterator[pa.Table] = field(default_factory=lambda: iter(()))
    bad: int = 0
    newest: bool = False
