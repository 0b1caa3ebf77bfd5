"""Types that several threads read at once."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def known(kind: type[T]) -> type[T]:
    """A type as it is, found out about by msgspec now, where it is defined.

    msgspec does that when a type is first read, and two threads that do so at the same moment end the process with a
    segmentation fault (0.22): as two callbacks of a page that is opened right after the dashboard's start.
    """
    msgspec.json.Decoder(kind)
    return kind
