"""CSV of what a page shows: the same address, under /export. A cell that a spreadsheet would run is made a text."""

import csv
import io
from collections.abc import Iterable, Iterator
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

from crosswind.cells import safe_text
from crosswind.dashboard import content
from crosswind.dashboard.figures import Band
from crosswind.dashboard.queries import Article, Reader
from crosswind.dashboard.series import Span, Trend
from crosswind.dashboard.view import View

MAX_ROWS: Final = 10_000
"""Articles of one file; the newest ones of a longer list."""

ARTICLE_COLUMNS: Final = tuple(Article.__dataclass_fields__)
TREND_COLUMNS: Final = ("time", "topic", "entity", "articles", "negative", "positive", "negative_share",
                        "expected_share", "expected_low", "expected_high", "alert", "no_data")  # fmt: skip


def add_exports(server: FastAPI, reader: Reader) -> None:
    """Adds the two files. Before Dash adds its catch-all."""

    @server.get("/export/articles.csv", include_in_schema=False)
    def articles(request: Request) -> StreamingResponse:
        view = View.from_query(request.url.query)
        page = content.articles(reader, view, reader.status(), limit=MAX_ROWS)
        return _file("articles", ARTICLE_COLUMNS, ([getattr(a, n) for n in ARTICLE_COLUMNS] for a in page.articles))

    @server.get("/export/trends.csv", include_in_schema=False)
    def trends(request: Request) -> StreamingResponse:
        return _file("trends", TREND_COLUMNS, trend_rows(reader, View.from_query(request.url.query)))


def trend_rows(reader: Reader, view: View) -> list[list[Any]]:
    """A row per bin and topic, or per bin of the one series that the view names."""
    status = reader.status()
    if view.topic or view.entity:
        one = content.series(reader, view, status)
        return [] if one is None else list(_rows(one.trend, one.span, one.bands, one.gaps, one.expected, view.entity))
    found = content.overview(reader, view, status)
    if found is None:
        return []
    return [
        row for topic in sorted(found.trends)
        for row in _rows(found.trends[topic], found.span, found.bands(topic), found.gaps, None, "")
    ]  # fmt: skip


def _rows(
    trend: Trend, span: Span, bands: list[Band], gaps: tuple[tuple[Any, Any], ...], expected: Any, entity: str
) -> Iterator[list[Any]]:
    for at, (time, share) in enumerate(zip(span.times, trend.share, strict=True)):
        alerts = "; ".join(band.label for band in bands if band.start < time + span.step and band.end > time)
        silent = any(start <= time < end for start, end in gaps)
        normal = (expected.share[at], expected.low[at], expected.high[at]) if expected else (None, None, None)
        yield [time, trend.topic, entity, trend.articles[at], trend.negative[at], trend.positive[at],
               None if share is None else round(share, 4), *normal, alerts, "no data" if silent else ""]  # fmt: skip


def safe_cell(value: Any) -> str:
    """A cell's text; what would begin a formula gets an apostrophe before it, wherever a spreadsheet begins a cell.

    >>> safe_cell("=HYPERLINK(1)"), safe_cell("＝1"), safe_cell(-3), safe_cell(None), safe_cell(["a", "b"])
    ("'=HYPERLINK(1)", "'＝1", '-3', '', 'a; b')
    """
    if value is None:
        return ""
    if isinstance(value, int | float):
        return str(value)
    text = "; ".join(str(part) for part in value) if isinstance(value, list) else str(value)
    text = text.isoformat() if hasattr(text, "isoformat") else text
    return safe_text(text)


def _file(name: str, columns: Iterable[str], rows: Iterable[list[Any]]) -> StreamingResponse:
    """UTF-8 with a byte order mark, without which spreadsheets take it for something else."""
    headers = {"Content-Disposition": f'attachment; filename="crosswind-{name}.csv"', "Cache-Control": "no-store"}
    return StreamingResponse(_lines(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)


def _lines(columns: Iterable[str], rows: Iterable[list[Any]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    yield "\ufeff"
    for row in (list(columns), *rows):
        writer.writerow([safe_cell(value) for value in row])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
