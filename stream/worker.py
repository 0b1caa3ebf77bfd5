"""Running one worker until it is told to stop."""

import logging
import sys

import faust
import structlog

from crosswind.settings import Settings
from crosswind.stream.agents import Checkpoint
from crosswind.stream.bootstrap import build_worker


def run_worker(settings: Settings, checkpoint: Checkpoint = lambda name: None) -> int:
    """Builds and runs a worker; returns after SIGTERM or SIGINT, with the exit status.

    Raises:
        CrosswindError: the worker could not be built.
    """
    configure_logging(settings.log_level)
    worker = build_worker(settings, checkpoint)
    runner = faust.Worker(worker.app, loglevel="WARNING", redirect_stdouts=False, quiet=True, override_logging=False)
    try:
        runner.execute_from_commandline()
    except SystemExit as leaving:  # Faust leaves by sys.exit
        return int(leaving.code or 0)
    finally:
        worker.parts.store.close()
    return 0


def configure_logging(level: str) -> None:
    """Structured JSON lines on stderr; control characters are escaped by the JSON encoder, one event one line."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
