"""The worker's deployment task: follows the wanted bundle, and scores beside it with a shadow.

Loading and shadowing run in threads of their own, so that the event loop and the live scorer go on meanwhile.
"""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import faust
import structlog
from sqlalchemy import Engine

from crosswind.errors import BundleError, DatabaseError
from crosswind.export import bundle
from crosswind.export.registry import DEFAULT, fetch
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.deployments import Live, PostgresDeployments, started
from crosswind.stream.adapters.rescoring import SHADOW_CHUNK, Shadow
from crosswind.stream.adapters.swap import SwapScorer, load_checked
from crosswind.stream.service.deployment import Deployer, Deployment, Event, Kind, Slot, event_of, explain

INTERVAL = 0.5
"""Seconds between looks at the deployments: one lookup in an index."""
FORMER = 5
"""Bundles that were live which a start falls back to at most: each may take a download."""

_log = structlog.get_logger(__name__)


def worker_name() -> str:
    """Host and process, for events."""
    return f"{socket.gethostname()}:{os.getpid()}"


def open_scorer(settings: Settings, engine: Engine) -> SwapScorer:
    """The scorer that a worker starts with: the deployed bundle, else the last that was live, else the settings' own.

    A deployed bundle that cannot be loaded or does not fit what was live is written down as failed, and the next in
    that order is taken; the next start tries it again, for what was in the way may have passed. Where the shipped
    bundle was deployed and the package has another now, that one is taken: it is what `default` means.

    Raises:
        ModelError: not even the settings' bundle can be used.
        DatabaseError: the deployments cannot be read.
    """
    book, name = PostgresDeployments(engine), worker_name()
    wanted = book.wanted(settings.run, Slot.LIVE)
    lived = book.lived(settings.run, FORMER) if wanted is not None else []
    if wanted is not None:
        try:
            there, why = _as_installed(wanted)
            scorer = _load_wanted(settings, book, there, _fitting(settings, wanted, lived))
            return _started(book, settings, scorer, event_of(there, Kind.ACTIVE, name, why))
        except DatabaseError:
            raise
        except Exception as error:  # whatever a bundle does to a loader, a worker must start
            _log.error("the deployed bundle cannot be used", version=wanted.version, error=explain(error))
            book.record(settings.run, event_of(wanted, Kind.FAILED, name, explain(error)))
    for live in lived:
        if wanted is not None and live.version == wanted.version:
            continue
        try:
            scorer = _load(settings, live.address, live.version, None)
            why = "was live before the deployed one, which cannot be used"
            return _started(book, settings, scorer, started(live.version, live.address, name, why))
        except DatabaseError:
            raise
        except Exception as error:
            _log.error("the bundle that was live cannot be used", version=live.version, error=explain(error))
    scorer = load_checked(bundle.resolve(settings.model), None, settings.device, settings.threads, settings.trusted_key)
    address = DEFAULT if settings.model == DEFAULT else str(bundle.resolve(settings.model).absolute())
    return _started(book, settings, scorer, started(scorer.version, address, name))


def _as_installed(wanted: Deployment) -> tuple[Deployment, str]:
    """The wish as the installed package can fulfil it, and what is to be said of that: an upgrade of the package takes
    the version of `default` that was deployed away for good, and what was live before it may have been rolled back."""
    if wanted.address != DEFAULT:
        return wanted, ""
    shipped = bundle.read_manifest(bundle.resolve(DEFAULT)).version
    if shipped == wanted.version:
        return wanted, ""
    return replace(wanted, version=shipped), f"the package ships this one now; {wanted.version} was deployed"


def _fitting(settings: Settings, wanted: Deployment, lived: Sequence[Live]) -> bundle.Manifest | None:
    """What a deployed bundle must fit when a worker starts: the last that was live and is still there, else the
    settings' own. None: it was live itself, or, shipped, in an earlier version; or there is nothing to compare with."""
    if lived and (lived[0].version == wanted.version or lived[0].address == wanted.address == DEFAULT):
        return None
    for live in lived:
        try:  # only read, so its signature does not matter
            return bundle.read_manifest(fetch(live.address, live.version, settings.data_dir / "bundles"))
        except Exception as error:
            _log.warning("the bundle that was live cannot be read", version=live.version, error=explain(error))
    try:
        return bundle.read_manifest(bundle.resolve(settings.model))
    except BundleError:
        return None


def _started(book: PostgresDeployments, settings: Settings, scorer: OnnxScorer, event: Event) -> SwapScorer:
    message = "; ".join(part for part in (event.message, scorer.remark) if part)
    book.record(settings.run, replace(event, message=message))
    return SwapScorer(scorer)


