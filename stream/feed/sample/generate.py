"""Makes the sample feed: a pure function of the scenario, the phrases and the seed.

`python -m crosswind.stream.feed.sample.generate` writes `news.jsonl.gz` and `truth.json` beside this file.
"""

import gzip
import hashlib
import random
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec

from crosswind.stream.domain.contract import RawNews, encode
from crosswind.stream.feed.sample import FOLDER, NEWS, TRUTH

T = TypeVar("T")
TRIES = 40
"""Draws until a headline is new; after that a repetition is taken, as in life."""
NAMED = ("company", "bank")
"""Slots whose values are entities."""
_SLOT = re.compile(r"{(\w+)}")


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who writes in a language, and when they are awake."""

    share: float
    utc: list[float]
    sources: list[str]
    weekend: tuple[int, ...] = (5, 6)


class Event(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A surge of news about one thing; hours are counted from the scenario's start."""

    name: str
    kind: str
    topic: str
    entity: str
    onset: float
    ramp: float
    hours: float
    articles: int
    languages: dict[str, float]
    quiet: float = 0.0


class Decoy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One story, printed word for word by many newspapers."""

    name: str
    lang: str
    topic: str
    onset: float
    hours: float
    title: str
    body: str
    towns: list[str]
    mastheads: list[str]


class Scenario(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole plot; see scenario.yaml."""

    seed: int
    start: datetime
    hours: int
    ordinary: int
    duplicates: int
    without_lang: float
    with_body: float
    sentiment: dict[str, float]
    rhythm: list[float]
    weekend: float
    topics: dict[str, float]
    languages: dict[str, Language]
    events: list[Event]
    decoy: Decoy


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a language tells an event: loud headlines, sober ones, sentences that may follow."""

    loud: list[str]
    quiet: list[str] = []
    bodies: list[str] = []


class Phrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A language's phrases: slots, ordinary headlines by topic and sentiment, sentences, events by name."""

    lang: str
    slots: dict[str, list[str]]
    bodies: list[str]
    ordinary: dict[str, dict[str, list[str]]]
    events: dict[str, Told] = {}


@dataclass(frozen=True, slots=True)
class Piece:
    """One article and what the scenario knows of it.

    Attributes:
        sentiment: positive, neutral or negative, as written.
        event: the event's name, empty for ordinary news.
    """

    news: RawNews
    lang: str
    topic: str
    sentiment: str
    event: str


def load_scenario(folder: Path = FOLDER) -> Scenario:
    """The plot in `scenario.yaml`."""
    return msgspec.yaml.decode((folder / "scenario.yaml").read_bytes(), type=Scenario)


def load_phrases(folder: Path = FOLDER) -> dict[str, Phrases]:
    """The phrases of each language, by its code."""
    files = sorted((folder / "phrases").glob("*.yaml"))
    found = [msgspec.yaml.decode(file.read_bytes(), type=Phrases) for file in files]
    return {phrases.lang: phrases for phrases in found}


class _Dice:
    """Draws. Only `random()` is used: of Python's generator it alone is promised to stay the same in every version."""

    def __init__(self, *seed: object) -> None:
        digest = hashlib.sha256(repr(seed).encode()).digest()
        self._rng = random.Random(int.from_bytes(digest[:8], "big"))  # it draws headlines, not keys

    def chance(self, share: float) -> bool:
        return self._rng.random() < share

    def pick(self, things: Sequence[T]) -> T:
        return things[int(self._rng.random() * len(things))]

    def weighted(self, weights: Mapping[T, float]) -> T:
        point = self._rng.random() * sum(weights.values())
        for thing, weight in weights.items():
            point -= weight
            if point < 0:
                return thing
        return next(reversed(list(weights)))

    def within(self, low: float, high: float) -> float:
        return low + self._rng.random() * (high - low)

    def ramp(self, ramp: float, hours: float) -> float:
        """Hours after an onset: density rises linearly until `ramp`, then falls linearly until `hours`."""
        u = self._rng.random()
        if u < ramp / hours:
            return float((u * ramp * hours) ** 0.5)
        return float(hours - ((1 - u) * hours * (hours - ramp)) ** 0.5)


