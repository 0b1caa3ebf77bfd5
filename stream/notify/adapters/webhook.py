"""Signed webhooks by the Standard Webhooks specification (https://www.standardwebhooks.com)."""

import asyncio
import base64
import hmac
import ssl
from collections.abc import Iterable
from datetime import UTC, datetime

import aiohttp

from crosswind.stream.notify.adapters.guard import GuardedResolver, Lookup, Refused, guarded_socket, system_lookup
from crosswind.stream.notify.adapters.vault import Key
from crosswind.stream.notify.domain.timing import retry_after
from crosswind.stream.notify.service.dispatcher import SEND_SECONDS, Reply

AGENT = "crosswind-notify/1"
CONNECT_SECONDS = 5.0
CONNECTIONS, TO_ONE_HOST = 512, 64


def signature(keys: Iterable[Key], message_id: str, timestamp: int, body: bytes) -> str:
    """The `webhook-signature` header: one `v1,…` for each key that is in use at `timestamp` (Unix seconds)."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    live = (key for key in keys if key.until is None or key.until > timestamp)
    secrets = (base64.b64decode(key.secret.removeprefix("whsec_")) for key in live)
    return " ".join(f"v1,{base64.b64encode(hmac.digest(secret, signed, 'sha256')).decode()}" for secret in secrets)


class WebhookSender:
    """Posts bodies. Make and close it in a running event loop.

    Args:
        private: private receivers are allowed.
        lookup: resolves names.
    """

    def __init__(self, private: bool, lookup: Lookup = system_lookup, seconds: float = SEND_SECONDS) -> None:
        connector = aiohttp.TCPConnector(
            limit=CONNECTIONS, limit_per_host=TO_ONE_HOST, resolver=GuardedResolver(private, lookup),
            socket_factory=guarded_socket(private),
        )  # fmt: skip
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False, auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
        )  # fmt: skip

    async def send(self, url: str, keys: Iterable[Key], message_id: str, body: bytes) -> Reply:
        """One attempt. The status decides; the answer's body is not read."""
        now = datetime.now(UTC)
        timestamp = int(now.timestamp())
        headers = {
            "Content-Type": "application/json", "User-Agent": AGENT, "webhook-id": message_id,
            "webhook-timestamp": str(timestamp), "webhook-signature": signature(keys, message_id, timestamp, body),
        }  # fmt: skip
        try:
            async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                wait = retry_after(answer.headers.get("Retry-After"), now) if answer.status in (429, 503) else None
                return Reply(answer.status, "", wait)
        except aiohttp.ClientConnectorError as error:
            return Reply(None, _cause(error.os_error))
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError, ssl.SSLError) as error:
            return Reply(None, "no answer in time" if isinstance(error, asyncio.TimeoutError) else type(error).__name__)

    async def close(self) -> None:
        """Ends its connections."""
        await self._session.close()


def _cause(error: OSError) -> str:
    if isinstance(error, Refused) or "not a public one" in str(error):
        return "refused: not a public address"
    return f"cannot connect ({error.strerror or type(error).__name__})"[:120]
