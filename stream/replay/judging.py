"""How the articles of a source get their scores: their own, a bundle's, or none yet."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta

import pyarrow as pa

from crosswind.stream.domain.article import PPM, Score, Sentiment
from crosswind.stream.domain.contract import decode_raw
from crosswind.stream.domain.validate import Limits
from crosswind.stream.domain.watchlist import Watchlist
from crosswind.stream.replay.columns import SCHEMA, Filter, table_of
from crosswind.stream.replay.sources import Source
from crosswind.stream.service.ports import Scorer
from crosswind.stream.service.scoring import Message, judge

SCORED_AT_ONCE = 256
LARGEST = 2**24
"""Bytes of a message of old articles at most."""


@dataclass(frozen=True, slots=True)
class Judge:
    """What unscored articles are scored with.

    Attributes:
        scorer: opens the model when the first unscored article comes.
        again: score articles that have a score, too (a candidate bundle).
        anew: what these are scored with; None: `scorer`.
        seen_limit: an article dated so much after its receipt is no article.
        watchlist: watched entities are looked for in unscored articles, as a worker does.
    """

    scorer: Callable[[], Scorer]
    detect: Callable[[str], str] = lambda text: "und"
    again: bool = False
    seen_limit: timedelta = timedelta(hours=1)
    watchlist: Watchlist | None = None
    anew: Callable[[], Scorer] | None = None


class Unscored:
    """Implements `Scorer` for articles that a worker will score: the columns are filled, and mean nothing."""

    version = provider = "none"

    def score(self, texts: Sequence[str]) -> list[Score]:
        """See `Scorer.score`."""
        return [Score("other", Sentiment.NEUTRAL, 0, PPM, 0, 0, True, self.version) for _ in texts]


def take_scored(table: pa.Table, wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    """Scored articles, with a bundle's scores where that is asked, filtered; nothing where none is left."""
    if judge_with.again:
        table = rescored(table, (judge_with.anew or judge_with.scorer)())
    table = wanted.apply(table)
    if len(table):
        yield table


def take_unscored(source: Source, messages: list[Message], wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    """Articles of `news.raw` messages, scored and filtered; what is no article is counted in `source.bad`."""
    if not messages:
        return
    limits = Limits(LARGEST, judge_with.seen_limit)
    judged = judge(
        messages, scorer=judge_with.scorer(), detect=judge_with.detect, limits=limits, watchlist=judge_with.watchlist
    )
    source.bad += len(judged.dead)
    dead = {letter.message.origin for letter in judged.dead}
    given = [decode_raw(message.value, LARGEST).id for message in messages if message.origin not in dead]
    table = table_of(judged.scored)
    table = table.set_column(table.column_names.index("given_id"), "given_id", pa.array(given, pa.string()))
    table = wanted.apply(table)
    if len(table):
        yield table


def rescored(table: pa.Table, scorer: Scorer) -> pa.Table:
    """The same articles with the scores of another bundle."""
    titles, bodies = table["title"].to_pylist(), table["body"].to_pylist()
    texts = [f"{title}\n{body}" if body else title for title, body in zip(titles, bodies, strict=True)]
    scores = [score for first in range(0, len(texts), SCORED_AT_ONCE)
              for score in scorer.score(texts[first : first + SCORED_AT_ONCE])]  # fmt: skip
    for name in ("topic", "negative_ppm", "neutral_ppm", "positive_ppm", "topic_ppm", "unsure", "model"):
        column = pa.array([getattr(score, name) for score in scores], SCHEMA.field(name).type)
        table = table.set_column(table.column_names.index(name), name, column)
    meanings = pa.array([score.meaning or None for score in scores], pa.binary())
    table = table.set_column(table.column_names.index("meaning"), "meaning", meanings)
    moods = pa.array([score.sentiment.value for score in scores], pa.string())
    return table.set_column(table.column_names.index("sentiment"), "sentiment", moods)
