"""What a headline names: figures, names, letters. They decide where meaning alone leaves a doubt."""

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache

from anyascii import anyascii
from rapidfuzz import fuzz

SHINGLE = 4
_NUMBER = re.compile(r"\d+(?:[.,'’\u00a0\u202f\u066b\u066c ]?\d+)*")
_WORD = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_CACHED = 65_536
_SHORT = 3
"""A name of fewer consonants says nothing."""
_ALIKE = str.maketrans({
    **dict.fromkeys("qcgx", "k"), **dict.fromkeys("zj", "s"), **dict.fromkeys("vpf", "b"), "d": "t", "l": "r",
    **dict.fromkeys("aeiouyhw", ""),
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What is read off a headline.

    Attributes:
        figures: significant digits of its numbers, without point and trailing zeros: `3 billion`, `30億` and `3,000`
            are all `3`, because languages count in millions, crores or myriads, all of them powers of ten.
        names: words in Latin letters that are written with a capital, or stand in a text of another script.
        shingles: its letters and digits, `SHINGLE` at a time.
        spoken: the sounds (see `sound`) of the words that may be names: those with a capital, or all where its script
            has none.
        sounds: the sounds of all words together.
        cased: its script has capitals.
    """

    figures: frozenset[str]
    names: frozenset[str]
    shingles: frozenset[str]
    spoken: frozenset[str]
    sounds: str
    cased: bool


@lru_cache(_CACHED)
def facts_of(title: str) -> Facts:
    """The facts of a headline.

    >>> sorted(facts_of("Tesla recalls 1.2 million cars").figures), sorted(facts_of("テスラ Tesla 120万台").figures)
    (['12'], ['12'])
    """
    plain = unicodedata.normalize("NFKC", title)
    words = _WORD.findall(plain)
    latin = sum(_is_latin(word) for word in words) * 2 >= len(words)
    cased = sum(word[0].isupper() or word[0].islower() for word in words) * 2 >= len(words)
    return Facts(
        frozenset(filter(None, (_significant(found) for found in _NUMBER.findall(plain)))),
        frozenset(_name(w) for w in words if len(w) > 1 and _is_latin(w) and (w[0].isupper() or not latin)),
        shingles_of(plain),
        frozenset(found for w in words if w[0].isupper() or not cased if len(found := sound(w)) >= _SHORT),
        sound(plain),
        cased,
    )


def shingles_of(text: str, size: int = SHINGLE) -> frozenset[str]:
    """The runs of `size` letters and digits of a text, without case and spaces; of a shorter text, itself."""
    letters = "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())
    return frozenset(letters[i : i + size] for i in range(max(1, len(letters) - size + 1)))


def overlap(one: Collection[str], other: Collection[str]) -> float:
    """Jaccard's index of two sets: what they share, over what they hold together; 0 for two empty ones."""
    shared = len(set(one) & set(other))
    return shared / (len(one) + len(other) - shared) if shared else 0.0


def agreement(one: Collection[str], other: Collection[str]) -> float:
    """From -1 (nothing shared) to 1 (the smaller set is in the larger); 0 where one is silent.

    >>> agreement({"3", "12"}, {"12"}), agreement({"3"}, {"4"}), agreement({"3"}, set())
    (1.0, -1.0, 0.0)
    """
    if not one or not other:
        return 0.0
    return 2.0 * len(set(one) & set(other)) / min(len(one), len(other)) - 1.0


def sound(text: str) -> str:
    """The consonants of a text in any script, roughly: what is left of a name when it is written in another one.

    >>> sound("Orbex"), sound("オーベックス"), sound("Волга"), sound("Volga")
    ('rbk', 'btks', 'brk', 'brk')
    """
    letters = "".join(c for c in anyascii(text).lower() if c.isalpha()).translate(_ALIKE)
    return re.sub(r"(.)\1+", r"\1", letters)


def named(one: Facts, other: Facts) -> float:
    """From -1 to 1: whether a name of one is heard in the other; 0 where neither names anything.

    A text whose script has capitals is asked first: only there is it plain which words are names.
    """
    pairs = [(one, other), (other, one)]
    asked = [pair for pair in pairs if pair[0].cased] or pairs
    heard = [_heard(a, b) for a, b in asked if a.spoken]
    return sum(heard) / len(heard) if heard else 0.0


def _heard(one: Facts, other: Facts) -> float:
    scores = (fuzz.partial_ratio(name, other.sounds) for name in one.spoken if len(name) <= len(other.sounds))
    return max(scores, default=50.0) / 50 - 1


def _significant(number: str) -> str:
    digits = "".join(str(unicodedata.digit(c)) for c in number if c.isdigit())
    return digits.strip("0")


def _is_latin(word: str) -> bool:
    return unicodedata.name(word[0], "").startswith("LATIN")


def _name(word: str) -> str:
    """Without case, accents and a possessive: inflected and accented forms of a name should meet."""
    bare = "".join(c for c in unicodedata.normalize("NFD", word) if not unicodedata.combining(c)).casefold()
    return re.sub(r"['’]s?$|['’].*$", "", bare)
