"""HTML to plain text: what feeds call a summary is markup, and a title is text, never markup."""

from html.parser import HTMLParser

_BREAKS = {"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "blockquote"}
_SILENT = {"script", "style", "template", "noscript"}


def to_text(markup: str) -> str:
    """The text of a piece of HTML, white space collapsed.

    >>> to_text("Profit <b>up</b> 3&nbsp;%<br>at A&amp;B<script>x()</script>")
    'Profit up 3 % at A&B'
    """
    parser = _Text()
    parser.feed(markup)
    parser.close()
    return " ".join("".join(parser.parts).split())


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag in _BREAKS:
            self.parts.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if tag in _SILENT and self._silent:
            self._silent -= 1
        if tag in _BREAKS:
            self.parts.append(" ")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)
