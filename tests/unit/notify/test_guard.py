"""Nothing is sent to a private network, however the address is written or a name resolves."""

import asyncio
import socket
from typing import Any

import pytest

from crosswind.errors import DataError
from crosswind.stream.notify.adapters.apprise_sender import AppriseSender, check_target
from crosswind.stream.notify.adapters.guard import AddressInfo, Refused, guarded_socket, public_only
from crosswind.stream.notify.adapters.vault import new_key
from crosswind.stream.notify.adapters.webhook import WebhookSender
from crosswind.stream.notify.domain.addresses import check_url, is_public
from tests.notify_helpers import receiver

PRIVATE = [
    "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
    "255.255.255.255", "224.0.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1", "192.88.99.1", "::1", "::", "fe80::1",
    "fe80::1%eth0", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1",
    "64:ff9b::7f00:1", "64:ff9b:1::a00:1", "2002:7f00:1::", "2001:0:1:2:3:4:5:6", "2001:db8::1", "2a00::5efe:7f00:1",
    "2a00::200:5efe:a00:1", "localhost", "0x7f.1", "2130706433",
]  # fmt: skip


@pytest.mark.parametrize("address", PRIVATE)
def test_private_addresses_are_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:220:1::1", "::ffff:93.184.215.14", "8.8.8.8"])
def test_public_addresses_are(address: str) -> None:
    assert is_public(address)


def post(url: str, lookup: Any = None) -> tuple[int | None, str]:
    async def work() -> tuple[int | None, str]:
        sender = WebhookSender(False, lookup, 5) if lookup else WebhookSender(False, seconds=5)
        try:
            reply = await sender.send(url, [new_key()], "m", b"{}")
            return reply.status, reply.detail
        finally:
            await sender.close()

    return asyncio.run(work())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0",
                                  "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "127.0.0.1."])  # fmt: skip
def test_every_spelling_of_loopback_is_refused_and_nothing_arrives(host: str) -> None:
    with receiver() as there:
        port = there.address.rpartition(":")[2]
        status, _ = post(f"http://{host}:{port}/ok")
        assert status is None
        assert there.got == []


def _info(address: str, port: int) -> AddressInfo:
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    async def lookup(host: str, port: int, family: int) -> list[AddressInfo]:
        return [_info("93.184.215.14", port), _info("127.0.0.1", port)]

    assert post("http://two.example/", lookup) == (None, "refused: not a public address")


def test_a_name_that_is_rebound_to_loopback_is_refused() -> None:
    asked: list[str] = []

    async def lookup(host: str, port: int, family: int) -> list[AddressInfo]:
        asked.append(host)
        return [_info("127.0.0.1", port)]

    check_url("https://rebound.example/", private=False)  # it was fine when it was subscribed
    assert post("http://rebound.example/", lookup) == (None, "refused: not a public address")
    assert asked


def test_the_dialled_address_is_checked_whoever_resolved_it() -> None:
    with pytest.raises(Refused):
        guarded_socket(False)(_info("10.0.0.1", 80))
    guarded_socket(True)(_info("10.0.0.1", 80)).close()


def test_other_libraries_are_held_too() -> None:
    with receiver() as there:
        port = int(there.address.rpartition(":")[2])
        with public_only(), pytest.raises(Refused):
            socket.create_connection(("127.0.0.1", port), 2)
        socket.create_connection(("127.0.0.1", port), 2).close()


def test_apprise_cannot_reach_loopback_unless_allowed() -> None:
    with receiver() as there:
        target = there.address.replace("http://", "json://") + "/ok"
        held = asyncio.run(AppriseSender(False).send(target, "t", "b"))
        assert (held.well, there.got) == (False, [])
        assert asyncio.run(AppriseSender(True).send(target, "t", "b")).well
        assert len(there.got) == 1


@pytest.mark.parametrize("url", ["http://example.org/", "ftp://example.org/", "https://u:p@example.org/", "https:///x",
                                 "https://example.org/#x", "https://exa mple.org/", "https://example.org:99999/",
                                 "file:///etc/passwd", "https://example.org\\@127.0.0.1/", "nonsense"])  # fmt: skip
def test_addresses_that_a_webhook_may_not_have(url: str) -> None:
    with pytest.raises(DataError):
        check_url(url, private=False)


@pytest.mark.parametrize("target", ["syslog://", "dbus://", "nonsense", "nosuch://x", "windows://"])
def test_apprise_targets_that_are_refused(target: str) -> None:
    with pytest.raises(DataError):
        check_target(target)


def test_mail_slack_telegram_and_teams_are_known() -> None:
    teams = "workflows://host.example/workflow1234/signature1234"
    for target in ("mailtos://user:pw@mail.example", "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
                   "tgram://123456789:abcdefg_hijklmnop/12315544/", teams):  # fmt: skip
        assert check_target(target)


@pytest.mark.parametrize("target", [
    "mailtos://user:pw@mail.example?to=ann@bank.example,bob@bank.example",
    "mailtos://user:pw@mail.example/ann@bank.example/bob@bank.example",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general/#desk",
    "tgram://123456789:abcdefg_hijklmnop/12315544/12315545/",
])  # fmt: skip
def test_an_address_of_several_receivers_is_refused(target: str) -> None:
    """Where one of them fails, all of them would get every message again at each attempt."""
    with pytest.raises(DataError, match="one receiver per subscription"):
        check_target(target)
