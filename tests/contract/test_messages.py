"""The contracts: what is documented is what is decoded, and every past version decodes for ever."""

import base64
import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from crosswind.errors import ContractError, Reason
from crosswind.stream.adapters.kafka.dead_letters import headers, reason_of
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import Alert, ScoredNews, decode_raw, decode_scored, encode, encode_scored
from crosswind.stream.domain.evolution import breaks
from crosswind.stream.domain.schemas import render, schemas
from tests.builders import scored_article

GOLDEN, PAST = Path(__file__).parent / "golden", Path(__file__).parent / "past"
DOCS = Path(__file__).parents[2] / "docs" / "contracts"
SCHEMAS = schemas()
SAMPLES = sorted(GOLDEN.glob("*.json"))


def _numbered(path: Path) -> tuple[str, int]:
    """The message's name and which of its shapes it is, counted from 0: `alerts.v1.1.json` is the second one's."""
    found = re.fullmatch(r"(.+\.v\d+)(?:\.(\d+))?(?:\.schema)?\.json", path.name)
    assert found, f"{path} is named otherwise"
    return found[1], int(found[2] or 0)


def _past(name: str) -> list[Path]:
    """The schemas that were documented before today's, oldest first. They are never changed."""
    return sorted((path for path in PAST.glob("*.schema.json") if _numbered(path)[0] == name), key=_numbered)


def _shape(name: str, number: int) -> dict[str, Any]:
    shapes = [*(json.loads(path.read_text("utf-8")) for path in _past(name)), SCHEMAS[name]]
    return dict(shapes[number])


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_documented_schema_is_the_code_s(name: str) -> None:
    path = DOCS / f"{name}.schema.json"
    if os.environ.get("CROSSWIND_WRITE_SCHEMAS") and path.read_text("utf-8") != render(SCHEMAS[name]):
        documented = path.read_text("utf-8")
        assert breaks(json.loads(documented), SCHEMAS[name]) == [], "not written: this needs a new major version"
        (PAST / f"{name}.{len(_past(name))}.schema.json").write_text(documented, "utf-8")
        path.write_text(render(SCHEMAS[name]), "utf-8")
    assert path.read_text("utf-8") == render(SCHEMAS[name]), "run the tests with CROSSWIND_WRITE_SCHEMAS=1"


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_nothing_breaks_with_what_was_ever_documented(name: str) -> None:
    documented = [*_past(name), DOCS / f"{name}.schema.json"]
    for path in documented:
        assert breaks(json.loads(path.read_text("utf-8")), SCHEMAS[name]) == [], f"breaks with {path.name}"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_golden_sample_fits_its_own_schema_and_today_s(path: Path) -> None:
    name, number = _numbered(path)
    message = json.loads(path.read_text("utf-8"))
    for schema in (_shape(name, number), SCHEMAS[name]):
        jsonschema.Draft202012Validator(schema).validate(message)


def test_every_schema_that_ever_was_has_a_golden_sample() -> None:
    shapes = {(name, number) for name in SCHEMAS for number in range(len(_past(name)) + 1)}
    assert {_numbered(path) for path in SAMPLES} == shapes


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_every_golden_sample_decodes_to_what_it_says(path: Path) -> None:
    name, _ = _numbered(path)
    value, said = path.read_bytes(), json.loads(path.read_text("utf-8"))
    if name == "news.dead.v1":
        assert reason_of({key: text.encode() for key, text in said.items()}) is Reason(said["crosswind.reason"])
        return
    if name == "news.raw.v1":
        message: Any = decode_raw(value, 10_000)
    elif name == "news.scored.v1":
        message = msgspec.json.decode(encode_scored(decode_scored(value)), type=ScoredNews)
    else:
        message = msgspec.json.decode(value, type=Alert)
    read = json.loads(encode(message))
    moments = {field for field in said if isinstance(getattr(message, field, None), datetime)}
    for field in said.keys() & SCHEMAS[name]["properties"].keys():
        if field in moments:
            assert getattr(message, field) == datetime.fromisoformat(said[field])
        elif said[field] != SCHEMAS[name]["properties"][field].get("default"):  # what is not said stays unsaid
            assert read[field] == said[field]


