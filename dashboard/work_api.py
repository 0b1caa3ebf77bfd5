"""Rules, backtests, runs, models and feeds over the API. Every change is in the audit log first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import HTMLResponse

from crosswind.dashboard import feeds, models_page
from crosswind.dashboard.cursors import MAX_CURSOR, cursor_of, parse_cursor
from crosswind.dashboard.models_desk import ModelsDesk
from crosswind.dashboard.orders import Admin, Analyst
from crosswind.dashboard.problems import refusals
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.rules_desk import PreviewOut, RulesDesk, RulesOut
from crosswind.dashboard.running_backtests import Asked, Backtests, Kept
from crosswind.dashboard.work_models import (
    BacktestIn,
    BacktestOut,
    BacktestsOut,
    BundleOut,
    DeployIn,
    DeploymentOut,
    FiguresOut,
    LiveModel,
    ModelsOut,
    PreviewIn,
    RollbackIn,
    RulesIn,
    RunOut,
    RunsOut,
    ShadowModel,
    Wanted,
)
from crosswind.errors import DataError, ModelError
from crosswind.stream.adapters.postgres.accounts import Account, Accounts
from crosswind.stream.adapters.postgres.runs import kept_runs, report_of
from crosswind.stream.adapters.postgres.subscriptions import Subscriptions
from crosswind.stream.service.deployment import Deployment

Before = Annotated[str, Query(max_length=MAX_CURSOR, description="a page's `next`")]
Limit = Annotated[int, Query(ge=1, le=200)]
Name = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
_REPORT = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; " \
          "img-src data: blob:; font-src data:"  # fmt: skip
"""Of a kept report, a page of its own with its drawing script inside: it reaches no network and none of our cookies."""


@dataclass(frozen=True, slots=True)
class Work:
    """What these routes and their pages share."""

    reader: Reader
    rules: RulesDesk
    backtests: Backtests
    accounts: Accounts
    models: ModelsDesk
    subscriptions: Subscriptions

    def note(self, request: Request, account: Account, action: str, subject: str, **detail: Any) -> None:
        """Writes into the audit log."""
        self.accounts.note(account.name, action, subject, request.client.host if request.client else "", **detail)


def add_work(server: FastAPI, work: Work) -> None:
    """Adds the routes; before `add_api`, whose catch-all would swallow them."""
    router = APIRouter(prefix="/api/v1")
    _add_rules(router, work)
    _add_backtests(router, work)
    _add_runs(router, work)
    _add_models(router, work)
    server.include_router(router)


def _add_rules(router: APIRouter, work: Work) -> None:
    @router.get("/rules", summary="The rules in use", tags=["rules"])
    def rules() -> RulesOut:
        return work.rules.current()

    @router.post("/rules/preview", summary="What rules would have said lately; for analysts", tags=["rules"])
    def preview(wanted: PreviewIn, account: Analyst) -> PreviewOut:
        return work.rules.preview(wanted.text, wanted.days)

    @router.put("/rules", summary="Save rules that were previewed; for admins", tags=["rules"])
    def save(wanted: RulesIn, request: Request, account: Admin) -> RulesOut:
        work.note(request, account, "save rules", wanted.checked, over=wanted.over)
        return work.rules.save(wanted.text, wanted.over, wanted.checked)


def _add_backtests(router: APIRouter, work: Work) -> None:
    @router.get("/backtests", summary="Backtests, newest first", tags=["backtests"])
    def backtests(before: Before = "", limit: Limit = 50) -> BacktestsOut:
        return page_of(work.backtests, before, limit)

    @router.post("/backtests", status_code=202, summary="Start a backtest; for analysts", tags=["backtests"])
    def start(wanted: BacktestIn, request: Request, account: Analyst) -> BacktestOut:
        work.note(request, account, "start backtest", wanted.name, feed=wanted.feed)
        asked = Asked(wanted.feed, [], "", wanted.since, wanted.until, account.name)
        progress = work.backtests.start(wanted.name, asked, wanted.rules, wanted.truth)
        return BacktestOut(id=wanted.name, state="running", done=progress.done, total=progress.total, problem="")

    @router.get("/backtests/{backtest_id}", summary="One backtest, or how far it is", tags=["backtests"])
    def backtest(backtest_id: Name) -> BacktestOut:
        found = one_of(work.backtests, backtest_id)
        if found is None:
            raise HTTPException(404, f"there is no backtest {backtest_id}")
        return found

    @router.get("/backtests/{backtest_id}/report", summary="Its report, one HTML page", tags=["backtests"],
                response_class=HTMLResponse)  # fmt: skip
    def report(backtest_id: Name) -> HTMLResponse:
        found = report_of(work.reader.engine, backtest_id)
        if found is None:
            raise HTTPException(404, f"there is no report of a backtest {backtest_id}")
        return HTMLResponse(found, headers={"Content-Security-Policy": _REPORT})


def _add_runs(router: APIRouter, work: Work) -> None:
    @router.get("/runs", summary="Runs whose rows are here, newest first", tags=["runs"])
    def runs(before: Before = "", limit: Limit = 50) -> RunsOut:
        at = parse_cursor(before)
        every = [RunOut(run=run.run, created_at=run.created_at, state=run.state, asked=dict(run.asked),
                        found=dict(run.found)) for run in kept_runs(work.reader.engine)]  # fmt: skip
        every.sort(key=_newest, reverse=True)
        left = [run for run in every if at is None or _newest(run) < at]
        page = left[:limit]
        more = len(left) > limit and page[-1].created_at
        return RunsOut(runs=page, next=cursor_of(more, page[-1].run) if more else None)

    @router.get("/feeds", summary="How each source has been delivering in the last week of event time", tags=["feeds"])
    def sources() -> feeds.Feeds:
        return feeds.read(work.reader, work.reader.status())


def _add_models(router: APIRouter, work: Work) -> None:
    desk = work.models

    @router.get("/models", summary="Which bundles judge articles, and their history", tags=["models"])
    def models() -> ModelsOut:
        return _models(desk.read())

    @router.get("/models/bundles", summary="Bundles that can be put live, the shipped one first", tags=["models"])
    def bundles() -> list[BundleOut]:
        return [
            BundleOut(version=one.version, name=one.name, precision=one.precision, languages=list(one.languages),
                      shipped=place == 0)
            for place, one in enumerate(desk.bundles())
        ]  # fmt: skip

    @router.post("/models/deployments", status_code=202, summary="Put a bundle live; for admins", tags=["models"],
                 responses=refusals(404, 409))  # fmt: skip
    def deploy(wanted: DeployIn, request: Request, account: Admin) -> Wanted:
        version, address = _bundle(desk, wanted.bundle)
        work.note(request, account, "deploy model", version, over=wanted.over)
        return _wanted(lambda: desk.deploy(version, address, wanted.over))

    @router.post("/models/rollback", status_code=202, summary="Put the former bundle live again; for admins",
                 tags=["models"], responses=refusals(404, 409))  # fmt: skip
    def rollback(wanted: RollbackIn, request: Request, account: Admin) -> Wanted:
        version, address = _bundle(desk, wanted.to) if wanted.to else _former(desk)
        work.note(request, account, "roll back model", version, over=wanted.over)
        return _wanted(lambda: desk.roll_back(version, address, wanted.over))


def _bundle(desk: ModelsDesk, which: str) -> tuple[str, str]:
    try:
        return desk.find(which)
    except ModelError as error:
        raise HTTPException(404, str(error)) from None


def _former(desk: ModelsDesk) -> tuple[str, str]:
    try:
        return desk.former()
    except ModelError as error:
        raise HTTPException(409, str(error)) from None


def _wanted(wish: Callable[[], Deployment]) -> Wanted:
    try:
        made = wish()
    except DataError as error:
        raise HTTPException(409, str(error)) from None
    return Wanted(seq=made.seq, version=made.version, at=made.at, reason=made.reason)


def _newest(run: RunOut) -> tuple[datetime, str]:
    return run.created_at or datetime(1970, 1, 1, tzinfo=UTC), run.run


def page_of(backtests: Backtests, before: str, limit: int) -> BacktestsOut:
    """A page of backtests. Blocks.

    Raises:
        DataError: `before` is no cursor.
    """
    at = parse_cursor(before)
    kept = backtests.list(limit + 1, at)
    waiting = [] if at else [_waiting(backtests, name) for name in backtests.unfinished()]
    more = kept[limit - 1] if len(kept) > limit else None
    shown = [one for one in waiting if one] + [_kept(one) for one in kept[:limit]]
    return BacktestsOut(backtests=shown, next=cursor_of(more.created_at, more.backtest_id) if more else None)


def one_of(backtests: Backtests, name: str) -> BacktestOut | None:
    """One backtest; None: there is none by that name. Blocks."""
    found = backtests.kept(name)
    return _kept(found) if found else _waiting(backtests, name)


def _waiting(backtests: Backtests, name: str) -> BacktestOut | None:
    progress: Any = backtests.progress(name)
    return progress and BacktestOut(
        id=name, state=progress.state, done=progress.done, total=progress.total, problem=progress.problem
    )


def _kept(found: Kept) -> BacktestOut:
    summary = found.summary
    articles = int(summary.get("articles") or 0)
    return BacktestOut(
        id=found.backtest_id, state="done", done=articles, total=articles, problem="", created_at=found.created_at,
        title=found.title, articles=articles, since=summary.get("since"), until=summary.get("until"),
        rules=_figures(summary.get("rules") or []),
    )  # fmt: skip


def _figures(rules: Sequence[Any]) -> list[FiguresOut]:
    names = FiguresOut.model_fields
    return [FiguresOut(**{name: rule[name] for name in names if name in rule}) for rule in rules]


def _models(found: models_page.Models) -> ModelsOut:
    live, shadow, wanted = found.live, found.shadow, found.wanted
    return ModelsOut(
        live=LiveModel(version=live.version, since=live.at, worker=live.worker) if live else None,
        wanted=Wanted(seq=wanted.seq, version=wanted.version, at=wanted.at, reason=wanted.reason) if wanted else None,
        former=found.former,
        shadow=ShadowModel(version=shadow.version or "", since=shadow.at, share=shadow.share_ppm / 1e6)
        if shadow else None,
        history=[DeploymentOut(**{name: entry[name] for name in DeploymentOut.model_fields})
                 for entry in found.history],
    )  # fmt: skip
