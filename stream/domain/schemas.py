"""The JSON Schemas of the messages, made from the types that decode them, so that the two cannot part."""

import json
from typing import Any

import msgspec

from crosswind.errors import Reason
from crosswind.stream.domain.contract import VERSION, Alert, RawNews, ScoredNews
from crosswind.stream.domain.evolution import OPEN

_TITLES: dict[str, tuple[type[msgspec.Struct], str]] = {
    "news.raw.v1": (RawNews, "One article as a feed delivers it. Unknown fields are ignored."),
    "news.scored.v1": (ScoredNews, "A normalised article, its origin and its score."),
    "alerts.v1": (Alert, "One transition of one incident."),
}


def schemas() -> dict[str, dict[str, Any]]:
    """File stem -> JSON Schema (draft 2020-12) of each message version that this code reads or writes."""
    found = {name: _message(name, *entry) for name, entry in _TITLES.items()}
    return {**found, "news.dead.v1": _dead()}


def render(schema: dict[str, Any]) -> str:
    """The text of a schema file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _message(name: str, kind: type[msgspec.Struct], description: str) -> dict[str, Any]:
    _, components = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    definition = components.pop(kind.__name__)
    definition["properties"]["v"] = {"const": VERSION, "default": VERSION, "description": "Major version."}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:crosswind:{name}",
        "title": name,
        **definition,
        "description": description,
    }
    return {**schema, "$defs": components} if components else schema


def _dead() -> dict[str, Any]:
    """`news.dead` carries the original bytes as value, so its schema is of the record's headers."""
    text = {"type": "string"}
    connect = "__connect.errors."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:crosswind:news.dead.v1",
        "title": "news.dead.v1",
        "description": "Headers of a dead letter, UTF-8. The value is the original message, byte for byte.",
        "type": "object",
        "properties": {
            "crosswind.reason": {"enum": [reason.value for reason in Reason], OPEN: True},
            connect + "stage": text,
            connect + "exception.class.name": text,
            connect + "exception.message": text,
            connect + "topic": {**text, "description": "Absent when the row never was a record."},
            connect + "partition": {**text, "pattern": "^[0-9]+$"},
            connect + "offset": {**text, "pattern": "^[0-9]+$"},
            "crosswind.line": {**text, "pattern": "^[0-9]+$", "description": "Line of the file that a feed read."},
            "crosswind.size": {**text, "pattern": "^[0-9]+$", "description": "Bytes of a row that Kafka cannot carry."},
            "crosswind.sha256": {**text, "description": "Digest of such a row; the value is then null."},
        },
        "required": ["crosswind.reason", connect + "stage", connect + "exception.class.name",
                     connect + "exception.message"],
    }  # fmt: skip
