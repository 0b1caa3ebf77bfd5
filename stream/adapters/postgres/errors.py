"""One way from the errors of SQLAlchemy and its driver to ours."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from crosswind.errors import DatabaseError

_BEHIND: Final = {"42P01", "42703"}
"""Postgres knows no such table, no such column."""


@contextmanager
def database(what: str) -> Iterator[None]:
    """Turns SQLAlchemy's errors, and those of what its driver was asked for itself, into ours. The message is one line,
    without parameters, which may hold articles: `what` failed, why, and what to do next where we can tell.

    Raises:
        DatabaseError: for every SQLAlchemyError and psycopg.Error; whatever else is raised inside passes as it is.
    """
    try:
        yield
    except (SQLAlchemyError, psycopg.Error) as error:
        raise DatabaseError(f"{what} failed: {_cause(error)}{_next(error)}") from error


def _cause(error: Exception) -> str:
    """The first line of what the driver said; the statement and its values come after it."""
    cause = getattr(error, "orig", None) or error
    return next(iter(str(cause).splitlines()), "") or type(cause).__name__


def _next(error: Exception) -> str:
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    if state in _BEHIND:
        return "; bring the database up to date with `crosswind migrate`"
    if state is None and isinstance(error, (OperationalError, psycopg.OperationalError)):  # the server said nothing
        return "; is Postgres running, is its address right?"
    return ""
