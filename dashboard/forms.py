"""Forms and buttons that call the API; `assets/actions.js` sends them. Who may not act does not see them.

A field's name ends in `[]` where it holds words between commas, or one a line where it has many lines, in `#` where it
holds a number; an empty field is left out.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dash import dcc, html


def button(label: str, path: str, body: Mapping[str, Any] | None = None, method: str = "POST", asks: str = "") -> Any:
    """A button that sends one request, after a question if there is one."""
    given: Any = {"data-path": path, "data-body": json.dumps(body or {}), "data-method": method}
    given |= {"data-asks": asks} if asks else {}
    return html.Button(label, className="button act", type="button", **given)


def form(path: str, fields: Sequence[Any], send: str, *, method: str = "POST", beside: Sequence[Any] = ()) -> Any:
    """A form that sends its fields as JSON and says below what came of it."""
    given: Any = {"data-path": path, "data-method": method}
    live: Any = {"aria-live": "polite"}
    last = html.Div([html.Button(send, className="button strong", type="submit"), *beside], className="sends")
    return html.Form([*fields, last, html.Output(className="answer", **live)], className="ask", **given)


def word(label: str, name: str, placeholder: str = "", *, kind: Literal["text", "number"] = "text") -> Any:
    """A field of one line."""
    return html.Label(
        [html.Span(label), dcc.Input(name=name, placeholder=placeholder, type=kind, value="", autoComplete="off")]
    )


def choice(label: str, name: str, options: Mapping[str, str]) -> Any:
    """A field with one of some values."""
    return html.Label(
        [html.Span(label), html.Select([html.Option(text, value=value) for value, text in options.items()], name=name)]
    )


def lines(label: str, name: str, placeholder: str = "") -> Any:
    """A field of words, one a line: they may have commas in them."""
    area = dcc.Textarea(name=name, value="", rows=2, placeholder=placeholder, spellCheck=False, wrap="off")
    return html.Label([html.Span(label), area])


def writing(label: str, name: str, value: str = "", *, rows: int = 12, ident: str = "", placeholder: str = "") -> Any:
    """A field of many lines, of code."""
    given: Any = {"id": ident} if ident else {}
    area = dcc.Textarea(
        name=name, value=value, rows=rows, placeholder=placeholder, spellCheck=False, wrap="off", **given
    )
    return html.Label([html.Span(label), area], className="wide")