class _Desk:
    """Writes the articles of one stretch of the plot, and seldom the same headline twice."""

    def __init__(self, scenario: Scenario, phrases: Mapping[str, Phrases], *seed: object) -> None:
        self._scenario, self._phrases = scenario, phrases
        self.dice = _Dice(scenario.seed, *seed)
        self._used: set[str] = set()

    def ordinary(self, lang: str, at: datetime) -> Piece:
        dice, phrases = self.dice, self._phrases[lang]
        topic = dice.weighted(self._scenario.topics)
        sentiment = dice.weighted(self._scenario.sentiment)
        title, names = self._headline(phrases, phrases.ordinary[topic][sentiment])
        bodies = phrases.bodies if names and topic != "other" and dice.chance(self._scenario.with_body) else []
        return self._piece(lang, topic, sentiment, "", at, title, bodies, names)

    def event(self, event: Event, lang: str, at: datetime) -> Piece:
        told = self._phrases[lang].events[event.name]
        quiet = bool(told.quiet) and self.dice.chance(event.quiet)
        title, names = self._headline(self._phrases[lang], told.quiet if quiet else told.loud)
        bodies = told.bodies if not quiet and self.dice.chance(self._scenario.with_body) else []
        loud = "negative" if event.kind == "crisis" else "positive"
        names = [event.entity, *names]
        return self._piece(lang, event.topic, "neutral" if quiet else loud, event.name, at, title, bodies, names)

    def _headline(self, phrases: Phrases, choices: Sequence[str]) -> tuple[str, list[str]]:
        for _ in range(TRIES):
            filled = {name: self.dice.pick(values) for name, values in phrases.slots.items()}
            phrase = self.dice.pick(choices)
            title = _capital(phrase.format_map(filled))
            if title not in self._used:
                break
        self._used.add(title)
        return title, [filled[name] for name in _SLOT.findall(phrase) if name in NAMED]

    def _piece(
        self, lang: str, topic: str, sentiment: str, event: str, at: datetime, title: str, bodies: Sequence[str],
        names: Sequence[str],
    ) -> Piece:  # fmt: skip
        source = self.dice.pick(self._scenario.languages[lang].sources)
        news = RawNews(
            source=source,
            title=title,
            published_at=at,
            body=self.dice.pick(bodies) if bodies else None,
            lang=None if self.dice.chance(self._scenario.without_lang) else lang,
            entities=list(dict.fromkeys(names)),
        )
        return Piece(news, lang, topic, sentiment, event)


def generate(scenario: Scenario, phrases: Mapping[str, Phrases]) -> list[Piece]:
    """Every article of the plot, in event-time order, with ids and addresses; some of them twice."""
    pieces = [*_ordinary(scenario, phrases), *_decoy(scenario)]
    for event in scenario.events:
        pieces += _event(scenario, phrases, event)
    pieces.sort(key=lambda piece: (piece.news.published_at, piece.news.source, piece.news.title))
    return _with_duplicates(scenario, [_named(number, piece) for number, piece in enumerate(pieces, 1)])


def _ordinary(scenario: Scenario, phrases: Mapping[str, Phrases]) -> Iterable[Piece]:
    total = sum(language.share for language in scenario.languages.values())
    for lang, language in scenario.languages.items():
        desk = _Desk(scenario, phrases, "ordinary", lang)
        hours = {float(hour): _activity(scenario, language, hour) for hour in range(scenario.hours)}
        for _ in range(round(scenario.ordinary * language.share / total)):
            hour = desk.dice.weighted(hours)
            yield desk.ordinary(lang, _moment(scenario, hour + desk.dice.within(0, 1)))


def _activity(scenario: Scenario, language: Language, hour: int) -> float:
    """How much is written in this hour of the plot, over the places where the language is written."""
    total = 0.0
    for offset in language.utc:
        local = scenario.start + timedelta(hours=hour + offset)
        total += scenario.rhythm[local.hour] * (scenario.weekend if local.weekday() in language.weekend else 1.0)
    return total


def _event(scenario: Scenario, phrases: Mapping[str, Phrases], event: Event) -> Iterable[Piece]:
    desk = _Desk(scenario, phrases, "event", event.name)
    for number, lang in enumerate(_shared_out(event, desk.dice)):
        after = 0.0 if number == 0 else desk.dice.ramp(event.ramp, event.hours)
        yield desk.event(event, lang, _moment(scenario, event.onset + after))


