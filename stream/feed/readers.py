"""Files of articles: JSON Lines, CSV and Parquet. No row is dropped: what is no article is yielded as a `BadRow`."""

import codecs
import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from crosswind.errors import ContractError, DataError, Reason
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.feed.rows import ENTITY_SEPARATOR, FIELDS, REQUIRED, AnyRow, BadRow, from_fields, from_line

COUNTED_BYTES = 64 * 1024 * 1024
"""Larger files are not read once more only to know how long a progress bar is."""


MAX_LINE = 2 * MAX_MESSAGE
"""Bytes of a line that are read; a line that reaches it is too large in any case."""


def read(path: Path) -> Iterator[AnyRow]:
    """The rows of a file, in its order; the format is told by the file's name.

    Raises:
        DataError: the file is not there, of an unknown kind, damaged, or has not the columns of an article.
    """
    reader = _reader(path)
    if not path.is_file():
        raise DataError(f"{path} is not a file; expected .jsonl, .csv or .parquet, or 'sample' for the bundled feed")
    return _guarded(path, reader)


def count_rows(path: Path) -> int | None:
    """How many rows a file has, None when that is not known without reading a large file.

    Raises:
        DataError: the file is damaged.
    """
    kind = _kind(path)
    with _said(path):
        if kind == ".parquet":
            return int(pq.read_metadata(path).num_rows)
        if kind == ".csv" or path.stat().st_size > COUNTED_BYTES:
            return None
        with open_binary(path) as file:
            return sum(1 for line in _lines(file) if line.strip())


def open_binary(path: Path) -> BinaryIO:
    """The file's bytes, unpacked where it is a .gz."""
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    return path.open("rb")


def read_jsonl(path: Path) -> Iterator[AnyRow]:
    """JSON Lines: `value` is the original line without its line end. Blank lines are no rows."""
    with open_binary(path) as file:
        for number, line in enumerate(_lines(file), 1):
            value = line.rstrip(b"\r\n")
            if number == 1:
                value = value.removeprefix(codecs.BOM_UTF8)
            if value.strip():
                yield from_line(number, value)


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Lines; of one that is longer than any message only the head, so that a file without line ends fits in memory."""
    while line := file.readline(MAX_LINE):
        yield line
        while not line.endswith(b"\n") and (line := file.readline(MAX_LINE)):
            continue


def read_csv(path: Path) -> Iterator[AnyRow]:
    """CSV with a header line; `entities` are separated by `|`. Empty cells are absent values.

    Raises:
        DataError: the header lacks a required column.
    """
    csv.field_size_limit(MAX_MESSAGE)
    with open_binary(path) as file:
        lines = _Lines(file)
        rows = csv.reader(lines, strict=True)
        header = [name.strip() for name in next(rows, [])]
        missing = [name for name in REQUIRED if name not in header]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; the first line must name {', '.join(FIELDS)}")
        while True:
            line = lines.number + 1
            lines.taken.clear()
            try:
                cells = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                yield BadRow(line, lines.original(), ContractError(Reason.BAD_ROW, f"line {line}: {error}"))
                continue
            if cells:
                yield _csv_row(line, header, cells, lines.original())


def _csv_row(line: int, header: list[str], cells: list[str], original: bytes) -> AnyRow:
    if len(cells) != len(header):
        message = f"line {line} has {len(cells)} columns; the header has {len(header)}"
        return BadRow(line, original, ContractError(Reason.BAD_ROW, message))
    try:
        original.decode("utf-8")
    except UnicodeDecodeError:
        return BadRow(line, original, ContractError(Reason.BAD_UTF8, f"line {line} is not UTF-8"))
    fields: dict[str, object] = {name: cell for name, cell in zip(header, cells) if cell.strip()}
    if isinstance(names := fields.get("entities"), str):
        fields["entities"] = [name.strip() for name in names.split(ENTITY_SEPARATOR) if name.strip()]
    return from_fields(line, fields, original)


class _Lines:
    """Lines of text for the csv module that remembers the bytes it was fed, so that a bad row is kept as it was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = _lines(file)
        self.number = 0
        self.taken: list[bytes] = []

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.number += 1
        if self.number == 1:  # before the csv module sees it: a quote after the mark would be part of a name
            line = line.removeprefix(codecs.BOM_UTF8)
        self.taken.append(line)
        return line.decode("utf-8", "surrogateescape")

    def original(self) -> bytes:
        return b"".join(self.taken).rstrip(b"\r\n")


def read_parquet(path: Path) -> Iterator[AnyRow]:
    """Parquet with columns named as in `FIELDS`; `published_at` is a timestamp with time zone, or RFC 3339 text. Parts
    of a microsecond are cut off.

    Raises:
        DataError: a required column is missing, or the timestamps have no time zone.
    """
    with pq.ParquetFile(path) as file:
        schema = file.schema_arrow
        missing = [name for name in REQUIRED if name not in schema.names]
        if missing:
            raise DataError(f"{path}: no column {', '.join(missing)}; expected {', '.join(FIELDS)}")
        kind = schema.field("published_at").type
        if pa.types.is_timestamp(kind) and kind.tz is None:
            raise DataError(f"{path}: published_at has no time zone; write it as timestamp('us', tz='UTC')")
        number = 0
        columns = [name for name in FIELDS if name in schema.names]
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for fields in _values(batch):
                number += 1
                yield from_fields(number, fields, json.dumps(fields, default=str, ensure_ascii=False).encode())


def _values(batch: pa.RecordBatch) -> Iterator[dict[str, Any]]:
    """The rows as Python values; a time that Python's calendar does not have is left a number, which is no time."""
    place = batch.schema.get_field_index("published_at")
    times = batch.column(place)
    if not pa.types.is_timestamp(times.type):
        yield from batch.to_pylist()
        return
    others = batch.drop_columns(["published_at"]).to_pylist()
    for fields, moment in zip(others, times):
        yield {**fields, "published_at": _moment(moment)}


def _moment(value: pa.TimestampScalar) -> datetime | int | None:
    if not value.is_valid:
        return None
    unit = _PER_SECOND[value.type.unit]
    try:
        return _EPOCH + timedelta(seconds=value.value // unit, microseconds=value.value % unit * 1_000_000 // unit)
    except OverflowError:
        return int(value.value)


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}

_READERS: dict[str, Callable[[Path], Iterator[AnyRow]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".parquet": read_parquet,
}


def _kind(path: Path) -> str:
    suffixes = path.suffixes
    return suffixes[-2].lower() if len(suffixes) > 1 and suffixes[-1] == ".gz" else path.suffix.lower()


def _reader(path: Path) -> Callable[[Path], Iterator[AnyRow]]:
    kind = _kind(path)
    if kind not in _READERS or (kind == ".parquet" and path.suffix == ".gz"):
        raise DataError(f"{path}: unknown kind; expected .jsonl or .csv (each may be .gz), .parquet, or 'sample'")
    return _READERS[kind]


def _guarded(path: Path, reader: Callable[[Path], Iterator[AnyRow]]) -> Iterator[AnyRow]:
    with _said(path):
        yield from reader(path)


@contextlib.contextmanager
def _said(path: Path) -> Iterator[None]:
    """What a damaged file makes its reader raise, said as one line of ours."""
    try:
        yield
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, csv.Error, pa.ArrowException) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path} cannot be read to its end: {cause}; is it complete?") from error
