"""A wrong setting is one clear line that names it and where it came from."""

import gzip
import subprocess
import sys
from pathlib import Path

import pytest

from crosswind import errors
from crosswind.cli import main, with_running
from crosswind.errors import CrosswindError, SettingsError
from crosswind.settings import load_settings


def test_defaults_need_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load_settings()
    assert (settings.kafka, settings.host, settings.run) == (None, "127.0.0.1", "live")


def test_the_command_line_is_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSWIND_PORT", "9000")
    assert load_settings().port == 9000
    assert load_settings({"port": 9001}).port == 9001
    assert load_settings({"port": None}).port == 9000


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "http"), ("port", 70000), ("speed", -1), ("device", "tpu"), ("run", "Live!"), ("batch_size", 0)],
)
def test_a_bad_option_is_named(name: str, value: object) -> None:
    with pytest.raises(SettingsError, match=f"--{name.replace('_', '-')}: "):
        load_settings({name: value})


def test_settings_that_are_completed_stay_as_they_were(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CROSSWIND_OIDC_ROLES", '{"desk": "admin"}')
    monkeypatch.setenv("CROSSWIND_OIDC_CLIENT_SECRET", "hidden")
    found = with_running(load_settings({"data_dir": tmp_path}))
    assert found.oidc_roles == {"desk": "admin"}
    assert found.oidc_client_secret is not None
    assert found.oidc_client_secret.get_secret_value() == "hidden"
    assert "hidden" not in repr(found)


@pytest.mark.parametrize("roles", ["desk", '["desk"]', '{"desk": "owner"}'])
def test_a_bad_mapping_of_roles_is_named(monkeypatch: pytest.MonkeyPatch, roles: str) -> None:
    monkeypatch.setenv("CROSSWIND_OIDC_ROLES", roles)
    with pytest.raises(SettingsError, match="CROSSWIND_OIDC_ROLES: "):
        load_settings()


def test_a_bad_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CROSSWIND_PORT", "http")
    with pytest.raises(SettingsError, match="CROSSWIND_PORT: "):
        load_settings()


def test_a_password_is_never_shown() -> None:
    settings = load_settings({"database_url": "postgresql://me:hunter2@host/db"})
    assert "hunter2" not in repr(settings)


def _crosswind(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "crosswind", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**environment}, check=False)


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    result = _crosswind("up", "--port", "70000", "--data-dir", str(tmp_path), PATH="/usr/bin:/bin")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "--port" in result.stderr


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    result = _crosswind("up", "--model", str(tmp_path / "none"), "--data-dir", str(tmp_path), PATH="/usr/bin:/bin")
    assert (result.returncode, result.stderr.count("\n")) == (4, 1)
    assert "none" in result.stderr


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("migrate --database-url postgresql://me:p@ss:word@db/news", 2),
        ("status --kafka broker:abc", 2),
        ("dlq list --kafka broker:99999", 2),
        ("feed play --kafka a:1,broker:abc", 2),
        ("retention --keep-minutes-days 1000000", 2),
        ("feed check bad.parquet", 3),
        ("feed check cut.jsonl.gz", 3),
        ("feed check wrong.jsonl.gz", 3),
        ("feed check header.csv", 3),
        ("feed gdelt cut.jsonl.gz --kafka 127.0.0.1:1", 5),
    ],
)
def test_what_cannot_be_used_is_one_line(
    command: str, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = bytearray(gzip.compress(bytes(range(256)) * 40))
    Path(tmp_path / "cut.jsonl.gz").write_bytes(packed[:-20])
    packed[12] ^= 0xFF
    Path(tmp_path / "wrong.jsonl.gz").write_bytes(packed)
    Path(tmp_path / "bad.parquet").write_bytes(b"PAR1 nothing")
    Path(tmp_path / "header.csv").write_bytes(b'"source"x,title,published_at\n1,2,3\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["crosswind", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    said = capsys.readouterr().err
    assert (ended.value.code, len(said.strip().splitlines())) == (status, 1), said
    assert "word" not in said.replace("the password", "")


@pytest.mark.parametrize("kafka", ["host", "host:9092", "10.0.0.1:9092, b:1", "[::1]:9092", ""])
def test_addresses_of_kafka_are_taken(kafka: str) -> None:
    assert load_settings({"kafka": kafka}).kafka == kafka


@pytest.mark.parametrize("proxies", ["", "127.0.0.1", "10.0.0.0/8, ::1"])
def test_addresses_of_proxies_are_taken(proxies: str) -> None:
    assert load_settings({"trusted_proxies": proxies}).trusted_proxies == proxies


@pytest.mark.parametrize("proxies", ["*", "proxy.example", "10.0.0.5/8", "127.0.0.1,", "127.0.0.1:80"])
def test_what_would_trust_nobody_or_everybody_is_refused(proxies: str) -> None:
    with pytest.raises(errors.SettingsError, match=r"trusted-proxies.*expected addresses or networks by commas"):
        load_settings({"trusted_proxies": proxies})


def test_every_error_is_in_the_drawn_tree_and_has_an_exit_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, CrosswindError)]
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or "")
        assert 0 < kind.exit_code < 126
