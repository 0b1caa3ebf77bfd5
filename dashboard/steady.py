"""What a page shows already is not sent again when news comes.

Dash draws anew whatever is answered, the same or not: then what the reader opened closes, and the keyboard's focus is
lost. So each list has a store beside it, part of the page, with the tags of what was sent last.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from dash import ctx, no_update
from plotly.io.json import to_json_plotly

NEWS: Final = ("pulse", "backtests-beat")
"""What asks again for the same address. Any other question is a new one, and is answered in full."""


def only_new(known: Any, *parts: Any) -> tuple[Any, ...]:
    """The parts, `no_update` for each that is shown already, and then their tags.

    Args:
        known: the tags of the answer before, None where there was none.
    """
    return differing(known if ctx.triggered_id in NEWS else None, parts)


def differing(known: Any, parts: Sequence[Any]) -> tuple[Any, ...]:
    """The same, whatever asks.

    >>> sent = differing(None, ["a", "b"])
    >>> differing(sent[-1], ["a", "c"])[1:] == ("c", differing(None, ["a", "c"])[-1])
    True
    """
    tags = [tag_of(part) for part in parts]
    shown = known if isinstance(known, list) and len(known) == len(tags) else [None] * len(tags)
    return (*(no_update if was == tag else part for was, tag, part in zip(shown, tags, parts, strict=True)), tags)


def tag_of(part: Any) -> str:
    """A short word that differs between any two contents."""
    return hashlib.blake2b(to_json_plotly(part).encode(), digest_size=8).hexdigest()
