"""From bytes to a valid article, or to the reason why not: every kind of bad input has a name."""

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.errors import ContractError, Reason
from crosswind.stream.domain.article import Article, Origin
from crosswind.stream.domain.contract import decode_raw, decode_scored, encode_scored
from crosswind.stream.domain.normalise import clean
from crosswind.stream.domain.validate import Limits, to_article
from tests.builders import scored_article

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
LIMITS = Limits(max_bytes=100_000, future=timedelta(hours=1))
GOOD = {"source": "wire", "title": "Bank fails", "published_at": "2026-03-02T10:00:00Z"}


def _article(value: bytes | None) -> Article:
    raw = decode_raw(value, LIMITS.max_bytes)
    return to_article(raw, origin=Origin("news.raw", 0, 7), seen_at=NOW, limits=LIMITS, detect=lambda text: "xx")


def _with(**fields: Any) -> bytes:
    return json.dumps({**GOOD, **fields}).encode()


def _without(name: str) -> bytes:
    return json.dumps({key: value for key, value in GOOD.items() if key != name}).encode()


BAD = [
    (None, Reason.NULL_VALUE),
    (b"\xff\xfe", Reason.BAD_UTF8),
    (b"", Reason.BAD_JSON),
    (b"{", Reason.BAD_JSON),
    (b"[" * 10_000, Reason.BAD_FIELD),
    (b'{"a":' * 10_000, Reason.BAD_JSON),
    (b'{"title": "\\ud800"}', Reason.BAD_JSON),
    (b"[]", Reason.BAD_FIELD),
    (b'"text"', Reason.BAD_FIELD),
    (_without("title"), Reason.MISSING_FIELD),
    (_without("source"), Reason.MISSING_FIELD),
    (_without("published_at"), Reason.MISSING_FIELD),
    (_with(title=7), Reason.BAD_FIELD),
    (_with(title=None), Reason.BAD_FIELD),
    (_with(title=" \u200b\x00 "), Reason.EMPTY_TEXT),
    (_with(title="x" * 5000), Reason.BAD_FIELD),
    (_with(source=""), Reason.EMPTY_TEXT),
    (_with(id="\n"), Reason.EMPTY_TEXT),
    (_with(published_at="yesterday"), Reason.BAD_FIELD),
    (_with(published_at="2026-03-02T10:00:00"), Reason.BAD_FIELD),
    (_with(published_at="3000-01-01T00:00:00Z"), Reason.IN_THE_FUTURE),
    (_with(published_at="9999-12-31T23:59:59-23:00"), Reason.BAD_FIELD),
    (_with(published_at="1969-12-31T23:59:59Z"), Reason.TOO_OLD),
    (_with(lang="english please"), Reason.BAD_FIELD),
    (_with(entities="Acme"), Reason.BAD_FIELD),
    (_with(entities=[str(n) for n in range(100)]), Reason.BAD_FIELD),
    (_with(entities=["x" * 600]), Reason.BAD_FIELD),
    (_with(v=2), Reason.UNKNOWN_VERSION),
    (_with(v="1"), Reason.BAD_FIELD),
    (_with(body="x" * 200_000), Reason.TOO_LARGE),
]


@pytest.mark.parametrize(("value", "reason"), BAD, ids=lambda part: str(part)[:40])
def test_bad_input_has_a_reason(value: bytes | None, reason: Reason) -> None:
    with pytest.raises(ContractError) as caught:
        _article(value)
    assert caught.value.reason is reason


def test_every_reason_of_a_message_is_tested() -> None:
    assert {reason for _, reason in BAD} == set(Reason) - {Reason.BAD_ROW}


@given(st.binary(max_size=200))
def test_any_bytes_give_an_article_or_a_reason(value: bytes) -> None:
    with contextlib.suppress(ContractError):
        assert _article(value).title


@given(st.text(max_size=100), st.text(max_size=50), st.lists(st.text(max_size=20), max_size=5))
def test_any_text_is_safe_to_store(title: str, source: str, entities: list[str]) -> None:
    try:
        article = _article(json.dumps({**GOOD, "title": title, "source": source, "entities": entities}).encode())
    except ContractError:
        return
    for text in (article.title, article.source, *article.entities):
        assert "\x00" not in text
        assert text.encode("utf-8").decode() == text
        assert clean(text) == text


def test_unknown_fields_are_ignored() -> None:
    assert _article(_with(mood="bad")).title == "Bank fails"


def test_text_is_normalised() -> None:
    article = _article(_with(title="Cafe\u0301\u202e  falls\x07", body=" a\n\nb ", entities=["Acme", " Acme ", "*"]))
    assert (article.title, article.body, article.entities) == ("Café falls", "a b", ("Acme",))


def test_only_web_links_are_kept() -> None:
    assert _article(_with(url="javascript:alert(1)")).url is None
    assert _article(_with(url="https://example.org/a")).url == "https://example.org/a"


def test_language_is_taken_or_detected() -> None:
    assert [_article(_with(lang=tag)).lang for tag in ("pt-BR", "ZH", "", None)] == ["pt", "zh", "xx", "xx"]


def test_time_zones_become_utc() -> None:
    assert _article(_with(published_at="2026-03-02T18:30:00+09:00")).published_at == datetime(
        2026, 3, 2, 9, 30, tzinfo=UTC
    )


def test_a_given_id_is_the_identity_within_its_source() -> None:
    same = {_article(_with(id="a1", title=title)).article_id for title in ("Bank fails", "Bank fails, says court")}
    assert len(same) == 1
    assert _article(_with(id="a1", source="other")).article_id not in same


def test_without_an_id_the_content_is_the_identity() -> None:
    first = _article(_with())
    assert _article(_with(title="  Bank   fails ")).article_id == first.article_id
    assert _article(_with(body="more")).article_id != first.article_id
    assert _article(_with(published_at="2026-03-02T10:00:01Z")).article_id != first.article_id


def test_scored_articles_survive_the_wire() -> None:
    scored = scored_article(3, entities=("Acme", "Bolt"))
    assert decode_scored(encode_scored(scored)) == scored


def test_a_bad_scored_message_has_a_reason() -> None:
    with pytest.raises(ContractError) as caught:
        decode_scored(b'{"v": 1}')
    assert caught.value.reason is Reason.MISSING_FIELD
