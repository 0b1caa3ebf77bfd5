"""The data that may shape shipped weights, and how each file is read and split.

Files marked non-commercial have no entry here: a source that is not in the table cannot train.
"""

import gzip
import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from crosswind.errors import DataError
from crosswind.models.rows import Row

Part = Literal["train", "validation", "test"]
PARTS: Final[tuple[Part, ...]] = ("train", "validation", "test")


@dataclass(frozen=True)
class Source:
    """One file of labelled text.

    `cap` bounds the rows of one epoch, shared evenly between the sentiments; `weight` scales their loss. `held_out`
    says whether a validation and a test part are kept from training. `labels` limits which rows are read.
    """

    name: str
    languages: tuple[str, ...]
    licence: str
    domain: Literal["financial", "general"]
    weight: float
    cap: int
    held_out: bool = False
    labels: tuple[str, ...] = ("positive", "neutral", "negative")
    notes: str = ""

    @property
    def file(self) -> str:
        """Path inside the data folder."""
        return f"train/{self.name}.jsonl.gz"


# The weights follow a measurement: the more general news was in training, the more foreign financial news was called
# neutral. General rows therefore come in only with a clear tone, few and light.
TONE: Final = ("positive", "negative")
SOURCES: Final = (
    Source("sentfin_en", ("en",), "MIT", "financial", 1.0, 7000, held_out=True, notes="entities agree"),
    Source("cnbc_id", ("id",), "MIT", "financial", 1.0, 7000, held_out=True, notes="labelled by hand"),
    Source("ews_ja", ("ja",), "CC BY 4.0", "financial", 1.0, 7000, held_out=True, notes="split by date"),
    Source("twitter_fin_news_en", ("en",), "MIT", "financial", 1.0, 5000, notes="MIT per its card"),
    Source("chabsa_ja", ("ja",), "CC BY 4.0", "financial", 0.5, 2400, notes="no opinion is given as neutral"),
    Source("gerntsa_de", ("de",), "CC BY 4.0", "general", 0.3, 400, labels=TONE, notes="news, by target"),
    Source("rusentne_news_ru", ("ru",), "MIT", "general", 0.3, 400, labels=TONE, notes="news, by entity"),
)
# Trains never: a benchmark for the pipeline and the model alone.
NON_COMMERCIAL: Final = ("multifin", "fpb_en")


PARALLEL: Final = "ntrex128"
PARALLEL_LICENCES: Final = {PARALLEL: "CC BY-SA 4.0", "tatoeba_laser": "CC BY 2.0 FR"}
KEPT_BACK: Final = 1000
"""Even sentences of ntrex128 below this number judge stories, or what weighs their evidence; no model learns them."""


def kept_back(sentence: str) -> bool:
    """Whether a sentence, by its id in the parallel files, is kept from training; see `KEPT_BACK`."""
    name, _, number = sentence.rpartition(":")
    return name == PARALLEL and int(number) % 2 == 0 and int(number) < KEPT_BACK


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a gzipped JSON Lines file.

    Raises:
        DataError: the file is not there, or a line is not a JSON object.
    """
    if not path.is_file():
        raise DataError(f"{path.name} is missing: point --data at the folder that holds train/ and parallel/")
    decoder = msgspec.json.Decoder(dict[str, Any])
    with gzip.open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                yield decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DataError(f"{path.name}:{number}: {error}") from error


def clean(text: str) -> str:
    """Whitespace runs to one space, ends stripped."""
    return " ".join(text.split())


def read_source(source: Source, data: Path, seed: int = 0) -> dict[Part, list[Row]]:
    """Read a source and split it by text group: rows whose text carries conflicting labels are dropped.

    Splits: the publisher's `valid`/`test` part where there is one, else a tenth each by a hash of the text.
    """
    rows: dict[str, tuple[Row, str | None]] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for raw in read_jsonl(data / source.file):
        text, sentiment = clean(str(raw["text"])), raw["sentiment"]
        if not text or sentiment is None or len(text) > 600:
            continue
        labels[text].add(sentiment)
        row = Row(
            text=text, lang=raw["lang"], source=source.name, sentiment=sentiment, weight=source.weight, group=text
        )
        rows[text] = (row, raw.get("split"))
    consistent = [(r, s) for t, (r, s) in rows.items() if len(labels[t]) == 1 and r.sentiment in source.labels]
    published = any(s in ("valid", "test") for _, s in consistent)
    parts: dict[Part, list[Row]] = {part: [] for part in PARTS}
    for row, split in consistent:
        parts[_part(source, row.group, split, published, seed)].append(row)
    return parts


def _part(source: Source, group: str, split: str | None, published: bool, seed: int) -> Part:
    if not source.held_out:
        return "train"
    tenth = bucket(group, seed)
    if published:
        # The publisher's one held-out part is the test; validation comes out of its training part.
        return "test" if split in ("valid", "test") else ("validation" if tenth == 0 and bucket(group, seed + 1) < 4
                                                          else "train")  # fmt: skip
    return "test" if tenth == 1 else "validation" if tenth == 0 else "train"


def bucket(group: str, seed: int, buckets: int = 10) -> int:
    """A stable bucket of a group, 0 to `buckets` - 1."""
    digest = hashlib.blake2b(f"{seed}:{group}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % buckets


def balanced(rows: Sequence[Row], cap: int, rng: random.Random, key: Callable[[Row], str]) -> list[Row]:
    """At most `cap` rows, drawn so that the classes of `key` come as evenly as their numbers allow."""
    by_class: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_class[key(row)].append(row)
    for members in by_class.values():
        rng.shuffle(members)
    chosen: list[Row] = []
    classes = sorted(by_class, key=lambda c: len(by_class[c]))
    for i, name in enumerate(classes):
        share = (cap - len(chosen)) // (len(classes) - i)
        chosen += by_class[name][:share]
    return chosen


def licences(names: Iterable[str]) -> list[dict[str, Any]]:
    """The manifest's data list for the sources of that name, in the table's order."""
    wanted = set(names)
    return [
        {"name": s.name, "licence": s.licence, "languages": list(s.languages), "domain": s.domain}
        for s in SOURCES
        if s.name in wanted
    ]


def class_counts(rows: Iterable[Row], task: str) -> Counter[str]:
    """How many rows carry each label of a task."""
    return Counter(label for row in rows if (label := row.label(task)) is not None)
