"""How the API refuses: RFC 9457 problems, and their place in the OpenAPI document."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from pydantic import BaseModel

MEDIA: Final = "application/problem+json"
_PROBLEM: Final = "#/components/schemas/Problem"
_METHODS: Final = ("get", "post", "put", "patch", "delete")
_SAID: Final = {
    "400": "What was asked for cannot be used; `detail` says why",
    "401": "Log in first, or send a token",
    "403": "The role does not suffice, or another site made the browser send this",
    "404": "There is no such thing",
    "409": "Not now: something else came first, or is missing",
    "422": "A field or parameter is not as described here",
    "429": "Too many calls; wait a while",
    "503": "The database or the registry does not answer",
}


class Problem(BaseModel):
    """Why something was refused (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """A route's `responses`, for what `describe` cannot know of it."""
    return {status: {"description": _SAID[str(status)]} for status in statuses}


def describe(server: FastAPI) -> None:
    """Makes the OpenAPI document tell how each operation may refuse, and that JSON may be unchanged (`etags.py`)."""
    plain: Callable[[], dict[str, Any]] = server.openapi

    def openapi() -> dict[str, Any]:
        if server.openapi_schema is None:
            document = plain()
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            for name in ("HTTPValidationError", "ValidationError"):  # what FastAPI would say by itself
                schemas.pop(name, None)
            for path, methods in document["paths"].items():
                for method in _METHODS:
                    if method in methods:
                        _complete(path, method, methods[method])
        return server.openapi_schema or {}

    server.openapi = openapi  # type: ignore[method-assign]


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    answers = operation["responses"]
    for status in {*_refusals(path, method, operation), *(set(answers) & set(_SAID))}:
        answers[status] = {"description": _SAID[status], "content": {MEDIA: {"schema": {"$ref": _PROBLEM}}}}
    if method == "get" and "application/json" in answers.get("200", {}).get("content", {}):
        answers["304"] = {"description": "The answer still is the one whose `ETag` was sent as `If-None-Match`"}
    operation["responses"] = dict(sorted(answers.items()))


def _refusals(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[str]:
    yield "503"
    if "/unsubscribe/" not in path:
        yield "401"
    if method != "get":
        yield "403"
    if "{" in path:
        yield "404"
    if operation.get("parameters") or "requestBody" in operation:
        yield from ("400", "422")
