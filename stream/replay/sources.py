"""Where replayed articles come from: files, our own store, a Kafka topic. Each gives tables of scored articles."""

import bz2
import glob
import gzip
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from sqlalchemy import Engine, text

from crosswind.errors import BrokerError, ContractError, DataError
from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.adapters.postgres.stories import available
from crosswind.stream.domain.article import PPM, Origin, Score, Sentiment
from crosswind.stream.domain.contract import decode_raw, decode_scored
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.domain.validate import Limits
from crosswind.stream.domain.watchlist import Watchlist
from crosswind.stream.feed import sample
from crosswind.stream.feed.readers import read
from crosswind.stream.feed.rows import BadRow
from crosswind.stream.replay.columns import SCHEMA, Filter, check_columns, normalise, table_of
from crosswind.stream.service.ports import Scorer
from crosswind.stream.service.scoring import Message, judge

KINDS = (".jsonl", ".ndjson", ".csv", ".parquet")
PACKED = (".gz", ".bz2", ".zst")
ROWS = 65_536
SCORED_AT_ONCE = 256
HEAD = 1000
"""Lines of a JSON Lines file that tell its columns: one may lack what others have."""
SILENCE_MS = 3000
"""A topic has also ended when nothing came for so long, as from a partition that is empty."""
RECORDS = 4096
"""Records of a topic taken in at once, at most."""

_NO_TEXT = ("unsure", "meaning", *(name for name in SCHEMA.names if name.endswith("_ppm")))
_TEXT = {name: pa.string() for name in ("id", *SCHEMA.names) if name not in _NO_TEXT}
_NUMBERS = {name: pa.int64() for name in SCHEMA.names if name.endswith("_ppm")}


@dataclass(slots=True)
class Source:
    """An opened source.

    Attributes:
        tables: scored articles, filtered; read once.
        bad: rows that were no articles, counted while `tables` is read.
        newest: of several versions of an article the newest one counts; else the first.
    """

    name: str
    tables: Iterator[pa.Table] = field(default_factory=lambda: iter(()))
    bad: int = 0
    newest: bool = False


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


def files_of(name: str) -> list[Path]:
    """The files that a path, folder or glob names, sorted; a folder with everything in it.

    Raises:
        DataError: there is none, or one of an unknown kind is named.
    """
    if name == "sample":
        return [sample.NEWS]
    path = Path(name)
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.is_file() and _kind(file) in KINDS)
    else:
        found = [path] if path.is_file() else sorted(Path(one) for one in glob.glob(name, recursive=True))
    strange = [file for file in found if _kind(file) not in KINDS]
    if strange or not found:
        what = f"{strange[0]} is of an unknown kind" if strange else f"{name}: no such files"
        raise DataError(
            f"{what}; expected {', '.join(KINDS)} (text also as .gz, .bz2 or .zst), folders or globs of them"
        )
    return found


def open_files(name: str, wanted: Filter, judge_with: Judge) -> Source:
    """Files of scored or unscored articles; scored ones have at least `published_at`, `topic` and `sentiment`.

    Raises:
        DataError: there is no such file; what reading finds later is raised then.
    """
    source = Source(name, newest=wanted.as_of is not None)
    source.tables = itertools.chain.from_iterable(_file(source, file, wanted, judge_with) for file in files_of(name))
    return source


