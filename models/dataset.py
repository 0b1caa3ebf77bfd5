"""What a run trains on: the rows of every source, split, without leaks; parallel pairs; their tokens."""

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from crosswind.models import annotations, sources, written
from crosswind.models.duplicates import near_duplicates
from crosswind.models.rows import Row
from crosswind.models.sources import SOURCES, Part, Source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WRITTEN: Final = "written"
# The three-letter codes of tatoeba and the regional ones of ntrex128, for the languages covered.
CODES: Final = {
    "eng": "en",
    "zh-CN": "zh", "cmn": "zh", "jpn": "ja", "kor": "ko", "deu": "de", "nld": "nl", "swe": "sv", "fra": "fr",
    "spa": "es", "ita": "it", "rus": "ru", "lit": "lt", "pol": "pl", "ara": "ar", "hin": "hi", "tur": "tr",
    "vie": "vi", "ind": "id", "tha": "th", "por": "pt", "nb": "no", "nob": "no", "dan": "da", "fin": "fi",
    "ces": "cs", "ukr": "uk", "hun": "hu", "ron": "ro", "ell": "el", "heb": "he", "bul": "bg",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """One meaning in English and in another language."""

    english: str
    foreign: str
    lang: str


@dataclass(frozen=True)
class Split:
    """Rows by part; no text of validation or test has a near duplicate in training."""

    train: list[Row]
    validation: list[Row]
    test: list[Row]
    dropped: dict[str, int]


def gather(
    data: Path | None,
    seed: int = 0,
    fillings: int = 3,
    table: Sequence[Source] = SOURCES,
    langs: set[str] | None = None,
    corpus: Path = written.CORPUS_DIR,
    extra: Sequence[Row] = (),
) -> Split:
    """Read every source, what annotators said of its texts, and the written corpus.

    What is held out is the same whatever the seed: a run on top of another must not train on what that one, or a
    benchmark, is measured with.

    Args:
        data: the folder that holds `train/`; None: there are no sources, only the written corpus and `extra`.
        seed: of the slots' fillings.
        langs: keep only these languages in training and validation, or None for all.
        extra: further training rows, of the user's own.
    """
    parts: dict[Part, list[Row]] = {part: [] for part in sources.PARTS}
    if data is not None:
        _add_public(parts, data, table, corpus)
    for lang in written.languages(corpus):
        for row in written.training_rows(lang, fillings, seed, corpus):
            to: Part = "validation" if sources.bucket(row.group, 0, 20) == 0 else "train"
            parts[to].append(msgspec.structs.replace(row, weight=written.WEIGHT))
    parts["train"] += extra
    if langs is not None:
        parts["train"] = [r for r in parts["train"] if r.lang in langs]
        parts["validation"] = [r for r in parts["validation"] if r.lang in langs]
    return without_leaks(parts)


def _add_public(parts: dict[Part, list[Row]], data: Path, table: Sequence[Source], corpus: Path) -> None:
    labelled = corpus / annotations.FOLDER.name
    for source in table:
        labels = annotations.read(source.name, labelled)
        for part, rows in sources.read_source(source, data).items():
            parts[part] += annotations.annotated(rows, labels) if part == "train" else rows
    if labels := annotations.read(sources.PARALLEL, labelled):
        covered = written.languages(corpus)
        parts["train"] += annotations.parallel_rows(_parallel(data, sources.PARALLEL, covered), labels)


def without_leaks(parts: dict[Part, list[Row]]) -> Split:
    """Drop what training shares with test or validation, and what validation shares with test."""
    test = parts["test"]
    validation = _drop(parts["validation"], test)
    held_out = [*test, *validation]
    train = _drop(parts["train"], held_out)
    dropped = {"train": len(parts["train"]) - len(train), "validation": len(parts["validation"]) - len(validation)}
    return Split(train, validation, test, dropped)


def _drop(rows: list[Row], held_out: list[Row]) -> list[Row]:
    """Rows without a near duplicate in `held_out` of the same language."""
    kept: list[Row] = []
    for lang in sorted({row.lang for row in rows}):
        mine = [row for row in rows if row.lang == lang]
        against = [row.text for row in held_out if row.lang == lang]
        leaks = near_duplicates([row.text for row in mine], against) if against else set()
        kept += [row for i, row in enumerate(mine) if i not in leaks]
    return kept


def read_pairs(data: Path, langs: Sequence[str], per_language: int, seed: int = 0) -> list[Pair]:
    """Parallel pairs of English and each covered language, from ntrex128 and tatoeba_laser, shuffled from the seed.

    Sentences that are kept back to judge stories are left out.
    """
    found: dict[str, list[Pair]] = defaultdict(list)
    for name in sources.PARALLEL_LICENCES:
        told = [one for one in _parallel(data, name, ["en", *langs]) if not sources.kept_back(one[0])]
        english = {i: text for i, lang, text in told if lang == "en"}
        for i, lang, text in told:
            if lang != "en" and i in english and max(len(text), len(english[i])) <= 240:
                found[lang].append(Pair(english[i], text, lang))
    rng = random.Random(seed)
    pairs = [pair for lang in sorted(found) for pair in rng.sample(found[lang], min(per_language, len(found[lang])))]
    rng.shuffle(pairs)
    return pairs


def _parallel(data: Path, name: str, langs: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Id, language and text of the sentences of a parallel file in these languages."""
    for raw in sources.read_jsonl(data / f"parallel/{name}.jsonl.gz"):
        lang = CODES.get(raw["lang"], raw["lang"])
        if lang in langs:
            yield str(raw["id"]), lang, sources.clean(raw["text"])


def encode(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], max_tokens: int) -> list[NDArray[np.int32]]:
    """Token ids of each text, special tokens included, cut at `max_tokens`."""
    encoded = tokenizer(list(texts), truncation=True, max_length=max_tokens, padding=False)["input_ids"]
    return [np.asarray(ids, dtype=np.int32) for ids in encoded]


def epoch_order(rows: Sequence[Row], caps: dict[str, int], rng: random.Random) -> list[int]:
    """Positions of one epoch's rows: every source at most at its cap, evenly over its sentiments."""
    by_source: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(rows):
        by_source[row.source].append(i)
    order: list[int] = []
    for name, positions in by_source.items():
        if len(positions) <= caps.get(name, len(positions)):
            order += positions
            continue
        by_label: dict[str, list[int]] = defaultdict(list)
        for i in positions:
            by_label[str(rows[i].sentiment)].append(i)
        room = caps[name]
        for left, label in zip(range(len(by_label), 0, -1), sorted(by_label, key=lambda k: len(by_label[k])),
                               strict=True):  # fmt: skip
            share = rng.sample(by_label[label], min(len(by_label[label]), room // left))
            order += share
            room -= len(share)
    rng.shuffle(order)
    return order


def batches(order: Sequence[int], lengths: Sequence[int], size: int, rng: random.Random) -> Iterator[list[int]]:
    """Cut an order into batches of rows of about the same length, the batches themselves shuffled.

    Sorting happens inside stretches of 64 batches, so that padding goes and the mixture stays.
    """
    made: list[list[int]] = []
    for start in range(0, len(order), size * 64):
        stretch = sorted(order[start : start + size * 64], key=lambda i: lengths[i])
        made += [stretch[i : i + size] for i in range(0, len(stretch), size)]
    rng.shuffle(made)
    yield from made
