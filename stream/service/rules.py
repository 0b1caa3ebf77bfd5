"""Rule files: YAML in, `RuleSet` out; checked strictly, versioned by content."""

import hashlib
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from crosswind.errors import SettingsError
from crosswind.stream.domain.detect.budget import Table
from crosswind.stream.domain.detect.changepoint import Changepoint
from crosswind.stream.domain.detect.cusum import Cusum
from crosswind.stream.domain.detect.detector import Detector
from crosswind.stream.domain.detect.ears import Ears
from crosswind.stream.domain.detect.ewma import Ewma
from crosswind.stream.domain.detect.farrington import Farrington
from crosswind.stream.domain.detect.scan import Scan
from crosswind.stream.domain.incident import Policy
from crosswind.stream.domain.rules import Budget, Kind, Least, Match, NoData, Per, Rule, RuleSet
from crosswind.stream.domain.series import Counting
from crosswind.structs import known

FOLDER = Path(__file__).resolve().parents[1] / "rules"
DEFAULT, CALIBRATION, SCHEMA = FOLDER / "default.yaml", FOLDER / "calibration.json", FOLDER / "rules.v1.schema.json"

DETECTORS: Mapping[str, Callable[[], Detector]] = {
    "scan": Scan,
    "cusum": Cusum,
    "changepoint": Changepoint,
    "ewma": Ewma,
    "farrington": Farrington,
    "ears-c1": lambda: Ears(1),
    "ears-c2": lambda: Ears(2),
    "ears-c3": lambda: Ears(3),
}
"""Statistic by its name in rule files."""

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DURATION = re.compile(r"(\d+)([smhdw])")
_PATTERN = r"^(\d+[smhdw])+$"
LONGEST = timedelta(days=366)
"""No duration of a rule is longer; far beyond it, dates overflow."""
Duration = Annotated[str, Meta(pattern=_PATTERN, description="whole minutes, e.g. 5m, 1h30m, 7d", examples=["5m"])]
Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}$", description="lower case, digits and hyphens")]
KindName = Literal["run", "topic", "topic-language", "language", "entity"]
DetectorName = Literal["scan", "cusum", "changepoint", "ewma", "farrington", "ears-c1", "ears-c2", "ears-c3"]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An unknown key is a mistake, not a wish to be ignored."""


class Watched(Strict, frozen=True):
    """Which series; an empty list means any."""

    kinds: tuple[KindName, ...] = ("topic", "topic-language", "entity")
    topics: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    entities: tuple[str, ...] = ()


class FalseAlarms(Strict, frozen=True):
    """The budget: at most so many false alarms a month, for each series, or for all of the rule's series together."""

    at_most: Annotated[float, Meta(gt=0, le=100)] = 0.1
    per: Literal["series", "rule"] = "series"


class Evidence(Strict, frozen=True):
    """Less than this never alarms: distinct negative headlines (of what `count` says), sources, hours of history."""

    headlines: Annotated[int, Meta(ge=1)] = 5
    sources: Annotated[int, Meta(ge=1)] = 3
    hours: Annotated[int, Meta(ge=1)] = 6


class Critical(Strict, frozen=True):
    """Both must hold for severity critical: p-value at most, observed over expected at least."""

    p_value: Annotated[float, Meta(gt=0, lt=1)] = 1e-12
    times: Annotated[float, Meta(ge=1)] = 8.0


class Flapping(Strict, frozen=True):
    """Firing so often within a time is flapping; calm must then last `factor` times longer."""

    fires: Annotated[int, Meta(ge=2)] = 3
    within: Duration = "24h"
    factor: Annotated[int, Meta(ge=1, le=100)] = 4


class RuleText(Strict, frozen=True, rename={"hold": "for"}):
    """One rule as it is written."""

    name: Name
    description: str = ""
    detector: DetectorName = "scan"
    watch: Watched = Watched()
    count: Annotated[
        Literal["stories", "headlines", "articles"], Meta(description="what counts once, however often it is told")
    ] = "stories"
    false_alarms: FalseAlarms = FalseAlarms()
    evidence: Evidence = Evidence()
    hold: Duration = "2m"
    keep_firing: Duration = "60m"
    clear: Annotated[float, Meta(gt=0, le=1, description="share of the threshold below which it is calm")] = 0.6
    critical: Critical = Critical()
    repeat: Duration | None = None
    flapping: Flapping = Flapping()


class Silent(Strict, frozen=True):
    """When a silent feed is told of: nothing came for so long, although so many articles were to be expected."""

    after: Duration = "45m"
    expected: Annotated[float, Meta(gt=0)] = 20.0


@known
class RuleFile(Strict, frozen=True):
    """A rule file, version 1."""

    version: Literal[1]
    rules: Annotated[tuple[RuleText, ...], Meta(min_length=1)]
    inhibit: bool = True
    group_overlap: Annotated[float, Meta(gt=0, le=1)] = 0.5
    no_data: Silent | None = Silent()


