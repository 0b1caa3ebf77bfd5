"""Mail programs find their own unsubscribe button: RFC 2369 and RFC 8058 headers, over a real SMTP server."""

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import cast

import pytest

from crosswind.settings import load_settings
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.adapters.vault import Sealed
from crosswind.stream.notify.domain.subscription import Channel
from crosswind.stream.notify.service.dispatcher import Message, Reply
from tests.notify_helpers import KEY, VAULT, alert

ADDRESS = "https://crosswind.example.com"


class Postbox(socketserver.ThreadingTCPServer):
    """An SMTP server that takes every mail."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Talk)
        self.mails: list[EmailMessage] = []


class _Talk(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        self.wfile.write(b"220 postbox\r\n")
        while line := self.rfile.readline():
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                self._take()
            self.wfile.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 ok\r\n")
            if verb == b"QUIT":
                return

    def _take(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line.removeprefix(b"."))
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        cast("Postbox", self.server).mails.append(cast("EmailMessage", mail))


@contextmanager
def postbox() -> Iterator[Postbox]:
    with Postbox() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join(5)


def send(there: Postbox, folder: Path, public_url: str, more: str = "") -> EmailMessage:
    target = (
        f"mailto://127.0.0.1:{there.server_address[1]}?from=cw@here.example&to=ann@there.example&mode=insecure{more}"
    )
    message = Message("m", "sub_1", Channel.APPRISE, "h", "en", VAULT.seal(Sealed(target)), (alert(),))
    given = {"seal_key": KEY, "data_dir": folder, "notify_private": True, "public_url": public_url}

    async def work() -> Reply:
        async with Senders(load_settings(given), VAULT) as senders:
            return await senders(message)

    assert asyncio.run(work()).well
    [mail] = there.mails
    return mail


def test_a_mail_can_be_ended_by_one_click(tmp_path: Path) -> None:
    with postbox() as there:
        mail = send(there, tmp_path, ADDRESS + "/")
    listed = mail["List-Unsubscribe"]
    assert mail.get_all("List-Unsubscribe") == [listed]
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    token = listed.removeprefix(f"<{ADDRESS}/api/v1/unsubscribe/").removesuffix(">")
    assert VAULT.subscription_of(token) == "sub_1"
    content = cast("EmailMessage", mail.get_body(("html",))).get_content()
    assert f"{ADDRESS}/series?" in content
    assert token in content


@pytest.mark.parametrize(("public_url", "names"), [
    ("", []), ("http://crosswind.internal:8050", ["List-Unsubscribe"]),  # one click is for https only
])  # fmt: skip
def test_what_cannot_be_ended_by_one_click_does_not_say_so(public_url: str, names: list[str], tmp_path: Path) -> None:
    with postbox() as there:
        mail = send(there, tmp_path, public_url)
    assert [name for name in mail if name.startswith("List-")] == names


def test_headers_that_the_subscriber_gave_stay(tmp_path: Path) -> None:
    with postbox() as there:
        mail = send(there, tmp_path, ADDRESS, "&%2BList-Unsubscribe=%3Chttps%3A//own.example/%3E&%2BX-Team=desk")
    assert mail.get_all("List-Unsubscribe") == ["<https://own.example/>"]
    assert (mail["X-Team"], mail["List-Unsubscribe-Post"]) == ("desk", None)
