"""Watchlists: entities by the names that each language gives them, found in titles and bodies.

Matched on folded text (NFKC, full case folding, one apostrophe, one hyphen), so `TESLA`, `Tesla` and `ＴＥＳＬＡ` are
one, and so are `Moody's` and `Moody’s`. A name must stand for itself: where words are written apart (Latin, Cyrillic,
Greek, Arabic, Hebrew, Devanagari, Hangul …) no letter, mark or digit of such a script may touch it; scripts without
spaces (Han, Kana, Thai, Lao, Khmer, Burmese) have no such border, but katakana does not cut a longer katakana word.
Korean particles may follow a name.
"""

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from ahocorasick_rs import AhoCorasick, Implementation, MatchKind

from crosswind.errors import SettingsError
from crosswind.stream.domain.normalise import clean, language_code
from crosswind.stream.domain.validate import is_name

ANY = "any"
"""In a watchlist's file: names in every language."""
ALIKE = (("\u2019", "'"), ("\u2018", "'"), ("\u02bc", "'"), ("\u2010", "-"))
"""What typesetters write for the keyboard's apostrophe and hyphen; NFKC has made `＇` and `‑` one of these before."""
SPACELESS = ("CJK", "HIRAGANA", "THAI", "LAO", "KHMER", "MYANMAR", "BOPOMOFO", "IDEOGRAPHIC")
KOREAN_PARTICLES = frozenset(
    [
        "은",
        "는",
        "이",
        "가",
        "을",
        "를",
        "의",
        "에",
        "도",
        "와",
        "과",
        "로",
        "만",
        "으로",
        "에서",
        "에게",
        "까지",
        "부터",
        "보다",
        "처럼",
        "이나",
        "에도",
        "에는",
        "와의",
        "과의",
    ]
)
"""What is written onto a name."""


@dataclass(frozen=True, slots=True)
class Alias:
    """One name of an entity.

    Attributes:
        lang: the only language of articles in which the name is looked for; empty: any.
    """

    text: str
    entity: str
    lang: str = ""


def fold(text: str) -> str:
    """Text as names are compared.

    >>> fold("ＴＥＳＬＡ  Straße")
    'tesla strasse'
    >>> fold("Moody’s, Coca‑Cola")
    "moody's, coca-cola"
    """
    if text.isascii():
        return " ".join(text.lower().split())
    plain = unicodedata.normalize("NFKC", text).casefold()
    for written, typed in ALIKE:
        plain = plain.replace(written, typed)
    return " ".join(plain.split())


class Watchlist:
    """Finds entities in text; building it takes long, finding is linear in the text.

    >>> names = [Alias("Tesla", "Tesla"), Alias("特斯拉", "Tesla"), Alias("Apple", "Apple", "en")]
    >>> watchlist = Watchlist(names)
    >>> watchlist.find("特斯拉股价下跌", "zh"), watchlist.find("Teslas", "en"), watchlist.find("Apple, TESLA", "de")
    (('Tesla',), (), ('Tesla',))
    """

    def __init__(self, aliases: Iterable[Alias]) -> None:
        self._by_text: dict[str, list[Alias]] = {}
        for alias in aliases:
            if folded := fold(alias.text):
                self._by_text.setdefault(folded, []).append(alias)
        self._texts = sorted(self._by_text)
        self._automaton = (
            AhoCorasick(self._texts, matchkind=MatchKind.Standard, implementation=Implementation.ContiguousNFA)
            if self._texts else None
        )  # fmt: skip

    def __len__(self) -> int:
        return sum(len(aliases) for aliases in self._by_text.values())

    def find(self, text: str, lang: str = "") -> tuple[str, ...]:
        """The entities named in a text, sorted, each once.

        Args:
            lang: the article's language; names of one language only are found in that one.
        """
        if self._automaton is None:
            return ()
        folded = fold(text)
        matches = self._automaton.find_matches_as_indexes(folded, overlapping=True)
        if not matches:
            return ()
        found = set()
        for pattern, start, end in matches:
            for alias in self._by_text[self._texts[pattern]]:
                if alias.entity not in found and alias.lang in ("", lang) and _stands_alone(folded, start, end):
                    found.add(alias.entity)
        return tuple(sorted(found))


def with_watched(entities: tuple[str, ...], text: str, lang: str, watchlist: Watchlist) -> tuple[str, ...]:
    """An article's entities and those that the watchlist finds in it, each once, the given ones first."""
    watched = watchlist.find(text, lang)
    return tuple(dict.fromkeys((*entities, *watched))) if watched else entities


def aliases_of(entities: Mapping[str, Mapping[str, Iterable[str]]]) -> list[Alias]:
    """Aliases from entity -> language (`any` for all) -> names; the entity's own name is one in any language.

    Languages are language tags, read as those of articles are: `zh-Hant` is `zh`.

    Raises:
        SettingsError: no article could have that entity, or that language.

    >>> [(alias.text, alias.lang) for alias in aliases_of({"Tesla": {"zh-Hans": ["特斯拉"]}})]
    [('Tesla', ''), ('特斯拉', 'zh')]
    """
    for entity in entities:
        _check_entity(entity)
    return [
        alias
        for entity, languages in entities.items()
        for alias in (
            Alias(entity, entity),
            *(
                Alias(text, entity, "" if lang == ANY else _language(lang, entity))
                for lang, texts in languages.items()
                for text in texts
            ),
        )
    ]


def _check_entity(entity: str) -> None:
    if entity == "*":
        raise SettingsError("'*' cannot be an entity: it means all of them")
    if not is_name(entity):
        instead = f"; write {cleaned!r}" if (cleaned := clean(entity)) else ""
        raise SettingsError(
            f"the entity {entity!r} is not written as articles keep names (NFC, no controls, no white space at the "
            f"ends and no runs of it){instead}"
        )


def _language(tag: str, entity: str) -> str:
    if code := language_code(tag):
        return code
    raise SettingsError(f"{tag!r} (of {entity}) is no language; expected a tag such as 'de' or 'pt-BR', or '{ANY}'")


def _stands_alone(text: str, start: int, end: int) -> bool:
    before, after = text[start - 1 : start], text[end : end + 1]
    if before and _touches(before, text[start]):
        return False
    if not after or not _touches(text[end - 1], after):
        return True
    return _script(after) == "HANGUL" and _is_particle(text, end)


def _is_particle(text: str, at: int) -> bool:
    """Whether only a particle follows, up to the end of the word."""
    end = at
    while end < len(text) and _script(text[end]) == "HANGUL":
        end += 1
    return text[at:end] in KOREAN_PARTICLES


def _touches(left: str, right: str) -> bool:
    """Whether two neighbouring characters are of one word."""
    first, second = _script(left), _script(right)
    if not first or not second or first in SPACELESS or second in SPACELESS:
        return False
    if "KATAKANA" in (first, second):
        return first == second
    # Hangul is written onto Latin names: 'Tesla가' ends the name.
    return "HANGUL" not in (first, second) or first == second


@lru_cache(maxsize=20_000)
def _script(letter: str) -> str:
    """The first word of the letter's Unicode name, which is its script; empty for what is no part of a word."""
    if unicodedata.category(letter)[0] not in "LMN":
        return "KATAKANA" if letter == "ー" else ""
    name = unicodedata.name(letter, "UNKNOWN").split()[0]
    return "KATAKANA" if name == "KATAKANA-HIRAGANA" or letter == "ー" else name.split("-")[0]
