"""A long history in the database, made by Postgres itself: what a store looks like after a year."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, text

END = datetime(2026, 11, 6, tzinfo=UTC)
"""Before the sample feed begins."""
SPAN = timedelta(days=60)

_ARTICLES = text("""
    INSERT INTO article (run, article_id, source, title, body, url, lang, published_at, first_seen_at, entities,
                         title_key, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure,
                         model, origin_topic, origin_partition, origin_offset)
    SELECT 'live', md5(n::text), 'wire-' || n % 40, 'Bank ' || n || ' reports', '', NULL,
           (ARRAY['en', 'de', 'fr', 'ja', 'zh'])[1 + n % 5], at, at, ARRAY['Company ' || n % 500], md5(n::text),
           (ARRAY['credit', 'earnings', 'macro'])[1 + n % 3], (ARRAY['negative', 'neutral', 'positive'])[1 + n % 3],
           300000, 400000, 300000, 900000, false, 'history', 'history', n % 4, n
    FROM (SELECT n, :end - n * CAST(:span AS interval) / :articles AS at FROM generate_series(1, :articles) AS n) AS row
""")

_MINUTES = text("""
    INSERT INTO bucket (run, minute, topic, lang, entity, articles, negative, positive, negative_ppm)
    SELECT run, date_trunc('minute', published_at), topic, lang, entity, count(*),
           count(*) FILTER (WHERE sentiment = 'negative'), count(*) FILTER (WHERE sentiment = 'positive'),
           sum(negative_ppm)
    FROM article, unnest(array_append(entities, '*')) AS entity GROUP BY 1, 2, 3, 4, 5
""")

_HOURS = text("""
    INSERT INTO bucket_hour (run, entity, topic, lang, hour, articles, negative, positive, negative_ppm)
    SELECT run, entity, topic, lang, date_trunc('hour', minute), sum(articles), sum(negative), sum(positive),
           sum(negative_ppm)
    FROM bucket GROUP BY 1, 2, 3, 4, 5
""")

_EVALUATED = text("INSERT INTO engine (run, evaluated_to, state) VALUES ('live', :end, '{}')")


def preload(engine: Engine, articles: int) -> None:
    """So many articles of the 60 days before the sample feed, counted into minutes and hours, evaluated to the end."""
    with engine.begin() as connection:
        connection.execute(_ARTICLES, {"articles": articles, "end": END, "span": SPAN})
        connection.execute(_MINUTES)
        connection.execute(_HOURS)
        connection.execute(_EVALUATED, {"end": END})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE article, bucket, bucket_hour"))
