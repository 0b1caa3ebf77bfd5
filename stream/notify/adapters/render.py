"""What a message says: JSON for programs, text and HTML for people, in the subscriber's language."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.subscription import over
from crosswind.stream.notify.service.dispatcher import Message

CATALOGUE: Mapping[str, Mapping[str, str]] = json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8"))
HEADLINES = 5
_MOST = 20_000
_environment = ImmutableSandboxedEnvironment(autoescape=True)
_HTML = _environment.from_string(
    "{% for part in parts %}<p><b>{{ part.title }}</b><br>{{ part.counted }}<br>{{ part.spread }}</p>"
    "{% if part.headlines %}<p>{{ words.evidence }}:</p><ul>{% for line in part.headlines %}<li>{{ line }}</li>"
    "{% endfor %}</ul>{% endif %}{% endfor %}"
    '<p><a href="{{ link }}">{{ words.open }}</a> · <a href="{{ unsubscribe }}">{{ words.unsubscribe }}</a></p>'
)
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.If, nodes.CondExpr, nodes.Const,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Part:
    """One alert, in words."""

    title: str
    counted: str
    spread: str
    headlines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Words:
    """A message in words: `html` is escaped, `text` is plain."""

    title: str
    text: str
    html: str


def check_template(source: str) -> None:
    """A subscriber's template may show values and choose between texts; it has no loops, calls or filters.

    Raises:
        DataError: it does not parse, or does more.
    """
    try:
        tree = _environment.parse(source)
    except TemplateError as error:
        raise DataError(f"the template does not parse: {error}") from None
    for node in _walk(tree):
        if not isinstance(node, _ALLOWED):
            raise DataError(
                f"templates may use {{{{ alert.topic }}}} and {{% if %}} only; {type(node).__name__} is not allowed"
            )


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


@dataclass(frozen=True, slots=True)
class _Said:
    """What is the same for all who get the same alerts in the same language."""

    title: str
    text: str
    alerts: msgspec.Raw
    headlines: msgspec.Raw


_kept: OrderedDict[tuple[object, ...], _Said] = OrderedDict()
_KEEP = 256


def _common(message: Message) -> _Said:
    keys = tuple((alert.run, alert.incident_id, alert.seq, alert.at) for alert in message.alerts)
    # Titles of a batch are more than a message's own; those of its evidence are what matters.
    known = tuple(article in message.titles for alert in message.alerts for article in alert.evidence)
    key = (message.language, message.template, keys, known)
    if key not in _kept:
        found = words(message, "", "")
        told = {a: message.titles[a] for alert in message.alerts for a in alert.evidence if a in message.titles}
        raw = (msgspec.Raw(msgspec.json.encode(part)) for part in (message.alerts, told))
        _kept[key] = _Said(found.title, found.text, *raw)
        if len(_kept) > _KEEP:
            _kept.popitem(last=False)
    return _kept[key]


def words(message: Message, link: str, unsubscribe: str) -> Words:
    """The message in its subscriber's language."""
    catalogue = CATALOGUE[message.language]
    parts = [_part(alert, message.language, message.titles) for alert in message.alerts]
    title = parts[0].title if len(parts) == 1 else catalogue["digest"].format(count=len(parts))
    if message.template:
        body = _own(message, title)[:_MOST]
        return Words(title, body, f'{body}<p><a href="{unsubscribe}">{catalogue["unsubscribe"]}</a></p>')
    lines = [line for part in parts for line in (part.title, part.counted, part.spread, *part.headlines)]
    shown = {"parts": parts, "words": catalogue, "link": link, "unsubscribe": unsubscribe}
    return Words(title, "\n".join(lines)[:_MOST], _HTML.render(shown)[:_MOST])


def body(message: Message, link: str, unsubscribe: str) -> bytes:
    """The JSON of webhooks and Kafka: the same bytes at every attempt."""
    said = _common(message)
    first = message.alerts[0]
    kind = "incident.digest" if message.digest else f"incident.{first.state}"
    data: dict[str, Any] = {
        "subscription": message.subscription_id, "title": said.title, "text": said.text, "alerts": said.alerts,
        "headlines": said.headlines, "link": link, "unsubscribe": unsubscribe,
    }  # fmt: skip
    return msgspec.json.encode({"type": kind, "timestamp": max(a.at for a in message.alerts), "data": data})


def _own(message: Message, title: str) -> str:
    template = _compiled(message.template or "")
    try:
        return "\n".join(template.render(alert=msgspec.to_builtins(alert), title=title) for alert in message.alerts)
    except TemplateError:
        return title


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    return _environment.from_string(source)


def _part(alert: Alert, language: str, titles: Mapping[str, str]) -> Part:
    headlines = tuple(_plain(titles[a]) for a in alert.evidence if a in titles)[:HEADLINES]
    return Part(*_said(language, _heading(alert), alert.topic, alert.entity, alert.lang, alert.observed, alert.window,
                       round(alert.expected, 1), alert.sources, ", ".join(alert.languages),
                       round(100 * alert.negative_share)), headlines)  # fmt: skip


def _heading(alert: Alert) -> str:
    if alert.rule == "test":
        return "test"
    if alert.rule == "no-data" or alert.state == "no_data":
        return "no_data_over" if over(alert) or alert.state == "firing" else "no_data"
    return "resolved" if over(alert) else "critical" if alert.severity == "critical" else "surge"


@lru_cache(maxsize=4096)
def _said(
    language: str, heading: str, topic: str, entity: str, lang: str, observed: int, window: int, expected: float,
    sources: int, languages: str, share: int,
) -> tuple[str, str, str]:  # fmt: skip
    catalogue = CATALOGUE[language]
    subject = topic.replace("_", " ") if entity == "*" else entity
    where = _plain(f"{subject} ({catalogue['all_langs'] if lang == '*' else lang})")
    counted = catalogue["counted"].format(observed=observed, window=window, expected=expected)
    spread = catalogue["spread"].format(sources=sources, languages=languages, share=share)
    return catalogue[heading].format(where=where), counted, spread


def _plain(title: str) -> str:
    """One line without control characters and direction marks: a title cannot change how the rest is read."""
    kept = "".join(letter if letter.isprintable() else " " for letter in title)
    return " ".join(kept.split())[:300]
