"""`crosswind feed check` and the options of the others."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosswind.errors import DataError, SettingsError
from crosswind.stream.feed.cli import app

GOOD = '{"source":"wire","title":"Profit rises","published_at":"2026-03-02T09:00:00Z"}'
run = CliRunner().invoke


def test_good_file(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(GOOD)
    result = run(app, ["feed", "check", str(path)])
    assert result.exit_code == 0
    assert "1 articles, 0 bad rows" in result.output


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "bad_json"),
        (GOOD.replace("Profit rises", "\u200b"), "empty_text"),
        (GOOD.replace("2026", "2999"), "in_the_future"),
        (GOOD.replace("Profit", "x" * 2_000_000), "too_large"),
    ],
)
def test_what_the_worker_would_dead_letter_is_named(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text(f"{GOOD}\n{line}\n", "utf-8")
    result = run(app, ["feed", "check", str(path), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 3
    assert (found["good"], found["bad"]) == (1, 1)
    assert (found["rows"][0]["line"], found["rows"][0]["reason"]) == (2, reason)


def test_missing_file_is_one_error() -> None:
    assert isinstance(run(app, ["feed", "check", "nowhere.jsonl"]).exception, DataError)


def test_no_kafka_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CROSSWIND_KAFKA", raising=False)
    error = run(app, ["feed", "play", "sample"]).exception
    assert isinstance(error, SettingsError)
    assert "--kafka" in str(error)


def test_address_of_an_rss_feed_is_checked_first() -> None:
    assert isinstance(run(app, ["feed", "rss", "ftp://feeds.example"]).exception, DataError)
