"""Text as it is stored and shown: NFC, no controls, no runs of white space. The original stays in Kafka."""

import re
import unicodedata

_SPACE = re.compile(r"\s+")
_JOINERS = {"\u200c", "\u200d"}  # ZWNJ and ZWJ carry meaning in Persian, Hindi and emoji
_LANG = re.compile(r"^([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*$")


def clean(text: str) -> str:
    """NFC text without control, format, private-use or unassigned characters, white space collapsed.

    Joiners are kept. Bidirectional overrides are format characters, so hostile titles cannot reorder a page.

    >>> clean(" Profit\\u202e  falls\\x00 12 % ")
    'Profit falls 12 %'
    """
    if not text.isprintable():  # printable: no category C, and no white space but U+0020
        collapsed = _SPACE.sub(" ", text)
        text = "".join(c for c in collapsed if c in _JOINERS or not unicodedata.category(c).startswith("C"))
    composed = unicodedata.normalize("NFC", text)
    return (composed if composed.isprintable() and "  " not in composed else _SPACE.sub(" ", composed)).strip()


def language_code(tag: str) -> str | None:
    """The primary subtag of a BCP 47 tag in lower case; None when it is not a tag.

    >>> language_code("zh-Hans-CN"), language_code("EN_us"), language_code("english")
    ('zh', 'en', None)
    """
    match = _LANG.match(tag.strip())
    return match[1].lower() if match else None
