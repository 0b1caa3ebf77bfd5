"""The AsyncAPI document says what the code reads and writes."""

import os
from pathlib import Path

import msgspec

from crosswind.dashboard.asyncapi import document, render
from crosswind.settings import Settings
from crosswind.stream.domain.schemas import schemas

FILE = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"


def test_the_document_is_the_code_s() -> None:
    if os.environ.get("CROSSWIND_WRITE_SCHEMAS"):
        FILE.write_text(render(), "utf-8")
    assert FILE.read_text("utf-8") == render(), "run the tests with CROSSWIND_WRITE_SCHEMAS=1"


def test_it_has_every_topic_and_every_message() -> None:
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    found = document()
    topics = {settings.raw_topic, settings.scored_topic, settings.dead_topic, settings.alerts_topic}
    assert set(found["channels"]) == topics
    assert set(found["components"]["messages"]) == set(schemas())


def test_every_reference_leads_somewhere() -> None:
    found = msgspec.yaml.decode(FILE.read_bytes())
    for operation in found["operations"].values():
        assert operation["channel"]["$ref"].removeprefix("#/channels/") in found["channels"]
    for channel in found["channels"].values():
        for message in channel["messages"].values():
            assert message["$ref"].removeprefix("#/components/messages/") in found["components"]["messages"]
