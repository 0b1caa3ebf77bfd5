"""Scored articles as Arrow columns: what every source of a replay becomes, and what the engine reads."""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crosswind.errors import DataError
from crosswind.stream.domain.article import PPM, Article, Origin, Score, ScoredArticle, Sentiment
from crosswind.stream.domain.identity import article_id, title_key

TIME = pa.timestamp("us", tz="UTC")
TEXT = pa.string()
SCHEMA = pa.schema([
    ("article_id", pa.string()), ("source", pa.string()), ("title", pa.string()), ("body", pa.string()),
    ("url", pa.string()), ("lang", pa.string()), ("published_at", TIME), ("first_seen_at", TIME),
    ("entities", pa.list_(pa.string())), ("title_key", pa.string()), ("topic", pa.string()),
    ("sentiment", pa.string()), ("negative_ppm", pa.int32()), ("neutral_ppm", pa.int32()),
    ("positive_ppm", pa.int32()), ("topic_ppm", pa.int32()), ("unsure", pa.bool_()), ("model", pa.string()),
    ("given_id", pa.string()), ("meaning", pa.binary()),
])  # fmt: skip
"""One row per scored article; times in microseconds, UTC. `given_id` is the source's own id, where it is known,
`meaning` what the model says the article means (`stories.meaning`), where it does."""

NEEDED = ("published_at", "topic", "sentiment")
"""Columns without which a row is no scored article; the others have stand-ins (see `normalise`)."""
WANTED = "wanted"
"""A further column of what sources give: whether the row passes the filters. Without it all do."""
GIVEN = "given"
"""The model's name of scores that came without one."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which articles of a source are replayed; None and empty tuples mean any.

    Attributes:
        since, until: event time, `until` excluded.
        as_of: only what had been received by then, and of each article the newest version of then; None: the first.
    """

    since: datetime | None = None
    until: datetime | None = None
    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    as_of: datetime | None = None

    def apply(self, table: pa.Table) -> pa.Table:
        """The rows that had been received, with a column `WANTED` where more is asked.

        What else is asked is asked of an article's version that counts, which is known when all have been seen.
        """
        if self.as_of is not None:
            table = table.filter(pc.less_equal(table["first_seen_at"], pa.scalar(self.as_of, TIME)))
        masks = self._masks(table)
        if not masks:
            return table
        together = masks[0]
        for mask in masks[1:]:
            together = pc.and_(together, mask)
        return table.append_column(WANTED, together)

    def _masks(self, table: pa.Table) -> list[Any]:
        masks = []
        if self.since is not None:
            masks.append(pc.greater_equal(table["published_at"], pa.scalar(self.since, TIME)))
        if self.until is not None:
            masks.append(pc.less(table["published_at"], pa.scalar(self.until, TIME)))
        for name, wanted in (("topic", self.topics), ("lang", self.langs), ("source", self.sources)):
            if wanted:
                masks.append(pc.is_in(table[name], pa.array(wanted, pa.string())))
        return masks


def check_columns(names: Collection[str]) -> None:
    """Whether rows with these columns can be scored articles.

    Raises:
        DataError: a column of `NEEDED` is missing.
    """
    missing = [name for name in NEEDED if name not in names]
    if missing:
        raise DataError(f"no column {', '.join(missing)}; scored articles need {', '.join(NEEDED)}")


def normalise(table: pa.Table) -> tuple[pa.Table, int]:
    """Columns of scored articles, completed and typed as in `SCHEMA`; and how many rows were not usable.

    Stand-ins, also in rows that lack what others have: `first_seen_at` is `published_at`; `article_id` and `title_key`
    are those of validation; `negative_ppm` is 900,000 for negative articles, 50,000 for others; `lang` is `und`;
    `model` is `given`.

    Raises:
        DataError: a column of `NEEDED` is missing, or a time cannot be read.
    """
    check_columns(table.column_names)
    columns = {name: table[name] for name in table.column_names if name in SCHEMA.names or name == "id"}
    columns["published_at"] = _times(columns["published_at"], "published_at")
    usable = pc.and_(pc.is_valid(columns["published_at"]), pc.is_valid(columns["topic"]))
    known = pc.is_in(columns["sentiment"], pa.array([s.value for s in Sentiment]))
    usable = pc.fill_null(pc.and_(pc.and_(usable, known), _are_shares(columns, len(table))), False)
    bad = len(table) - int(pc.sum(usable).as_py() or 0)
    if bad:
        columns = {name: column.filter(usable) for name, column in columns.items()}
    return _complete(columns, len(table) - bad), bad


