"""What every callback of the pages does while the database does not answer."""

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from dash.exceptions import PreventUpdate

from crosswind.dashboard import i18n
from crosswind.dashboard.view import View
from crosswind.errors import DatabaseError

_log = structlog.get_logger(__name__)

Render = Callable[..., Awaitable[Any]]


def patient(render: Render) -> Render:
    """While the database does not answer, the page keeps what it shows; the header says so."""

    @functools.wraps(render)
    async def rendering(*arguments: Any) -> Any:
        i18n.use(View.from_query(arguments[1]).ui)  # path, search, …
        try:
            return await render(*arguments)
        except DatabaseError as error:
            _log.warning("a page could not be refreshed", page=render.__name__, error=str(error))
            raise PreventUpdate from None

    return rendering
