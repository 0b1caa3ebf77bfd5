"""Small makers of domain values, so that a test names only what it is about."""

from datetime import UTC, datetime, timedelta

from crosswind.stream.domain.article import PPM, Article, Origin, Score, ScoredArticle, Sentiment
from crosswind.stream.domain.identity import title_key

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def scored_article(
    number: int,
    *,
    minutes: float | None = None,
    topic: str = "credit",
    lang: str = "en",
    sentiment: Sentiment = Sentiment.NEGATIVE,
    source: str = "wire",
    title: str | None = None,
    entities: tuple[str, ...] = (),
    offset: int | None = None,
) -> ScoredArticle:
    """Article `number`, published `minutes` (default: `number`) after `START`."""
    title = title or f"Bank {number} fails"
    published = START + timedelta(minutes=number if minutes is None else minutes)
    negative = 900_000 if sentiment is Sentiment.NEGATIVE else 50_000
    positive = 900_000 if sentiment is Sentiment.POSITIVE else 50_000
    return ScoredArticle(
        Article(
            article_id=f"{number:032x}",
            source=source,
            title=title,
            body="",
            url=None,
            lang=lang,
            published_at=published,
            first_seen_at=published,
            entities=entities,
            title_key=title_key(title),
            origin=Origin("news.raw", 0, number if offset is None else offset),
        ),
        Score(topic, sentiment, negative, PPM - negative - positive, positive, 800_000, False, "tiny"),
    )
