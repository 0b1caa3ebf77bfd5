import re
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir

from crosswind.dashboard import i18n
from crosswind.dashboard.content import words
from crosswind.dashboard.figures import Words
from crosswind.dashboard.i18n import _
from crosswind.dashboard.pages.frame import PAGES
from crosswind.dashboard.view import SENTIMENTS
from crosswind.models.taxonomy import TOPICS

PLACES = re.compile(r"\{\w+\}")
FOLDER = Path(i18n.__file__).parent
SAID_BY_DATA = {"series", "rule", "warning", "critical"}
"""Words of data that the pages translate: whose budget a rule's is, and how bad an alert is."""
OTHERS = sorted(set(i18n.languages()) - {i18n.DEFAULT})


@pytest.mark.parametrize("language", OTHERS)
def test_a_catalogue_has_every_text_of_the_interface(language: str) -> None:
    messages = extract_from_dir(str(FOLDER), [("**.py", "python")], {"_": None, "N_": None})
    found = {message for _file, _line, message, *_rest in messages}
    assert len(found) > 80
    wanted = {str(text) for text in found} | set(TOPICS) | set(SENTIMENTS) | set(PAGES.values()) | SAID_BY_DATA
    assert sorted(wanted - set(i18n._catalogue(language))) == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_fills_in_the_same_values(language: str) -> None:
    for text, said in i18n._catalogue(language).items():
        assert sorted(PLACES.findall(text)) == sorted(PLACES.findall(said)), text


def test_the_language_is_chosen_and_an_unknown_one_is_english() -> None:
    i18n.use("zh")
    assert _("{count} articles", count=3) == "3 篇文章"
    assert _("not in the catalogue") == "not in the catalogue"
    i18n.use("xx")
    assert _("Alerts") == "Alerts"


def test_a_language_is_offered_by_its_own_name() -> None:
    assert i18n.languages()["zh"] == "中文"


def test_charts_are_told_what_to_say_in_the_language_in_use() -> None:
    i18n.use("zh")
    told = words()
    i18n.use(i18n.DEFAULT)
    assert (told.no_data, told.other_articles, told.expected) == ("无数据", "其他文章", "预期")
    assert words() == Words()
