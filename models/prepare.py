"""`crosswind data prepare`: anyone's file to clean, deduplicated, split rows and a data card.

The output is what `crosswind train --extra` and `crosswind evaluate` read: JSON Lines with `text`, `lang`, `topic`,
`sentiment`, `source`, one file per part.
"""

import csv
import gzip
import html
import io
import json
import random
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from crosswind.errors import DataError
from crosswind.models.duplicates import fold, near_duplicates
from crosswind.models.rows import Row
from crosswind.models.sources import PARTS, Part
from crosswind.models.taxonomy import SENTIMENTS, TOPICS
from crosswind.stream.domain.normalise import language_code

LABELS: Final[Mapping[str, tuple[str, ...]]] = {"topic": TOPICS, "sentiment": SENTIMENTS}
# Elements of HTML, of now and before. Neither `EPS<Peer average but P/E>20` nor `A<B and C>D` holds a tag.
ELEMENTS: Final = (
    "a|abbr|acronym|address|article|aside|audio|b|base|big|blockquote|body|br|button|caption|center|cite|code|col|dd|"
    "del|details|dfn|dir|div|dl|dt|em|embed|fieldset|figcaption|figure|font|footer|form|frame|h1|h2|h3|h4|h5|h6|head|"
    "header|hr|html|i|iframe|img|input|ins|kbd|label|legend|li|link|main|map|mark|menu|meta|nav|noscript|object|o:p|ol|"
    "option|p|param|picture|pre|q|s|samp|script|section|select|small|source|span|strike|strong|style|sub|summary|sup|"
    "svg|table|tbody|td|template|textarea|tfoot|th|thead|time|title|tr|tt|u|ul|var|video|wbr"
)
TAG: Final = re.compile(
    r"<(script|style)\b.*?</\1\s*>|<!--.*?-->|</?(?:" + ELEMENTS + r")(?:\s[^<>=]*=[^<>]*|\s*/?)>",
    re.S | re.I,
)
BOILERPLATE: Final = re.compile(
    r"^\s*(?:\((?:reuters|ap|dpa|afp|bloomberg)\)\s*[-–—:]*|(?:reuters|dpa|afp|bloomberg)\s*[-–—]+)\s*"
    r"|\s*(?:\[?\s*(?:read more|continue reading|weiterlesen|lire la suite|leer más)\s*\]?\s*(?:…|\.\.\.|»|>+)?)\s*$",
    re.I,
)
# Zero-width joiner and non-joiner shape words in Hindi, Persian and others; the rest of the invisible ones are noise.
INVISIBLE: Final = re.compile(r"[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
FIELDS: Final = ("text", "lang", "topic", "sentiment", "source")


@dataclass(frozen=True)
class Prepared:
    """Rows by part, and what happened on the way."""

    parts: dict[Part, list[Row]]
    counts: dict[str, int] = field(default_factory=dict)


def clean(text: str) -> str:
    """A headline as the model sees it: no markup, entities, boilerplate or invisible marks, NFC, single spaces."""
    plain = INVISIBLE.sub("", TAG.sub(" ", html.unescape(text)))
    return " ".join(BOILERPLATE.sub("", " ".join(unicodedata.normalize("NFC", plain).split())).split())


def read_table(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL, CSV, TSV or Parquet file (the first three also gzipped).

    Raises:
        DataError: it is missing, of another kind, malformed, or cut off.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    kind = path.name.removesuffix(".gz").rsplit(".", 1)[-1].lower()
    if kind not in ("jsonl", "ndjson", "csv", "tsv", "parquet"):
        raise DataError(f"{path.name}: expected .jsonl, .csv, .tsv or .parquet")
    try:
        yield from _parquet(path) if kind == "parquet" else _text(path, kind)
    except (OSError, EOFError, zlib.error) as error:
        cause = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path.name} cannot be read to its end: {cause}; is it complete?") from error


def _parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise OSError(error) from error


def _text(path: Path, kind: str) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as raw:
        if kind in ("jsonl", "ndjson"):
            yield from _json_lines(path.name, raw)
        else:
            text = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
            yield from _separated(path.name, text, "\t" if kind == "tsv" else ",")


def _json_lines(name: str, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    decoder = msgspec.json.Decoder(dict[str, Any])
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DataError(f"{name}:{number}: {error}") from error


def _separated(name: str, lines: Iterable[str], delimiter: str) -> Iterator[dict[str, Any]]:
    try:
        yield from csv.DictReader(lines, delimiter=delimiter, strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{name}: {error}") from error


def to_rows(
    raw: Iterable[Mapping[str, Any]],
    mapping: Mapping[str, str],
    defaults: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    known: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Row]:
    """Map columns to rows; rows without text are left out, and languages are as the feed has them: `en-US` is `en`.

    Args:
        mapping: our field (`text`, `lang`, `topic`, `sentiment`, `source`) to the file's column; a field that is not
            named is read from the column of its own name where there is one.
        defaults: values for fields that a row lacks, for instance a language for the whole file.
        labels: the file's labels to ours, for both tasks ("bullish" to "positive"); to "" where there is none.
        known: the labels that a task may have; any where it is not given.

    Raises:
        DataError: a mapped column is not in the file, nor that of the text in its first row; or a row has no language,
            one that is no tag, or a label that is not known.
    """
    unknown = sorted(set(mapping) - set(FIELDS))
    if unknown:
        raise DataError(f"cannot map {unknown}: the fields are {list(FIELDS)}")
    for number, record in enumerate(raw, 1):
        # Later rows may lack the text; a file of which none has it would give no rows, and nobody would be told.
        needed = [*mapping.values(), *(["text"] if number == 1 and "text" not in mapping else [])]
        missing = [column for column in needed if column not in record]
        if missing:
            hint = "; name the text's: --map text=COLUMN, of `data prepare` and `evaluate`" * ("text" in missing)
            raise DataError(f"row {number}: no column {missing}; the file has {sorted(map(str, record))}{hint}")
        values = {name: _value(record, mapping.get(name, name), (defaults or {}).get(name)) for name in FIELDS}
        text = clean(values["text"] or "")
        if not text:
            continue
        if not values["lang"]:
            raise DataError(f"row {number}: no language; map one with --map lang=COLUMN or set --lang")
        lang = language_code(values["lang"])
        if lang is None:
            raise DataError(f"row {number}: {values['lang']!r} is no language; expected a tag such as en or zh-Hans")
        topic, sentiment = ((labels or {}).get(v, v) or None if v else None
                            for v in (values["topic"], values["sentiment"]))  # fmt: skip
        row = Row(text=text, lang=lang, source=values["source"] or "user", topic=topic, sentiment=sentiment,
                  group=fold(text))  # fmt: skip
        _check_labels(number, row, known or {})
        yield row


def _check_labels(number: int, row: Row, known: Mapping[str, Sequence[str]]) -> None:
    for task, allowed in known.items():
        label = row.label(task)
        if label is not None and label not in allowed:
            raise DataError(
                f"row {number}: {task} {label!r} is not among {', '.join(allowed)}; `crosswind data prepare` takes "
                f"--label '{label}={allowed[0]}' for what it stands for, or --label '{label}=' for no label"
            )


def _value(record: Mapping[str, Any], column: str, default: str | None) -> str | None:
    value = record.get(column)
    return str(value).strip() if value is not None and str(value).strip() else default


def prepare(rows: Iterable[Row], shares: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0) -> Prepared:
    """Drop conflicts and duplicates and split, stratified by language and labels.

    Rows whose folded text is the same form a group: a group with two labels of a task is dropped whole, of the others
    the first row stays, with the labels that it lacks and another has. Groups, not rows, are dealt to the parts; a near
    duplicate across parts leaves the larger part.

    Raises:
        DataError: the shares are not three numbers that add up to 1, or no row is left.
    """
    # Written so that NaN fails.
    if len(shares) != 3 or min(shares) < 0 or not abs(sum(shares) - 1) <= 1e-6:
        raise DataError(f"shares {list(shares)}: expected three numbers that add up to 1")
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.lang, row.group].append(row)
    counts = Counter(rows=sum(len(g) for g in groups.values()))
    singles = [_merged(g) for g in groups.values() if not _conflict(g)]
    conflicting = [g for g in groups.values() if _conflict(g)]
    counts["dropped: conflicting labels"] = sum(len(g) for g in conflicting)
    counts["dropped: exact duplicates"] = counts["rows"] - counts["dropped: conflicting labels"] - len(singles)
    if not singles:
        raise DataError("no row is left after cleaning")
    parts = _deal(singles, shares, random.Random(seed))
    counts["dropped: near duplicates across parts"] = _separate(parts)
    return Prepared(parts, dict(counts))


def _merged(group: Sequence[Row]) -> Row:
    """The first row; a label that it lacks is taken from the others: some files have one row per task."""
    labels = {task: next((label for r in group if (label := r.label(task)) is not None), None) for task in LABELS}
    return msgspec.structs.replace(group[0], **labels)


def _conflict(group: Sequence[Row]) -> bool:
    return any(len({label for r in group if (label := r.label(task)) is not None}) > 1 for task in
               ("topic", "sentiment"))  # fmt: skip


def _deal(rows: Sequence[Row], shares: Sequence[float], rng: random.Random) -> dict[Part, list[Row]]:
    strata: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    for row in rows:
        strata[row.lang, str(row.topic), str(row.sentiment)].append(row)
    parts: dict[Part, list[Row]] = {part: [] for part in PARTS}
    # The quota runs on from stratum to stratum, so that many small ones still add up to the shares asked for.
    owed = [0.0, 0.0, 0.0]
    for key in sorted(strata):
        members = strata[key]
        rng.shuffle(members)
        for row in members:
            owed = [o + s for o, s in zip(owed, shares, strict=True)]
            to = max(range(3), key=lambda i: owed[i])
            owed[to] -= 1
            parts[PARTS[to]].append(row)
    return parts


def _separate(parts: dict[Part, list[Row]]) -> int:
    """Remove from training what is near to validation or test, and from validation what is near to test."""
    dropped = 0
    steps: tuple[tuple[Part, tuple[Part, ...]], ...] = (("validation", ("test",)), ("train", ("validation", "test")))
    for part, others in steps:
        against = [row.text for other in others for row in parts[other]]
        leaks = near_duplicates([row.text for row in parts[part]], against)
        dropped += len(leaks)
        parts[part] = [row for i, row in enumerate(parts[part]) if i not in leaks]
    return dropped


def write(prepared: Prepared, folder: Path, licence: str = "unknown") -> None:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl` and `card.md`; the folder is made where it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in prepared.parts.items():
        lines = [json.dumps({name: getattr(row, name) for name in FIELDS}, ensure_ascii=False) for row in rows]
        (folder / f"{part}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "card.md").write_text(card(prepared, licence), encoding="utf-8")


def card(prepared: Prepared, licence: str) -> str:
    """The data card: what came in, what was dropped, and counts per language, label, source and part."""
    lines = ["# Data card", "", f"Licence: {licence}", "", "| step | rows |", "|---|---:|"]
    lines += [f"| {step} | {n} |" for step, n in prepared.counts.items()]
    for name in ("lang", "source", "topic", "sentiment"):
        tables = {part: Counter(str(getattr(r, name) or "(none)") for r in rows)
                  for part, rows in prepared.parts.items()}  # fmt: skip
        lines += ["", f"| {name} | {' | '.join(PARTS)} |", "|---|" + "---:|" * len(PARTS)]
        for value in sorted(set().union(*tables.values())):
            lines.append(f"| {value} | {' | '.join(str(tables[part][value]) for part in PARTS)} |")
    return "\n".join(lines) + "\n"


def read_prepared(path: Path) -> list[Row]:
    """Rows of a file that `prepare` wrote, or of any JSONL/CSV/Parquet file with the same columns.

    Raises:
        DataError: as `read_table` and `to_rows`, or a label is not of the taxonomy; it names the file.
    """
    try:
        return list(to_rows(read_table(path), {}, known=LABELS))
    except DataError as error:
        if str(error).startswith("row "):
            raise DataError(f"{path}: {error}") from error
        raise
