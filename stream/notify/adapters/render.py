"""What a message says: JSON for programs, text and HTML for people, in the subscriber's language."""

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import structlog
from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from crosswind.errors import DataError
from crosswind.stream.domain.contract import Alert
from crosswind.stream.notify.domain.pages import page_of
from crosswind.stream.notify.domain.subscription import over
from crosswind.stream.notify.service.dispatcher import Message
from crosswind.stream.service.translation import Translation

CATALOGUE: Mapping[str, Mapping[str, str]] = json.loads(Path(__file__).with_name("catalogue.json").read_text("utf-8"))
HEADLINES = 5
_MOST = 20_000
_environment = ImmutableSandboxedEnvironment(autoescape=True)
_HTML = _environment.from_string(
    "<p><b>{{ part.title }}</b><br>{{ part.counted }}<br>{{ part.spread }}</p>"
    "{% if part.headlines %}<p>{{ words.evidence }}:</p><ul>{% for line in part.headlines %}<li>{{ line }}</li>"
    "{% endfor %}</ul>{% endif %}"
    '{% if part.link %}<p><a href="{{ part.link }}">{{ words.see }}</a></p>{% endif %}'
)
_FOOT = _environment.from_string(
    '{% if address %}<p><a href="{{ address }}/">{{ words.open }}</a> · '
    '<a href="{{ unsubscribe }}">{{ words.unsubscribe }}</a></p>{% endif %}'
)
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.If, nodes.CondExpr, nodes.Const,
    nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
)  # fmt: skip

_SAMPLE = msgspec.to_builtins(Alert(
    run="live", incident_id="0" * 32, seq=1, state="firing", at=datetime(2026, 1, 1, tzinfo=UTC), rule="negative-surge",
    rule_version="1", severity="critical", topic="credit", lang="*", entity="*", observed=34, expected=3.5,
    p_value=1e-15, negative_share=0.8, sources=9, headlines=20, languages=["en"], evidence=["a"], model="m",
    cause="fired", group="0" * 32, chance=0.01,
))  # fmt: skip
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Part:
    """One alert, in words; `link`: its page, empty where nobody knows the dashboard's address."""

    title: str
    counted: str
    spread: str
    headlines: tuple[str, ...]
    link: str


@dataclass(frozen=True, slots=True)
class Words:
    """A message in words: `html` is escaped, `text` is plain."""

    title: str
    text: str
    html: str


def check_template(source: str) -> None:
    """A subscriber's template may show values and choose between texts; it has no loops, calls or filters.

    Raises:
        DataError: it does not parse, does more, or fails on an alert, e.g. for comparing a number with a text.
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
    try:
        _environment.from_string(source).render(alert=_SAMPLE, title="t", link="l", headlines="h")
    except Exception as error:  # whatever a comparison of the template's own raises
        raise DataError(f"the template cannot be shown: {error}; numbers compare with numbers, as in 5.0") from None


def template_problem(message: Message, address: str) -> str:
    """Why a message is not in its subscriber's own template, for the log of deliveries; empty: it is, or has none."""
    if not message.template:
        return ""
    try:
        _own(message, "", [page_of(address, alert) for alert in message.alerts])
    except Exception as error:  # as in `words`
        return f"our own text: the template failed: {type(error).__name__}"
    return ""


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
    links: msgspec.Raw


_kept: OrderedDict[tuple[object, ...], _Said] = OrderedDict()
_KEEP = 256


def _common(message: Message, address: str) -> _Said:
    keys = tuple((alert.run, alert.incident_id, alert.seq, alert.at) for alert in message.alerts)
    # Titles of a batch are more than a message's own; those of its evidence are what matters.
    known = tuple(article in message.titles for alert in message.alerts for article in alert.evidence)
    key = (message.language, message.template, address, keys, known)
    if key not in _kept:
        found = words(message, address, "")
        told = {a: message.titles[a] for alert in message.alerts for a in alert.evidence if a in message.titles}
        links = {a.incident_id: link for a in message.alerts if (link := page_of(address, a))}
        raw = (msgspec.Raw(msgspec.json.encode(part)) for part in (message.alerts, told, links))
        _kept[key] = _Said(found.title, found.text, *raw)
        if len(_kept) > _KEEP:
            _kept.popitem(last=False)
    return _kept[key]


def words(message: Message, address: str, unsubscribe: str) -> Words:
    """The message in its subscriber's language.

    Args:
        address: of the dashboard, without a slash at its end; empty: the message has no links.
        unsubscribe: the address that ends the subscription.
    """
    catalogue = CATALOGUE[message.language]
    parts = [_part(alert, message, page_of(address, alert)) for alert in message.alerts]
    foot = _FOOT.render(address=address, words=catalogue, unsubscribe=unsubscribe)
    title = parts[0].title if len(parts) == 1 else catalogue["digest"].format(count=len(parts))
    if message.template:
        try:
            body = _own(message, title, [part.link for part in parts])[:_MOST]
            return Words(title, body, body + foot)
        except Exception as error:  # the template is theirs: it may fail on one alert that it was not checked with
            _log.warning("a template failed", message=message.message_id, error=type(error).__name__)
    lines = [line for part in parts for line in _lines(part, catalogue["see"])]
    return Words(title, "\n".join(lines)[:_MOST], _html(parts, catalogue) + foot)


