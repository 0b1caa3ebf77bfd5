"""Who wants to be told of what. Pure; `stream/adapters/postgres/outbox.py` says the same in SQL, a test compares."""

import re
from dataclasses import dataclass, field
from enum import StrEnum

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.domain.validate import MAX_NAME, is_name
from crosswind.stream.notify.domain.timing import Quiet

LANGUAGES = ("en", "zh", "de", "es", "fr", "ja", "it", "pt")
"""Languages that messages are written in."""
TOLD = ("fired", "no_data", "escalated", "repeated", "silence_ended")
"""Causes of transitions that people are told of, besides the end of what they were told of. Corrected figures are not
among them: with ordinary lateness they come every few minutes, and one that makes an incident critical escalates it."""
OVER = ("resolved", "lapsed")
_WORD = re.compile(r"[\w*][\w .:&+/-]{0,79}")  # of topics and languages; names are anybody's
_TOPIC = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")


class Channel(StrEnum):
    """How messages travel."""

    WEBHOOK = "webhook"
    APPRISE = "apprise"
    KAFKA = "kafka"
    STREAM = "stream"


class Standing(StrEnum):
    """Whether a subscription is served. `DISABLED`: its receiver said that it is gone, or its owner's account was
    removed."""

    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"
    UNSUBSCRIBED = "unsubscribed"


@dataclass(frozen=True, slots=True)
class Filter:
    """Which alerts; an empty tuple means all. An alert is about a topic or about an entity: either may match.

    Attributes:
        langs: of the series; an alert of all languages matches when its evidence has one of them.
        min_severity: `warning` or `critical`.
    """

    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()
    min_severity: str = "warning"


@dataclass(frozen=True, slots=True)
class Draft:
    """A subscription as it is asked for.

    Attributes:
        target: a webhook's address, an Apprise address, or a Kafka topic; secret, empty for streams.
        cap_per_hour: messages per hour at most; more wait. None: no cap.
        digest_minutes: one message for each such span of the clock; None: one per transition.
        template: a Jinja2 text of the subscriber's own for the message; None: ours.
    """

    channel: Channel
    target: str = ""
    name: str = ""
    filter: Filter = Filter()
    language: str = "en"
    quiet: Quiet | None = None
    cap_per_hour: int | None = None
    digest_minutes: int | None = None
    template: str | None = None


def check(draft: Draft) -> None:
    """Refuses what cannot be served.

    Raises:
        DataError: saying which part, and what is expected.
    """
    wanted = draft.filter
    for kind, words in (("topics", wanted.topics), ("languages", wanted.langs)):
        if len(words) > 200 or not all(_WORD.fullmatch(word) for word in words):
            raise DataError(f"{kind}: expected at most 200 words of up to 80 letters, digits, spaces or .:&+/-")
    if len(wanted.entities) > 200 or not all(is_name(name) for name in wanted.entities):
        raise DataError(
            f"entities: expected at most 200 names of up to {MAX_NAME} characters, each in one line, without control "
            "characters or blanks around it"
        )
    if wanted.min_severity not in ("warning", "critical"):
        raise DataError(f"severity {wanted.min_severity!r}: expected warning or critical")
    if draft.language not in LANGUAGES:
        raise DataError(f"language {draft.language!r}: expected one of {', '.join(LANGUAGES)}")
    if draft.cap_per_hour is not None and not 1 <= draft.cap_per_hour <= 3600:
        raise DataError("cap per hour: expected 1 to 3600")
    if draft.digest_minutes is not None and not 1 <= draft.digest_minutes <= 1440:
        raise DataError("digest minutes: expected 1 to 1440")
    if "\x00" in draft.name + draft.target + (draft.template or ""):  # Postgres takes none
        raise DataError("name, target and template hold no NUL character")
    if len(draft.name) > 200 or len(draft.target) > 2000 or len(draft.template or "") > 4000:
        raise DataError("too long: at most 200 characters of name, 2000 of target, 4000 of template")
    if draft.channel is Channel.KAFKA and not (_TOPIC.fullmatch(draft.target) and draft.target.startswith("alerts.")):
        raise DataError("a Kafka target is a topic of your own: alerts.NAME, in lower case; `alerts` has every alert")
    if (draft.channel is Channel.STREAM) != (not draft.target):
        raise DataError("a target is needed for webhook, apprise and kafka, and streams have none")


def over(alert: Alert) -> bool:
    """Whether the incident has ended."""
    return alert.state in OVER


def concerns_all(alert: Alert) -> bool:
    """Whether it is about the feed as a whole, such as its silence, or all of its news in one language."""
    return alert.topic == "*" and alert.entity == "*"


def group_of(alert: Alert) -> str:
    """The id of its incident's group."""
    return alert.group or alert.incident_id


def worth_telling(alert: Alert) -> bool:
    """Whether it is told to those who were told of nothing of its group before."""
    return not alert.silenced and not over(alert) and alert.cause in TOLD


def wants(wanted: Filter, alert: Alert, told: bool, group_told: bool = False) -> bool:
    """Whether a subscriber gets this transition.

    Args:
        told: it got an earlier one of the same incident. The end goes to exactly those, whatever the filter says.
        group_told: it got an earlier one of another incident of the same group that is not over: it knows of the
            crisis, by a topic or by a company, and is told of no second incident of it.
    """
    if over(alert):
        return told
    if (group_told and not told) or not worth_telling(alert):
        return False
    if wanted.min_severity == "critical" and alert.severity != "critical":
        return False
    every = concerns_all(alert)
    about = every or not (wanted.topics or wanted.entities) or (
        alert.topic in wanted.topics or alert.entity in wanted.entities)  # fmt: skip
    spoken = not wanted.langs or alert.lang in wanted.langs
    heard = alert.lang == "*" and (every or not set(wanted.langs).isdisjoint(alert.languages))
    return about and (spoken or heard)


@dataclass(frozen=True, slots=True)
class Told:
    """What one subscriber was told of that is not over. For those who keep no outbox; transitions come in order."""

    _groups: dict[str, str] = field(default_factory=dict)

    def knows(self, alert: Alert) -> bool:
        """Whether it was told of this incident."""
        return alert.incident_id in self._groups

    def tell(self, wanted: Filter, alert: Alert) -> bool:
        """Whether it gets this transition, which it has got from now on."""
        told, group = self.knows(alert), group_of(alert)
        others = {found for ident, found in self._groups.items() if ident != alert.incident_id}
        gets = wants(wanted, alert, told, group in others)
        if over(alert):
            self._groups.pop(alert.incident_id, None)
        elif gets:
            self._groups[alert.incident_id] = group
        return gets
