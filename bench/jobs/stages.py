"""Which stage of a worker uses the CPU: thread time of the calls that make up each stage, written down as it runs.

A stage's functions are wrapped where they are looked up. Threads that Python did not start are those of the tokenizer
and of OpenVINO: inference. What no stage accounts for is the event loop and the Kafka client: `rest`, the process's
time less the stages'.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from crosswind.stream import agents
from crosswind.stream.adapters import alert_loop
from crosswind.stream.adapters.language import LangidDetector
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.postgres.store import PostgresTrendStore

EVERY = 0.2
"""Seconds between two writings."""
INFERENCE, VALIDATE, LANGUAGE = "inference", "validate and normalise", "detect the language"
ENCODE, DECODE, STORE, ALERTS, REST = "encode", "decode", "store (client)", "alerts and stories", "loop, Kafka client"
_INSIDE = {INFERENCE: VALIDATE, LANGUAGE: VALIDATE}
"""Stages that run on the thread and within the time of another; theirs is taken off it."""


class Meter:
    """Seconds of thread time per stage; calls come from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seconds: dict[str, float] = {}

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, its thread time added to the stage's, and taken off that of the stage it runs within."""

        def metered(*arguments: Any, **named: Any) -> Any:
            started = time.thread_time()
            try:
                return function(*arguments, **named)
            finally:
                self._add(stage, time.thread_time() - started)

        return metered

    def _add(self, stage: str, seconds: float) -> None:
        with self._lock:
            self._seconds[stage] = self._seconds.get(stage, 0.0) + seconds
            outer = _INSIDE.get(stage) if threading.current_thread().name.startswith("score") else None
            if outer:
                self._seconds[outer] = self._seconds.get(outer, 0.0) - seconds

    def read(self) -> dict[str, float]:
        """Seconds per stage, of this process since it began."""
        with self._lock:
            seconds = dict(self._seconds)
        seconds[INFERENCE] = seconds.get(INFERENCE, 0.0) + _foreign()
        return {**seconds, REST: time.process_time() - sum(seconds.values())}


def _foreign() -> float:
    """CPU seconds of the threads that Python did not start."""
    own = {thread.native_id for thread in threading.enumerate()}
    return sum(t.user_time + t.system_time for t in psutil.Process().threads() if t.id not in own)


@contextmanager
def measured(file: Path) -> Iterator[None]:
    """Meters the stages of the worker that runs in the block, and writes the seconds to `file` again and again."""
    meter = Meter()
    places: tuple[tuple[Any, str, str], ...] = (
        (OnnxScorer, "_share", INFERENCE), (agents, "judge", VALIDATE), (LangidDetector, "detect", LANGUAGE),
        (agents.Outgoing, "of", ENCODE), (agents, "decode", DECODE), (PostgresTrendStore, "ingest", STORE),
        (alert_loop, "told_and_evaluated", ALERTS),
    )  # fmt: skip
    kept = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, stage in places:
        wrapped = meter.wrap(stage, getattr(place, name))
        setattr(place, name, staticmethod(wrapped) if name == "of" else wrapped)
    done = threading.Event()
    writer = threading.Thread(target=_write, args=(meter, file, done), daemon=True)
    writer.start()
    try:
        yield
    finally:
        done.set()
        writer.join()
        for place, name, function in kept:
            setattr(place, name, function)


def _write(meter: Meter, file: Path, done: threading.Event) -> None:
    partial = file.with_suffix(".part")
    while True:
        ended = done.wait(EVERY)
        partial.write_text(json.dumps(meter.read()), "utf-8")
        partial.replace(file)
        if ended:
            return


def read_stages(file: Path) -> dict[str, float]:
    """What was written last; empty before that."""
    return dict(json.loads(file.read_text("utf-8"))) if file.exists() else {}