def _file(source: Source, path: Path, wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    try:
        names = _names(path)
        if not {"topic", "sentiment"} <= names:
            yield from _scored_rows(source, path, wanted, judge_with)
            return
        check_columns(names)
        for batch in _batches(path):
            table, bad = normalise(pa.Table.from_batches([batch]))
            source.bad += bad
            yield from _given(table, wanted, judge_with)
    except (pa.ArrowException, OSError, EOFError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read to its end: {first}; is it complete?") from None


def _given(table: pa.Table, wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    if judge_with.again:
        table = rescored(table, (judge_with.anew or judge_with.scorer)())
    table = wanted.apply(table)
    if len(table):
        yield table


def _names(path: Path) -> set[str]:
    if _kind(path) in (".jsonl", ".ndjson"):
        with _opened(path) as lines:
            head = itertools.islice((line for line in lines if line.strip()), HEAD)
            return {name for line in head for name in _given_names(line)}
    return set(_dataset(path).schema.names)


def _given_names(line: bytes) -> list[str]:
    try:
        return [name for name, value in msgspec.json.decode(line, type=dict[str, Any]).items() if value is not None]
    except msgspec.MsgspecError:
        return []


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    if _kind(path) not in (".jsonl", ".ndjson"):
        yield from _dataset(path).to_batches(batch_size=ROWS)
        return
    types = {**_TEXT, **_NUMBERS, "unsure": pa.bool_(), "entities": pa.list_(pa.string())}
    schema = pa.schema(list(types.items()))  # whole: lines may have columns that the first one lacks
    parse = pajson.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    with _opened(path) as lines:
        yield from pajson.open_json(pa.PythonFile(_Ended(lines), "r"), parse_options=parse)


def _dataset(path: Path) -> ds.Dataset:
    if _kind(path) == ".parquet":
        return ds.dataset(str(path), format="parquet")
    # by pyarrow's own spellings a headline `nan` or an id `NA` would be absent, too
    options = pacsv.ConvertOptions(column_types={**_TEXT, **_NUMBERS}, strings_can_be_null=True, null_values=[""])
    return ds.dataset(str(path), format=ds.CsvFileFormat(convert_options=options))


class _Ended(io.RawIOBase):
    """A file whose last line has an end. Of one without, pyarrow loses every field where no other line is before it in
    the block that it reads at once."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        found: bytes = self._file.read(size - 1)  # the end has to fit into the same block
        return found if found[-1:] in (b"", b"\n") or self._file.peek(1) else found + b"\n"


def _opened(path: Path) -> Any:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")
    if path.suffix == ".bz2":
        return bz2.open(path, "rb")
    if path.suffix == ".zst":
        return io.BufferedReader(pa.CompressedInputStream(pa.OSFile(str(path)), "zstd"))
    return path.open("rb")


def _kind(path: Path) -> str:
    return path.suffixes[-2].lower() if path.suffix in PACKED and len(path.suffixes) > 1 else path.suffix.lower()


def _scored_rows(source: Source, path: Path, wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    """Unscored rows, judged as a worker would that received each when it was published."""
    messages = []
    for row in read(path):
        if isinstance(row, BadRow):
            source.bad += 1
        else:
            messages.append(Message(Origin(str(path), 0, row.line), row.at, row.key, row.value))
        if len(messages) >= SCORED_AT_ONCE:
            yield from _judged(source, messages, wanted, judge_with)
            messages = []
    yield from _judged(source, messages, wanted, judge_with)


def _judged(source: Source, messages: list[Message], wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    if not messages:
        return
    limits = Limits(2**24, judge_with.seen_limit)
    judged = judge(
        messages, scorer=judge_with.scorer(), detect=judge_with.detect, limits=limits, watchlist=judge_with.watchlist
    )
    source.bad += len(judged.dead)
    dead = {letter.message.origin for letter in judged.dead}
    given = [decode_raw(message.value, 2**24).id for message in messages if message.origin not in dead]
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


_STORED = """
    SELECT a.article_id, a.source, a.title, a.body, a.url, a.lang, a.published_at, a.first_seen_at, a.entities,
           a.title_key, {scores}, {meaning}
    FROM {articles} a {join} WHERE a.run = :run
          AND a.published_at >= coalesce(CAST(:since AS timestamptz), '-infinity')
          AND a.published_at < coalesce(CAST(:until AS timestamptz), 'infinity')
    ORDER BY a.published_at, a.article_id
"""
_NAMES = ("run", *(name for name in SCHEMA.names if name not in ("given_id", "meaning")))
# What was known at :as_of. An article that was never edited is its own version.
_KNOWN = f"""(
    SELECT {", ".join(f"a.{name}" for name in _NAMES)}, CAST(NULL AS bytea) AS said FROM article a
    WHERE a.run = :run AND a.first_seen_at <= :as_of
          AND NOT EXISTS (SELECT FROM article_version w WHERE w.run = a.run AND w.article_id = a.article_id)
    UNION ALL
    (SELECT DISTINCT ON (v.article_id) {", ".join(f"v.{name}" for name in _NAMES)}, coalesce(v.meaning, '')
    FROM article_version v WHERE v.run = :run AND v.first_seen_at <= :as_of ORDER BY v.article_id, v.version DESC)
)"""
_RESCORED = "LEFT JOIN score_version s ON s.run = a.run AND s.article_id = a.article_id AND s.model = :model"
_OF_THIS_TEXT = """ AND EXISTS (SELECT FROM article c WHERE c.run = a.run AND c.article_id = a.article_id
                                    AND c.title = a.title AND c.body = a.body)"""
"""What was scored anew is the text that counts."""
_SCORES = ("topic", "sentiment", "negative_ppm", "neutral_ppm", "positive_ppm", "topic_ppm", "unsure", "model")


def open_store(engine: Engine, run: str, wanted: Filter, judge_with: Judge, scores_of: str | None = None) -> Source:
    """The articles of a run of our own store, with the scores of then: what live counted, or with `wanted.as_of` the
    newest version of then.

    Args:
        scores_of: a bundle's version; where `crosswind rescore` has stored its scores, these are taken instead.
    """
    source = Source(f"store:{run}")
    source.tables = _stored(engine, run, wanted, judge_with, scores_of)
    return source


def _stored(engine: Engine, run: str, wanted: Filter, judge_with: Judge, scores_of: str | None) -> Iterator[pa.Table]:
    query, values = _query(engine, run, wanted, scores_of)
    with (
        database(f"reading the articles of run {run}"),
        engine.connect().execution_options(stream_results=True, yield_per=ROWS // 8) as connection,
    ):
        for rows in connection.execute(text(query), values).mappings().partitions():
            table = pa.Table.from_pylist([_row(row) for row in rows], schema=SCHEMA)
            yield from _given(table, wanted, judge_with)


def _query(engine: Engine, run: str, wanted: Filter, scores_of: str | None) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {"run": run, "since": wanted.since, "until": wanted.until}
    scores, join, meaning = ", ".join(f"a.{name}" for name in _SCORES), "", "NULL AS meaning"
    if wanted.as_of is not None:
        values["as_of"] = wanted.as_of
    if scores_of:
        values["model"] = scores_of
        scores = ", ".join(f"coalesce(s.{name}, a.{name}) AS {name}" for name in _SCORES)
        join = _RESCORED + (_OF_THIS_TEXT if wanted.as_of is not None else "")
    elif available(engine):  # what was meant is the live bundle's; another bundle's scores say nothing of it
        meaning = "CAST(m.meaning AS real[]) AS meaning" + (", a.said" if wanted.as_of is not None else "")
        join = "LEFT JOIN article_meaning m ON m.run = a.run AND m.article_id = a.article_id"
    articles = "article" if wanted.as_of is None else _KNOWN
    return _STORED.format(scores=scores, articles=articles, join=join, meaning=meaning), values


def _row(found: Mapping[Any, Any]) -> dict[str, Any]:
    row = dict(found)
    said, meaning = row.pop("said", None), row["meaning"]
    if said is not None:
        return {**row, "meaning": bytes(said) or None}
    return {**row, "meaning": None if meaning is None else pack(np.asarray(meaning, np.float32))}


@dataclass(frozen=True, slots=True)
class Stretch:
    """Part of a topic: by record times (`since` included, `until` not), or by offsets of every partition.

    Each partition is read to where it stood when the reading began, also up to an `until`: records need not ascend in
    time, so a later one may still be of the stretch.
    """

    since: datetime | None = None
    until: datetime | None = None
    first_offset: int | None = None
    end_offset: int | None = None


def open_topic(
    kafka: str,
    topic: str,
    stretch: Stretch,
    wanted: Filter,
    judge_with: Judge,
    silence_ms: int = SILENCE_MS,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Source:
    """A Kafka topic of `news.scored` or `news.raw` messages; both may be mixed. `options` are the client's."""
    source = Source(f"kafka:{topic}", newest=wanted.as_of is not None)

    def consumer() -> Any:
        try:
            return KafkaConsumer(bootstrap_servers=kafka.split(","), group_id=None, auto_offset_reset="earliest",
                                 max_partition_fetch_bytes=2**24, **options)  # fmt: skip
        except KafkaError as error:
            raise BrokerError(f"cannot reach Kafka at {kafka}: {error}; is it running, is the address right?") from None

    source.tables = _topic(source, consumer, topic, stretch, wanted, judge_with, silence_ms)
    return source


def _topic(
    source: Source, connect: Callable[[], Any], topic: str, stretch: Stretch, wanted: Filter, judge_with: Judge,
    silence_ms: int,
) -> Iterator[pa.Table]:  # fmt: skip
    consumer = connect()
    try:
        parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        if not parts:
            raise DataError(f"Kafka has no topic {topic}")
        consumer.assign(parts)
        _seek(consumer, parts, stretch)
        for records in _records(consumer, parts, stretch, silence_ms):
            yield from _messages(source, records, wanted, judge_with)
    except KafkaError as error:
        raise BrokerError(f"reading {topic} failed: {error}") from None
    finally:
        consumer.close()


def _seek(consumer: Any, parts: list[Any], stretch: Stretch) -> None:
    if stretch.first_offset is not None:
        for part, end in consumer.end_offsets(parts).items():
            consumer.seek(part, min(stretch.first_offset, end))  # beyond its end it would be read from its begin
    elif stretch.since is not None:
        at = int(stretch.since.timestamp() * 1000)
        found = consumer.offsets_for_times(dict.fromkeys(parts, at))
        for part in parts:
            consumer.seek(part, found[part].offset) if found.get(part) else consumer.seek_to_end(part)
    else:
        consumer.seek_to_beginning(*parts)


def _records(consumer: Any, parts: list[Any], stretch: Stretch, silence_ms: int) -> Iterator[list[Any]]:
    """The records of a stretch, up to where each partition stood when it was first read.

    Ends are what comes with the records: asked for ends, the embedded broker names the begin of the last batch.
    """
    reading, ends = set(parts), dict[Any, int]()
    while reading and (found := consumer.poll(silence_ms, max_records=RECORDS)):
        for part in tuple(reading):
            stands = consumer.highwater(part)
            if stands is None:
                continue
            end = ends.setdefault(part, stands if stretch.end_offset is None else min(stands, stretch.end_offset))
            if consumer.position(part) >= end:
                consumer.pause(part)
                reading.remove(part)
        together = itertools.chain.from_iterable(found.values())
        yield [record for record in together if _within(record, stretch, ends[_part(record)])]


def _part(record: Any) -> Any:
    return TopicPartition(record.topic, record.partition)


def _within(record: Any, stretch: Stretch, end: int) -> bool:
    """Whether a record is of the stretch; a broker may give earlier ones than those that were asked for."""
    return (
        (stretch.first_offset or 0) <= record.offset < end
        and (stretch.since is None or record.timestamp >= stretch.since.timestamp() * 1000)
        and (stretch.until is None or record.timestamp < stretch.until.timestamp() * 1000)
    )


def _messages(source: Source, records: list[Any], wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    scored, raw = [], []
    for record in records:
        try:
            scored.append(decode_scored(record.value))
        except ContractError:
            at = datetime.fromtimestamp(max(record.timestamp, 0) / 1000, UTC)
            raw.append(Message(Origin(record.topic, record.partition, record.offset), at, record.key, record.value))
    if scored:
        yield from _given(table_of(scored), wanted, judge_with)
    yield from _judged(source, raw, wanted, judge_with)
