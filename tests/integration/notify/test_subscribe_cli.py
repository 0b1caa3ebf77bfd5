"""`crosswind subscribe` and `crosswind subscriptions`, as they are typed."""

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from crosswind.errors import DataError, ServiceError
from crosswind.subscribe_cli import app
from tests.notify_helpers import receiver
from tests.served import served


def call(database_url: str, folder: Path, *words: str, given: str | None = None) -> Result:
    found = CliRunner().invoke(app, [*words, "--database-url", database_url, "--data-dir", str(folder)], input=given)
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found


def test_a_subscription_from_its_beginning_to_its_end(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSWIND_NOTIFY_PRIVATE", "true")
    with receiver() as there:
        made = json.loads(call(
            database_url, tmp_path, "subscribe", "--channel", "webhook", "--target", "-", "--topic", "credit",
            "--quiet", "Europe/Berlin 22:00-07:00", "--json", given=there.address + "/ok\n",
        ).stdout)  # fmt: skip
        new = made["subscription_id"]
        assert made["secret"].startswith("whsec_")
        assert call(database_url, tmp_path, "subscriptions", "test", new).exit_code == 0
        assert len(there.got) == 1
    call(database_url, tmp_path, "subscriptions", "pause", new)
    shown = call(database_url, tmp_path, "subscriptions", "list").stdout
    assert "paused" in shown
    assert "/ok" not in shown
    assert "sent" in call(database_url, tmp_path, "subscriptions", "log", new).stdout
    assert call(database_url, tmp_path, "subscriptions", "rotate", new).stdout.startswith("whsec_")
    call(database_url, tmp_path, "subscriptions", "delete", new)
    assert call(database_url, tmp_path, "subscriptions", "list").stdout == ""
    assert (tmp_path / "secret.key").stat().st_mode & 0o777 == 0o600


def test_a_test_that_is_not_taken_exits_with_1(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CROSSWIND_NOTIFY_PRIVATE", "true")
    with receiver() as there:
        target = there.address + "/gone"
        words = ("subscribe", "--channel", "webhook", "--target", target, "--json")
        new = json.loads(call(database_url, tmp_path, *words).stdout)["subscription_id"]
        assert call(database_url, tmp_path, "subscriptions", "test", new).exit_code == 1


def test_tokens_are_made_listed_and_revoked(database_url: str, tmp_path: Path) -> None:
    made = call(database_url, tmp_path, "subscriptions", "tokens", "--create", "desk").stdout.strip()
    listed = call(database_url, tmp_path, "subscriptions", "tokens").stdout
    assert made.startswith("cwt_")
    assert made not in listed
    call(database_url, tmp_path, "subscriptions", "tokens", "--revoke", listed.split()[0])
    assert "revoked" in call(database_url, tmp_path, "subscriptions", "tokens").stdout


@pytest.mark.parametrize("words", [("--channel", "pigeon"), ("--channel", "webhook", "--target", "http://10.0.0.1/"),
                                   ("--channel", "stream", "--quiet", "tonight")])  # fmt: skip
def test_what_cannot_be_served_says_why(database_url: str, tmp_path: Path, words: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match=r"expected|needs"):
        call(database_url, tmp_path, "subscribe", *words)


def test_a_dashboard_is_asked_by_its_address_with_a_token(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("subscribe", "--channel", "stream", "--topic", "credit", "--quiet", "Europe/Berlin 22:00-07:00", "--json")
    token = call(database_url, tmp_path, "subscriptions", "tokens", "--create", "desk").stdout.strip()
    with served(database_url, auth="local", data_dir=tmp_path) as at:
        with pytest.raises(DataError, match="send a token"):
            CliRunner().invoke(app, [*words, "--address", at], catch_exceptions=False)
        monkeypatch.setenv("CROSSWIND_API_TOKEN", token)
        asked = CliRunner().invoke(app, [*words, "--address", at], catch_exceptions=False)
        with pytest.raises(DataError, match="cap_per_hour"):
            CliRunner().invoke(app, [*words, "--cap", "0", "--address", at], catch_exceptions=False)
    made = json.loads(asked.stdout)
    assert (set(made), made["secret"]) == ({"subscription_id", "secret", "unsubscribe"}, None)
    assert made["subscription_id"] in call(database_url, tmp_path, "subscriptions", "list").stdout


def test_a_dashboard_that_is_not_there_is_said() -> None:
    words = ["subscribe", "--channel", "stream", "--address", "http://127.0.0.1:9"]
    with pytest.raises(ServiceError, match="does not answer"):
        CliRunner().invoke(app, words, catch_exceptions=False)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--lang", "German"), "language 'German' is no ISO 639 code; detected are .*de"),
        (("--lang", "qq"), "language 'qq'"),
        (("--template", "missing.txt"), "cannot read the template missing.txt"),
    ],
)
def test_what_would_match_nothing_is_refused(database_url: str, tmp_path: Path, words: list[str], what: str) -> None:
    with pytest.raises(DataError, match=what):
        call(database_url, tmp_path, "subscribe", "--channel", "stream", *words)


def test_languages_are_taken_in_any_case(database_url: str, tmp_path: Path) -> None:
    call(database_url, tmp_path, "subscribe", "--channel", "stream", "--lang", "DE", "--lang", "pt-BR", "--lang", "ms")
    shown = json.loads(call(database_url, tmp_path, "subscriptions", "list", "--json").stdout)
    assert shown[0]["languages"] == ["de", "pt", "ms"]


def test_topics_are_taken_in_any_case_and_one_that_is_not_the_shipped_models_is_said(
    database_url: str, tmp_path: Path
) -> None:
    words = ("--channel", "stream", "--topic", "Credit", "--topic", "ESG")
    said = call(database_url, tmp_path, "subscribe", *words).stderr
    assert "topic 'ESG': the shipped model has no such topic" in said
    assert "Credit" not in said
    shown = json.loads(call(database_url, tmp_path, "subscriptions", "list", "--json").stdout)
    assert shown[0]["topics"] == ["credit", "ESG"]
