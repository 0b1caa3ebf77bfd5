"""A rule: which series it watches, by which statistic, for which false-alarm budget, and how incidents live."""

from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.detect.budget import Table
from crosswind.stream.domain.detect.detector import Detector
from crosswind.stream.domain.incident import Policy
from crosswind.stream.domain.series import Counting, Series


class Kind(StrEnum):
    """What a series is over; named as in rule files."""

    RUN = "run"
    TOPIC = "topic"
    TOPIC_LANGUAGE = "topic-language"
    LANGUAGE = "language"
    ENTITY = "entity"
    OTHER = "other"


def kind_of(series: Series) -> Kind:
    """The kind of a series.

    >>> kind_of(Series("credit")).value, kind_of(Series("credit", "de")).value, kind_of(Series(ALL, ALL, "Acme")).value
    ('topic', 'topic-language', 'entity')
    """
    kinds = {
        (False, False, False): Kind.RUN,
        (True, False, False): Kind.TOPIC,
        (True, True, False): Kind.TOPIC_LANGUAGE,
        (False, True, False): Kind.LANGUAGE,
        (False, False, True): Kind.ENTITY,
    }
    return kinds.get((series.topic != ALL, series.lang != ALL, series.entity != ALL), Kind.OTHER)


@dataclass(frozen=True, slots=True)
class Match:
    """Which series a rule watches; empty tuples mean any."""

    kinds: tuple[Kind, ...] = (Kind.TOPIC, Kind.TOPIC_LANGUAGE, Kind.ENTITY)
    topics: tuple[str, ...] = ()
    langs: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()

    def holds(self, series: Series) -> bool:
        """Whether the rule watches it."""
        return (
            (not self.kinds or kind_of(series) in self.kinds)
            and (not self.topics or series.topic in self.topics)
            and (not self.langs or series.lang in self.langs)
            and (not self.entities or series.entity in self.entities)
        )


class Per(StrEnum):
    """Whose budget it is: each series', or that of all the rule's series together."""

    SERIES = "series"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Budget:
    """At most so many false alarms a month, per series or over all series of the rule."""

    at_most: float = 0.1
    per: Per = Per.SERIES


@dataclass(frozen=True, slots=True)
class Least:
    """Evidence below which nothing alarms: distinct headlines (of what is counted), sources, hours of history."""

    headlines: int = 5
    sources: int = 3
    hours: int = 6


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule at work. `version` changes whenever it may answer differently.

    Attributes:
        clear: share of the threshold below which a signal is calm; between the two it is elevated (hysteresis).
        count: what counts once, however often it is told.
    """

    name: str
    version: str
    detector: Detector
    table: Table
    match: Match = field(default_factory=Match)
    budget: Budget = field(default_factory=Budget)
    least: Least = field(default_factory=Least)
    policy: Policy = field(default_factory=Policy)
    clear: float = 0.6
    count: Counting = Counting.STORIES


@dataclass(frozen=True, slots=True)
class NoData:
    """When a silent feed is an incident of its own.

    Attributes:
        after: the whole run must have been silent so long.
        expected: articles of the run that were to be expected meanwhile.
    """

    after: timedelta = timedelta(minutes=45)
    expected: float = 20.0


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules of one file.

    Attributes:
        inhibit: an open incident over all languages silences pending ones of a single language of the same topic.
        group_overlap: share of the smaller one's articles that two surges must have in common to be one group.
        no_data: None: a silent feed is not told.
    """

    rules: tuple[Rule, ...]
    version: str
    inhibit: bool = True
    group_overlap: float = 0.5
    no_data: NoData | None = field(default_factory=NoData)

    @property
    def least_headlines(self) -> int:
        """Negatives in the widest window below which no rule ever alarms: such series need no evaluation."""
        return min((rule.least.headlines for rule in self.rules), default=1)

    @property
    def languages(self) -> bool:
        """Whether a rule watches a language over all topics; else such series need not be counted."""
        return any(not rule.match.kinds or Kind.LANGUAGE in rule.match.kinds for rule in self.rules)

    @property
    def widest(self) -> int:
        """Minutes of the widest window of any rule."""
        return max((width for rule in self.rules for width in rule.detector.widths), default=60)
