"""GDELT's Global Knowledge Graph 2.1: files of 27 tab-separated columns, one line per article.

The columns are described in the GDELT project's "Global Knowledge Graph (GKG) Data Format Codebook V2.1". Used here:
V2.1DATE (the 15-minute slot, UTC), V2SOURCECOMMONNAME, V2DOCUMENTIDENTIFIER (the address), V1ORGANIZATIONS,
V2.1TRANSLATIONINFO (the original language) and, from V2EXTRASXML, PAGE_TITLE.
"""

import gzip
import html
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, cast

from crosswind.errors import ContractError, DataError, Reason
from crosswind.stream.adapters.kafka.topics import MAX_MESSAGE
from crosswind.stream.feed.rows import AnyRow, BadRow, from_fields

COLUMNS = 27
RECORD_ID, DATE, SOURCE, ADDRESS, ORGANIZATIONS, TRANSLATION, EXTRAS = 0, 1, 3, 4, 13, 25, 26
"""Places of the columns that are used, from 0."""

MAX_ORGANIZATIONS = 20
"""GDELT names dozens on long pages; a watched entity is named early."""

_TITLE = re.compile(r"<PAGE_TITLE>(.*?)</PAGE_TITLE>", re.DOTALL)
_SOURCE_LANGUAGE = re.compile(r"\bsrclc:([a-z]{3})")
_TWO_LETTERS = {
    "ara": "ar", "chi": "zh", "zho": "zh", "deu": "de", "ger": "de", "fra": "fr", "fre": "fr", "hin": "hi",
    "ind": "id", "ita": "it", "jpn": "ja", "kor": "ko", "nld": "nl", "dut": "nl", "por": "pt", "rus": "ru",
    "spa": "es", "swe": "sv", "tha": "th", "tur": "tr", "vie": "vi", "eng": "en",
}  # fmt: skip
"""GDELT's three letters to the two that Crosswind uses; other languages are left to detection."""


def read_gdelt(path: Path) -> Iterator[AnyRow]:
    """The articles of a GKG 2.1 file (.csv, also in .zip as GDELT publishes it, or .gz).

    A line without a title or of another shape is a `BadRow`. Bytes that are not UTF-8, which GDELT's files contain,
    are replaced.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with _open(path) as file:
            number = 0
            while line := file.readline(MAX_MESSAGE):
                number += 1
                if line.strip():
                    yield _row(number, line.rstrip(b"\r\n"))
    except (OSError, EOFError, ValueError, RuntimeError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(f"{path} cannot be read: {error}; expected a GDELT GKG 2.1 file (.csv, .csv.zip)") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return io.BufferedReader(gzip.GzipFile(path, "rb"))
    if path.suffix != ".zip":
        return path.open("rb")
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise DataError(f"{path} holds {len(names)} files; a GDELT archive holds one")
        return cast(BinaryIO, archive.open(names[0]))


def _row(number: int, line: bytes) -> AnyRow:
    cells = line.decode("utf-8", "replace").split("\t")
    if len(cells) != COLUMNS:
        message = f"line {number} has {len(cells)} columns; GKG 2.1 has {COLUMNS}"
        return BadRow(number, line, ContractError(Reason.BAD_ROW, message))
    title = _TITLE.search(cells[EXTRAS])
    if title is None:
        return BadRow(number, line, ContractError(Reason.EMPTY_TEXT, f"line {number} has no PAGE_TITLE"))
    published_at = _moment(cells[DATE])
    if published_at is None:
        return BadRow(number, line, ContractError(Reason.BAD_FIELD, f"line {number}: DATE is not YYYYMMDDHHMMSS"))
    fields = {
        "source": cells[SOURCE] or "gdelt",
        "title": html.unescape(title[1]).strip(),
        "published_at": published_at,
        "id": cells[RECORD_ID] or None,
        "url": cells[ADDRESS] or None,
        "lang": _language(cells[TRANSLATION]),
        "entities": list(dict.fromkeys(name for name in cells[ORGANIZATIONS].split(";") if name))[:MAX_ORGANIZATIONS],
    }
    return from_fields(number, fields, line)


def _moment(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _language(translation: str) -> str | None:
    """The article's own language: pages that were not translated are English."""
    match = _SOURCE_LANGUAGE.search(translation)
    if match is None:
        return None if translation.strip() else "en"
    return _TWO_LETTERS.get(match[1])
