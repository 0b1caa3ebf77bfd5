"""What stories cost: CPU beside scoring and storing, memory and lookups of a full window. For `bench/stories.py`."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
from sqlalchemy import Engine

from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.story_engine import story_engine
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.article import Article, Origin, Score, ScoredArticle
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.domain.stories.story import Telling
from crosswind.stream.worker import spare_the_collector

START = datetime(2026, 3, 2, tzinfo=UTC)
ROUNDS = 3
Row = dict[str, Any]


def share(scorer: OnnxScorer, titles: Sequence[str], langs: Sequence[str]) -> Row:
    """What share of the CPU that an article takes is its story's: of scoring, storing, and Postgres for both.

    On a machine that has no core to spare an article that takes a and, with its story, a + s costs s / (a + s) of the
    articles a second. On a Postgres of its own, meanings kept; the median of a few rounds.
    """
    began = time.process_time()
    scores = scorer.score(titles)
    scoring = time.process_time() - began
    feed = _articles(titles, langs, scores)
    spent: dict[bool, list[float]] = {True: [], False: []}
    with TemporaryDirectory(prefix="crosswind-bench-") as folder:
        server = EmbeddedPostgres(Path(folder) / "data")
        try:
            engine = connect(server.start())
            migrate(engine)
            _stored(engine, "warm", feed, wanted=True)
            spare_the_collector()
            for turn in range(ROUNDS):
                for wanted in (False, True):
                    job = partial(_stored, engine, f"{turn}-{wanted}", feed, wanted=wanted)
                    spent[wanted].append(_cpu_of(Path(folder), job))
            engine.dispose()
        finally:
            server.stop()
    without, told = (float(np.median(spent[wanted])) for wanted in (False, True))
    count = len(titles)
    return {"method": "CPU of an article", "share": (told - without) / (scoring + told), "articles": count,
            "score_ms": scoring / count * 1e3, "store_ms": without / count * 1e3,
            "stories_ms": (told - without) / count * 1e3}  # fmt: skip


def _cpu_of(folder: Path, job: Callable[[], None]) -> float:
    """Seconds of CPU of this process and of the Postgres in a folder."""
    postmaster = psutil.Process(int(next(folder.rglob("postmaster.pid")).read_text().split()[0]))
    before = _spent(postmaster)
    job()
    return _spent(postmaster) - before


def _spent(postmaster: psutil.Process) -> float:
    total = time.process_time()
    for process in (postmaster, *postmaster.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system
    return total


def _articles(titles: Sequence[str], langs: Sequence[str], scores: Sequence[Score]) -> list[ScoredArticle]:
    """A feed in the order of time, two articles a minute."""
    feed = []
    for place, (title, lang, score) in enumerate(zip(titles, langs, scores, strict=True)):
        at = START + timedelta(seconds=30 * place)
        article = Article(f"{place:032x}", f"source-{place % 7}", title, "", None, lang, at, at, (), title_key(title),
                          Origin("bench", 0, place))  # fmt: skip
        feed.append(ScoredArticle(article, score))
    return feed


def _stored(engine: Engine, run: str, feed: Sequence[ScoredArticle], *, wanted: bool, batch: int = 256) -> None:
    """Stores a feed in batches, with a tick of the worker's story engine after each where it is wanted."""
    store = PostgresTrendStore(engine, meanings=wanted)
    stories = story_engine(engine, run, timedelta(seconds=120), 3.0, wanted)
    for first in range(0, len(feed), batch):
        store.ingest(run, [Delivery(one, 0) for one in feed[first : first + batch]])
        if stories is not None:
            stories.tick()


def window(size: int, width: int) -> Row:
    """Memory and lookups of a window of `size` stories, whose meanings have `width` entries.

    In a process of its own: what others have freed before it would hide what it takes. What a story takes is what the
    last three quarters of them add: by then the caches, which do not grow with the window, are full.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_window, (size, width))


def _window(size: int, width: int) -> Row:
    rng, process = np.random.default_rng(0), psutil.Process()
    words = [f"w{n:x}" for n in rng.integers(0, 16**6, 50_000)]
    stories, lookups, before = Stories(StoryIndex), [], process.memory_info().rss
    quarter = size // 4
    for place in range(size):
        if place == quarter:
            first = process.memory_info().rss - before
        vector = pack(rng.standard_normal(width, np.float32))
        title = " ".join(words[n] for n in rng.integers(0, len(words), 8))
        one = Telling(f"{place:09}", START + timedelta(milliseconds=place * 100), f"s{place % 99}", "en", title,
                      title_key(title), (), vector, "bench")  # fmt: skip
        began, used = time.perf_counter(), time.thread_time()
        stories.assign(one)
        lookups.append((time.perf_counter() - began, time.thread_time() - used))
    each = (process.memory_info().rss - before - first) / (size - quarter)
    waited, used = np.percentile(np.array(lookups[-max(1, size // 10) :]) * 1000, 95, axis=0)
    whole = first + each * (1e6 - quarter)
    return {"method": "window", "stories": len(stories), "bytes": each, "gb_at_1m": whole / 1e9,
            "p95_ms": float(waited), "p95_cpu_ms": float(used)}  # fmt: skip
