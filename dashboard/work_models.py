"""What the API takes and gives of rules, backtests, runs, models and feeds, typed."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from crosswind.dashboard.rules_desk import MAX_TEXT

MAX_TRUTH = 2_000_000
"""Characters of a truth: some 20,000 events."""

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Moment = Annotated[str, Field(max_length=40, description="RFC 3339, or empty")]


class Strict(BaseModel):
    """An unknown field is a mistake, not a wish to be ignored."""

    model_config = ConfigDict(extra="forbid")


class PreviewIn(Strict):
    """Rules to try, YAML, and over how many days of stored minutes."""

    text: Text
    days: Annotated[int, Field(ge=1, le=90)] = 30


class RulesIn(Strict):
    """Rules to save: over which text (`digest` of what was edited), and that they were previewed (`checked`)."""

    text: Text
    over: Annotated[str, Field(max_length=64)]
    checked: Annotated[str, Field(max_length=64)]


class BacktestIn(Strict):
    """A backtest to start; without rules those in use are judged."""

    name: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9][a-z0-9_-]*$")]
    feed: Literal["store", "sample"] = "store"
    truth: Annotated[str, Field(max_length=MAX_TRUTH, description="CSV: onset, end, series; or time, price, name")]
    rules: Text = ""
    since: Moment = ""
    until: Moment = ""


class FiguresOut(BaseModel):
    """How one set of rules did; null where nothing can be said. Leads are minutes before the labelled onset."""

    name: str
    version: str
    events: int
    detected: int
    alarms: int
    true_alarms: int
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    lead_median: float | None = None
    false_per_series_month: float | None = None
    under_alert: float | None = None


class BacktestOut(BaseModel):
    """A backtest: how far it is (`done` of `total` articles), and when it is done its figures per set of rules."""

    id: str
    state: Literal["running", "stopped", "failed", "done"]
    done: int
    total: int
    problem: str
    created_at: datetime | None = None
    title: str = ""
    articles: int = 0
    since: datetime | None = None
    until: datetime | None = None
    rules: list[FiguresOut] = []


class BacktestsOut(BaseModel):
    """A page of backtests, newest first; those that are not done come on the first one."""

    backtests: list[BacktestOut]
    next: str | None


class RunOut(BaseModel):
    """A run whose rows are in this database: `live`, or a replay."""

    run: str
    created_at: datetime | None
    state: str
    asked: dict[str, Any]
    found: dict[str, Any]


class RunsOut(BaseModel):
    """A page of runs, newest first."""

    runs: list[RunOut]
    next: str | None


class LiveModel(BaseModel):
    """A bundle that scores articles now."""

    version: str
    since: datetime
    worker: str


class ShadowModel(BaseModel):
    """A bundle that is compared beside the live one."""

    version: str
    since: datetime
    share: float


class DeploymentOut(BaseModel):
    """One entry of the history of deployments."""

    at: datetime
    slot: str
    what: str
    version: str | None
    worker: str | None
    message: str


class Wanted(BaseModel):
    """The newest deployment: what shall be live. Workers may still be loading it, or have refused it."""

    seq: int
    version: str
    at: datetime
    reason: str


class ModelsOut(BaseModel):
    """Which bundles judge articles, and what became of each deployment, newest first.

    `former` is the version that a rollback puts live.
    """

    live: LiveModel | None
    wanted: Wanted | None
    former: str | None
    shadow: ShadowModel | None
    history: list[DeploymentOut]


class BundleOut(BaseModel):
    """A bundle that can be put live."""

    version: str
    name: str
    precision: str
    languages: list[str]
    shipped: bool


Over = Annotated[
    int | None,
    Field(ge=0, lt=2**63, description="`seq` of the newest deployment that you know of, 0: none; refused when there is"
                                      " a newer one. Left out: never mind"),
]  # fmt: skip


class DeployIn(Strict):
    """A bundle to put live: its name, its version or the beginning of it, or `default` for the shipped one."""

    bundle: Annotated[str, Field(min_length=1, max_length=200)]
    over: Over = None


class RollbackIn(Strict):
    """Back to what was live before, or to a bundle of the registry."""

    to: Annotated[str, Field(max_length=200)] = ""
    over: Over = None


class AuditOut(BaseModel):
    """One entry of the audit log."""

    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    address: str


class Done(BaseModel):
    """What was asked for is done."""

    ended: bool = True


class Acknowledged(BaseModel):
    """Who has the incident: the first one who took it."""

    acknowledged_by: str


class VerdictOut(BaseModel):
    """What was noted."""

    useful: bool
