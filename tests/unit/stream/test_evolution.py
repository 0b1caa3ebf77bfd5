"""Every kind of change that would break a reader is named; what may be added is not."""

import copy
from typing import Any

import pytest

from crosswind.stream.domain.evolution import breaks
from crosswind.stream.domain.schemas import schemas

Properties = dict[str, Any]
SCHEMAS = schemas()


def changed(name: str, **fields: Any) -> dict[str, Any]:
    """The schema with fields set anew; None takes one away."""
    schema = copy.deepcopy(SCHEMAS[name])
    for field, value in fields.items():
        if value is None:
            del schema["properties"][field]
        else:
            schema["properties"][field] = {**schema["properties"].get(field, {}), **value}
    return schema


@pytest.mark.parametrize("name", sorted(SCHEMAS))
def test_a_schema_may_replace_itself(name: str) -> None:
    assert breaks(SCHEMAS[name], SCHEMAS[name]) == []


def test_a_field_that_may_be_absent_may_be_added() -> None:
    assert breaks(SCHEMAS["alerts.v1"], changed("alerts.v1", mood={"type": "string", "default": ""})) == []


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"title": None}, "title: is gone"),
        ({"seq": {"type": "string"}}, "seq: type was integer, is string"),
        ({"window": {"default": 30}}, "window: default was 60, is 30"),
        ({"run": {"pattern": "^live$"}}, "run: pattern was None, is '^live$'"),
        ({"observed": {"minimum": 1}}, "observed: minimum was None, is 1"),
        ({"languages": {"items": {"type": "integer"}}}, "languages[]: type was string, is integer"),
        ({"v": {"const": 2}}, "v: const was 1, is 2"),
    ],
)
def test_a_change_that_breaks_is_named(fields: Properties, said: str) -> None:
    name = "news.raw.v1" if "title" in fields else "alerts.v1"
    found = breaks(SCHEMAS[name], changed(name, **fields))
    assert any(line.startswith(said) for line in found), found


def test_what_is_required_may_not_change_either_way() -> None:
    more = {**SCHEMAS["news.raw.v1"], "required": [*SCHEMAS["news.raw.v1"]["required"], "lang"]}
    assert breaks(SCHEMAS["news.raw.v1"], more) == ["lang: may be absent in what is written, is required"]
    assert breaks(more, SCHEMAS["news.raw.v1"]) == ["lang: was always there, may be absent"]


def test_unknown_fields_may_not_become_errors() -> None:
    closed = {**SCHEMAS["alerts.v1"], "additionalProperties": False}
    assert breaks(SCHEMAS["alerts.v1"], closed) == ["message: unknown fields were ignored, are refused"]


def test_an_enumeration_gains_values_only_where_readers_expect_it() -> None:
    scored = copy.deepcopy(SCHEMAS["news.scored.v1"])
    scored["$defs"]["Sentiment"]["enum"].append("mixed")
    assert breaks(SCHEMAS["news.scored.v1"], scored)[0].startswith("sentiment: values lost [], gained ['mixed']")
    dead = copy.deepcopy(SCHEMAS["news.dead.v1"])
    dead["properties"]["crosswind.reason"]["enum"].append("stale")
    assert breaks(SCHEMAS["news.dead.v1"], dead) == []
    assert breaks(dead, SCHEMAS["news.dead.v1"])[0].startswith("crosswind.reason: values lost ['stale']")


def test_a_choice_of_types_is_compared_choice_by_choice() -> None:
    narrowed = changed("news.raw.v1", lang={"anyOf": [{"type": "string", "maxLength": 2}, {"type": "null"}]})
    assert breaks(SCHEMAS["news.raw.v1"], narrowed) == ["lang: maxLength was None, is 2, which is stricter"]
