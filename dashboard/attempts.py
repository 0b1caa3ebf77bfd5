"""Ways to an identity provider and back that have begun and not ended, and why one may end with nobody let in."""

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from crosswind.stream.adapters.postgres.accounts import Person

PATIENCE: Final = 600.0
"""Seconds that somebody may take to log in at the provider."""

WAITING: Final = 10_000
"""Attempts remembered at once, some 5 MB; a flood of them pushes out the oldest."""


class Refusal(StrEnum):
    """Why somebody was not let in; in the audit log."""

    STATE = "state"
    PROVIDER = "provider"
    TOKEN = "token"
    ROLE = "role"
    UNREACHABLE = "unreachable"


class Refused(Exception):
    """Nobody is let in.

    Attributes:
        why: for the audit log and the answer.
        cause: for the log: a word or a type, never what the provider or a browser sent.
        person: who they are, where that is certain and they have no role.
    """

    def __init__(self, why: Refusal, cause: str = "", person: Person | None = None) -> None:
        super().__init__(f"{why}: {cause}")
        self.why, self.cause, self.person = why, cause, person


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to the provider and back.

    Attributes:
        browser: a secret that only this browser has, as a cookie.
        back: our address that the provider sends the browser to.
        to: the local path where they wanted to go.
        begun: seconds, monotonic.
    """

    browser: str
    nonce: str
    verifier: str
    back: str
    to: str
    begun: float


class Attempts:
    """Attempts that have not come back yet, in this process.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: OrderedDict[str, Attempt] = OrderedDict()

    def add(self, state: str, nonce: str, verifier: str, back: str, to: str) -> Attempt:
        """Remembers a new one."""
        while self._waiting and (len(self._waiting) >= WAITING or self._old(next(iter(self._waiting.values())))):
            self._waiting.popitem(last=False)
        made = Attempt(secrets.token_urlsafe(32), nonce, verifier, back, to, self._clock())
        self._waiting[state] = made
        return made

    def take(self, state: str, browser: str) -> Attempt:
        """The attempt of a state, once.

        Raises:
            Refused: there is none, it is too old, or another browser began it.
        """
        found = self._waiting.pop(state, None)
        if found is None or self._old(found):
            raise Refused(Refusal.STATE, "unknown")
        if not hmac.compare_digest(found.browser.encode(), browser.encode()):
            raise Refused(Refusal.STATE, "another browser")
        return found

    def _old(self, attempt: Attempt) -> bool:
        return attempt.begun + PATIENCE <= self._clock()
