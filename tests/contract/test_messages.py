"""The contracts: what is documented is what is decoded, and every past version decodes for ever."""

import json
import os
from pathlib import Path

import jsonschema
import msgspec
import pytest

from crosswind.errors import ContractError, Reason
from crosswind.stream.adapters.kafka.dead_letters import headers, reason_of
from crosswind.stream.domain.article import Origin
from crosswind.stream.domain.contract import Alert, decode_raw, decode_scored, encode, encode_scored
from crosswind.stream.domain.schemas import render, schemas
from tests.builders import scored_article

GOLDEN = Path(__file__).parent / "golden"
DOCS = Path(__file__).parents[2] / "docs" / "contracts"
SCHEMAS = schemas()


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_the_documented_schema_is_the_code_s(name: str) -> None:
    path = DOCS / f"{name}.schema.json"
    if os.environ.get("CROSSWIND_WRITE_SCHEMAS"):
        path.write_text(render(SCHEMAS[name]), "utf-8")
    assert path.read_text("utf-8") == render(SCHEMAS[name]), "run the tests with CROSSWIND_WRITE_SCHEMAS=1"


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_every_golden_sample_fits_its_schema(path: Path) -> None:
    jsonschema.Draft202012Validator(SCHEMAS[path.stem]).validate(json.loads(path.read_text("utf-8")))


def test_every_schema_has_a_golden_sample() -> None:
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(SCHEMAS)


def test_golden_raw_decodes() -> None:
    raw = decode_raw((GOLDEN / "news.raw.v1.json").read_bytes(), 10_000)
    assert (raw.id, raw.lang, raw.entities) == ("nb-1", "de", ["Nordbank"])


def test_golden_scored_decodes() -> None:
    scored = decode_scored((GOLDEN / "news.scored.v1.json").read_bytes())
    assert scored.article.origin == Origin("news.raw", 3, 12345678901)
    assert scored.score.negative_ppm == 910_000


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
