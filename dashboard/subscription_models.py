"""What the API takes and gives of subscriptions, typed; no target and no key is ever given back."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from crosswind.stream.notify.domain.timing import Quiet, quiet_hours

Words = Annotated[list[str], Field(max_length=200)]


class QuietIn(BaseModel):
    """Hours in which nothing is sent, local to an IANA time zone."""

    model_config = ConfigDict(extra="forbid")
    zone: str = Field(max_length=64, examples=["Europe/Berlin"])
    start: str = Field(pattern=r"^\d\d:\d\d$")
    end: str = Field(pattern=r"^\d\d:\d\d$")
    except_critical: bool = True

    def hours(self) -> Quiet:
        """Checked."""
        return quiet_hours(self.zone, self.start, self.end, self.except_critical)


class Wishes(BaseModel):
    """What a subscription may be changed to; what is left out stays, null takes a limit away."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field("", max_length=200)
    topics: Words = []
    languages: Words = []
    entities: Words = []
    severity: Literal["warning", "critical"] = "warning"
    language: str = Field("en", max_length=8, description="of the messages")
    quiet: QuietIn | None = None
    cap_per_hour: int | None = Field(None, ge=1, le=3600)
    digest_minutes: int | None = Field(None, ge=1, le=1440)
    template: str | None = Field(None, max_length=4000)


class SubscriptionIn(Wishes):
    """A subscription to make. `target`: an https address, an Apprise address, a Kafka topic; none for a stream."""

    channel: Literal["webhook", "apprise", "kafka", "stream"]
    target: str = Field("", max_length=2000)


class SubscriptionPatch(Wishes):
    """Changes; `state` pauses and resumes."""

    state: Literal["active", "paused"] | None = None


class SubscriptionOut(BaseModel):
    """A subscription. `target` names where messages go, without what is secret of it; `reason` says why it stands."""

    id: str
    name: str
    channel: Literal["webhook", "apprise", "kafka", "stream"]
    target: str
    topics: list[str]
    languages: list[str]
    entities: list[str]
    severity: Literal["warning", "critical"]
    language: str
    quiet: QuietIn | None
    cap_per_hour: int | None
    digest_minutes: int | None
    template: str | None
    state: Literal["active", "paused", "disabled", "unsubscribed"]
    reason: str
    failures: int
    created_at: datetime
    updated_at: datetime


class SubscriptionMade(SubscriptionOut):
    """A new one: its signing key, seen this once (null where the channel has none), and the link that ends it."""

    secret: str | None
    unsubscribe: str


class DeliveryOut(BaseModel):
    """One attempt to send; `status` is the receiver's HTTP status."""

    message_id: str
    at: datetime
    attempt: int
    outcome: str
    status: int | None
    detail: str
    milliseconds: int


class KeyOut(BaseModel):
    """A new signing key, seen this once; the one before it signs along for a day."""

    secret: str | None