def load_rules(path: Path | None = None) -> RuleSet:
    """The rules of a file, or the shipped ones.

    Raises:
        SettingsError: the file cannot be read or is not a rule file; says where.
    """
    return rule_set(read_rules(path or DEFAULT))


def read_rules(path: Path) -> RuleFile:
    """A rule file as it is written.

    Raises:
        SettingsError: the file cannot be read or is not a rule file; says where.
    """
    try:
        return parse_rules(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"cannot read the rules in {path}: {error.strerror or error}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


YAML_LETS_THROUGH = (ValueError, AttributeError, LookupError, TypeError)
"""What PyYAML raises, unwrapped, of values that are not what they look like: `2026-13-45`, `!!int a`, `!!bool x`."""


def parse_rules(text: bytes) -> RuleFile:
    """A rule file from its text.

    Raises:
        SettingsError: it is not one; says where.
    """
    try:
        found = msgspec.yaml.decode(text, type=RuleFile, strict=True)
    except (msgspec.MsgspecError, *YAML_LETS_THROUGH, RecursionError) as error:
        raise SettingsError(f"not a rule file: {str(error) or type(error).__name__}") from None
    names = [rule.name for rule in found.rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingsError(f"two rules are named {twice[0]}; each needs a name of its own")
    return found


def rule_set(text: RuleFile) -> RuleSet:
    """Rules at work, from rules as written.

    Raises:
        SettingsError: a duration is not of whole minutes or too long, or a statistic has no calibration.
    """
    tables = _tables()
    rules = tuple(_rule(rule, tables) for rule in text.rules)
    silent = text.no_data
    no_data = NoData(duration(silent.after), silent.expected) if silent else None
    if no_data and not timedelta(0) < no_data.after <= timedelta(hours=11):
        raise SettingsError("no_data.after must be between a minute and 11 hours")
    version = _digest([text.inhibit, text.group_overlap, silent, [rule.version for rule in rules]])
    return RuleSet(rules, version, text.inhibit, text.group_overlap, no_data)


def duration(text: str) -> timedelta:
    """A duration as rule files write it.

    >>> duration("1h30m")
    datetime.timedelta(seconds=5400)

    Raises:
        SettingsError: it is not of whole minutes, or longer than `LONGEST`.
    """
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    # The length first: a number of thousands of digits is more than int() takes.
    if len(text) > 40 or not re.fullmatch(_PATTERN[1:-1], text):
        raise SettingsError(f"{shown!r} is no duration of whole minutes; write e.g. 5m, 1h30m or 7d")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))
    if seconds % 60:
        raise SettingsError(f"{shown!r} is no duration of whole minutes; write e.g. 5m, 1h30m or 7d")
    if seconds > LONGEST.total_seconds():
        raise SettingsError(f"{shown!r} is too long; the longest is {LONGEST.days}d")
    return timedelta(seconds=seconds)


def schema() -> dict[str, Any]:
    """The JSON Schema of rule files; `rules.v1.schema.json` holds it for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:crosswind:rules.v1",
        **msgspec.json.schema(RuleFile),
    }


def _rule(text: RuleText, tables: Mapping[str, Table]) -> Rule:
    detector = DETECTORS[text.detector]()
    watch, flapping, critical = text.watch, text.flapping, text.critical
    table = tables.get(f"{detector.name}/{detector.version}")
    if table is None:
        raise SettingsError(f"rule {text.name}: no calibration of {text.detector}: run bench/calibrate_alerts.py")
    repeat = duration(text.repeat) if text.repeat else None
    if repeat is not None and not repeat:
        raise SettingsError(f"rule {text.name}: repeat {text.repeat} would tell every minute; leave it out for never")
    policy = Policy(
        duration(text.hold), duration(text.keep_firing), critical.p_value, critical.times, repeat,
        flapping.fires, duration(flapping.within), flapping.factor,
    )  # fmt: skip
    match = Match(tuple(Kind(kind) for kind in watch.kinds), watch.topics, watch.languages, watch.entities)
    evidence = text.evidence
    return Rule(
        text.name, _version(text, detector, table), detector, table, match,
        Budget(text.false_alarms.at_most, Per(text.false_alarms.per)),
        Least(evidence.headlines, evidence.sources, evidence.hours), policy, text.clear, Counting(text.count),
    )  # fmt: skip


def _version(text: RuleText, detector: Detector, table: Table) -> str:
    """Changes with whatever may change an answer; not with the description."""
    said = msgspec.structs.replace(text, description="")
    return _digest([said, text.count, detector.name, detector.version, table])


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()[:12]


def _tables() -> dict[str, Table]:
    """Calibrations by `name/version` of their statistic."""
    return msgspec.json.decode(CALIBRATION.read_bytes(), type=dict[str, Table])
