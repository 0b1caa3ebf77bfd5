"""The interface's languages: one gettext catalogue per file in `locale/`; English is what the code says.

Another language is one more file, `locale/XX.po`, with a header `Language-Name: …`; nothing is compiled. What a
catalogue lacks is shown in English. Texts from data never go through here.
"""

import functools
import re
from contextvars import ContextVar
from pathlib import Path
from typing import Final

from babel.messages.pofile import read_po
from werkzeug.datastructures import LanguageAccept
from werkzeug.http import parse_accept_header

DEFAULT: Final = "en"
_FOLDER: Final = Path(__file__).parent / "locale"
_current: ContextVar[str] = ContextVar("interface language", default=DEFAULT)


@functools.cache
def languages() -> dict[str, str]:
    """Tag -> the language's own name, of each language that there is a catalogue of, English first."""
    found = {path.stem: _header(path, "Language-Name") or path.stem for path in sorted(_FOLDER.glob("*.po"))}
    return {DEFAULT: "English", **found}


def use(language: str) -> None:
    """What `_` answers in from now on in this task; English for an unknown one."""
    _current.set(language if language in languages() else DEFAULT)


def current() -> str:
    """The tag of the language in use."""
    return _current.get()


def _(text: str, **values: object) -> str:
    """A text of the interface in the language in use, `{name}` filled in.

    >>> _("{count} articles", count=3)
    '3 articles'
    """
    said = _catalogue(_current.get()).get(text, text)
    return said.format(**values) if values else said


def N_(text: str) -> str:
    """Marks a text that is looked up later."""
    return text


def accepted(header: str) -> str:
    """The first of our languages that a browser asks for (RFC 9110, section 12.5.4), else English.

    >>> accepted("fr-CH, zh-CN;q=0.9, en;q=0.8"), accepted("")
    ('zh', 'en')
    """
    wanted = [tag.partition("-")[0].lower() for tag, quality in parse_accept_header(header, LanguageAccept) if quality]
    return next((tag for tag in wanted if tag in languages()), DEFAULT)


@functools.cache
def _catalogue(language: str) -> dict[str, str]:
    path = _FOLDER / f"{language}.po"
    if language == DEFAULT or language not in languages():
        return {}
    with path.open("rb") as file:
        return {str(message.id): str(message.string) for message in read_po(file) if message.id and message.string}


def _header(path: Path, name: str) -> str:
    """A line of a catalogue's header; Babel keeps only the ones it knows."""
    found = re.search(rf'^"{re.escape(name)}: (.+)\\n"$', path.read_text("utf-8"), re.MULTILINE)
    return found.group(1) if found else ""
