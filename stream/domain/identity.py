"""Who an article is, and which headlines are copies of each other."""

import hashlib
import unicodedata
from datetime import UTC, datetime


def _digest(*parts: str) -> str:
    """128 bits of SHA-256 over length-prefixed parts, so that no two lists of parts collide by joining."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.hexdigest()[:32]


class _Letters(dict[int, int | None]):
    """A table for `str.translate` that drops all but letters, marks, numbers and symbols; filled as characters come.

    Ten times as fast as asking for each character's category; bounded by Unicode's size.
    """

    def __missing__(self, code: int) -> int | None:
        kept = code if unicodedata.category(chr(code))[0] in "LMNS" else None
        self[code] = kept
        return kept


_LETTERS = _Letters()


def article_id(
    *, source: str, given: str | None, title: str, body: str, url: str | None, published_at: datetime
) -> str:
    """32 hex digits: from the source's own id where it gives one, else from the content.

    All strings are normalised already, so that a re-encoded copy is the same article.
    """
    if given:
        return _digest("id", source, given)
    moment = published_at.astimezone(UTC).isoformat(timespec="milliseconds")
    return _digest("content", source, title, body, url or "", moment)


def title_key(title: str) -> str:
    """16 hex digits, equal for headlines that differ in case, width, punctuation or spacing only.

    >>> title_key("Bank fails!") == title_key("BANK  FAILS")
    True
    """
    folded = unicodedata.normalize("NFKC", title).casefold()
    letters = folded.translate(_LETTERS)
    return hashlib.sha256(letters.encode("utf-8", "surrogatepass")).hexdigest()[:16]