def _html(parts: Sequence[Part], catalogue: Mapping[str, str]) -> str:
    """As many whole alerts as fit: a tag that is cut in two would swallow the links below it."""
    shown = ""
    for part in parts:
        more = _HTML.render(part=part, words=catalogue)
        if shown and len(shown) + len(more) > _MOST:
            break
        shown += more
    return shown


def _lines(part: Part, see: str) -> Iterator[str]:
    yield from (part.title, part.counted, part.spread, *part.headlines)
    if part.link:
        yield f"{see}: {part.link}"


def body(message: Message, address: str, unsubscribe: str) -> bytes:
    """The JSON of webhooks and Kafka: the same bytes at every attempt. Arguments as for `words`."""
    said = _common(message, address)
    first = message.alerts[0]
    kind = "incident.digest" if message.digest else f"incident.{first.state}"
    data: dict[str, Any] = {
        "subscription": message.subscription_id, "title": said.title, "text": said.text, "alerts": said.alerts,
        "headlines": said.headlines,
    }  # fmt: skip
    if address:
        link = f"{address}/alerts" if message.digest else page_of(address, first) or f"{address}/"
        data |= {"link": link, "links": said.links, "unsubscribe": unsubscribe}
    return msgspec.json.encode({"type": kind, "timestamp": max(a.at for a in message.alerts), "data": data})


def _own(message: Message, title: str, links: Sequence[str]) -> str:
    template = _compiled(message.template or "")
    return "\n".join(
        template.render(alert=msgspec.to_builtins(alert), title=title, link=link,
                        headlines="\n".join(_headlines(alert, message)))
        for alert, link in zip(message.alerts, links, strict=True)
    )  # fmt: skip


@lru_cache(maxsize=256)
def _compiled(source: str) -> Any:
    return _environment.from_string(source)


def _part(alert: Alert, message: Message, link: str) -> Part:
    said = _said(
        message.language, _heading(alert), _again(alert), alert.topic, alert.entity, alert.lang, alert.observed,
        alert.window, round(alert.expected, 1), alert.sources, ", ".join(alert.languages),
        round(100 * alert.negative_share),
    )  # fmt: skip
    return Part(*said, _headlines(alert, message), link)


def _headlines(alert: Alert, message: Message) -> tuple[str, ...]:
    """The evidence, each headline with its translation, or that there is no translator for it."""
    return tuple(
        _plain(message.titles[article]) + _translated(message.translations.get(article), message.language)
        for article in alert.evidence
        if article in message.titles
    )[:HEADLINES]


def _translated(found: Translation | None, language: str) -> str:
    if found is None:
        return ""
    pair = _plain(f"{found.source}→{found.target}")
    if found.text is None:
        return f" ({CATALOGUE[language]['untranslated'].format(pair=pair)})"
    return f" ({pair}: {_plain(found.text)})"


def _heading(alert: Alert) -> str:
    if alert.rule == "test":
        return "test"
    if alert.rule == "no-data" or alert.state == "no_data":
        return "no_data_over" if over(alert) or alert.state == "firing" else "no_data"
    return "resolved" if over(alert) else "critical" if alert.severity == "critical" else "surge"


def _again(alert: Alert) -> str:
    """Why an incident that goes on is told again, a word of the catalogue; empty: it is not, it begins or ends."""
    return alert.cause if alert.cause in ("repeated", "corrected", "silence_ended", "escalated") else ""


@lru_cache(maxsize=4096)
def _said(
    language: str, heading: str, again: str, topic: str, entity: str, lang: str, observed: int, window: int,
    expected: float, sources: int, languages: str, share: int,
) -> tuple[str, str, str]:  # fmt: skip
    catalogue = CATALOGUE[language]
    subject = topic.replace("_", " ") if entity == "*" else entity
    where = _plain(f"{subject} ({catalogue['all_langs'] if lang == '*' else lang})")
    counted = catalogue["counted"].format(observed=observed, window=window, expected=expected)
    spread = catalogue["spread"].format(sources=sources, languages=languages, share=share)
    said = catalogue[heading].format(where=where)
    return catalogue[again].format(said=said) if again else said, counted, spread


def _plain(title: str) -> str:
    """One line without control characters and direction marks: a title cannot change how the rest is read."""
    kept = "".join(letter if letter.isprintable() else " " for letter in title)
    return " ".join(kept.split())[:300]
