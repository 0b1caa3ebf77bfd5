"""What the pages and the API show now, made once for all who look at the same thing."""

import hashlib
import json
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, TypeVar

from crosswind.dashboard import content, counts
from crosswind.dashboard.content import OneSeries, Overview
from crosswind.dashboard.counts import Counts
from crosswind.dashboard.queries import ArticlePage, Incident, Reader, Status
from crosswind.dashboard.series import Span
from crosswind.dashboard.shared import Shared
from crosswind.dashboard.view import View
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.service.translation import Headlines, NoHeadlines

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A chart, encoded once.

    Attributes:
        text: the figure as JSON.
        tag: changes with the text; who shows this one already need not be sent it again.
    """

    text: str
    tag: str

    @classmethod
    def of(cls, figure: Any) -> "Drawn":
        """Encodes a figure."""
        text = json.dumps(figure, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return cls(text, hashlib.blake2b(text.encode(), digest_size=8).hexdigest())


@dataclass(frozen=True, slots=True)
class OverviewShown:
    """The overview, and its charts by topic."""

    found: Overview
    charts: dict[str, Drawn]
    heat: Drawn


@dataclass(frozen=True, slots=True)
class SeriesShown:
    """One series and its chart."""

    found: OneSeries
    chart: Drawn


class Live:
    """One run, as everybody sees it now. Every method raises DatabaseError when the database does not answer."""

    def __init__(self, reader: Reader, shared: Shared | None = None, headlines: Headlines | None = None) -> None:
        self.reader, self.headlines = reader, headlines or NoHeadlines()
        self.shared = shared or Shared(reader.version)
        self._before: dict[timedelta, Counts] = {}  # by step, of which there are few

    async def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Anything that depends on the key and on what is stored; `make` blocks."""
        return await self.shared.get(key, make)

    async def status(self) -> Status:
        """How fresh the data is; `quiet_seconds` is that of this moment."""
        return await self._status(await self.shared.version())

    async def overview(self, view: View) -> OverviewShown | None:
        """What the overview shows; None while the database is empty."""
        version = await self.shared.version()
        status, known = await self._known(view, version)
        view = replace(view.plain, sentiment="")
        return None if known is None else await self.shared.get(
            ("overview", view), lambda: _overview(self.reader, view, status, known), version
        )  # fmt: skip

    async def series(self, view: View) -> SeriesShown | None:
        """What the series page shows; None while the database is empty."""
        version = await self.shared.version()
        status, known = await self._known(view, version)
        view = replace(view, sentiment="", topics=(), zoom=None, pick=None, before="")
        return None if known is None else await self.shared.get(
            ("series", view), lambda: _series(self.reader, view, status, known), version
        )  # fmt: skip

    async def counts(self, view: View) -> Counts | None:
        """The counts of a view's range, unfiltered; None while the database is empty."""
        return (await self._known(view, await self.shared.version()))[1]

    async def articles(self, view: View) -> ArticlePage:
        """The list of articles of a view."""
        version = await self.shared.version()
        status, view = await self._status(version), replace(view, zoom=None)
        return await self.shared.get(
            ("articles", view), lambda: content.articles(self.reader, view, status), version
        )  # fmt: skip

    async def incidents(self, view: View) -> list[Incident]:
        """The incidents of a view's range, whether they fired or not."""
        version = await self.shared.version()
        span = content.span_for(view, await self._status(version))
        topics, langs = view.topics, view.langs
        return [] if span is None else await self.shared.get(
            ("incidents", span, topics, langs),
            lambda: self.reader.incidents(span.start, span.end, topics=topics, langs=langs), version,
        )  # fmt: skip

    async def _status(self, version: str) -> Status:
        found, at = await self.shared.get("status", lambda: (self.reader.status(), time.monotonic()), version)
        quiet = None if found.quiet_seconds is None else found.quiet_seconds + (time.monotonic() - at)
        return replace(found, quiet_seconds=quiet)

    async def _known(self, view: View, version: str) -> tuple[Status, Counts | None]:
        status = await self._status(version)
        span = content.span_for(view, status)
        return status, await self._counts(span, version) if span else None

    async def _counts(self, span: Span, version: str) -> Counts:
        def make() -> Counts:
            found = counts.read(self.reader, span, self._before.get(span.step))
            self._before[span.step] = found
            return found

        return await self.shared.get(("counts", span), make, version)


def _overview(reader: Reader, view: View, status: Status, known: Counts) -> OverviewShown | None:
    found = content.overview(reader, view, status, counts=known)
    if found is None:
        return None
    shown = [topic for topic in TOPICS if not view.topics or topic in view.topics]
    return OverviewShown(found, {t: Drawn.of(found.figure(t, view)) for t in shown}, Drawn.of(found.heat()))


def _series(reader: Reader, view: View, status: Status, known: Counts) -> SeriesShown | None:
    found = content.series(reader, view, status, known)
    return None if found is None else SeriesShown(found, Drawn.of(found.figure(view)))
