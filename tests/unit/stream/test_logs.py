"""Logs: N events are N lines of JSON, whatever is in them, ours or a library's."""

import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from crosswind.stream.worker import configure_logging

TEXT = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates and controls, too


@pytest.fixture(scope="module")
def written() -> Iterator[io.StringIO]:
    """What is logged, while the logs are set up as a worker sets them up."""
    before, root = sys.stderr, logging.getLogger()
    handlers, level = root.handlers[:], root.level
    sys.stderr = found = io.StringIO()
    configure_logging("info")
    yield found
    sys.stderr = before
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@given(st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5))
def test_every_event_is_one_line_of_ascii_json(written: io.StringIO, events: list[tuple[str, str]]) -> None:
    written.seek(0)
    written.truncate()
    log, library = structlog.get_logger("ours"), logging.getLogger("library")
    for event, value in events:
        log.info(event, value=value)
        library.warning("%s: %s", event, value)
        try:
            raise ValueError(value)
        except ValueError:
            library.exception("failed")
    lines = written.getvalue().splitlines()
    assert len(lines) == 3 * len(events)
    assert all(line.isascii() and line.isprintable() for line in lines)
    found = [json.loads(line) for line in lines]
    assert [(one["event"], one["value"]) for one in found[::3]] == events
    assert all(one["level"] and one["timestamp"] for one in found)
    assert all("ValueError" in one["exception"] for one in found[2::3])
