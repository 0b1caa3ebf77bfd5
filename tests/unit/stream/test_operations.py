"""What operators are given names only what exists: dashboard, alert rules, documentation, compose file."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from crosswind.errors import Reason
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.notify.adapters.metrics import NotifyMetrics

ROOT = Path(__file__).parents[3]
BOARD, RULES = ROOT / "ops" / "grafana" / "crosswind.json", ROOT / "ops" / "prometheus" / "alerts.yaml"
DOCS = ROOT / "docs" / "operations.md"
NAME = re.compile(r"\bcrosswind_[a-z_]+")


def _exported() -> set[str]:
    """Names of all series that a worker exports."""
    return _series(Metrics().registry)


def _series(registry: CollectorRegistry) -> set[str]:
    families = re.findall(r"^# TYPE (\S+) (\S+)$", generate_latest(registry).decode(), re.MULTILINE)
    names = {name for name, kind in families if not name.endswith("_created")}
    return names | {f"{name}_{part}" for name, kind in families if kind == "histogram"
                    for part in ("bucket", "sum", "count")}  # fmt: skip


def _labels() -> dict[str, set[str]]:
    metrics = [one for one in vars(Metrics()).values() if hasattr(one, "_labelnames")]
    return {one._name: set(one._labelnames) for one in metrics}


@pytest.mark.parametrize("path", [BOARD, RULES, DOCS], ids=lambda path: path.name)
def test_every_metric_that_is_named_exists(path: Path) -> None:
    named = set(NAME.findall(path.read_text("utf-8")))
    assert named
    exported = _exported() | _series(NotifyMetrics().registry)
    assert named <= exported, named - exported


def test_every_metric_is_documented() -> None:
    documented = set(NAME.findall(DOCS.read_text("utf-8")))
    missing = {name for name in _exported() if not name.endswith(("_bucket", "_sum", "_count"))} - documented
    assert not missing


def test_queries_group_by_labels_that_exist() -> None:
    for panel in json.loads(BOARD.read_text("utf-8"))["panels"]:
        for target in panel["targets"]:
            grouped = re.findall(r"by \(([a-z, ]+)\) \((?:\w+\()*(crosswind_\w+)", target["expr"])
            for labels, name in grouped:
                base = re.sub(r"_(total|bucket|sum|count)$", "", name)
                assert set(labels.split(", ")) <= _labels()[base] | {"le"}, (panel["title"], name)


def test_panels_do_not_overlap_and_have_ids_of_their_own() -> None:
    panels = json.loads(BOARD.read_text("utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}) == len(panels)


def test_every_alert_says_what_to_do() -> None:
    rules = msgspec.yaml.decode(RULES.read_bytes())["groups"][0]["rules"]
    text = DOCS.read_text("utf-8")
    assert [rule["alert"] for rule in rules if f"`{rule['alert']}`" not in text] == []


def test_every_worker_is_watched_as_one() -> None:
    """`CrosswindNoWorker` asks for `up{job="crosswind"}`: a worker on CUDA alone is a worker."""
    services = msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes())["services"]
    jobs = msgspec.yaml.decode((ROOT / "ops" / "prometheus" / "prometheus.yaml").read_bytes())["scrape_configs"]
    [job] = [one for one in jobs if one["job_name"] == "crosswind"]
    workers = {name for name, one in services.items() if one.get("command", [""])[0] == "worker"}
    assert {name for one in job["dns_sd_configs"] for name in one["names"]} == workers


def test_the_first_dead_letters_count() -> None:
    """`increase` is of what a series has grown by: one that begins with the first burst has not."""
    said = generate_latest(Metrics().registry).decode()
    assert [one for one in Reason if f'crosswind_dead_letters_total{{reason="{one.value}"}} 0.0' not in said] == []


def test_compose_mounts_files_that_exist() -> None:
    services = msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes())["services"]
    mounted = [mount.split(":")[0] for name in ("prometheus", "grafana") for mount in services[name]["volumes"]]
    assert all((ROOT / path).exists() for path in mounted if path.startswith("./")), mounted


def test_settings_that_are_named_exist() -> None:
    named = set(re.findall(r"CROSSWIND_([A-Z_]+)\b", DOCS.read_text("utf-8")))
    assert {name.lower() for name in named} <= set(Settings.model_fields)


def test_prometheus_asks_the_ports_that_services_serve_metrics_on() -> None:
    services = msgspec.yaml.decode((ROOT / "docker-compose.yml").read_bytes())["services"]
    jobs = msgspec.yaml.decode((ROOT / "ops" / "prometheus" / "prometheus.yaml").read_bytes())["scrape_configs"]
    entries = [one for job in jobs for one in job["dns_sd_configs"]]
    asked = {name: str(one["port"]) for one in entries for name in one["names"]}
    assert set(asked) == {name for name, one in services.items() if one.get("command", [""])[0] in ("worker", "notify")}
    assert all(len(one["names"]) == 1 for one in entries), "a name that is not there must not hold up another"
    for name, port in asked.items():
        served = [*services[name]["command"], services[name]["environment"].get("CROSSWIND_NOTIFY_PORT")]
        assert port in served, name
