"""Files of articles, scored or not: JSON Lines, CSV and Parquet; text also packed."""

import bz2
import glob
import gzip
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.dataset as ds
import pyarrow.json as pajson

from crosswind.errors import DataError
from crosswind.stream.domain.article import Origin
from crosswind.stream.feed import sample
from crosswind.stream.feed.readers import read
from crosswind.stream.feed.rows import BadRow
from crosswind.stream.replay.columns import SCHEMA, Filter, check_columns, normalise
from crosswind.stream.replay.judging import SCORED_AT_ONCE, Judge, take_scored, take_unscored
from crosswind.stream.replay.sources import Source
from crosswind.stream.service.scoring import Message

KINDS = (".jsonl", ".ndjson", ".csv", ".parquet")
PACKED = (".gz", ".bz2", ".zst")
ROWS = 65_536
HEAD = 1000
"""Lines of a JSON Lines file that tell its columns: one may lack what others have."""

_NO_TEXT = ("unsure", "meaning", *(name for name in SCHEMA.names if name.endswith("_ppm")))
_TEXT = {name: pa.string() for name in ("id", *SCHEMA.names) if name not in _NO_TEXT}
_NUMBERS = {name: pa.int64() for name in SCHEMA.names if name.endswith("_ppm")}


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
            yield from _unscored_rows(source, path, wanted, judge_with)
            return
        check_columns(names)
        for batch in _batches(path):
            table, bad = normalise(pa.Table.from_batches([batch]))
            source.bad += bad
            yield from take_scored(table, wanted, judge_with)
    except (pa.ArrowException, OSError, EOFError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path} cannot be read to its end: {first}; is it complete?") from None


def _unscored_rows(source: Source, path: Path, wanted: Filter, judge_with: Judge) -> Iterator[pa.Table]:
    """Unscored rows, judged as a worker would that received each when it was published."""
    messages = []
    for row in read(path):
        if isinstance(row, BadRow):
            source.bad += 1
        else:
            messages.append(Message(Origin(str(path), 0, row.line), row.at, row.key, row.value))
        if len(messages) >= SCORED_AT_ONCE:
            yield from take_unscored(source, messages, wanted, judge_with)
            messages = []
    yield from take_unscored(source, messages, wanted, judge_with)


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
