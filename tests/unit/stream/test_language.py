"""The language of an article that names none: right on headlines, `und` where there is nothing to tell."""

import json
from collections import Counter
from collections.abc import Iterable

import pytest

from crosswind.models import written
from crosswind.stream.adapters.language import COVERED, MAX_CHARACTERS, UNKNOWN, LangidDetector
from crosswind.stream.feed.player import open_feed

Rows = list[tuple[str, str]]

OTHERS: Rows = [
    ("bg", "Централната банка повиши основния лихвен процент"),
    ("cs", "Centrální banka opět zvýšila úrokové sazby"),
    ("da", "Banken måtte lukke, efter at kunderne havde trukket deres penge ud"),
    ("el", "Η τράπεζα ανέστειλε τις αναλήψεις"),
    ("fa", "بانک مرکزی نرخ بهره را افزایش داد"),
    ("fi", "Keskuspankki nosti ohjauskorkoa jälleen"),
    ("he", "הבנק המרכזי העלה את הריבית"),
    ("hr", "Središnja banka ponovno je povisila kamatne stope"),
    ("hu", "A jegybank ismét kamatot emelt"),
    ("lv", "Centrālā banka atkal paaugstināja procentu likmes"),
    ("nb", "Sentralbanken hevet styringsrenten igjen i dag"),
    ("ro", "Banca centrală a majorat din nou dobânda"),
    ("sk", "Centrálna banka opäť zvýšila úrokové sadzby"),
    ("uk", "Центральний банк знову підвищив облікову ставку"),
    ("vi", "Ngân hàng trung ương lại tăng lãi suất"),
]
NOTHING = ["", "   ", "!!!", "12345", "42 %", "$$$ 3.5%", "A", "ok", "https://a.b/c?d=1", "😀😀"]
FOREIGN = ["ქართული ენა", "Հայոց լեզու", "தமிழ் மொழி", "ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ ᎤᎾᏙᏢᏒ", "ꦧꦱꦗꦮ ꦏꦭ", "ދިވެހިރާއްޖެއަކީ"]


@pytest.fixture(scope="module")
def detector() -> LangidDetector:
    return LangidDetector()


@pytest.fixture(scope="module")
def headlines() -> Rows:
    """The held-out headlines of the written corpus."""
    return [(lang, line) for lang in written.languages() for line in _lines(written.read_corpus(lang).test)]


def _lines(cells: written.Cells) -> Iterable[str]:
    return (line for sentiments in cells.values() for lines in sentiments.values() for line in lines)


def _shares(detector: LangidDetector, rows: Rows) -> dict[str, float]:
    """The share that is wrong, by language, and of all."""
    wrong = Counter(lang for lang, text in rows if detector.detect(text) != lang)
    asked = Counter(lang for lang, _ in rows)
    return {"all": wrong.total() / len(rows), **{lang: wrong[lang] / count for lang, count in asked.items()}}


def test_of_the_written_headlines_one_in_a_hundred_is_wrong_at_most(detector: LangidDetector, headlines: Rows) -> None:
    assert len(headlines) > 1000
    shares = _shares(detector, headlines)
    assert shares["all"] <= 0.01
    assert shares["en"] <= 0.02
    assert max(shares.values()) <= 0.04, shares  # two of some fifty


def test_of_the_sample_feeds_titles_one_in_a_hundred_is_wrong_at_most(detector: LangidDetector) -> None:
    news = [json.loads(row.value) for row in open_feed("sample").rows]
    rows = sorted({(row["lang"], row["title"]) for row in news if row.get("lang")})
    assert len(rows) > 3000
    shares = _shares(detector, rows)
    assert shares["all"] <= 0.01
    assert max(shares.values()) <= 0.03, shares


def test_two_words_are_enough(detector: LangidDetector) -> None:
    assert detector.detect("Bank collapses") == "en"
    assert detector.detect("BANK COLLAPSES") == "en"


@pytest.mark.parametrize(("lang", "text"), OTHERS)
def test_languages_beside_the_models_own(detector: LangidDetector, lang: str, text: str) -> None:
    assert detector.detect(text) == lang


@pytest.mark.parametrize("text", [*NOTHING, *FOREIGN])
def test_what_cannot_be_told_is_und(detector: LangidDetector, text: str) -> None:
    assert detector.detect(text) == UNKNOWN


def test_the_texts_before_have_no_part_in_it(detector: LangidDetector, headlines: Rows) -> None:
    some = [text for _, text in headlines[::7]]
    found = {text: detector.detect(text) for text in some}
    again = LangidDetector()
    assert {text: again.detect(text) for text in reversed(some)} == found
    assert set(found.values()) <= {*COVERED, UNKNOWN}


def test_a_long_body_is_read_at_its_start_only(detector: LangidDetector) -> None:
    start = "Die Bank stellt die Auszahlungen ein. " * 10
    assert len(start) > MAX_CHARACTERS
    assert detector.detect(start + "The bank stops withdrawals. " * 50_000) == "de"