def _shared_out(event: Event, dice: _Dice) -> list[str]:
    """A language for each article, in exact shares, shuffled; the most frequent one opens the event."""
    total = sum(event.languages.values())
    wanted = {lang: event.articles * share / total for lang, share in event.languages.items()}
    given = {lang: int(share) for lang, share in wanted.items()}
    for lang in sorted(wanted, key=lambda lang: given[lang] - wanted[lang])[: event.articles - sum(given.values())]:
        given[lang] += 1
    langs = [lang for lang, count in given.items() for _ in range(count)]
    return langs[:1] + sorted(langs[1:], key=lambda _: dice.within(0, 1))


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]


def _decoy(scenario: Scenario) -> Iterable[Piece]:
    decoy, dice = scenario.decoy, _Dice(scenario.seed, "decoy")
    for town in decoy.towns:
        for masthead in decoy.mastheads:
            at = _moment(scenario, decoy.onset + dice.within(0, decoy.hours))
            news = RawNews(
                source=f"{town} {masthead}", title=decoy.title, body=decoy.body, lang=decoy.lang, published_at=at
            )
            yield Piece(news, decoy.lang, decoy.topic, "negative", decoy.name)


def _moment(scenario: Scenario, hours: float) -> datetime:
    return (scenario.start + timedelta(seconds=int(hours * 3600))).astimezone(UTC)


def _named(number: int, piece: Piece) -> Piece:
    """The piece with its id and address, under .example, which RFC 2606 keeps free."""
    site = hashlib.sha256(piece.news.source.encode()).hexdigest()[:8]
    ident = f"{site}-{number:05d}"
    url = f"https://{site}.example/{piece.news.published_at:%Y/%m/%d}/{number:05d}"
    news = msgspec.structs.replace(piece.news, id=ident, url=url)
    return Piece(news, piece.lang, piece.topic, piece.sentiment, piece.event)


def _with_duplicates(scenario: Scenario, pieces: list[Piece]) -> list[Piece]:
    """Some ordinary articles are delivered again, a few places later."""
    dice = _Dice(scenario.seed, "duplicates")
    ordinary = [number for number, piece in enumerate(pieces) if not piece.event]
    chosen: set[int] = set()
    while len(chosen) < scenario.duplicates:
        chosen.add(dice.pick(ordinary))
    for number in sorted(chosen, reverse=True):
        pieces.insert(number + 1 + int(dice.within(0, 6)), pieces[number])
    return pieces


def truth(scenario: Scenario, pieces: Sequence[Piece]) -> dict[str, object]:
    """What a monitor should find in the feed; goes into truth.json."""
    once = list({piece.news.id: piece for piece in pieces}.values())
    kinds = {event.name: event.kind for event in scenario.events} | {scenario.decoy.name: "decoy"}
    return {
        "rows": len(pieces),
        "articles": len(once),
        "duplicates": len(pieces) - len(once),
        "start": _text(scenario.start),
        "end": _text(scenario.start + timedelta(hours=scenario.hours)),
        "languages": _counts(piece.lang for piece in once),
        "topics": _counts(piece.topic for piece in once),
        "sentiments": _counts(piece.sentiment for piece in once),
        "without_lang": sum(piece.news.lang is None for piece in once),
        "events": [_found(name, kind, [p for p in once if p.event == name]) for name, kind in kinds.items()],
    }


def _found(name: str, kind: str, pieces: Sequence[Piece]) -> dict[str, object]:
    times = [piece.news.published_at for piece in pieces]
    return {
        "name": name,
        "kind": kind,
        "topic": pieces[0].topic,
        "entity": pieces[0].news.entities[0] if pieces[0].news.entities else None,
        "onset": _text(min(times)),
        "end": _text(max(times)),
        "articles": len(pieces),
        "sentiments": _counts(piece.sentiment for piece in pieces),
        "languages": _counts(piece.lang for piece in pieces),
        "sources": len({piece.news.source for piece in pieces}),
        "headlines": len({piece.news.title for piece in pieces}),
    }


def _counts(labels: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(labels).items()))


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_jsonl(pieces: Iterable[Piece]) -> bytes:
    """The feed's bytes, unpacked."""
    return b"".join(encode(piece.news) + b"\n" for piece in pieces)


def write() -> None:
    """Writes the feed and its truth beside this file. The same scenario gives the same bytes."""
    scenario = load_scenario()
    pieces = generate(scenario, load_phrases())
    NEWS.write_bytes(gzip.compress(to_jsonl(pieces), 9, mtime=0))
    found = msgspec.json.format(msgspec.json.encode(truth(scenario, pieces)), indent=1)
    TRUTH.write_bytes(found + b"\n")


if __name__ == "__main__":
    write()
