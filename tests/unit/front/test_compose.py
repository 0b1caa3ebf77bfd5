"""docker-compose.yml says what the code has: commands, options, variables, ports, versions; and keeps no secret."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from crosswind import cli
from crosswind.settings import Settings

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if str(service.get("image", "")).startswith("crosswind:"))


def test_the_services_are_there() -> None:
    assert {"kafka", "postgres", "worker", "worker-gpu", "dashboard", "feed", "prometheus", "grafana"} == set(SERVICES)
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_images_are_pinned(name: str) -> None:
    tag = SERVICES[name]["image"].rpartition(":")[2]
    assert re.match(r"^v?\d+\.\d+", tag), tag


@pytest.mark.parametrize("name", sorted(set(SERVICES) - {"feed"}))
def test_services_have_health_checks(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_commands_and_options_exist(name: str) -> None:
    for room in cli.ROOMS:
        cli._mount(room)
    command: Any = typer.main.get_command(cli.app)
    words = list(SERVICES[name]["command"])
    while hasattr(command, "commands"):
        command = command.commands[words.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.mark.parametrize("name", OURS)
def test_variables_are_settings(name: str) -> None:
    known = {f"CROSSWIND_{field.upper()}" for field in Settings.model_fields}
    assert set(SERVICES[name]["environment"]) <= known


def test_ports_are_those_of_the_health_checks() -> None:
    for name, port in (("worker", "8051"), ("worker-gpu", "8051"), ("dashboard", "8050")):
        assert port in SERVICES[name]["command"]
        assert f":{port}/" in SERVICES[name]["healthcheck"]["test"][-1]
    assert Settings.model_fields["port"].default == 8050


def test_no_password_is_written_down() -> None:
    text = (ROOT / "docker-compose.yml").read_text("utf-8")
    for line in text.splitlines():
        if "PASSWORD" in line and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{(POSTGRES|READER)_PASSWORD:\?", line), line


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_volumes_are_named_and_used() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert {name for name in used if not name.startswith("./")} == set(COMPOSE["volumes"])


def test_kafka_is_the_version_that_the_tests_run_where_they_do() -> None:
    assert SERVICES["kafka"]["image"].startswith("apache/kafka:4.")


def test_the_dockerfile_copies_every_room_and_pins_its_base() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    assert re.search(r"^FROM python:3\.\d+\.\d+-", text, re.M)
    for room in ("crosswind", "stream", "models", "export", "dashboard"):
        assert f"COPY {room} {room}" in text
    assert "USER crosswind" in text
