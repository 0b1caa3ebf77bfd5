"""Watchlists: names stand for themselves, in every script."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import SettingsError
from crosswind.stream.domain.normalise import language_code
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


@pytest.mark.parametrize("name", ["Moody's", "Moody’s", "Moodyʼs", "Moody＇s"])
@pytest.mark.parametrize("text", ["Moody's cuts", "Moody‘s cuts", "MOODY’S cuts", "Moodyʼs cuts", "Moody＇s cuts"])
def test_an_apostrophe_is_an_apostrophe(name: str, text: str) -> None:
    assert Watchlist([Alias(name, "Moody's")]).find(text) == ("Moody's",)


@pytest.mark.parametrize("name", ["Coca-Cola", "Coca‐Cola", "Coca‑Cola"])
@pytest.mark.parametrize("text", ["Coca-Cola grows", "Coca‐Cola grows", "Coca‑Cola grows", "Coca－Cola grows"])
def test_a_hyphen_is_a_hyphen(name: str, text: str) -> None:
    assert Watchlist([Alias(name, "KO")]).find(text) == ("KO",)


def test_a_letter_that_is_like_an_apostrophe_ends_a_name() -> None:
    assert Watchlist([Alias("Tesla", "Tesla")]).find("Teslaʼs margins") == ("Tesla",)


@pytest.mark.parametrize(
    ("key", "names", "text", "tag"),
    [
        ("zh-Hant", ["台積電"], "台積電股價下跌", "zh-TW"),
        ("pt-BR", ["Vale do Rio Doce"], "Vale do Rio Doce cai", "pt"),
        ("DE", ["Deutsche"], "Deutsche stürzt ab", "de-AT"),
    ],
)
def test_languages_are_read_as_those_of_articles(
    key: str, names: list[str], text: str, tag: str, tmp_path: Path
) -> None:
    watchlist = _file(tmp_path, f"{{Entity: {{zh: [台积电], {key}: {names}}}}}")
    assert watchlist.find(text, language_code(tag) or "") == ("Entity",)
    assert watchlist.find(text, "sv") == ()


@pytest.mark.parametrize(
    ("entities", "said"),
    [
        ("{Tesla: {chinese: [特斯拉]}}", r"'chinese' \(of Tesla\) is no language"),
        ("{Tesla: {'': [特斯拉]}}", "'' .* is no language"),
        ("{'*': {}}", r"'\*' cannot be an entity"),
        ("{' Tesla': {}}", "' Tesla' is not written as articles keep names .* write 'Tesla'"),
        ('{"L\'Ore\\u0301al": {}}', "is not written as articles keep names"),
        ('{"\\u200b": {}}', "is not written as articles keep names"),
    ],
)
def test_what_no_article_could_have_is_refused(entities: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=f"w.yaml is no watchlist: .*{said}"):
        _file(tmp_path, entities)


def _file(folder: Path, entities: str) -> Watchlist:
    path = folder / "w.yaml"
    path.write_text(f"version: 1\nentities: {entities}", "utf-8")
    watchlist = load_watchlist(path)
    assert watchlist is not None
    return watchlist


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
