"""Texts as cells of a CSV file that people open in a spreadsheet."""

import re
from typing import Final

_RUNS: Final = "=+\\-@＝＋－＠"
"""How a formula begins; spreadsheets with a Japanese or Chinese locale take the full-width signs as well."""

_BEGINS: Final = re.compile(rf"(?=[{_RUNS}\t\r\n])")
_AFTER: Final = re.compile(rf"([;\t\r\n][\s\"]*)(?=[{_RUNS}])")
"""Where the list separator is `;` or a tab, as in most of Europe, a spreadsheet begins a cell there: it then takes our
commas and quotes for text, so that a line break within quotes begins one as well."""


def safe_text(text: str) -> str:
    """What would begin a formula gets an apostrophe before it (OWASP, CSV injection).

    >>> safe_text("=HYPERLINK(1)"), safe_text("Results; =1+1"), safe_text("up; 3 - 2")
    ("'=HYPERLINK(1)", "Results; '=1+1", 'up; 3 - 2')
    """
    return ("'" if _BEGINS.match(text) else "") + _AFTER.sub(r"\1'", text)
