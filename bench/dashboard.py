"""Speed of the dashboard on a million stored articles: python bench/dashboard.py [--articles N] [--json FILE]

Generates articles and their buckets by SQL in a Postgres of its own: 30 days, 15 topics, 12 languages, 200 names. Then,
in this process, times what each page asks of the server, from the look at the version to the encoded figures, with
news arriving through the stream's own store before every look; and serves the
dashboard in a process of its own to so many viewers at once, each of whom asks for a page's data every two seconds.

Not measured: the browser. `tests/browser` drives one.
"""

import argparse
import asyncio
import itertools
import json
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
from sqlalchemy import Engine, text

from crosswind.dashboard.live import Live
from crosswind.dashboard.pulse import LOOK
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.view import Pick, View
from crosswind.models.taxonomy import TOPICS
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.reader import make as make_reader
from crosswind.stream.adapters.postgres.reader import reader_url
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import Article, Origin, Score, ScoredArticle, Sentiment
from crosswind.stream.domain.ingest import Delivery

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
    ORDER BY 2, 3, 4, 5  -- as they come in live: one minute's rows lie together
""")

_HOURS = text("""
    INSERT INTO bucket_hour
    SELECT run, entity, topic, lang, date_bin('1 hour', minute, 'epoch') AS hour, sum(articles), sum(negative),
           sum(positive), sum(negative_ppm)
    FROM bucket GROUP BY 1, 2, 3, 4, 5 ORDER BY 5, 2, 3, 4
""")

_INDEXES = text("""
    SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition FROM pg_index
    WHERE NOT indisprimary AND indrelid IN ('article'::regclass, 'bucket'::regclass, 'bucket_hour'::regclass)
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
    """The articles, their buckets and hours; indexes are made afterwards, as a restore does."""
    step = timedelta(days=DAYS) / count
    with engine.begin() as connection:
        connection.execute(text("SET LOCAL synchronous_commit = off"))
        connection.execute(text("SET LOCAL work_mem = '256MB'"))
        connection.execute(text("SET LOCAL maintenance_work_mem = '512MB'"))
        indexes = connection.execute(_INDEXES).all()
        for index in indexes:
            connection.execute(text(f"DROP INDEX {index.name}"))
        connection.execute(_ARTICLES, {"count": count, "start": START, "step": step, "langs": list(LANGS),
                                       "topics": list(TOPICS)})  # fmt: skip
        connection.execute(_BUCKETS)
        connection.execute(_HOURS)
        connection.execute(_MARK, {"at": START + timedelta(days=DAYS)})
        for index in indexes:
            connection.execute(text(index.definition))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE article, bucket, bucket_hour, watermark"))


async def timed(look: Callable[[], Awaitable[Sequence[str]]], news: Callable[[], None]) -> tuple[float, float, int]:
    """Milliseconds of the first look, the median of the others, and the longest trace; the news are not timed."""
    taken: list[float] = []
    texts: Sequence[str] = ()
    for _ in range(REPEATS):
        await asyncio.to_thread(news)
        await asyncio.sleep(LOOK)  # pages look again after that long at the earliest
        begin = time.perf_counter()
        texts = await look()
        taken.append((time.perf_counter() - begin) * 1000)
    lengths = [len(trace["x"]) for text in texts for trace in json.loads(text)["data"]]
    return taken[0], statistics.median(taken[1:]), max(lengths, default=0)


def arrive(engine: Engine, numbers: Iterator[int]) -> None:
    """Half a minute of news, through the store that the stream uses."""
    at, rng = START + timedelta(days=DAYS, seconds=-1), random.Random(3)
    store = PostgresTrendStore(engine)
    made = []
    for number in itertools.islice(numbers, 12):
        article = Article(f"new {number}", "wire", f"Late headline {number}", "", None, rng.choice(LANGS), at, at,
                          ("Company 7",), f"new {number}", Origin("news.raw", 1, number))  # fmt: skip
        score = Score(rng.choice(TOPICS), Sentiment.NEGATIVE, 900_000, 50_000, 50_000, 800_000, False, "bench")
        made.append(Delivery(ScoredArticle(article, score), 0))
    store.ingest("live", made)


async def pages(engine: Engine, reading: Engine) -> list[Bar]:
    """What the pages ask of the server, each look with a change of the data before it, as when news arrive."""
    reader, numbers = Reader(reading, "live"), itertools.count(1)
    live = Live(reader)

    def news() -> None:
        arrive(engine, numbers)

    async def overview(view: View) -> Sequence[str]:
        shown, _ = await live.overview(view), await live.articles(view)
        assert shown is not None
        return [chart.text for chart in shown.charts.values()]

    async def series(view: View) -> Sequence[str]:
        shown, _ = await live.series(view), await live.articles(view)
        assert shown is not None
        return [shown.chart.text]

    async def behind(view: View) -> Sequence[str]:
        assert (await live.articles(view)).articles
        return []

    async def measure(what: Callable[[View], Awaitable[Sequence[str]]], view: View) -> tuple[float, float, int]:
        return await timed(lambda: what(view), news)

    end = START + timedelta(days=DAYS)
    first, tick, points = await measure(overview, View())
    every = await measure(overview, View(range="all"))
    topic = await measure(series, View(topic=TOPICS[0]))
    name = await measure(series, View(entity="Company 7", range="all"))
    picked = await measure(behind, View(entity="Company 7", pick=Pick("*", end - timedelta(hours=12), end)))
    return [
        Bar("overview, 48 h, first", first, 1000), Bar("overview, 48 h, a live tick", tick, 200),
        Bar("overview, everything, a live tick", every[1], 1000), Bar("series of a topic, first", topic[0], 1000),
        Bar("series of a topic", topic[1], 300), Bar("series of a name, everything", name[1], 300),
        Bar("articles behind a point", picked[1], 300),
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
    environment = {"CROSSWIND_DATABASE_URL": url, "CROSSWIND_READ_DATABASE_URL": reader_url(url),
                   "PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[1])}  # fmt: skip
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
        make_reader(engine)
        migrate(engine)
        begin = time.perf_counter()
        fill(engine, given.articles)
        print(f"{given.articles:,} articles stored in {time.perf_counter() - begin:.0f} s", flush=True)
        reading = connect(reader_url(url), read_only=True)
        bars = [*asyncio.run(pages(engine, reading)), crowd(url, given.viewers)]
        engine.dispose()
        reading.dispose()
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
