"""Lines that somebody hands to a command: what is no JSON, or cannot be written back, is an error of ours."""

import pytest

from crosswind.errors import DataError
from crosswind.lines import json_of
from crosswind.translate_cli import _row

HALF = [rb'{"text": "Gewinn \ud800 steigt", "lang": "de"}', b'{"text": "Gewinn \xed\xa0\x80 steigt", "lang": "de"}']


@pytest.mark.parametrize("line", HALF, ids=["escaped", "as bytes"])
def test_half_a_surrogate_pair_is_an_error_and_never_a_text(line: bytes) -> None:
    with pytest.raises(DataError, match=r"holds \\ud800, which is half of a surrogate pair"):
        json_of(line)
    assert list(_row(line, None)) == ["error"]


@pytest.mark.parametrize("tag", ["de-DE", "DE", "de_AT"])
def test_languages_to_translate_from_are_read_as_those_of_articles(tag: str) -> None:
    assert _row(f'{{"text": "Gewinn", "lang": "{tag}"}}'.encode(), None) == {"text": "Gewinn", "lang": "de"}
    assert _row(b'{"text": "Gewinn"}', tag) == {"text": "Gewinn", "lang": "de"}


def test_a_language_that_is_none_is_said() -> None:
    assert "'deutsch' is no language" in _row(b'{"text": "Gewinn", "lang": "deutsch"}', None)["error"]


@pytest.mark.parametrize("line", [b"{", b"\xff", b"[" * 100_000], ids=["cut off", "no text", "too deep"])
def test_what_is_no_json_is_said(line: bytes) -> None:
    with pytest.raises(DataError, match="not JSON"):
        json_of(line)


def test_a_whole_pair_is_a_character() -> None:
    assert json_of(rb'{"text": "\ud83d\ude00"}') == {"text": "\U0001f600"}
