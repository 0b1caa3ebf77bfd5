"""What a page shows, as one value that lives in the URL. Pure: no dash, no database.

Reading is lenient: a link that somebody edited, or one from another version, shows the default instead of an error.
"""

import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import parse_qsl, urlencode

from crosswind.stream.domain.validate import is_name

RANGES: Final[dict[str, timedelta | None]] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "24h": timedelta(hours=24),
    "48h": timedelta(hours=48),
    "all": None,
}
"""Ranges that can be picked, back from the newest event time; None: everything stored."""

DEFAULT_RANGE: Final = "48h"
SENTIMENTS: Final = ("negative", "neutral", "positive")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.IGNORECASE)
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,400}")
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Years that can be moved by any window and shown in any zone; the API has the same bounds."""


@dataclass(frozen=True, slots=True)
class Pick:
    """A point or an alert band that was clicked: a topic (`*`: all) between two event times, aware, UTC, seconds."""

    topic: str
    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class View:
    """The state of a page. `from_query(view.to_query()) == view` for every view that a page can make.

    Attributes:
        range: a key of `RANGES`.
        topics, langs: shown topics and languages, sorted; empty: all of them.
        sentiment: one of `SENTIMENTS`, or empty for all.
        topic: the topic of the series page; empty: all of them.
        entity: the entity of the series page; empty: whatever the articles are about.
        zoom: the part of the series chart that is looked at; None: all of the range.
        pick: what was clicked; the list of articles is then about it alone.
        before: cursor of the articles page, empty for the newest.
        novel: only one article of each story is listed.
    """

    range: str = DEFAULT_RANGE
    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    sentiment: str = ""
    topic: str = ""
    entity: str = ""
    zoom: tuple[datetime, datetime] | None = None
    pick: Pick | None = None
    before: str = ""
    ui: str = ""
    novel: bool = False

    @classmethod
    def from_query(cls, query: str | None) -> "View":
        """Reads `?range=6h&langs=en,ja`; whatever is unknown or malformed is left at its default.

        >>> View.from_query("?range=6h&langs=ja,en&topics=<script>").langs
        ('en', 'ja')
        """
        try:
            given = dict(parse_qsl((query or "").removeprefix("?"), max_num_fields=50))
        except ValueError:  # more fields than anybody needs
            given = {}
        found, sentiment, before = given.get("range", ""), given.get("sentiment", ""), given.get("before", "")
        return cls(
            range=found if found in RANGES else DEFAULT_RANGE,
            topics=_words(given.get("topics", "")),
            langs=_words(given.get("langs", "")),
            sentiment=sentiment if sentiment in SENTIMENTS else "",
            topic=next(iter(_words(given.get("topic", ""))), ""),
            entity=_name(given.get("entity", "")),
            zoom=_parse_span(given.get("zoom", "").split(",")),
            pick=_parse_pick(given.get("pick", "")),
            before=before if _CURSOR.fullmatch(before) else "",
            ui=_ui(given.get("ui", "")),
            novel=given.get("novel") == "1",
        )

    def to_query(self) -> str:
        """`?…` with what differs from the default, or the empty string."""
        given = {
            "range": "" if self.range == DEFAULT_RANGE else self.range,
            "topics": ",".join(self.topics),
            "langs": ",".join(self.langs),
            "sentiment": self.sentiment,
            "topic": self.topic,
            "entity": self.entity,
            "zoom": ",".join(stamp(end) for end in self.zoom or ()),
            "pick": _format_pick(self.pick),
            "before": self.before,
            "ui": self.ui,
            "novel": "1" if self.novel else "",
        }
        query = urlencode({name: value for name, value in given.items() if value}, safe=",:")
        return f"?{query}" if query else ""

    def picked(self, pick: Pick | None) -> "View":
        """The same view with its articles narrowed to `pick` (None: widened again), from the newest on."""
        return replace(self, pick=pick, before="")

    def filtered(self, *, range: str, topics: tuple[str, ...], langs: tuple[str, ...], sentiment: str) -> "View":
        """The view after its controls were changed: it starts again at the newest articles."""
        return replace(
            self, range=range, topics=tuple(sorted(topics)), langs=tuple(sorted(langs)), sentiment=sentiment, before="",
            zoom=self.zoom if range == self.range else None,
        )  # fmt: skip

    @property
    def plain(self) -> "View":
        """The filters alone: what a link to another page takes along."""
        return replace(self, topic="", entity="", zoom=None, pick=None, before="")


def _words(value: str) -> tuple[str, ...]:
    return tuple(sorted({word for word in value.split(",") if _WORD.fullmatch(word)}))


def _format_pick(pick: Pick | None) -> str:
    return f"{pick.topic},{stamp(pick.start)},{stamp(pick.end)}" if pick else ""


def _parse_pick(value: str) -> Pick | None:
    topic, *ends = value.split(",")
    span = _parse_span(ends)
    return Pick(topic, *span) if span and (topic == "*" or _WORD.fullmatch(topic)) else None


def _parse_span(ends: list[str]) -> tuple[datetime, datetime] | None:
    try:
        start, end = (parse_stamp(part) for part in ends)
    except (ValueError, OverflowError):
        return None
    return (start, end) if _EARLIEST <= start < end <= _LATEST else None


def _name(value: str) -> str:
    return value if is_name(value) and value != "*" else ""


def _ui(value: str) -> str:
    """The interface's language as a language tag, or empty for the default one."""
    return value if _WORD.fullmatch(value) else ""


def stamp(moment: datetime) -> str:
    """An aware time as RFC 3339 in UTC, whole seconds.

    >>> stamp(datetime(2026, 3, 2, 9, 5, tzinfo=UTC))
    '2026-03-02T09:05:00Z'
    """
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def parse_stamp(value: str) -> datetime:
    """The inverse of `stamp`; any RFC 3339 time with a zone will do.

    Raises:
        ValueError: it is no such time.
    """
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError(f"{value!r} has no time zone; expected RFC 3339, for example 2026-03-02T09:05:00Z")
    return moment.astimezone(UTC).replace(microsecond=0)
