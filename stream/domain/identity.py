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
    letters = "".join(c for c in folded if unicodedata.category(c)[0] in "LMNS")
    return hashlib.sha256(letters.encode("utf-8", "surrogatepass")).hexdigest()[:16]
