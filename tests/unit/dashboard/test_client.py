"""The typed client, where the environment names a proxy."""

import pytest

from crosswind.dashboard.client import Client
from tests.answering import answering


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_no_proxy_is_asked_for_a_dashboard_of_this_machine(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    with answering() as address, Client(address) as client:
        assert client.healthy()
