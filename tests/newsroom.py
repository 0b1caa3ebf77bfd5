"""A made-up newsroom for the dashboard's tests: 48 hours in twelve languages, with one surge and its alert."""

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, event, insert, text

from crosswind.models.taxonomy import TOPICS
from crosswind.stream.adapters.postgres.schema import EngineRow, IncidentRow, TransitionRow
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.domain.article import ScoredArticle, Sentiment
from crosswind.stream.domain.ingest import Delivery
from tests.builders import START, scored_article

HEADLINES = {
    "en": "Northgate Bank shares slide as depositors withdraw cash",
    "zh": "北门银行遭遇挤兑,股价大幅下跌",
    "ja": "ノースゲート銀行、預金流出で株価急落",
    "ko": "노스게이트 은행, 예금 인출 사태로 주가 급락",
    "de": "Northgate Bank: Aktie bricht nach Abfluss von Einlagen ein",
    "fr": "Northgate Bank chute après des retraits massifs de dépôts",
    "es": "Northgate Bank se desploma por la retirada de depósitos",
    "pt": "Northgate Bank despenca com saques de depositantes",
    "ru": "Акции Northgate Bank падают из-за оттока вкладов",
    "ar": "تراجع حاد في أسهم بنك نورثغيت بعد سحب الودائع",
    "hi": "नॉर्थगेट बैंक के शेयर जमा निकासी के बाद गिरे",
    "id": "Saham Northgate Bank anjlok setelah penarikan dana nasabah",
}
LANGS = tuple(HEADLINES)
SURGE = (START + timedelta(hours=33), START + timedelta(hours=37))
END = START + timedelta(hours=48)
SILENCE = (START + timedelta(hours=14), START + timedelta(hours=17))


def newsroom(count: int = 3000, seed: int = 1) -> list[ScoredArticle]:
    """Articles over 48 hours from `START`, quieter at night, silent in `SILENCE`, credit going bad in `SURGE`."""
    rng = random.Random(seed)
    articles = []
    for number in range(count):
        at = START + timedelta(minutes=rng.uniform(0, 48 * 60))
        if SILENCE[0] <= at < SILENCE[1] or (at.hour < 6 and rng.random() < 0.6):
            continue
        surging = SURGE[0] <= at < SURGE[1] and rng.random() < 0.5
        topic = "credit" if surging else rng.choice(TOPICS)
        sentiment = rng.choices(list(Sentiment), (5, 10, 85) if surging else (25, 50, 25))[0]
        lang = rng.choices(LANGS, (24, 14, 10, 8, 8, 7, 7, 6, 6, 4, 3, 3))[0]
        articles.append(_article(number, at, topic, lang, sentiment, rng))
    return articles


def _article(
    number: int, at: datetime, topic: str, lang: str, sentiment: Sentiment, rng: random.Random
) -> ScoredArticle:
    made = scored_article(
        number, minutes=(at - START).total_seconds() / 60, topic=topic, lang=lang, sentiment=sentiment,
        source=rng.choice(("Harbour Wire", "Meridian News", "東京経済通信", "Börsenblick", "Le Cours")),
        title=f"{HEADLINES[lang]} ({number})",
    )  # fmt: skip
    return replace(made, article=replace(made.article, url=f"https://news.example/{number}"))


def store(engine: Engine, articles: list[ScoredArticle], run: str = "live") -> None:
    """Ingests them in order of event time, as a feed would."""
    ordered = sorted(articles, key=lambda scored: scored.article.published_at)
    store = PostgresTrendStore(engine)
    for first in range(0, len(ordered), 500):
        store.ingest(run, [Delivery(scored, 0) for scored in ordered[first : first + 500]])


def add_incident(
    engine: Engine, *, incident_id: str = "i1", run: str = "live", seq: int = 1, **changes: object
) -> None:
    """One fired and resolved surge of credit news with its transitions; `changes` replace columns of the incident."""
    row: dict[str, object] = {
        "run": run, "incident_id": incident_id, "rule": "surge", "rule_version": "1", "topic": "credit", "lang": "*",
        "entity": "*", "state": "resolved", "severity": "critical", "started_at": SURGE[0],
        "fired_at": SURGE[0] + timedelta(minutes=25), "resolved_at": SURGE[1], "acknowledged_at": None,
        "acknowledged_by": None, "observed": 61, "expected": 4.2, "p_value": 3.1e-12, "negative_share": 0.83,
        "sources": 5, "headlines": 58, "languages": ["ar", "de", "en", "ja", "zh"], "evidence": [], "model": "tiny",
        **changes,
    }  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(IncidentRow), row)
        connection.execute(insert(TransitionRow), _transition(row, "firing", seq))


