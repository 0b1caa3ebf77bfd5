"""`crosswind status` where something else answers."""

import http.server
import threading
from collections.abc import Iterator

import pytest

from crosswind.settings import Settings
from crosswind.status import _part, _worker


class Stranger(http.server.BaseHTTPRequestHandler):
    """A server that is no worker."""

    body = b""

    def do_GET(self) -> None:
        self.send_response(200)
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
