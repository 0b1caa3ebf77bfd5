"""What people say to alerts, through the API: acknowledge, judge, silence. Every change is in the audit log first."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Path, Request
from pydantic import BaseModel, Field
from sqlalchemy import Engine

from crosswind.dashboard.login import account_of, needs
from crosswind.dashboard.problems import refusals
from crosswind.dashboard.work_models import Acknowledged, AuditOut, Done, VerdictOut
from crosswind.errors import DataError, SettingsError
from crosswind.stream.adapters.postgres import alert_orders
from crosswind.stream.adapters.postgres.accounts import Account, Accounts, Role
from crosswind.stream.domain.silence import Matcher, Silence, parse_matcher
from crosswind.stream.domain.validate import MAX_NAME, is_name

MOST_HOURS = 24 * 30
MAX_MATCHER = MAX_NAME + 20
"""Characters of a field, an operator and a name."""
Ident = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Analyst = Annotated[Account, needs(Role.ANALYST)]
Admin = Annotated[Account, needs(Role.ADMIN)]


class VerdictIn(BaseModel):
    """What somebody thinks of an incident."""

    useful: bool


class SilenceIn(BaseModel):
    """What shall be silent: all matchers must hold, e.g. `topic=credit`, `entity~Bank*`."""

    matchers: list[Annotated[str, Field(max_length=MAX_MATCHER)]] = Field(min_length=1, max_length=5)
    hours: float = Field(gt=0, le=MOST_HOURS)
    comment: str = Field("", max_length=500)


@dataclass(frozen=True, slots=True)
class Me:
    """Who is asking, and whether they may act."""

    name: str
    role: str
    acts: bool
    leaves: bool


@dataclass(frozen=True, slots=True)
class _Desk:
    """What the routes share."""

    engine: Engine
    run: str
    accounts: Accounts

    def note(self, request: Request, account: Account, action: str, subject: str, **detail: Any) -> None:
        self.accounts.note(account.name, action, subject, request.client.host if request.client else "", **detail)


def add_orders(server: FastAPI, engine: Engine, run: str, *, login: bool) -> None:
    """Adds the routes; `engine` must be one that can write."""
    desk = _Desk(engine, run, Accounts(engine))
    router = APIRouter(prefix="/api/v1")
    _add_incidents(router, desk)
    _add_silences(router, desk)

    @router.get("/me", summary="Who is asking")
    def me(request: Request) -> Me:
        account = account_of(request)
        return Me(account.name, account.role.name.lower(), account.role >= Role.ANALYST, login)

    @router.get("/audit", summary="Who changed what, newest first; for admins", responses=refusals(403))
    def audit(admin: Admin) -> list[AuditOut]:
        return [AuditOut(**entry) for entry in desk.accounts.noted()]

    server.include_router(router)


def _add_incidents(router: APIRouter, desk: _Desk) -> None:
    @router.post("/incidents/{incident_id}/acknowledge", summary="Take an incident on; the first one has it")
    def acknowledge(incident_id: Ident, request: Request, account: Analyst) -> Acknowledged:
        desk.note(request, account, "acknowledge", incident_id)
        taken = alert_orders.acknowledge(desk.engine, desk.run, incident_id, account.name)
        return Acknowledged(acknowledged_by=taken)

    @router.post("/incidents/{incident_id}/verdict", summary="Say whether an incident was useful")
    def judge(incident_id: Ident, verdict: VerdictIn, request: Request, account: Analyst) -> VerdictOut:
        desk.note(request, account, "judge", incident_id, useful=verdict.useful)
        alert_orders.judge(desk.engine, desk.run, incident_id, account.name, verdict.useful)
        return VerdictOut(useful=verdict.useful)


def _add_silences(router: APIRouter, desk: _Desk) -> None:
    @router.get("/silences", summary="Silences in force")
    def silences() -> list[Silence]:
        return alert_orders.silences(desk.engine, desk.run)

    @router.post("/silences", summary="Silence what matches, for some hours of event time")
    def silence(asked: SilenceIn, request: Request, account: Analyst) -> Silence:
        matchers = [_matcher(text) for text in asked.matchers]
        desk.note(request, account, "silence", " ".join(asked.matchers)[:500], hours=asked.hours)
        lasts = timedelta(hours=asked.hours)
        return alert_orders.silence(desk.engine, desk.run, matchers, lasts, account.name, asked.comment)

    @router.delete("/silences/{silence_id}", summary="End a silence")
    def unsilence(silence_id: Ident, request: Request, account: Analyst) -> Done:
        desk.note(request, account, "end silence", silence_id)
        alert_orders.end_silence(desk.engine, desk.run, silence_id)
        return Done()


def _matcher(text: str) -> Matcher:
    try:
        found = parse_matcher(text)
    except SettingsError as error:
        raise DataError(str(error)) from None
    if not is_name(found.value):
        raise DataError(
            f"a matcher's text is up to {MAX_NAME} characters as articles are stored: in one line, composed (NFC), "
            "without control characters or doubled blanks"
        )
    return found
