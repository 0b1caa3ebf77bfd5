"""Changing the model under load: how long until it is live, and what it costs the articles meanwhile.

The shipped bundle and a copy under another name take turns as the live one of a worker's deployment task, on the
embedded Postgres, while articles arrive at a steady rate.

    python bench/swap.py [--rate 30] [--swaps 5] [--json FILE]

Bars: no article is lost and none fails; a deployment is live within 5 s of its row, a rollback within 2 s.
"""

import argparse
import asyncio
import itertools
import json
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from crosswind.export.bundle import SHIPPED, read_manifest, seal, verify
from crosswind.settings import Settings
from crosswind.stream.adapters.metrics import Metrics
from crosswind.stream.adapters.postgres.deployments import PostgresDeployments
from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres
from crosswind.stream.adapters.postgres.engine import connect, migrate
from crosswind.stream.adapters.swap import SwapScorer
from crosswind.stream.adapters.swap_loop import open_scorer, run_swaps
from crosswind.stream.service.deployment import Slot
from crosswind.stream.worker import configure_logging

DEPLOYED, ROLLED_BACK = 5.0, 2.0
BATCH = 0.2


def main() -> int:
    options = _options()
    configure_logging("warning")
    folder = Path(tempfile.mkdtemp(prefix="crosswind-swap-"))
    folder.chmod(0o755)  # as root the database runs as another user
    server = EmbeddedPostgres(folder / "postgres")
    try:
        engine = connect(server.start())
        migrate(engine)
        settings = Settings(_env_file=None, data_dir=folder / "data", threads=2)
        found = asyncio.run(_scenario(settings, engine, _other(folder / "other"), options))
        engine.dispose()
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    return report(found, options)


async def _scenario(settings: Settings, engine: Any, other: Path, options: argparse.Namespace) -> dict[str, Any]:
    book, scorer = PostgresDeployments(engine), open_scorer(settings, engine)
    task = asyncio.create_task(run_swaps(settings, scorer, Metrics(), engine))
    feed = Feed(scorer, options.rate)
    await asyncio.sleep(1)
    deployed, back = [], []
    for number in range(options.swaps):
        deployed.append(await _live(book, other, "deploy"))
        await asyncio.sleep(1 + number * 0.13)  # not in step with the task's looks at the deployments
        back.append(await _live(book, SHIPPED, "rollback"))
        await asyncio.sleep(1 + number * 0.07)
        if number + 1 < options.swaps:
            scorer.free_former(0.0, 1e9)  # so that the next deployment loads again
    sent, scores, errors, delays = feed.end()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    scorer.close()
    return {"deployed": deployed, "back": back, "sent": sent, "scored": len(scores), "errors": errors,
            "models": sorted(set(scores)), "delay_p50": float(np.median(delays)),
            "delay_p99": float(np.quantile(delays, 0.99))}  # fmt: skip


async def _live(book: PostgresDeployments, bundle: Path, reason: str) -> float:
    """Writes a wish and waits for the worker's word; seconds between the two, by the database's clock."""
    wished = book.wish("live", Slot.LIVE, verify(bundle).version, str(bundle), reason=reason)
    while not (outcomes := await asyncio.to_thread(book.outcomes, "live", wished.seq)):
        await asyncio.sleep(0.02)
    if outcomes[0]["kind"] != "active":
        raise SystemExit(f"the worker refused: {outcomes[0]['message']}")
    return float((outcomes[0]["at"] - wished.at).total_seconds())


class Feed:
    """Hands articles to the scorer at a steady rate, as the score agent does: batches, in one thread."""

    def __init__(self, scorer: SwapScorer, rate: int) -> None:
        self._scorer, self._per_batch = scorer, max(1, round(rate * BATCH))
        self._stop, self._pool = threading.Event(), ThreadPoolExecutor(1)
        self._results: list[Any] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> tuple[int, list[str], int, list[float]]:
        """Articles sent, the model of each that was scored, failed batches, seconds from arrival to score."""
        self._stop.set()
        self._thread.join()
        done = [future for future in self._results if future.exception() is None]
        scores = [score.model for future in done for score in future.result()[0]]
        return (len(self._results) * self._per_batch, scores, len(self._results) - len(done),
                [future.result()[1] for future in done])  # fmt: skip

    def _run(self) -> None:
        due = time.monotonic()
        for number in itertools.count():
            if self._stop.wait(max(0.0, due - time.monotonic())):
                return
            texts = [f"Bank {number} shares fall as depositors withdraw cash ({i})" for i in range(self._per_batch)]
            self._results.append(self._pool.submit(self._score, texts, due))
            due += BATCH

    def _score(self, texts: list[str], arrived: float) -> tuple[Any, float]:
        return self._scorer.score(texts), time.monotonic() - arrived


def report(found: dict[str, Any], options: argparse.Namespace) -> int:
    print(f"{options.swaps} deployments and rollbacks of the shipped bundle's twin, {options.rate} articles/s")
    for name, key in (("deployment live after, s", "deployed"), ("rollback live after, s", "back")):
        values = found[key]
        print(f"{name:28} median {np.median(values):6.2f}  longest {max(values):6.2f}")
    print(f"articles sent {found['sent']}, scored {found['scored']}, failed batches {found['errors']}; "
          f"arrival to score p50 {found['delay_p50']:.2f} s, p99 {found['delay_p99']:.2f} s")  # fmt: skip
    bars = {
        "none lost, none failed": found["sent"] == found["scored"] and not found["errors"],
        f"deployed within {DEPLOYED:g} s": max(found["deployed"]) <= DEPLOYED,
        f"rolled back within {ROLLED_BACK:g} s": max(found["back"]) <= ROLLED_BACK,
    }
    if options.json:
        options.json.write_text(json.dumps({**found, "bars": bars}, indent=1) + "\n")
    print("; ".join(f"{name}: {'holds' if held else 'DOES NOT HOLD'}" for name, held in bars.items()))
    return 0 if all(bars.values()) else 1


def _other(folder: Path) -> Path:
    shutil.copytree(SHIPPED, folder)
    content = json.loads((folder / "manifest.json").read_text("utf-8"))
    seal(folder, {**content, "name": f"{read_manifest(SHIPPED).name}-twin"})
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=30)
    parser.add_argument("--swaps", type=int, default=5)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
