"""What a page of work has open, in the address beside the filters: a subscription, a backtest, an editor."""

import re
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode

from crosswind.dashboard.view import View

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Place:
    """The state of a page that has no charts.

    Attributes:
        open: id of what is looked at closely; empty: nothing.
        against: id of what it is compared with.
        only: the state that a list is narrowed to; empty: all of them.
    """

    open: str = ""
    against: str = ""
    only: str = ""

    @classmethod
    def from_query(cls, query: str | None) -> "Place":
        """Reads `?open=…&against=…&only=…`; whatever is malformed is left out.

        >>> Place.from_query("?open=b1&against=<script>").to_query(View())
        '?open=b1'
        """
        try:
            given = dict(parse_qsl((query or "").removeprefix("?"), max_num_fields=50))
        except ValueError:  # more fields than anybody needs
            given = {}
        return cls(*(_word(given.get(name, "")) for name in ("open", "against", "only")))

    def to_query(self, view: View) -> str:
        """`?…` with the filters of `view` and what is open, or the empty string."""
        given = {"open": self.open, "against": self.against, "only": self.only}
        own = urlencode({name: value for name, value in given.items() if value})
        filters = view.to_query()
        return filters + ("&" if filters else "?") + own if own else filters

    def href(self, path: str, view: View, **changes: str) -> str:
        """The address of `path` with some of this place changed."""
        return path + replace(self, **changes).to_query(view.plain)


def _word(value: str) -> str:
    return value if _WORD.fullmatch(value) else ""
