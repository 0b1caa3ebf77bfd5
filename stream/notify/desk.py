"""What the API and the command line do with subscriptions: one desk for both."""

import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Engine

from crosswind.settings import Settings
from crosswind.stream.adapters.postgres.subscriptions import ALL, Delivery, Subscription, Subscriptions, quiet_to
from crosswind.stream.notify.adapters.render import check_template
from crosswind.stream.notify.adapters.senders import Senders, prepare, sample, unsubscribe_address
from crosswind.stream.notify.adapters.vault import Vault, open_vault, rotated
from crosswind.stream.notify.domain.subscription import Channel, Draft, Standing, check
from crosswind.stream.notify.service.dispatcher import Reply


@dataclass(frozen=True, slots=True)
class Made:
    """A new subscription. `secret`: the webhook's signing key, seen this once; None for other channels."""

    subscription_id: str
    secret: str | None
    unsubscribe: str


class Desk:
    """Methods raise DataError for what cannot be done, DatabaseError when the database is away.

    Args:
        engine: one that can write.
    """

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings = settings
        self.store = Subscriptions(engine, settings.run)

    @cached_property
    def _vault(self) -> Vault:
        """Opened when it is first needed: a dashboard that nobody subscribes at makes no key file."""
        return open_vault(self._settings)

    def add(self, owner: str, draft: Draft, at_most: int | None = None) -> Made:
        """Makes a subscription."""
        check(draft)
        secret, lane, shown = prepare(draft, self._settings.notify_private)
        new = self.store.add(owner, draft, lane=lane, shown=shown, sealed=self._vault.seal(secret), at_most=at_most)
        return Made(new, secret.keys[0].secret if secret.keys else None, self.unsubscribe_address(new))

    def change(self, subscription_id: str, draft: Draft, owner: str = ALL) -> None:
        """Writes everything but channel and target anew."""
        if draft.template:
            check_template(draft.template)
        self.store.change(subscription_id, draft, owner)

    def unsubscribe_address(self, subscription_id: str) -> str:
        """Where its subscriber ends it without a token; only the path where no public address is set."""
        return unsubscribe_address(self._settings.public_url, self._vault.token(subscription_id))

    def subscription_of(self, token: str) -> str | None:
        """The subscription that an unsubscribe token ends."""
        return self._vault.subscription_of(token)

    def unsubscribe(self, subscription_id: str) -> None:
        """Ends it on its subscriber's word."""
        self.store.stand(subscription_id, Standing.UNSUBSCRIBED, "its subscriber unsubscribed")

    def rotate(self, subscription_id: str, owner: str = ALL) -> str | None:
        """A new signing key, seen this once; the one before it signs along for a day. None: it has no key."""
        sealed, _ = self.store.sealed(subscription_id, owner)
        content = self._vault.open(sealed)
        if not content.keys:
            return None
        renewed = rotated(content, time.time())
        self.store.seal(subscription_id, self._vault.seal(renewed))
        return renewed.keys[0].secret

    async def test(self, subscription_id: str, owner: str = ALL) -> Delivery:
        """Sends a message that says it is a test, at once, and logs it."""
        found = self.store.get(subscription_id, owner)
        sealed, lane = self.store.sealed(subscription_id, owner)
        message = sample("test_" + secrets.token_hex(12), subscription_id, found.draft, sealed, lane)
        started = time.monotonic()
        if found.draft.channel is Channel.STREAM:
            reply = Reply(None, "a stream is read by its subscriber; there is nothing to send")
        else:
            async with Senders(self._settings, self._vault) as send:
                reply = await send(message)
        spent = int((time.monotonic() - started) * 1000)
        outcome = "sent" if reply.well else "failed"
        tried = Delivery(message.message_id, datetime.now(UTC), 1, outcome, reply.status, reply.detail, spent)
        self.store.tested(subscription_id, tried)
        return tried


def shown(found: Subscription) -> dict[str, Any]:
    """A subscription for JSON; it never has the target or a key, only what may be shown of it."""
    draft = found.draft
    return {
        "id": found.subscription_id, "name": draft.name, "channel": draft.channel.value, "target": found.shown,
        "topics": draft.filter.topics, "languages": draft.filter.langs, "entities": draft.filter.entities,
        "severity": draft.filter.min_severity, "language": draft.language, "quiet": quiet_to(draft.quiet),
        "cap_per_hour": draft.cap_per_hour, "digest_minutes": draft.digest_minutes, "template": draft.template,
        "state": found.state.value, "reason": found.state_reason, "failures": found.failures,
        "created_at": found.created_at.isoformat(), "updated_at": found.updated_at.isoformat(),
    }  # fmt: skip
