"""`crosswind status` where something else answers, or something is not well."""

import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from crosswind.settings import Settings
from crosswind.status import _broker, _model, _part, _worker
from crosswind.stream.adapters.kafka.embedded import free_port
from tests.tiny_bundle import make_tiny_bundle


class Stranger(http.server.BaseHTTPRequestHandler):
    """A server that is no worker."""

    body = b""
    unwell = ""

    def do_GET(self) -> None:
        self.send_response(503 if self.path == self.unwell else 200)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(params=[b"<html>", b"{}", b"[]"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    kind = type("Handler", (Stranger,), {"body": request.param})
    with http.server.HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


class Worker(Stranger):
    body = b'{"model": "m", "provider": "cpu", "ready": true, "assigned": ["news.raw 0"]}'


@pytest.mark.parametrize(
    ("listens", "host"), [("127.0.0.2", "127.0.0.2"), ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "127.0.0.1")]
)
def test_a_worker_is_asked_where_it_listens(listens: str, host: str) -> None:
    with http.server.HTTPServer((listens, 0), Worker) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = _part(_worker, Settings(_env_file=None, worker_host=host, worker_port=server.server_port))
        server.shutdown()
        thread.join()
    assert found == {"ok": True, "partitions": 1, "model": "m", "provider": "cpu"}


def test_a_port_that_is_no_workers_is_down(port: int) -> None:
    found = _part(_worker, Settings(_env_file=None, worker_port=port))
    assert found["ok"] is False
    assert "is the address right?" in found["error"]


@contextmanager
def _serving(kind: type[Stranger]) -> Iterator[Settings]:
    with http.server.HTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Settings(_env_file=None, worker_port=server.server_port)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/health/ready", "/health/live"])
def test_a_worker_that_is_not_well_is_down(path: str) -> None:
    with _serving(type("Unwell", (Worker,), {"unwell": path})) as settings:
        found = _part(_worker, settings)
    assert (found["ok"], found["error"], found["model"]) == (False, f"{path} answers 503", "m")


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "socks://127.0.0.1:9"])
def test_no_proxy_is_asked_for_a_worker_of_this_machine(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with _serving(Worker) as settings:
        assert _part(_worker, settings)["ok"]


def test_a_bundle_that_the_trusted_key_did_not_sign_is_down(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "tiny")
    key = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "key.pub").write_bytes(key)
    unsigned = Settings(_env_file=None, model=str(tmp_path / "tiny"))
    assert _part(_model, unsigned)["ok"]
    assert not _part(_model, unsigned.model_copy(update={"trusted_key": str(tmp_path / "key.pub")}))["ok"]


def test_a_kafka_that_is_away_is_told_soon() -> None:
    began = time.monotonic()
    found = _part(_broker, Settings(_env_file=None, kafka=f"127.0.0.1:{free_port()}"))
    assert not found["ok"]
    assert time.monotonic() - began < 15
