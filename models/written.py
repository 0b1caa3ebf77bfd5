"""The written corpus: headlines of our own, one YAML file per language, their slots filled from a seed."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from crosswind.errors import DataError
from crosswind.models.rows import Row
from crosswind.models.taxonomy import SENTIMENTS, TOPICS

# It alone teaches topics, and sentiment in most languages: its rows pull harder than a publisher's.
WEIGHT: Final = 1.5
CORPUS_DIR: Final = Path(__file__).with_name("corpus")
# Written later, by other hands, each with slots of its own: more situations for training, no test.
MORE: Final = "more"
SLOT: Final = re.compile(r"\{(\w+)\}")

T = TypeVar("T")
Cells = dict[str, dict[str, list[str]]]


class HardCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A single headline in which a word misleads."""

    topic: str
    sentiment: str
    text: str


class Corpus(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One language's file: `patterns` and `hard` train, `test` never does; cells are topic -> sentiment -> lines."""

    lang: str
    slots: dict[str, list[str]]
    patterns: Cells
    test: Cells = {}
    hard: list[HardCase] = []


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Two headlines that differ in the word or phrase that turns good into bad."""

    topic: str
    positive: str
    negative: str


class Pairs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One language's counterfactual file."""

    lang: str
    pairs: list[Pair]


def languages(folder: Path = CORPUS_DIR) -> list[str]:
    """Languages that have a corpus file, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def read_corpus(lang: str, folder: Path = CORPUS_DIR) -> Corpus:
    """Read and check one language's first file.

    Raises:
        DataError: the file is missing or malformed, uses a label or slot that does not exist, or trains on a test line.
    """
    return _checked(folder / f"{lang}.yaml", lang)


def more_files(lang: str, folder: Path = CORPUS_DIR) -> list[Path]:
    """The later files of a language, `more/<lang>.yaml` and `more/<lang>-2.yaml` and so on, in order of name."""
    return sorted([*(folder / MORE).glob(f"{lang}.yaml"), *(folder / MORE).glob(f"{lang}-*.yaml")])


def read_more(lang: str, folder: Path = CORPUS_DIR) -> dict[str, Corpus]:
    """Read and check a language's later files, by the file's stem; empty where it has none.

    Raises:
        DataError: as `read_corpus`, or a line is among the tests of the first file, or it has tests of its own.
    """
    files = more_files(lang, folder)
    if not files:
        return {}
    held_out = {_folded(line) for *_, line in _lines(read_corpus(lang, folder).test)}
    found: dict[str, Corpus] = {}
    for path in files:
        more = _checked(path, lang)
        leaks = [line for line in _training_lines(more) if _folded(line) in held_out]
        if leaks or more.test:
            raise DataError(f"{MORE}/{path.name}: " + (f"test line also trains: {leaks[0]!r}" if leaks else "tests "
                                                       "belong into the first file"))  # fmt: skip
        found[path.stem] = more
    return found


def read_pairs(lang: str, folder: Path = CORPUS_DIR) -> list[Pair]:
    """Counterfactual pairs of a language; an empty list where it has none."""
    path = folder / "counterfactual" / f"{lang}.yaml"
    return _decode(path, Pairs).pairs if path.is_file() else []


def pair_languages(folder: Path = CORPUS_DIR) -> list[str]:
    """Languages that have counterfactual pairs, sorted."""
    return sorted(path.stem for path in (folder / "counterfactual").glob("*.yaml"))


def fill(pattern: str, slots: dict[str, list[str]], count: int, rng: random.Random) -> list[str]:
    """Fill a pattern's slots at random.

    Returns:
        At most `count` distinct texts, at least one; a pattern without slots gives itself.

    Raises:
        DataError: a slot has no values.
    """
    names = SLOT.findall(pattern)
    for name in names:
        if not slots.get(name):
            raise DataError(f"slot {{{name}}} has no values: {pattern!r}")
    if not names:
        return [pattern]
    texts: dict[str, None] = {}
    for _ in range(count * 4):
        used: dict[str, set[str]] = {}
        texts[SLOT.sub(lambda m, used=used: _draw(m[1], slots, used, rng), pattern)] = None  # type: ignore[misc]
        if len(texts) == count:
            break
    return list(texts)


def training_rows(lang: str, fillings: int = 3, seed: int = 0, folder: Path = CORPUS_DIR) -> list[Row]:
    """Rows of `patterns` and `hard`, each pattern filled up to `fillings` times; rows of one pattern share a group."""
    rows = _filled(read_corpus(lang, folder), f"written:{lang}", fillings, random.Random(f"{seed}:{lang}"))
    for stem, more in read_more(lang, folder).items():
        part = f"{lang}:{MORE}" + stem.removeprefix(lang)
        rows += _filled(more, f"written:{part}", fillings, random.Random(f"{seed}:{part}"))
    return rows


def check_rows(lang: str, seed: int = 0, folder: Path = CORPUS_DIR) -> list[Row]:
    """Rows of `test`, each line filled once."""
    corpus = read_corpus(lang, folder)
    rng = random.Random(f"{seed}:{lang}:test")
    return list(_rows(corpus, corpus.test, f"written_test:{lang}", 1, rng))


def _filled(corpus: Corpus, prefix: str, fillings: int, rng: random.Random) -> list[Row]:
    rows = list(_rows(corpus, corpus.patterns, prefix, fillings, rng))
    for i, case in enumerate(corpus.hard):
        texts = fill(case.text, corpus.slots, fillings, rng)
        rows += [_row(corpus.lang, prefix, case.topic, case.sentiment, text, f"{prefix}:hard:{i}") for text in texts]
    return rows


def _rows(corpus: Corpus, cells: Cells, prefix: str, fillings: int, rng: random.Random) -> Iterator[Row]:
    for topic, sentiment, i, line in _lines(cells):
        for text in fill(line, corpus.slots, fillings, rng):
            yield _row(corpus.lang, prefix, topic, sentiment, text, f"{prefix}:{topic}:{sentiment}:{i}")


def _row(lang: str, prefix: str, topic: str, sentiment: str, text: str, group: str) -> Row:
    # A cup final won is good news, but not to an investor: the tone of `other` must not teach the sentiment head.
    known = sentiment if topic != "other" or sentiment == "neutral" else None
    return Row(text=text, lang=lang, source=prefix.split(":")[0], topic=topic, sentiment=known, group=group)


def _draw(name: str, slots: dict[str, list[str]], used: dict[str, set[str]], rng: random.Random) -> str:
    """A value for a slot; two slots of one name in a line get two values where there are enough."""
    taken = used.setdefault(name, set())
    value = rng.choice([v for v in slots[name] if v not in taken] or slots[name])
    taken.add(value)
    return value


def _lines(cells: Cells) -> Iterator[tuple[str, str, int, str]]:
    for topic, by_sentiment in cells.items():
        for sentiment, lines in by_sentiment.items():
            for i, line in enumerate(lines):
                yield topic, sentiment, i, line


def _problems(corpus: Corpus) -> Iterator[str]:
    training = list(_lines(corpus.patterns)) + [(c.topic, c.sentiment, 0, c.text) for c in corpus.hard]
    seen = {_folded(line) for line in _training_lines(corpus)}
    for topic, sentiment, _, line in [*training, *_lines(corpus.test)]:
        if topic not in TOPICS or sentiment not in SENTIMENTS:
            yield f"unknown cell {topic}/{sentiment}"
        for name in SLOT.findall(line):
            if not corpus.slots.get(name):
                yield f"unknown slot {{{name}}} in {line!r}"
    for *_, line in _lines(corpus.test):
        if _folded(line) in seen:
            yield f"test line also trains: {line!r}"


def _training_lines(corpus: Corpus) -> Iterator[str]:
    yield from (line for *_, line in _lines(corpus.patterns))
    yield from (case.text for case in corpus.hard)


def _folded(line: str) -> str:
    return " ".join(line.split()).casefold()


def _checked(path: Path, lang: str) -> Corpus:
    corpus = _decode(path, Corpus)
    problems = list(_problems(corpus))
    if corpus.lang != lang:
        problems.insert(0, f"lang is {corpus.lang!r}")
    if problems:
        raise DataError(f"{path.name}: " + "; ".join(problems[:5]))
    return corpus


def _decode(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise DataError(f"{path.name}: {error}") from error
