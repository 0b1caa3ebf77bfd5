"""The AsyncAPI document of the Kafka topics, made from the messages' schemas: `docs/asyncapi.yaml`."""

from typing import Any, Final

import msgspec

from crosswind.settings import Settings
from crosswind.stream.domain.schemas import schemas

_TOPICS: Final = {
    "news.raw.v1": ("raw_topic", "receive", "Articles as feeds deliver them; any key, and no order is needed."),
    "news.scored.v1": ("scored_topic", "send", "Articles with their score; the key is the article's id."),
    "news.dead.v1": ("dead_topic", "send", "What could not be used: the original bytes, and why in the headers."),
    "alerts.v1": ("alerts_topic", "send", "Every transition of every incident, in order per incident."),
}
"""Message -> the setting that names its topic, what Crosswind does there, and what it holds."""


def document() -> dict[str, Any]:
    """The document, AsyncAPI 3.0."""
    found = schemas()
    topics = {name: Settings.model_fields[setting].default for name, (setting, _, _) in _TOPICS.items()}
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "Crosswind", "version": "1", "description": "The Kafka topics; settings may rename them."},
        "defaultContentType": "application/json",
        "servers": {"kafka": {"host": "127.0.0.1:9092", "protocol": "kafka",
                              "description": "Yours, or the embedded broker of `crosswind up`."}},
        "channels": {
            topics[name]: {"address": topics[name], "description": text,
                           "messages": {"message": {"$ref": f"#/components/messages/{name}"}}}
            for name, (_, _, text) in _TOPICS.items()
        },
        "operations": {
            f"{action} {topics[name]}": {"action": action, "channel": {"$ref": f"#/channels/{topics[name]}"}}
            for name, (_, action, _) in _TOPICS.items()
        },
        "components": {"messages": {name: _message(name, found[name]) for name in _TOPICS}},
    }  # fmt: skip


def _message(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """A dead letter's contract is in its headers; its value is whatever came."""
    part = "headers" if name == "news.dead.v1" else "payload"
    wrapped = {"schemaFormat": "application/schema+json;version=draft-2020-12", "schema": schema}
    kind = {"contentType": "application/octet-stream"} if part == "headers" else {}
    return {"name": name, "title": name, **kind, part: wrapped}


def render() -> str:
    """The text of the file."""
    return "# Made from stream/domain/schemas.py; a test compares.\n" + msgspec.yaml.encode(document()).decode()
