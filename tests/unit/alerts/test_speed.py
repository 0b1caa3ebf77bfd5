"""A thousand series, one minute."""

import time

import numpy as np

from crosswind.stream.domain.series import MINUTE, History
from crosswind.stream.domain.surge import NegativeSurge
from tests.unit.alerts.feeds import START


def test_a_thousand_series_take_well_under_a_second() -> None:
    rule, random = NegativeSurge(), np.random.default_rng(1)
    minutes = rule.lookback + 60
    counts = random.poisson(0.5, (1000, minutes))
    run = np.full(minutes, 300)
    histories = [History.of(START, row // 2, row, run) for row in counts]
    started = time.process_time()
    signals = [rule.evaluate(history, START + (minutes - 1) * MINUTE) for history in histories]
    assert time.process_time() - started < 1.0
    assert all(signal.expected > 0 for signal in signals)
