"""Figures of a bench, put into a page of the docs between two marks, so that none is typed by hand."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def write_figures(page: str, bench: str, lines: str) -> None:
    """Puts Markdown between the marks `<!-- figures of bench/NAME.py -->` and `<!-- end of figures -->` of docs/`page`.

    Raises:
        SystemExit: the page has no such marks.
    """
    path = ROOT / "docs" / page
    marked = re.compile(rf"(<!-- figures of bench/{bench}\.py -->\n).*?(<!-- end of figures -->)", re.DOTALL)
    text, found = marked.subn(lambda mark: f"{mark[1]}\n{lines.strip()}\n\n{mark[2]}", path.read_text("utf-8"))
    if not found:
        raise SystemExit(f"docs/{page} has no marks for the figures of bench/{bench}.py")
    path.write_text(text, "utf-8")
