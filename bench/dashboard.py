"""Speed of the dashboard on a million stored articles: python bench/dashboard.py [--articles N] [--json FILE]

Generates articles and their buckets by SQL in a Postgres of its own: 30 days, 15 topics, 12 languages, 200 names. Then,
in this process, times what each page asks of the server, from the query to the encoded figures; and serves the
dashboard in a process of its own to so many viewers at once, each of whom asks for a page's data every two seconds.

Not measured: the browser. `tests/browser` drives one.
"""

import argparse
import asyncio
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from sqlalchemy import Engine, text

from crosswind.dashboard import content
from crosswind.dashboard.figures import minutes_of
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.view import Pick, View
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate

START = datetime(2026, 2, 1, tzinfo=UTC)
DAYS = 30
LANGS = ("en", "zh", "ja", "ko", "de", "fr", "es", "pt", "ru", "ar", "hi", "id")
REPEATS = 7
SECONDS = 12.0
"""How long the viewers look."""

_ARTICLES = text("""
    INSERT INTO article
    SELECT 'live', md5(n::text), 'wire ' || n % 40, 'Headline number ' || n, '', NULL,
           (CAST(:langs AS text[]))[1 + n * 7 % 12],
           at, at, CASE WHEN n % 3 = 0 THEN ARRAY['Company ' || n % 200] ELSE '{}' END, 'key ' || n,
           (CAST(:topics AS text[]))[1 + (n * 13 + n / 1000) % 15],
           (ARRAY['negative', 'neutral', 'neutral', 'positive'])[1 + n % 4],
           CASE WHEN n % 4 = 0 THEN 900000 ELSE 50000 END, 50000, 50000, 800000, false, 'bench', 'news.raw', 0, n
    FROM (SELECT n, CAST(:start AS timestamptz) + n * CAST(:step AS interval) AS at
          FROM generate_series(1, CAST(:count AS bigint)) AS n) AS made
""")

_BUCKETS = text("""
    INSERT INTO bucket
    SELECT run, date_trunc('minute', published_at), topic, lang, entity, count(*),
           count(*) FILTER (WHERE sentiment = 'negative'), count(*) FILTER (WHERE sentiment = 'positive'),
           sum(negative_ppm)
    FROM article, unnest(array_append(entities, '*')) AS entity GROUP BY 1, 2, 3, 4, 5
""")

_MARK = text("INSERT INTO watermark VALUES ('live', 0, :at, '{}', clock_timestamp())")


@dataclass(frozen=True, slots=True)
class Bar:
    """One figure and what it must not exceed."""

    name: str
    value: float
    most: float
    unit: str = "ms"

    @property
    def holds(self) -> bool:
        return self.value <= self.most


def fill(engine: Engine, count: int) -> None:
    """The articles and their buckets."""
    step = timedelta(days=DAYS) / count
    with engine.begin() as connection:
        connection.execute(_ARTICLES, {"count": count, "start": START, "step": step, "langs": list(LANGS),
                                       "topics": list(TOPICS)})  # fmt: skip
        connection.execute(_BUCKETS)
        connection.execute(_MARK, {"at": START + timedelta(days=DAYS)})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE"))


def timed(work: Callable[[], Any]) -> tuple[float, float, Any]:
    """Milliseconds of the first call, the median of the others, and the last result."""
    taken = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        result = work()
        taken.append((time.perf_counter() - begin) * 1000)
    return taken[0], statistics.median(taken[1:]), result