def test_golden_raw_decodes() -> None:
    raw = decode_raw((GOLDEN / "news.raw.v1.json").read_bytes(), 10_000)
    assert (raw.id, raw.lang, raw.entities) == ("nb-1", "de", ["Nordbank"])


def test_golden_scored_decodes() -> None:
    scored = decode_scored((GOLDEN / "news.scored.v1.json").read_bytes())
    assert scored.article.origin == Origin("news.raw", 3, 12345678901)
    assert scored.score.negative_ppm == 910_000


UNSTORABLE: list[dict[str, Any]] = [
    {"title": "a\0b"}, {"entities": ["Acme", "\0"]}, {"article_id": "x" * 257}, {"lang": "x" * 17},
    {"entities": ["x" * 513]}, {"topic": "x" * 101}, {"negative_ppm": 2**40}, {"topic_ppm": 1_000_001},
    {"positive_ppm": -1}, {"origin_partition": 2**21}, {"origin_partition": -1}, {"origin_offset": 2**63},
    {"origin_offset": 2**70}, {"published_at": "0001-01-01T00:00:00+02:00"}, {"published_at": "1969-12-31T23:59:59Z"},
    {"first_seen_at": "9999-12-31T23:59:59-02:00"}, {"first_seen_at": "9999-01-01T00:00:00Z"},
    {"published_at": "2026-03-02T08:00:00"}, {"meaning": base64.b64encode(b"\1" * 16_001).decode()},
]  # fmt: skip


@pytest.mark.parametrize("change", UNSTORABLE, ids=lambda change: str(change)[:40])
def test_what_the_database_cannot_hold_is_a_bad_field(change: dict[str, Any]) -> None:
    message = json.loads((GOLDEN / "news.scored.v1.json").read_bytes())
    with pytest.raises(ContractError) as found:
        decode_scored(json.dumps({**message, **change}).encode())
    assert found.value.reason is Reason.BAD_FIELD
    assert next(iter(change)) in str(found.value)


def test_the_longest_meaning_that_the_database_holds_is_read() -> None:
    message = json.loads((GOLDEN / "news.scored.v1.json").read_bytes())
    longest = b"\1" * 16_000
    read = decode_scored(json.dumps({**message, "meaning": base64.b64encode(longest).decode()}).encode())
    assert read.score.meaning == longest


def test_a_text_that_only_looks_like_a_nul_is_read() -> None:
    message = json.loads((GOLDEN / "news.scored.v1.json").read_bytes())
    title = r"a\u0000b"
    assert decode_scored(json.dumps({**message, "title": title}).encode()).article.title == title


def test_golden_alert_decodes() -> None:
    alert = msgspec.json.decode((GOLDEN / "alerts.v1.json").read_bytes(), type=Alert)
    assert msgspec.json.decode(encode(alert), type=Alert) == alert


def test_what_we_write_fits_the_schema() -> None:
    validator = jsonschema.Draft202012Validator(SCHEMAS["news.scored.v1"])
    validator.validate(json.loads(encode_scored(scored_article(1, entities=("Acme",)))))


def test_dead_letter_headers_fit_the_schema_and_read_back() -> None:
    error = ContractError(Reason.BAD_UTF8, "byte 3 is not UTF-8")
    found = headers(Origin("news.raw", 1, 2), error, "VALUE_CONVERTER")
    as_text = {name: value.decode() for name, value in found.items()}
    jsonschema.Draft202012Validator(SCHEMAS["news.dead.v1"]).validate(as_text)
    assert reason_of(found) is Reason.BAD_UTF8
    assert reason_of({}) is None
