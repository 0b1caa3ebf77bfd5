"""Rivals: a kafka-python consumer, and Quix Streams with batches; with transformers' `pipeline()` or our ONNX session.

transformers needs a checkpoint of its own: one of the shipped bundle's shape (12 layers × 384), untrained, with the
bundle's tokenizer. What a model has learned does not change how fast it is.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from crosswind.export.bundle import resolve
from crosswind.settings import Settings
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.engine import connect

Score = dict[str, Any]
Scorer = Callable[[Sequence[str]], list[Score]]
BATCH, TOKENS = 32, 96
_INSERT = text("""
    INSERT INTO article (run, article_id, source, title, body, url, lang, published_at, first_seen_at, entities,
                         title_key, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure,
                         model, origin_topic, origin_partition, origin_offset)
    VALUES ('live', :id, :source, :title, :body, :url, :lang, :at, now(), :entities, '', :topic, :sentiment, :negative,
            :neutral, :positive, :topic_ppm, :unsure, :model, '', 0, 0)
    ON CONFLICT DO NOTHING
""")
_COUNT_IT = text("""
    INSERT INTO bucket (run, minute, topic, lang, entity, articles, negative, positive, negative_ppm)
    VALUES ('live', date_trunc('minute', CAST(:at AS timestamptz)), :topic, :lang, '*', 1, 0, 0, :negative)
    ON CONFLICT (run, minute, topic, lang, entity) DO UPDATE SET articles = bucket.articles + 1
""")


def onnx(model: str) -> Scorer:
    """Our own session on the bundle."""
    scorer = OnnxScorer(resolve(model))

    def score(texts: Sequence[str]) -> list[Score]:
        return [{"topic": one.topic, "sentiment": one.sentiment.value, "negative": one.negative_ppm,
                 "neutral": one.neutral_ppm, "positive": one.positive_ppm, "topic_ppm": one.topic_ppm,
                 "unsure": one.unsure, "model": one.model} for one in scorer.score(texts)]  # fmt: skip

    return score


def transformers(model: str) -> Scorer:
    """`pipeline("text-classification")` in fp32: the sentiment only, which is half of the job."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, pipeline

    folder = resolve(model)
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), pad_token="<pad>",
                                        model_max_length=TOKENS)  # fmt: skip
    torch.manual_seed(1)
    config = BertConfig(vocab_size=len(tokenizer), hidden_size=384, num_hidden_layers=12, num_attention_heads=12,
                        intermediate_size=1536, num_labels=3)  # fmt: skip
    network = BertForSequenceClassification(config).eval()
    classify = pipeline("text-classification", model=network, tokenizer=tokenizer, device="cpu")

    def score(texts: Sequence[str]) -> list[Score]:
        found = classify(list(texts), batch_size=min(BATCH, len(texts)), truncation=True, max_length=TOKENS)
        return [{"topic": "credit", "sentiment": "neutral", "negative": int(one["score"] * 1e6), "neutral": 0,
                 "positive": 0, "topic_ppm": 0, "unsure": False, "model": "transformers"} for one in found]  # fmt: skip

    return score


def _text(row: dict[str, Any]) -> str:
    return f"{row['title']}\n{row['body']}" if row.get("body") else str(row["title"])


def _values(row: dict[str, Any], score: Score) -> dict[str, Any]:
    return {"id": row["id"], "source": row["source"], "title": row["title"], "body": row.get("body") or "",
            "url": row.get("url"), "lang": row.get("lang") or "und", "at": row["published_at"],
            "entities": row.get("entities") or [], **score}  # fmt: skip


def _store(engine: Engine, rows: Sequence[dict[str, Any]], scores: Sequence[Score]) -> None:
    values = [_values(row, score) for row, score in zip(rows, scores, strict=True)]
    with engine.begin() as connection:
        connection.execute(_INSERT, values)
        connection.execute(_COUNT_IT, values)


def naive(settings: Settings, make: Callable[[str], Scorer]) -> int:
    """A message, a score, two statements and a commit; and again."""
    from kafka import KafkaConsumer

    assert settings.database_url is not None
    score, engine = make(settings.model), connect(settings.database_url.get_secret_value())
    consumer = KafkaConsumer(settings.raw_topic, bootstrap_servers=settings.kafka, group_id=settings.group,
                             auto_offset_reset="earliest")  # fmt: skip
    for message in consumer:
        row = json.loads(message.value)
        _store(engine, [row], score([_text(row)]))
    return 0


def quix(settings: Settings, make: Callable[[str], Scorer]) -> int:
    """Quix Streams with a batching sink, which scores and stores a batch at each checkpoint."""
    from quixstreams import Application
    from quixstreams.sinks import BatchingSink, SinkBatch

    assert settings.database_url is not None
    score, engine = make(settings.model), connect(settings.database_url.get_secret_value())

    class Sink(BatchingSink):  # type: ignore[misc]
        def write(self, batch: "SinkBatch") -> None:
            for chunk in batch.iter_chunks(n=BATCH):
                rows = [item.value for item in chunk]
                _store(engine, rows, score([_text(row) for row in rows]))

    app = Application(broker_address=settings.kafka, consumer_group=settings.group, auto_offset_reset="earliest",
                      commit_every=4 * BATCH, commit_interval=1.0, auto_create_topics=False,
                      state_dir=str(Path(settings.data_dir) / "quix"), loglevel="WARNING")  # fmt: skip
    stream = app.dataframe(app.topic(settings.raw_topic, value_deserializer="json"))
    stream.sink(Sink())
    app.run()
    return 0