def pages(engine: Engine) -> list[Bar]:
    """What the pages ask of the server, one after the other."""
    reader = Reader(engine, "live")

    def overview(view: View) -> int:
        status = reader.status()
        found = content.overview(reader, view, status)
        content.articles(reader, view, status)
        assert found is not None
        figures = [found.figure(topic, view) for topic in TOPICS]
        json.dumps([figures, found.heat()])
        return max(len(trace["x"]) for figure in figures for trace in figure["data"])

    def series(view: View) -> int:
        status = reader.status()
        found = content.series(reader, view, status)
        content.articles(reader, view, status)
        assert found is not None
        figure = found.figure(view)
        json.dumps(figure)
        return max(len(trace["x"]) for trace in figure["data"])

    first, tick, points = timed(lambda: overview(View()))
    every = timed(lambda: overview(View(range="all")))
    topic = timed(lambda: series(View(topic=TOPICS[0])))
    name = timed(lambda: series(View(entity="Company 7", range="all")))
    at = START + timedelta(days=DAYS, hours=-5)
    pick = View(entity="Company 7", pick=Pick("*", at, at + timedelta(hours=1)))
    behind = timed(lambda: content.articles(reader, pick, reader.status()))
    assert minutes_of(at, at + timedelta(hours=1))[1] == 60
    return [
        Bar("overview, 48 h, first", first, 1000), Bar("overview, 48 h, a live tick", tick, 200),
        Bar("overview, everything", every[1], 1000), Bar("series of a topic", topic[1], 300),
        Bar("series of a name, everything", name[1], 300), Bar("articles behind a point", behind[1], 300),
        Bar("points of a trace", max(points, every[2], topic[2], name[2]), 2000, ""),
    ]  # fmt: skip


async def viewers(address: str, count: int) -> list[float]:
    """Milliseconds of each answer, over `SECONDS`."""
    rng = random.Random(1)
    paths = ["/api/v1/trends?range=48h", "/api/v1/articles?limit=25", "/api/v1/incidents", "/api/v1/status",
             *(f"/api/v1/articles?topic={topic}" for topic in TOPICS[:4])]  # fmt: skip
    taken: list[float] = []
    limits = httpx.Limits(max_connections=count)
    async with httpx.AsyncClient(base_url=address, timeout=60, limits=limits) as client:

        async def look(wait: float) -> None:
            await asyncio.sleep(wait)
            end = time.perf_counter() + SECONDS
            while time.perf_counter() < end:
                begin = time.perf_counter()
                (await client.get(rng.choice(paths))).raise_for_status()
                taken.append((time.perf_counter() - begin) * 1000)
                await asyncio.sleep(max(0.0, begin + 2.0 - time.perf_counter()))

        await asyncio.gather(*(look(rng.uniform(0, 2)) for _ in range(count)))
    return taken


def crowd(url: str, count: int) -> Bar:
    """The 95th percentile of what the viewers wait, with the server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from crosswind.cli import main; import sys; sys.argv[1:] = ['dashboard', '--port', '{port}']; main()"
    environment = {"CROSSWIND_DATABASE_URL": url, "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])}
    server = subprocess.Popen([sys.executable, "-c", code], env=environment)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(address + "/health").raise_for_status()
                break
            except httpx.HTTPError:
                time.sleep(0.1)
        taken = asyncio.run(viewers(address, count))
    finally:
        server.terminate()
        server.wait()
    return Bar(f"{count} viewers, p95 of {len(taken)} answers", statistics.quantiles(taken, n=20)[-1], 500)


def main() -> int:
    """Prints the table; 0 when every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--articles", type=int, default=1_000_000)
    parser.add_argument("--viewers", type=int, default=200)
    parser.add_argument("--json", type=Path, help="write the figures there")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crosswind-bench-"))
    server = EmbeddedPostgres(folder / "data")
    try:
        url = server.start()
        engine = connect(url)
        migrate(engine)
        begin = time.perf_counter()
        fill(engine, given.articles)
        print(f"{given.articles:,} articles stored in {time.perf_counter() - begin:.0f} s", flush=True)
        bars = [*pages(engine), crowd(url, given.viewers)]
        engine.dispose()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    for bar in bars:
        print(f"{bar.name:40} {bar.value:9.0f} {bar.unit:3} (at most {bar.most:,.0f}) {'' if bar.holds else 'MISSED'}")
    if given.json:
        given.json.write_text(json.dumps({bar.name: {"value": bar.value, "most": bar.most} for bar in bars}, indent=1))
    missed = [bar.name for bar in bars if not bar.holds]
    print("all bars hold" if not missed else f"missed: {', '.join(missed)}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
