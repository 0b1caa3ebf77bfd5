"""Fast ways through text give what the plain ones give."""

import hashlib
import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.normalise import clean

TEXT = st.text(st.characters(), max_size=60) | st.text("aé e\u0301\u200d\u202e\x00\t\n \u3000", max_size=30)


def _plain_clean(text: str) -> str:
    collapsed = re.sub(r"\s+", " ", text)
    kept = "".join(c for c in collapsed if c in "\u200c\u200d" or not unicodedata.category(c).startswith("C"))
    return re.sub(r"\s+", " ", unicodedata.normalize("NFC", kept)).strip()


@given(TEXT)
def test_cleaning(text: str) -> None:
    assert clean(text) == _plain_clean(text)


@given(TEXT)
def test_title_keys(title: str) -> None:
    folded = unicodedata.normalize("NFKC", title).casefold()
    letters = "".join(c for c in folded if unicodedata.category(c)[0] in "LMNS")
    expected = hashlib.sha256(letters.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    assert title_key(title) == expected
    assert title_key(title) == expected, "also from the table"
