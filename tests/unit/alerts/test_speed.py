"""A thousand series are judged at once; the timing itself is a benchmark's (`bench/alerts.py`)."""

import numpy as np

from crosswind.stream.domain.detect.season import REACH, WEEK, learn
from crosswind.stream.domain.detect.view import View
from crosswind.stream.domain.panel import WEEKS
from crosswind.stream.domain.series import running
from crosswind.stream.service.rules import DETECTORS


def _view(series: int, seed: int = 1, minutes: int = 3) -> View:
    random = np.random.default_rng(seed)
    past = random.poisson(4, (2, series, WEEKS * WEEK)).astype(np.int64)
    now = random.poisson(0.05, (2, series, REACH * 60 + minutes))
    normal = learn(past[0], past.sum(axis=0), past.sum(axis=(0, 1)))
    return View(running(now[0]), running(now.sum(axis=0)), running(now.sum(axis=(0, 1))), normal, past[0], minutes)


def test_a_series_score_does_not_depend_on_the_others() -> None:
    view = _view(40)
    rows = np.array([3, 17])
    some = view.only(rows, view.negative[rows], view.articles[rows])
    for make in DETECTORS.values():
        detector = make()
        assert np.array_equal(detector.scores(view).score[rows], detector.scores(some).score), detector.name
