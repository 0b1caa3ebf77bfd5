"""What a headline names: figures, names, letters. They decide where meaning alone leaves a doubt."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from anyascii import anyascii

SHINGLE = 4
READ = 300
"""Characters of a headline that are read: a feed may put whole paragraphs there, and all that is read costs memory."""
NAMES = 60
"""Names of a headline that are kept."""
_NUMBER = re.compile(r"\d+(?:[.,'’\u00a0\u202f\u066b\u066c ]?\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CACHED = 8_192
_FACTS = 3_072
"""Headlines whose facts are kept: 10 kB each, 50 kB of the longest."""
_SPELT = 4 * READ
"""Latin letters of a headline that are kept: a sign of another script may stand for several."""
_TWICE = re.compile(r"(.)\1+")
_SHORT = 2
"""A name of fewer consonants says nothing."""
_ONE_SCRIPT = {"HIRAGANA": "CJK", "KATAKANA": "CJK"}
_ALIKE = str.maketrans({
    **dict.fromkeys("qcgx", "k"), **dict.fromkeys("zj", "s"), **dict.fromkeys("vpf", "b"), "d": "t", "l": "r",
    **dict.fromkeys("aeiouyhw", ""),
})  # fmt: skip


class Name(NamedTuple):
    """A word that may be a name: its sounds (see `sound`), and all its Latin letters."""

    sound: str
    letters: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read off a headline.

    Attributes:
        figures: significant digits of its numbers, without point and trailing zeros: `3 billion`, `30億` and `3,000`
            are all `3`, because languages count in millions, crores or myriads, all of them powers of ten.
        shingles: its letters and digits, `SHINGLE` at a time.
        names: the words that may be names: those with a capital, or all where its script has none. `NAMES` at most.
        sounds, letters: those of the whole text, without spaces.
        cased: its script has capitals.
        script: the script of most of its words; Japanese and Chinese are one. Empty where it has no word.
    """

    figures: frozenset[str]
    shingles: frozenset[str]
    names: tuple[Name, ...]
    sounds: str
    letters: str
    cased: bool
    script: str


def head_of(title: str) -> str:
    """What is read of a headline: its first `READ` characters, one for each way to write it."""
    return unicodedata.normalize("NFKC", title)[:READ]


def facts_of(title: str) -> Facts:
    """The facts of a headline, as far as it is read.

    >>> sorted(facts_of("Tesla recalls 1.2 million cars").figures), sorted(facts_of("テスラ Tesla 120万台").figures)
    (['12'], ['12'])
    """
    return _facts_of(head_of(title))


@lru_cache(_FACTS)
def _facts_of(plain: str) -> Facts:
    words = _WORD.findall(plain)
    spelt = [_spelt(word) for word in words]
    cased = sum(word[0].isupper() or word[0].islower() for word in words) * 2 >= len(words)
    found = (name for word, name in zip(words, spelt, strict=True) if word[0].isupper() or not cased)
    named = (name for name in found if len(name.sound) >= _SHORT)
    scripts = Counter(_script(word[0]) for word in words)
    return Facts(
        figures=frozenset(filter(None, (_significant(number) for number in _NUMBER.findall(plain)))),
        shingles=shingles_of(plain),
        names=tuple(islice(named, NAMES)),
        sounds="".join(name.sound for name in spelt)[:_SPELT],
        letters="".join(name.letters for name in spelt)[:_SPELT],
        cased=cased,
        script=max(scripts, key=lambda script: (scripts[script], script), default=""),
    )


def words_of(text: str) -> list[str]:
    """The words of a text, in order; where its script has no spaces, what stands between two marks."""
    return _WORD.findall(unicodedata.normalize("NFKC", text))


def shingles_of(text: str, size: int = SHINGLE) -> frozenset[str]:
    """The runs of `size` letters and digits of a text, without case and spaces; a shorter text itself, if any."""
    letters = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
    return frozenset(letters[i : i + size] for i in range(max(1, len(letters) - size + 1))) if letters else frozenset()


def overlap(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard's index of two sets: what they share, over what they hold together; 0 for two empty ones."""
    return overlaps(one, [other])[0]


def overlaps(one: frozenset[str], others: Sequence[frozenset[str]]) -> list[float]:
    """`overlap` of one with each of the others."""
    size = len(one)
    return [shared / (size + len(other) - shared) if (shared := len(one & other)) else 0.0 for other in others]


def agreement(one: Set[str], other: Set[str]) -> float:
    """From -1 (nothing shared) to 1 (the smaller set is in the larger); 0 where one is silent.

    >>> agreement({"3", "12"}, {"12"}), agreement({"3"}, {"4"}), agreement({"3"}, set())
    (1.0, -1.0, 0.0)
    """
    if not one or not other:
        return 0.0
    return 2.0 * len(one & other) / min(len(one), len(other)) - 1.0


def sound(text: str) -> str:
    """The consonants of a text in any script, roughly: what is left of a name when it is written in another one.

    >>> sound("Orbex"), sound("オーベックス"), sound("Волга"), sound("Volga")
    ('rbk', 'btks', 'brk', 'brk')
    """
    return _TWICE.sub(r"\1", _letters(text).translate(_ALIKE))


@lru_cache(_CACHED)
def _spelt(word: str) -> Name:
    return Name(sound(word), _letters(word))


def _letters(text: str) -> str:
    return "".join(c for c in anyascii(text).lower() if c.isalpha())


def _significant(number: str) -> str:
    digits = "".join(str(unicodedata.digit(c)) for c in number if c.isdigit())
    return digits.strip("0")


@lru_cache(_CACHED)
def _script(letter: str) -> str:
    script = unicodedata.name(letter, "").partition(" ")[0]
    return _ONE_SCRIPT.get(script, script)
