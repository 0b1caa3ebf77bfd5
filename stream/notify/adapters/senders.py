"""The way of one message: opened, put into words, sent through its channel."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType
from urllib.parse import urlsplit

import structlog

from crosswind.errors import CrosswindError
from crosswind.settings import Settings
from crosswind.stream.adapters.kafka.security import client_options
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.adapters.apprise_sender import AppriseSender, check_target
from crosswind.stream.notify.adapters.guard import Lookup, system_lookup
from crosswind.stream.notify.adapters.kafka_sender import KafkaSender
from crosswind.stream.notify.adapters.render import HEADLINES, body, check_template, template_problem, words
from crosswind.stream.notify.adapters.vault import Sealed, Vault, new_key
from crosswind.stream.notify.adapters.webhook import WebhookSender
from crosswind.stream.notify.domain.addresses import check_url
from crosswind.stream.notify.domain.subscription import Channel, Draft
from crosswind.stream.notify.service.dispatcher import Message, Reply
from crosswind.stream.service.translation import Translations

TRANSLATE_SECONDS = 6.0
"""Well below what a send may take. What is translated too late is kept, and there for the next message."""
_log = structlog.get_logger(__name__)


class Senders:
    """Sends a message through its channel; an async context manager that opens and closes them."""

    def __init__(
        self, settings: Settings, vault: Vault, lookup: Lookup = system_lookup, translations: Translations | None = None
    ) -> None:
        self._translations = translations
        self._vault, self._address = vault, settings.public_url.rstrip("/")
        self._webhook = WebhookSender(settings.notify_private, lookup)
        self._apprise = AppriseSender(settings.notify_private)
        self._kafka = KafkaSender(settings.kafka, client_options(settings))

    async def __aenter__(self) -> "Senders":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._webhook.close()
        await self._kafka.close()
        self._apprise.close()

    async def __call__(self, message: Message) -> Reply:
        """One attempt. The reply says so when the subscriber's template failed and our own text went out."""
        if not message.alerts:
            return Reply(204, "its alerts are no longer stored")
        reply = await self._sent(message)
        problem = template_problem(message, self._address)
        return replace(reply, detail="; ".join(filter(None, (reply.detail, problem)))) if problem else reply

    async def _sent(self, message: Message) -> Reply:
        secret = self._vault.open(message.sealed)
        token = self._vault.token(message.subscription_id)
        end = unsubscribe_address(self._address, token) if self._address else ""
        if message.channel is Channel.APPRISE:
            said = words(await self._translated(message), self._address, end)
            return await self._apprise.send(secret.target, said.title, said.html, end)
        content = body(message, self._address, end)
        if message.channel is Channel.KAFKA:
            return await self._kafka.send(secret.target, message.message_id, content)
        return await self._webhook.send(secret.target, secret.keys, message.message_id, content)

    async def _translated(self, message: Message) -> Message:
        """The message with translations of its evidence; as it is where they take too long or cannot be had.

        Only for people: what programs get must be the same bytes at every attempt.
        """
        ids = sorted({article for alert in message.alerts for article in alert.evidence[:HEADLINES]})
        if self._translations is None or not ids:
            return message
        run = message.alerts[0].run
        try:
            async with asyncio.timeout(TRANSLATE_SECONDS):
                found = await asyncio.to_thread(self._translations.translate, run, ids, message.language)
        except (TimeoutError, CrosswindError) as error:
            _log.warning("headlines go untranslated", message=message.message_id, error=type(error).__name__)
            return message
        return replace(message, translations=found)


def unsubscribe_address(public_url: str, token: str) -> str:
    """Where a subscriber ends its subscription without logging in; only the path where no public address is set."""
    return f"{public_url.rstrip('/')}/api/v1/unsubscribe/{token}"


def prepare(draft: Draft, private: bool) -> tuple[Sealed, str, str]:
    """What is kept of a new subscription: its secrets, its lane, and what may be shown of its target.

    Raises:
        DataError: the target or template cannot be used.
    """
    if draft.template:
        check_template(draft.template)
    if draft.channel is Channel.WEBHOOK:
        lane = check_url(draft.target, private=private)
        return Sealed(draft.target, (new_key(),)), lane, f"{urlsplit(draft.target).scheme}://{lane}/…"
    if draft.channel is Channel.APPRISE:
        scheme = check_target(draft.target)
        return Sealed(draft.target), f"apprise:{scheme}", f"{scheme}://…"
    return Sealed(draft.target), draft.channel.value, draft.target


def sample(message_id: str, subscription_id: str, draft: Draft, sealed: str, lane: str) -> Message:
    """A test message: made up, and says so."""
    alert = Alert(
        run="test", incident_id="test", seq=0, state="firing", at=datetime.now(UTC), rule="test", rule_version="test",
        severity="warning", topic="test", lang="*", entity="*", observed=0, expected=0.0, p_value=1.0,
        negative_share=0.0, sources=0, headlines=0, languages=[], evidence=[], model="test", cause="fired",
    )  # fmt: skip
    return Message(
        message_id, subscription_id, draft.channel, lane, draft.language, sealed, (alert,), template=draft.template
    )
