"""What a rule says of one series at one minute."""

from dataclasses import dataclass
from enum import StrEnum

from crosswind.stream.domain.evidence import NOTHING, Evidence


class Level(StrEnum):
    """How loud a signal is. `ELEVATED` opens nothing, but keeps open what is; `NO_DATA` changes nothing."""

    CALM = "calm"
    ELEVATED = "elevated"
    RAISED = "raised"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Signal:
    """What a rule says of one series at one minute.

    Attributes:
        observed: negatives in the window.
        expected: negatives that the baseline expects there.
        p_value: probability of so many distinct negative headlines in such a window; 1.0 where nothing was tested.
        negative_share: negatives among the window's articles.
        window: minutes of the window.
        score: of the rule's statistic.
        chance: how many alarms as strong as this one a series gives in a month by chance.
    """

    level: Level = Level.CALM
    observed: int = 0
    expected: float = 0.0
    p_value: float = 1.0
    negative_share: float = 0.0
    evidence: Evidence = NOTHING
    window: int = 60
    score: float = 0.0
    chance: float = 1e3
