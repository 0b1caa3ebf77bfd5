"""A feed's first days: what is not known yet is not taken for known."""

import numpy as np
import pytest

from crosswind.stream.domain.detect.season import DAY, REACH, WEEK, Normal, learn
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.panel import WEEKS
from crosswind.stream.domain.series import running
from crosswind.stream.service.rules import DETECTORS, load_rules, parse_rules, rule_set

HOURS = WEEKS * WEEK


def _recent(counts: np.ndarray) -> np.ndarray:
    """[1, hours]: these last, nothing before."""
    return np.concatenate([np.zeros(HOURS - len(counts), np.int64), counts])[None, :]


def _learned(negative: np.ndarray, articles: np.ndarray, run: np.ndarray) -> Normal:
    return learn(_recent(negative), _recent(articles), _recent(run)[0])


def _flat(hours: int, negative: int = 5) -> Normal:
    counts = np.full(hours, negative, np.int64)
    return _learned(counts, counts * 4, counts * 40)


def test_doubt_falls_with_every_day_and_week() -> None:
    excess = [float(_flat(hours).excess[0, 0]) for hours in (6, 2 * DAY, WEEK, HOURS)]
    assert excess == sorted(excess, reverse=True)
    assert excess[0] > 0.35 > 2 * excess[-1]


def test_doubt_of_the_share_falls_with_articles() -> None:
    assert _flat(6, 1).rho[0] > _flat(6).rho[0] > _flat(HOURS).rho[0]


def test_a_series_without_negatives_yet_is_not_thought_immune() -> None:
    articles = np.full(6, 8, np.int64)
    found = _learned(0 * articles, articles, articles * 20)
    assert 0.1 < found.typical[0] < 2.0  # below the usual share of its articles, far above nothing


def test_lumpy_series_are_learned_as_lumpy() -> None:
    random = np.random.default_rng(1)
    lumps = np.array([[0.01], [0.2], [0.6]])
    counts = random.poisson(8.0 * random.gamma(1.0 / lumps, lumps, (3, HOURS))).astype(np.int64)
    found = learn(counts, counts * 4, np.full(HOURS, 300, np.int64)).excess[:, 0]
    assert found[0] < found[1] < found[2]
    assert found[1] == pytest.approx(0.2, abs=0.1)


def test_a_first_morning_of_its_own_is_no_surge() -> None:
    """The feed runs evenly, one series slept and wakes: on the first day that may be its habit."""
    asleep = np.concatenate([np.full(6, 1), np.full(2, 2)]).astype(np.int64)
    evenly = np.full(8, 60, np.int64)
    past, now = asleep[:6], np.full(60, 8 / 60)
    minutes = np.concatenate([np.zeros(REACH * 60 - 480), np.repeat(asleep / 60.0, 60), now])
    negative = np.diff(np.floor(np.cumsum(np.concatenate([[0.0], minutes]))).astype(np.int64))[None, :]
    articles = negative * 4
    run = np.concatenate([np.zeros(REACH * 60 - 480), np.ones(540)]).astype(np.int64)
    normal = _learned(past, past * 4, evenly[:6])
    view = View(running(negative), running(articles), running(run), normal, _recent(past), 60)
    rule = load_rules().rules[0]
    assert (rule.detector.scores(view).score < rule.table.height(normal.typical, rule.budget.at_most)[:, None]).all()


@pytest.mark.parametrize("name", sorted(DETECTORS))
def test_every_statistic_is_calibrated(name: str) -> None:
    table = rule_set(parse_rules(f"version: 1\nrules: [{{name: a, detector: {name}}}]".encode())).rules[0].table
    for row in table.heights:
        assert list(row) == sorted(set(row))
    assert list(table.levels) == sorted(table.levels)
