"""docker-compose.yml says what the code has: commands, options, variables, ports, versions; and keeps no secret."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from crosswind import cli, up
from crosswind.settings import Settings
from crosswind.stream.notify.adapters.vault import Sealed, Vault

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
OURS = sorted(name for name, service in SERVICES.items() if str(service.get("image", "")).startswith("crosswind:"))


def test_the_services_are_there() -> None:
    ours = {"worker", "worker-gpu", "dashboard", "notify", "feed"}
    assert {"kafka", "postgres", "prometheus", "grafana"} | ours == set(SERVICES)
    assert SERVICES["worker-gpu"]["profiles"] == ["gpu"]


@pytest.mark.parametrize("name", up.PROCESSES)
def test_whatever_crosswind_up_starts_has_a_service(name: str) -> None:
    assert [one for one in SERVICES.values() if one.get("command", [])[:1] == [name] and "profiles" not in one]


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
    for name, port in (("worker", "8051"), ("worker-gpu", "8051"), ("dashboard", "8050"), ("notify", "8052")):
        told = [*SERVICES[name]["command"], SERVICES[name]["environment"].get("CROSSWIND_NOTIFY_PORT")]
        assert port in told
        assert f":{port}/" in SERVICES[name]["healthcheck"]["test"][-1]
    assert Settings.model_fields["port"].default == 8050


def test_no_password_and_no_key_is_written_down() -> None:
    for line in TEXT.splitlines():
        if re.search("PASSWORD|_KEY|SECRET", line) and not line.lstrip().startswith("#"):
            assert re.search(r"\$\{((POSTGRES|READER)_PASSWORD|SEAL_KEY):\?", line), line


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl")
def test_the_commands_at_the_top_make_all_that_is_asked_for(tmp_path: Path) -> None:
    commands = re.findall(r"^# +((?:for|echo) .*\.env)$", TEXT, re.MULTILINE)
    subprocess.run(["sh", "-c", "\n".join(commands)], cwd=tmp_path, check=True, timeout=60, stderr=subprocess.PIPE)
    made = dict(line.split("=", 1) for line in (tmp_path / ".env").read_text("ascii").splitlines())
    assert set(made) == set(re.findall(r"\$\{(\w+):\?", TEXT))
    vault = Vault([made["SEAL_KEY"]])
    assert vault.open(vault.seal(Sealed("https://hooks.example/"))).target == "https://hooks.example/"


def test_who_seals_and_who_opens_have_the_same_key() -> None:
    keys = {name: SERVICES[name]["environment"].get("CROSSWIND_SEAL_KEY") for name in OURS}
    assert keys["dashboard"] == keys["notify"] is not None
    assert {name for name, key in keys.items() if key} == {"dashboard", "notify"}


def test_a_bundle_that_one_adds_is_seen_by_all() -> None:
    """Deployments name a path in the registry: it must be the same folder, at the same place."""
    users = ("worker", "worker-gpu", "dashboard")
    [place] = {SERVICES[name]["environment"]["CROSSWIND_REGISTRY"] for name in users}
    assert all(f"registry:{place}" in SERVICES[name]["volumes"] for name in users)


def test_our_volumes_lie_on_folders_that_our_user_owns() -> None:
    text = (ROOT / "Dockerfile").read_text("utf-8")
    made = re.search(r"^USER crosswind\nWORKDIR (\S+)\n(?:#.*\n)*RUN mkdir (.+)$", text, re.MULTILINE)
    assert made
    owned = {f"{made[1]}/{folder}" for folder in made[2].split()}
    assert {volume.split(":")[1] for name in OURS for volume in SERVICES[name].get("volumes", [])} <= owned


@pytest.mark.parametrize("name", OURS)
def test_kafka_tells_each_an_address_that_it_reaches(name: str) -> None:
    """A client goes on with the address that Kafka advertises on the listener that it asked."""
    kafka, asked = SERVICES["kafka"], SERVICES[name]["environment"]["CROSSWIND_KAFKA"]
    told = dict(one.split("://") for one in kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(","))
    bound = dict(one.split("://:") for one in kafka["environment"]["KAFKA_LISTENERS"].split(","))
    [listener] = [one for one, address in told.items() if address == asked]
    host, _, port = asked.partition(":")
    assert bound[listener] == port
    if SERVICES[name].get("network_mode") == "host":
        assert f"127.0.0.1:{port}:{port}" in kafka["ports"]
        assert host == "127.0.0.1"
    else:
        assert host == "kafka"


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


def test_the_image_for_gpus_has_the_version_that_the_extra_names() -> None:
    named = re.search(r"onnxruntime-gpu\[[a-z,]+\]==([\d.]+)", (ROOT / "pyproject.toml").read_text("utf-8"))
    assert named
    for path in ("Dockerfile", "docs/operations.md"):
        assert f"--no-deps onnxruntime-gpu=={named[1]}" in (ROOT / path).read_text("utf-8"), path
