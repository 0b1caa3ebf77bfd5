"""Inputs of edited articles, and what must become of them: a pure fold over the inputs, whatever way they came."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta

from sqlalchemy import Engine, text

from crosswind.stream.domain.article import Origin, ScoredArticle, Sentiment
from crosswind.stream.domain.identity import title_key
from tests.builders import scored_article
from tests.unit.replay.world import at

Row = tuple[object, ...]
MOODS = {"calm": Sentiment.NEUTRAL, "bad": Sentiment.NEGATIVE, "good": Sentiment.POSITIVE}


def told(number: int, word: str, minutes: int, offset: int) -> ScoredArticle:
    """An input of article `number` that says `word`, received so many minutes after the article was published.

    The score follows from the word, as a model's does from the text.
    """
    made = scored_article(number, sentiment=MOODS.get(word, Sentiment.NEUTRAL), entities=(f"Name {word}",))
    title = f"{word} news of {number}"
    seen = made.article.published_at + timedelta(minutes=minutes)
    return at(made, title=title, title_key=title_key(title), first_seen_at=seen,
              origin=Origin("news.raw", offset % 3, offset))  # fmt: skip


def place(one: ScoredArticle) -> tuple[object, ...]:
    origin = one.article.origin
    return one.article.first_seen_at, origin.topic, origin.partition, origin.offset


def chain(inputs: Iterable[ScoredArticle]) -> list[ScoredArticle]:
    """The versions of one article: the first of each stretch of inputs that say the same."""
    ordered = sorted(set(inputs), key=place)
    return [next(same) for _, same in itertools.groupby(ordered, key=lambda one: one.article.title)]


def counted(batches: Sequence[Sequence[ScoredArticle]]) -> dict[str, ScoredArticle]:
    """Of each article the input that counts: of the first batch that has any, the one that was received first."""
    found: dict[str, ScoredArticle] = {}
    for batch in batches:
        for one in sorted(batch, key=place):
            if one.article.article_id not in found:
                found[one.article.article_id] = one
    return found


def tables(batches: Sequence[Sequence[ScoredArticle]]) -> tuple[list[Row], list[Row], int]:
    """Rows of versions and of duplicates as they must be after these deliveries, and how many edits there were."""
    first, inputs = counted(batches), defaultdict[str, set[ScoredArticle]](set)
    for one in itertools.chain.from_iterable(batches):
        inputs[one.article.article_id].add(one)
    versions, duplicates, edits = list[Row](), list[Row](), 0
    for ident, some in inputs.items():
        found = chain(some)
        if found != [first[ident]]:
            versions += [(ident, number, *content(one)) for number, one in enumerate(found, 1)]
        own = max((one for one in found if place(one) <= place(first[ident])), key=place)
        edited = set(found) - {own}
        edits += len(edited)
        duplicates += [(ident, one.article.origin.offset) for one in some - edited - {first[ident]}]
    return sorted(versions), sorted(duplicates), edits


def content(one: ScoredArticle) -> Row:
    article, score = one.article, one.score
    return (article.title, article.published_at, article.first_seen_at, list(article.entities), score.sentiment.value,
            score.negative_ppm, score.model, article.origin.offset)  # fmt: skip


def stored(engine: Engine, run: str = "live") -> tuple[list[Row], list[Row]]:
    """The rows of versions and of duplicates that are there."""
    queries = (
        "SELECT article_id, version, title, published_at, first_seen_at, entities, sentiment, negative_ppm, model,"
        " origin_offset FROM article_version WHERE run = :run",
        "SELECT article_id, origin_offset FROM duplicate WHERE run = :run",
    )
    with engine.connect() as connection:
        versions, duplicates = (
            sorted(tuple(row) for row in connection.execute(text(query), {"run": run})) for query in queries
        )
    return versions, duplicates


def scored_by(one: ScoredArticle, model: str) -> ScoredArticle:
    return replace(one, score=replace(one.score, model=model))