def add_swap_task(app: faust.App, settings: Settings, scorer: SwapScorer, metrics: Metrics, engine: Engine) -> None:
    """Follows deployments beside the agents of `app`."""

    async def deployments() -> None:
        await run_swaps(settings, scorer, metrics, engine)

    app.task(deployments)


async def run_swaps(settings: Settings, scorer: SwapScorer, metrics: Metrics, engine: Engine) -> None:
    """Follows wishes until cancelled. What is transient is logged and tried again."""
    book = PostgresDeployments(engine)
    follower = Follower(settings, scorer, metrics, book)
    candidate_threads = settings.model_copy(update={"threads": 1})  # the live one needs the processor
    load = _loader(candidate_threads, scorer, book)
    shadow = Shadow(settings.run, worker_name(), engine, book, load, settings.idle_seconds)
    pool = ThreadPoolExecutor(2, thread_name_prefix="deployments")
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_repeat(pool, follower.tick, metrics, "deployments"))
            tasks.create_task(_repeat(pool, lambda: _shadow(shadow), metrics, "shadow"))
    finally:
        pool.shutdown(wait=False)  # waiting here would stop the loop that the threads' work may need


async def _repeat(pool: ThreadPoolExecutor, tick: Callable[[], bool], metrics: Metrics, what: str) -> None:
    """Ticks for ever; without pause while there is more to do."""
    while True:
        busy = False
        try:
            busy = await asyncio.get_running_loop().run_in_executor(pool, tick)
        except DatabaseError as error:
            metrics.retries.labels("database").inc()
            _log.warning("waiting for the database", what=what, error=str(error)[:300])
        await asyncio.sleep(0 if busy else INTERVAL)


class Follower:
    """The deployer of a worker, its log lines, its gauge, and the freeing of the former bundle."""

    def __init__(self, settings: Settings, scorer: SwapScorer, metrics: Metrics, book: PostgresDeployments) -> None:
        self._scorer, self._metrics = scorer, metrics
        self._deployer = Deployer(
            settings.run, worker_name(), book, scorer, _loader(settings, scorer, book), _seen(book, settings.run)
        )
        self._switched_at = time.monotonic()
        self._shown = (scorer.provider, scorer.version)
        metrics.provider.labels(*self._shown).set(1)

    def tick(self) -> bool:
        """One look at the deployments; False: there is nothing more to do at once."""
        started_at = time.monotonic()
        event = self._deployer.tick()
        now = time.monotonic()
        if event is not None:
            self._note(event, now - started_at)
            self._switched_at = now
        self._scorer.free_former(self._switched_at, now)
        return False

    def _note(self, event: Event, seconds: float) -> None:
        say = _log.info if event.kind is Kind.ACTIVE else _log.error
        say("deployment", kind=event.kind.value, version=event.version, seq=event.seq, message=event.message,
            seconds=round(seconds, 3), live=self._scorer.version)  # fmt: skip
        self._metrics.provider.labels(*self._shown).set(0)
        self._shown = (self._scorer.provider, self._scorer.version)
        self._metrics.provider.labels(*self._shown).set(1)


def _seen(book: PostgresDeployments, run: str) -> int | None:
    """The wish that this worker started with, or found to be bad when it started."""
    wanted = book.wanted(run, Slot.LIVE)
    told = [row for row in book.outcomes(run, wanted.seq) if row["worker"] == worker_name()] if wanted else []
    return wanted.seq if wanted and told else None


def _shadow(shadow: Shadow) -> bool:
    event, scored = shadow.tick()
    if event is not None:
        say = _log.error if event.kind is Kind.FAILED else _log.info
        say("shadow", kind=event.kind.value, version=event.version, seq=event.seq, message=event.message)
    return scored == SHADOW_CHUNK


def _loader(settings: Settings, beside: SwapScorer, book: PostgresDeployments) -> Callable[[Deployment], OnnxScorer]:
    def load(deployment: Deployment) -> OnnxScorer:
        live = beside.live
        return _load_wanted(settings, book, deployment, live.manifest if isinstance(live, OnnxScorer) else None)

    return load


def _load_wanted(
    settings: Settings, book: PostgresDeployments, wanted: Deployment, like: bundle.Manifest | None
) -> OnnxScorer:
    """Loads a bundle that may stand beside or in the place of one like `like`."""
    back = wanted.reason == "rollback" or book.was_live(settings.run, wanted.version)
    return _load(settings, wanted.address, wanted.version, like, back)


def _load(
    settings: Settings, address: str, version: str, like: bundle.Manifest | None, back: bool = False
) -> OnnxScorer:
    folder = fetch(address, version, settings.data_dir / "bundles", settings.trusted_key)
    return load_checked(folder, like, settings.device, settings.threads, settings.trusted_key, back)
