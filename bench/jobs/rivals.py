"""Rivals: a kafka-python consumer, and Quix Streams with batches; with transformers' `pipeline()` or our ONNX session.

The transformers side runs the very weights of the bundle, in full precision, both heads: a MODEL_DIR, which
`crosswind restore default --out DIR` makes of the shipped bundle.
"""

import json
import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

from crosswind.export.bundle import resolve
from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.engine import connect

Score = dict[str, Any]
Scorer = Callable[[Sequence[str]], list[Score]]
BATCH = 32
QUIX = "quixstreams==3.28.1"
INSTALL_SECONDS = 180.0
MODEL_DIR = "BENCH_MODEL_DIR"
"""Environment variable that tells a job which weights transformers loads."""
_INSERT = text("""
    INSERT INTO article (run, article_id, source, title, body, url, lang, published_at, first_seen_at, entities,
                         title_key, topic, sentiment, negative_ppm, neutral_ppm, positive_ppm, topic_ppm, unsure,
                         model, origin_topic, origin_partition, origin_offset)
    VALUES ('live', :id, :source, :title, :body, :url, :lang, :at, now(), :entities, '', :topic, :sentiment, :negative,
            :neutral, :positive, :topic_ppm, :unsure, :model, '', 0, 0)
    ON CONFLICT DO NOTHING
""")
_COUNT_IT = text("""
    INSERT INTO bucket_hour (run, hour, topic, lang, entity, articles, negative, positive, negative_ppm)
    VALUES ('live', date_trunc('hour', CAST(:at AS timestamptz)), :topic, :lang, '*', 1, 0, 0, :negative)
    ON CONFLICT (run, entity, topic, lang, hour) DO UPDATE SET articles = bucket_hour.articles + 1
""")


def quix_python(folder: Path) -> Path | None:
    """An interpreter that has Quix Streams, in an environment of its own; None, with one line said, where it cannot be.

    Its pins (an older pydantic) would break ours, so they live in `folder`; our own packages come after them. A folder
    that has been made before is used as it is.
    """
    python = folder / "bin" / "python"
    if any(folder.glob("lib/*/site-packages/ours.pth")):
        return python
    print(f"installing {QUIX} into an environment of its own", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", QUIX]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=INSTALL_SECONDS, stdin=subprocess.DEVNULL)
    except (subprocess.SubprocessError, OSError) as error:
        print(f"Quix Streams: left out, pip could not install {QUIX} ({type(error).__name__})")
        return None
    where = subprocess.run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
                           check=True, capture_output=True, text=True).stdout.strip()  # fmt: skip
    (Path(where) / "ours.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf-8")
    return python


def onnx(settings: Settings) -> Scorer:
    """Our own session on the bundle."""
    from crosswind.stream.adapters.onnx_scorer import OnnxScorer

    scorer = OnnxScorer(resolve(settings.model), settings.device)

    def score(texts: Sequence[str]) -> list[Score]:
        return [{"topic": one.topic, "sentiment": one.sentiment.value, "negative": one.negative_ppm,
                 "neutral": one.neutral_ppm, "positive": one.positive_ppm, "topic_ppm": one.topic_ppm,
                 "unsure": one.unsure, "model": one.model} for one in scorer.score(texts)]  # fmt: skip

    return score


def transformers(settings: Settings) -> Scorer:
    """transformers' own `pipeline()` in fp32 over both heads, batches of `BATCH` where more than one text comes."""
    from bench.jobs.pipeline import both_heads

    answer = both_heads(Path(os.environ[MODEL_DIR]), BATCH)

    def score(texts: Sequence[str]) -> list[Score]:
        return [{"topic": one["topic"], "sentiment": one["sentiment"], "negative": int(one["negative"] * 1e6),
                 "neutral": 0, "positive": 0, "topic_ppm": 0, "unsure": False, "model": "transformers"}
                for one in answer(list(texts))]  # fmt: skip

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


def naive(settings: Settings, make: Callable[[Settings], Scorer]) -> int:
    """A message, a score, two statements and a commit; and again."""
    from kafka import KafkaConsumer

    assert settings.database_url is not None
    score, engine = make(settings), connect(settings.database_url.get_secret_value())
    consumer = KafkaConsumer(settings.raw_topic, bootstrap_servers=settings.kafka, group_id=settings.group,
                             auto_offset_reset="earliest")  # fmt: skip
    for message in consumer:
        row = json.loads(message.value)
        _store(engine, [row], score([_text(row)]))
    return 0


def quix(settings: Settings, make: Callable[[Settings], Scorer]) -> int:
    """Quix Streams with a batching sink, which scores and stores a batch at each checkpoint."""
    from quixstreams import Application
    from quixstreams.sinks import BatchingSink, SinkBatch

    assert settings.database_url is not None
    score, engine = make(settings), connect(settings.database_url.get_secret_value())

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


JOBS: dict[str, Callable[[Settings], int]] = {
    "naive": lambda settings: naive(settings, onnx),
    "naive-transformers": lambda settings: naive(settings, transformers),
    "quix": lambda settings: quix(settings, onnx),
    "quix-transformers": lambda settings: quix(settings, transformers),
}


def restore(model: str, out: Path) -> Path:
    """The bundle's weights as a MODEL_DIR, by the command that users have for it."""
    print("turning the bundle back into weights for transformers", flush=True)
    command = [sys.executable, "-m", "crosswind", "restore", model, "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
    return out
