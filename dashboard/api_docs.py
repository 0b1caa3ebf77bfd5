"""The API, described for people at `/docs`: one page made from the OpenAPI document, with no script at all."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

_METHODS = ("get", "post", "put", "patch", "delete")


def add_docs(server: FastAPI) -> None:
    """Adds the page; before `add_api` and Dash, whose catch-alls would swallow it."""

    @server.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return HTMLResponse(as_html(server.openapi()))


def as_html(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    body = "".join([*_operations(document), '<h2>Shapes</h2>', *_shapes(document)])
    links = "".join(f'<a href="#{_anchor(method, path)}"><code>{method.upper()} {escape(path)}</code></a><br>'
                    for path, method, _ in _all(document))  # fmt: skip
    return f"""<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>Crosswind API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">
<link rel="stylesheet" href="/assets/crosswind.css"></head><body class="docs"><main id="main"><h1>Crosswind API</h1>
<p>Machine-readable in <a href="/openapi.json">/openapi.json</a>. Errors are <code>application/problem+json</code>
(RFC 9457). A page's <code>next</code> is <code>before</code> of the one after it. JSON answers have an
<code>ETag</code>.</p><nav aria-label="Operations" class="panel">{links}</nav>{body}</main></body></html>"""


def _all(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in sorted(document["paths"].items()):
        yield from ((path, method, methods[method]) for method in _METHODS if method in methods)


def _operations(document: Mapping[str, Any]) -> Iterator[str]:
    for path, method, operation in _all(document):
        given = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        answers = [_answer(code, answer) for code, answer in operation.get("responses", {}).items()]
        yield (
            f'<section class="panel" id="{_anchor(method, path)}"><h2><code>{method.upper()} {escape(path)}</code></h2>'
            f"<p>{escape(operation.get('summary', ''))}</p>{_parameters(operation.get('parameters', []))}"
            + (f"<p>Body: {_kind(given)}</p>" if given else "")
            + f"<p>Answers: {'; '.join(answers)}</p></section>"
        )


def _parameters(parameters: list[Mapping[str, Any]]) -> str:
    if not parameters:
        return ""
    rows = "".join(
        f"<tr><td><code>{escape(one['name'])}</code></td><td>{escape(one['in'])}</td><td>{_kind(one['schema'])}</td>"
        f"<td>{escape(one.get('description', ''))}</td></tr>"
        for one in parameters
    )
    return (f'<div class="scrolls" tabindex="0"><table class="plain"><thead><tr><th>Name</th><th>In</th><th>Type</th>'
            f"<th>Meaning</th></tr></thead><tbody>{rows}</tbody></table></div>")  # fmt: skip


def _answer(code: str, answer: Mapping[str, Any]) -> str:
    content = answer.get("content", {})
    kinds = [_kind(one["schema"]) if one.get("schema") else escape(media) for media, one in content.items()]
    return f"<b>{escape(code)}</b> {', '.join(kinds)}".strip()


def _shapes(document: Mapping[str, Any]) -> Iterator[str]:
    for name, shape in sorted(document.get("components", {}).get("schemas", {}).items()):
        needed = set(shape.get("required", ()))
        rows = "".join(
            f"<tr><td><code>{escape(field)}</code>{'' if field in needed else '?'}</td><td>{_kind(kind)}</td>"
            f"<td>{escape(kind.get('description', ''))}</td></tr>"
            for field, kind in shape.get("properties", {}).items()
        )
        said = escape(shape.get("description", "")).replace("\n", "<br>")
        table = f'<div class="scrolls" tabindex="0"><table class="plain"><tbody>{rows}</tbody></table></div>'
        yield f'<section class="panel" id="shape-{escape(name)}"><h3>{escape(name)}</h3><p>{said}</p>{table}</section>'


def _kind(schema: Mapping[str, Any]) -> str:
    """A type in short, with links to shapes."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rsplit("/", 1)[-1])
        return f'<a href="#shape-{name}">{name}</a>'
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema.get('items', {}))}"
    if "enum" in schema or "const" in schema:
        return " · ".join(f"<code>{escape(str(one))}</code>" for one in schema.get("enum", [schema.get("const")]))
    return escape(" ".join(filter(None, [schema.get("type", "anything"), schema.get("format", "")])))


def _anchor(method: str, path: str) -> str:
    return escape("".join(letter if letter.isalnum() else "-" for letter in f"{method}{path}"))
