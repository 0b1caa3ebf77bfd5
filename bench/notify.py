"""One incident to 10,000 subscriptions: outbox, dispatcher process, a receiver process; until the last one has arrived.

    python bench/notify.py                    about a minute
    python bench/notify.py --subscriptions 1000 --json out.json

Beside it, in the same run: the same messages posted one after another, as a loop over subscribers would. All
subscriptions share one receiver, the slowest case for the pace per host. The last line and the exit status say which
bars hold.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import httpx  # noqa: E402
import psutil  # noqa: E402
from aiohttp import web  # noqa: E402
from sqlalchemy import Engine, text  # noqa: E402

from crosswind.stream.adapters.postgres.embedded import EmbeddedPostgres  # noqa: E402
from crosswind.stream.adapters.postgres.engine import connect, migrate  # noqa: E402
from tests.notify_helpers import KEY, alert, fire, subscribe  # noqa: E402

BAR_SECONDS = 30.0
LIMIT_SECONDS = 300.0
LOOPED = 300
"""Messages that the loop posts; its time for all is that of these, scaled."""
_CLONE = text("""
    INSERT INTO subscription SELECT (jsonb_populate_record(s, jsonb_build_object('subscription_id', 'sub_' || n))).*
    FROM subscription s, generate_series(2, :count) AS n
""")


def receive(queue: Any) -> None:
    """A receiver in a process of its own: counts distinct ids."""
    seen: dict[str, int] = {}

    async def take(request: web.Request) -> web.Response:
        await request.read()
        message_id = request.headers.get("webhook-id", "")
        seen[message_id] = seen.get(message_id, 0) + 1
        return web.Response()

    async def count(request: web.Request) -> web.Response:
        found = {name: n for name, n in seen.items() if name}
        return web.json_response({"distinct": len(found), "all": sum(found.values())})

    async def serve() -> None:
        app = web.Application()
        app.router.add_post("/take", take)
        app.router.add_get("/count", count)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        queue.put(f"http://127.0.0.1:{runner.addresses[0][1]}")
        await asyncio.Event().wait()

    asyncio.run(serve())


def fan_out(engine: Engine, url: str, address: str, count: int, folder: Path) -> dict[str, float]:
    """Seconds of the transaction and until the last message was there, with a dispatcher that is already running."""
    environment = {**os.environ, "CROSSWIND_DATABASE_URL": url, "CROSSWIND_SEAL_KEY": KEY,
                   "CROSSWIND_NOTIFY_PRIVATE": "true", "CROSSWIND_DATA_DIR": str(folder),
                   "PYTHONPATH": str(ROOT)}  # fmt: skip
    with (folder / "notify.log").open("wb") as log:
        command = [sys.executable, "-m", "crosswind", "notify"]
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        fire(engine, alert(1, "warm", severity="warning", topic="warm"))
        until(lambda: httpx.get(address + "/count").json()["distinct"] >= 1, process)
        started = time.monotonic()
        fire(engine, alert(2, "inc"))
        written = time.monotonic() - started
        until(lambda: httpx.get(address + "/count").json()["distinct"] >= count + 1, process)
        arrived = time.monotonic() - started
        until(lambda: not waiting(engine), process)
        found = httpx.get(address + "/count").json()
        return {"outbox_seconds": written, "cpu_seconds": sum(psutil.Process(process.pid).cpu_times()[:2]),
                "load": os.getloadavg()[0], "arrived_seconds": arrived, "recorded_seconds": time.monotonic() - started,
                "distinct": found["distinct"] - 1, "repeated": found["all"] - found["distinct"]}  # fmt: skip
    finally:
        process.terminate()
        process.wait(10)


def until(condition: Any, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while not condition():
        if time.monotonic() > deadline or process.poll() is not None:
            raise SystemExit("the dispatcher ended or was not done in time")
        time.sleep(0.1)


def waiting(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT count(*) FROM message WHERE state = 'waiting'")).scalar_one())


def looped(address: str) -> float:
    """Seconds per message, one after another."""
    with httpx.Client() as client:
        started = time.monotonic()
        for _ in range(LOOPED):
            client.post(address + "/take", content=b"x" * 1500).raise_for_status()
        return (time.monotonic() - started) / LOOPED


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subscriptions", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    queue: Any = context.Queue()
    server = context.Process(target=receive, args=(queue,), daemon=True)
    server.start()
    address = queue.get(timeout=60)
    folder = Path(tempfile.mkdtemp(prefix="crosswind-bench-"))
    postgres = EmbeddedPostgres(folder / "data")
    try:
        url = postgres.start()
        engine = connect(url)
        migrate(engine)
        subscribe(engine, address + "/take")  # this one gets the warm-up too
        with engine.begin() as connection:
            connection.execute(_CLONE, {"count": given.subscriptions})
            few = "subscription_id ~ '^sub_[0-9]+$' AND length(subscription_id) < 12"
            connection.execute(text(f"UPDATE subscription SET topics = '{{credit}}' WHERE {few}"))
        found = fan_out(engine, url, address, given.subscriptions, folder)
        found["loop_seconds"] = looped(address) * given.subscriptions
        engine.dispose()
    finally:
        postgres.stop()
        server.terminate()
        shutil.rmtree(folder, ignore_errors=True)
    return report(found, given.subscriptions, given.json)


def report(found: dict[str, float], count: int, path: Path | None) -> int:
    for name, value in found.items():
        print(f"{name:18} {value:10.2f}")
    print(f"{'per second':18} {count / found['arrived_seconds']:10.0f}")
    once = found["distinct"] == count and not found["repeated"]
    bars = {"arrived": found["arrived_seconds"] <= BAR_SECONDS, "each once": once}
    if path:
        path.write_text(json.dumps({"subscriptions": count, **found, "bars": bars}, indent=1))
    print("; ".join(f"{name}: {'holds' if holds else 'DOES NOT HOLD'}" for name, holds in bars.items()))
    return 0 if all(bars.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
