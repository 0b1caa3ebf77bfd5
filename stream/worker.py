"""Running one worker until it is told to stop."""

import gc
import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

import faust
import structlog
from structlog.typing import Processor

from crosswind.settings import Settings
from crosswind.stream.agents import Checkpoint, no_checkpoint
from crosswind.stream.bootstrap import build_worker

LEAVE_SECONDS = 8.0
"""A worker that has not left by then after SIGTERM is ended; nothing is lost, what is not acked is delivered again."""


class _Runner(faust.Worker):
    """Faust's worker, which leaves in time even when a service of Faust's does not stop."""

    def _schedule_shutdown(self, signal: Any) -> None:
        timer = threading.Timer(LEAVE_SECONDS, os._exit, (0,))
        timer.daemon = True
        timer.start()
        super()._schedule_shutdown(signal)


def run_worker(settings: Settings, checkpoint: Checkpoint = no_checkpoint) -> int:
    """Builds and runs a worker; returns after SIGTERM or SIGINT, with the exit status: 0.

    Raises:
        CrosswindError: the worker could not be built.
    """
    for number in (signal.SIGTERM, signal.SIGINT):  # until Faust has its own handlers: model and database come first
        signal.signal(number, _leave)
    configure_logging(settings.log_level)
    worker = build_worker(settings, checkpoint)
    spare_the_collector()
    runner = _Runner(worker.app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False)
    try:
        runner.execute_from_commandline()
    except SystemExit as leaving:  # Faust leaves by sys.exit
        return int(leaving.code or 0)
    finally:
        worker.parts.store.close()
    return 0


def spare_the_collector() -> None:
    """What is loaded by now stays until the end, so no later collection looks through it: each took 50 to 150 ms."""
    gc.collect()
    gc.freeze()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


def configure_logging(level: str) -> None:
    """Structured JSON on stderr, of our own events and those of libraries: one event, one line.

    The JSON encoder escapes every control character, so that nothing in a message can forge a line or reach a terminal.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.processors.JSONRenderer(ensure_ascii=True)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
