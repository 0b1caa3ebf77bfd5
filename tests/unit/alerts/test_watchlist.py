"""Watchlists: names stand for themselves, in every script."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import SettingsError
from crosswind.stream.domain.watchlist import Alias, Watchlist, fold, with_watched
from crosswind.stream.service.rules import FOLDER
from crosswind.stream.service.watchlists import load_watchlist

WATCHED = load_watchlist(FOLDER / "watchlist.example.yaml")


@pytest.mark.parametrize(
    ("text", "lang", "found"),
    [
        ("TESLA shares fall", "en", True),
        ("Tesla's margins", "en", True),
        ("Tesla-Aktie fällt", "de", True),
        ("Teslas in the snow", "en", False),
        ("the antitesla league", "en", False),
        ("特斯拉股价下跌", "zh", True),
        ("テスラ株が下落", "ja", True),
        ("テスラモーターズ", "ja", False),
        ("Акции Тесла падают", "ru", True),
        ("Теслагейт", "ru", False),
        ("테슬라가 하락", "ko", True),
        ("테슬라에서", "ko", True),
        ("테슬라마을", "ko", False),
        ("Tesla가 하락", "ko", True),
        ("سهم تسلا يهبط", "ar", True),
        ("टेस्ला के शेयर", "hi", True),
        ("Тесла", "en", False),
        ("ＴＥＳＬＡ", "ja", True),
        ("", "en", False),
    ],
)
def test_word_borders_of_each_script(text: str, lang: str, found: bool) -> None:
    assert WATCHED is not None
    assert WATCHED.find(text, lang) == (("Tesla",) if found else ())


def test_names_inside_names_are_all_found() -> None:
    watchlist = Watchlist([Alias("Deutsche Bank", "DB"), Alias("Bank", "banks"), Alias("Deutsche", "D")])
    assert watchlist.find("deutsche  bank") == ("D", "DB", "banks")


def test_given_entities_come_first_and_nothing_twice() -> None:
    watchlist = Watchlist([Alias("Tesla", "Tesla"), Alias("BYD", "BYD")])
    assert with_watched(("Tesla", "Acme"), "BYD overtakes Tesla", "en", watchlist) == ("Tesla", "Acme", "BYD")


@given(st.lists(st.text("abc 特斯テラ-", min_size=1, max_size=5), max_size=8), st.text("abc 特斯テラ-", max_size=30))
def test_what_is_found_is_there_and_a_name_alone_is_found(names: list[str], text: str) -> None:
    watchlist = Watchlist([Alias(name, name) for name in names])
    assert all(fold(name) in fold(text) for name in watchlist.find(text))
    for name in names:
        assert not fold(name) or name in watchlist.find(f"x, {name} .")


def test_a_wrong_file_says_what_is_wrong(tmp_path: Path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text("version: 1\nentities: {Tesla: [a]}")
    with pytest.raises(SettingsError, match="watchlist"):
        load_watchlist(path)
    assert load_watchlist(None) is None