def _transition(row: dict[str, object], state: str, seq: int) -> dict[str, object]:
    at = row["fired_at"] or row["started_at"]
    payload = {"topic": row["topic"], "state": state, "observed": row["observed"]}
    return {
        "run": row["run"], "incident_id": row["incident_id"], "state": state, "seq": seq, "at": at,
        "recorded_at": datetime(2026, 3, 4, tzinfo=UTC), "payload": payload,
    }  # fmt: skip


def fill(engine: Engine, count: int = 3000) -> None:
    """The whole newsroom with two alerts, one of them open, and an alert engine that has kept up."""
    articles = newsroom(count)
    store(engine, articles)
    credit = [scored.article for scored in articles if scored.score.topic == "credit"]
    worst = [article.article_id for article in credit if SURGE[0] <= article.published_at < SURGE[1]]
    add_incident(engine, evidence=worst[:5])
    add_incident(
        engine, incident_id="i2", seq=2, topic="macro", state="firing", severity="warning", observed=19, expected=6.3,
        p_value=2.2e-5, started_at=END - timedelta(hours=2), fired_at=END - timedelta(hours=1), resolved_at=None,
    )  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(EngineRow), {"run": "live", "evaluated_to": END - timedelta(minutes=3), "state": {}})


def archive(engine: Engine, count: int, days: int) -> None:
    """So many plain articles over days that end at `END`, with their buckets and hours, made by the database itself."""
    first = END - timedelta(days=days)
    given = {"count": count, "first": first, "step": timedelta(days=days) / count, "end": END, "langs": list(LANGS),
             "topics": list(TOPICS)}  # fmt: skip
    with engine.begin() as connection:
        for statement in _ARCHIVE:
            connection.execute(text(statement), {name: given[name] for name in given if f":{name}" in statement})
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE article, bucket, bucket_hour, watermark"))


_ARCHIVE = (
    """
    INSERT INTO article
    SELECT 'live', lpad(to_hex(n), 32, '0'), 'wire', 'Headline ' || n, '', NULL,
           (CAST(:langs AS text[]))[1 + n % 12], at, at,
           CASE WHEN n % 3 = 0 THEN ARRAY['Acme ' || n % 50] ELSE '{}' END,
           'key ' || n, (CAST(:topics AS text[]))[1 + (n * 13 + n / 100) % 15],
           (ARRAY['negative', 'neutral', 'positive'])[1 + n % 3], 50000, 50000, 900000, 800000, false, 'tiny',
           'news.raw', 0, n
    FROM (SELECT n, CAST(:first AS timestamptz) + n * CAST(:step AS interval) AS at
          FROM generate_series(1, CAST(:count AS bigint)) AS n) AS made
    """,
    """
    INSERT INTO bucket
    SELECT run, date_trunc('minute', published_at), topic, lang, entity, count(*),
           count(*) FILTER (WHERE sentiment = 'negative'), count(*) FILTER (WHERE sentiment = 'positive'),
           sum(negative_ppm)
    FROM article, unnest(array_append(entities, '*')) AS entity GROUP BY 1, 2, 3, 4, 5 ORDER BY 2, 3, 4, 5
    """,
    """
    INSERT INTO bucket_hour
    SELECT run, entity, topic, lang, date_trunc('hour', minute) AS hour, sum(articles), sum(negative), sum(positive),
           sum(negative_ppm)
    FROM bucket GROUP BY 1, 2, 3, 4, 5 ORDER BY 5, 2, 3, 4
    """,
    "INSERT INTO watermark VALUES ('live', 0, :end, '{}', clock_timestamp())",
)


def plans(engine: Engine, look: Callable[[], object]) -> list[str]:
    """The plan of every statement that is sent meanwhile, as the database explains it."""
    statements: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, given: object, *_: object) -> None:
        statements.append((statement, given))

    event.listen(engine, "before_cursor_execute", note)
    look()
    event.remove(engine, "before_cursor_execute", note)
    with engine.connect() as connection:
        return [
            "\n".join(row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", given))  # type: ignore[arg-type]
            for statement, given in statements
        ]