def _complete(columns: dict[str, Any], rows: int) -> pa.Table:
    seen = _times(columns["first_seen_at"], "first_seen_at") if "first_seen_at" in columns else columns["published_at"]
    columns["first_seen_at"] = pc.coalesce(seen, columns["published_at"])
    for name in ("source", "title", "body"):
        columns[name] = _filled(columns.get(name), "", rows)
    columns["lang"] = _filled(columns.get("lang"), "und", rows)
    columns["model"] = _filled(columns.get("model"), GIVEN, rows)
    columns["url"] = columns.get("url", pa.nulls(rows, pa.string()))
    columns["unsure"] = _filled(columns.get("unsure"), False, rows, pa.bool_())
    columns["entities"] = _entities(columns.get("entities"), rows)
    columns |= _shares(columns, rows)
    columns["topic_ppm"] = _filled(columns.get("topic_ppm"), PPM, rows, pa.int64())
    meaning = columns.get("meaning")
    packed = meaning is not None and (pa.types.is_binary(meaning.type) or pa.types.is_large_binary(meaning.type))
    columns["meaning"] = meaning if packed else pa.nulls(rows, pa.binary())
    given = [pc.cast(columns[name], pa.string()) for name in ("given_id", "id") if name in columns]
    columns["given_id"] = pc.coalesce(*given) if given else pa.nulls(rows, pa.string())
    columns["title_key"] = _worked_out(columns, "title_key", rows, _title_keys)
    columns["article_id"] = _worked_out(columns, "article_id", rows, _identities)
    return pa.table({name: pc.cast(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}, schema=SCHEMA)


def _are_shares(columns: dict[str, Any], rows: int) -> Any:
    """Whether the probabilities of a row that are given can be some."""
    fit: Any = pa.array([True] * rows)
    for name in (*(f"{mood}_ppm" for mood in Sentiment), "topic_ppm"):
        if (given := columns.get(name)) is not None:
            given = pc.cast(given, pa.int64())
            within = pc.and_(pc.greater_equal(given, 0), pc.less_equal(given, PPM))
            fit = pc.and_(fit, pc.fill_null(within, True))
    return fit


def _shares(columns: dict[str, Any], rows: int) -> dict[str, Any]:
    """The probabilities of the sentiments; what stands in for one that is not given takes what the given ones leave."""
    given = {mood: columns.get(f"{mood}_ppm", pa.nulls(rows, pa.int64())) for mood in Sentiment}
    given = {mood: pc.cast(column, pa.int64()) for mood, column in given.items()}
    left: Any = PPM
    for column in given.values():
        left = pc.subtract(left, pc.fill_null(column, 0))
    found = {}
    for mood in (Sentiment.NEGATIVE, Sentiment.POSITIVE):
        stand_in = pc.if_else(pc.equal(columns["sentiment"], mood.value), PPM * 9 // 10, PPM // 20)
        stand_in = pc.max_element_wise(pc.min_element_wise(stand_in, left), 0)
        found[f"{mood}_ppm"] = pc.coalesce(given[mood], stand_in)
        left = pc.subtract(left, pc.if_else(pc.is_valid(given[mood]), 0, stand_in))
    left = pc.max_element_wise(left, 0)
    found["neutral_ppm"] = pc.coalesce(given[Sentiment.NEUTRAL], left)
    # Where that one is given, the rest is the row's own sentiment's, or of what else is not given.
    bad, good = (pc.is_null(given[mood]) for mood in (Sentiment.NEGATIVE, Sentiment.POSITIVE))
    spare = pc.if_else(pc.is_valid(given[Sentiment.NEUTRAL]), left, 0)
    to_bad = pc.and_(bad, pc.or_(pc.invert(good), pc.equal(columns["sentiment"], Sentiment.NEGATIVE.value)))
    found["negative_ppm"] = pc.add(found["negative_ppm"], pc.if_else(to_bad, spare, 0))
    to_good = pc.and_(good, pc.invert(to_bad))
    found["positive_ppm"] = pc.add(found["positive_ppm"], pc.if_else(to_good, spare, 0))
    return found


def _times(column: Any, name: str) -> Any:
    try:
        if pa.types.is_timestamp(column.type) and column.type.tz is None:
            raise DataError(f"{name} has no time zone; write it as timestamp('us', tz='UTC') or 2026-11-06T10:00:00Z")
        return pc.cast(column, TIME, safe=False) if pa.types.is_timestamp(column.type) else pc.cast(column, TIME)
    except pa.ArrowException as error:
        raise DataError(f"{name} cannot be read: {error}; expected RFC 3339, e.g. 2026-11-06T10:00:00Z") from None


def _filled(column: Any, value: Any, rows: int, kind: pa.DataType = TEXT) -> Any:
    if column is None:
        return pa.array([value] * rows, kind)
    return pc.fill_null(pc.cast(column, kind), value)


def _worked_out(
    columns: dict[str, Any], name: str, rows: int, work_out: Callable[[dict[str, Any], int], pa.Array]
) -> Any:  # fmt: skip
    """A column that validation works out, where it is not given."""
    if name in columns and columns[name].null_count == 0:
        return columns[name]
    found = work_out(columns, rows)
    return pc.coalesce(pc.cast(columns[name], TEXT), found) if name in columns else found


def _title_keys(columns: dict[str, Any], rows: int) -> pa.Array:
    return pa.array([title_key(title) for title in columns["title"].to_pylist()], TEXT)


def _entities(column: Any, rows: int) -> Any:
    """Lists; text is cut at `|`, as in CSV files."""
    if column is None or pa.types.is_null(column.type):
        return pa.array([[]] * rows, pa.list_(pa.string()))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        cut = [[name.strip() for name in (cell or "").split("|") if name.strip()] for cell in column.to_pylist()]
        return pa.array(cut, pa.list_(pa.string()))
    return (
        column
        if column.null_count == 0
        else pa.array([cell or [] for cell in column.to_pylist()], pa.list_(pa.string()))
    )


def _identities(columns: dict[str, Any], rows: int) -> pa.Array:
    given = columns["id"].to_pylist() if "id" in columns else [None] * rows
    names = ("source", "title", "body", "url", "published_at")
    each = zip(given, *(columns[name].to_pylist() for name in names), strict=True)
    return pa.array([
        article_id(source=source, given=ident, title=title, body=body, url=url, published_at=at)
        for ident, source, title, body, url, at in each
    ], pa.string())  # fmt: skip


def table_of(rows: Sequence[ScoredArticle]) -> pa.Table:
    """Columns of scored articles."""
    flat = [
        {**{name: getattr(row.article, name) for name in SCHEMA.names if hasattr(row.article, name)},
         **{name: getattr(row.score, name) for name in SCHEMA.names if hasattr(row.score, name)},
         "entities": list(row.article.entities), "sentiment": row.score.sentiment.value,
         "meaning": row.score.meaning or None}
        for row in rows
    ]  # fmt: skip
    return pa.Table.from_pylist(flat, schema=SCHEMA)


def articles_of(table: pa.Table, topic: str, first: int = 0) -> Iterator[ScoredArticle]:
    """Scored articles from columns; the origin of row n is offset `first` + n of `topic`."""
    for number, row in enumerate(table.to_pylist(), first):
        yield ScoredArticle(
            Article(
                row["article_id"], row["source"], row["title"], row["body"], row["url"], row["lang"],
                row["published_at"].astimezone(UTC), row["first_seen_at"].astimezone(UTC), tuple(row["entities"]),
                row["title_key"], Origin(topic, 0, number),
            ),
            Score(
                row["topic"], Sentiment(row["sentiment"]), row["negative_ppm"], row["neutral_ppm"],
                row["positive_ppm"], row["topic_ppm"], row["unsure"], row["model"],
                row["meaning"] or b"",
            ),
        )  # fmt: skip
