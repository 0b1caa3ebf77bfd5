"""Finds the thresholds behind 'at most N false alarms per series and month', on tuning seeds only.

    python bench/calibrate_alerts.py                        every statistic; writes stream/rules/calibration.json
    python bench/calibrate_alerts.py --only scan --rooms 100

Newsrooms without any crisis, but with all hazards, are judged minute by minute, old ones for two weeks, and half as
many young ones for their first week; for each band of expected negatives per hour, the height is kept that was passed
as often as each budget allows. Statistics left out keep what they have.
"""

import argparse
import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.judged import REARM, Floats, scores  # noqa: E402
from bench.scenarios import newsroom  # noqa: E402
from crosswind.stream.domain.detect.budget import MONTH_HOURS  # noqa: E402
from crosswind.stream.domain.detect.detector import Detector  # noqa: E402
from crosswind.stream.service.rules import CALIBRATION, DETECTORS  # noqa: E402

EDGES = (0.0, 0.15, 0.5, 1.5, 5.0, 1e9)
"""Bands of expected negatives per hour."""
BUDGETS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
FIRST_SEED = 1000
QUIETER = 0.85
LEAST_ALARMS = 12
"""Heights that were passed less often are not counted but drawn on from lower ones: the logarithm of the rate falls
nearly straight with the square of the height."""
GRID = np.concatenate([np.arange(1.0, 12.0, 0.1), np.geomspace(12.0, 1e4, 120)])
Found = dict[str, list[tuple[float, float, Floats]]]
"""Per statistic, of each series: its typical level, months, and alarms at each height of `GRID`."""


def collect(rooms: int, detectors: dict[str, Detector], first_seed: int = FIRST_SEED) -> Found:
    """Judges calm newsrooms."""
    found: Found = {name: [] for name in detectors}
    for number in tqdm(range(rooms + rooms // 2), disable=None):
        young = number >= rooms
        room = newsroom(first_seed + number, weeks=1 if young else 2, young=young)
        each, typical = scores(room, detectors)
        months = typical.shape[1] / MONTH_HOURS
        levels = np.exp(np.log(np.maximum(typical, 1e-3)).mean(axis=1))
        for name, score in each.items():
            found[name] += [(float(lv), months, counted(row)) for lv, row in zip(levels, score, strict=True)]
    return found


def counted(row: Floats) -> Floats:
    """Alarms of one series at each height of `GRID`."""
    at = np.flatnonzero(row >= GRID[0])
    high = row[at]
    total = np.zeros(len(GRID))
    for place in np.flatnonzero(high.max(initial=0.0) >= GRID):
        above = at[high >= GRID[place]]
        total[place] = 1 + np.count_nonzero(np.diff(above) > REARM)
    return total


def table(found: list[tuple[float, float, Floats]]) -> dict[str, object]:
    """The table of one statistic, as `calibration.json` holds it."""
    levels, heights = [], []
    for low, high in pairwise(EDGES):
        band = [one for one in found if low <= one[0] < high]
        if len(band) < 20:
            continue
        levels.append(float(np.exp(np.mean(np.log([level for level, _, _ in band])))))
        total = np.sum([alarms for _, _, alarms in band], axis=0)
        heights.append(_heights(total, sum(months for _, months, _ in band)))
    return {"levels": levels, "budgets": list(BUDGETS), "heights": lifted(heights)}


def lifted(heights: list[list[float]]) -> list[list[float]]:
    """Quiet series hardly ever have the least evidence, so any height would do for them; but a rule may ask for less
    evidence, so theirs is never far below that of the next louder band."""
    for quiet, loud in list(pairwise(heights))[::-1]:
        quiet[:] = [round(max(low, QUIETER * high), 4) for low, high in zip(quiet, loud, strict=True)]
    return heights


def _heights(total: Floats, months: float) -> list[float]:
    """Per budget the height that is passed no more often."""
    total = np.maximum.accumulate(total[::-1])[::-1]
    out, last = [], 0.0
    for budget in BUDGETS:
        height = _height(total, budget * months)
        last = max(height, last + 0.02)  # a table must rise, or nothing could be read back from it
        out.append(round(last, 4))
    return out


def _height(total: Floats, allowed: float) -> float:
    """The height that is passed `allowed` times; beyond `LEAST_ALARMS` along a line through the higher counted ones."""
    if allowed >= LEAST_ALARMS:
        passed = np.flatnonzero(total <= allowed)
        return float(GRID[passed[0]])
    known = np.flatnonzero((total >= LEAST_ALARMS) & (total <= 12 * LEAST_ALARMS))
    if len(known) < 3:
        return float(GRID[np.flatnonzero(total <= allowed)[0]])
    slope, start = np.polyfit(GRID[known] ** 2, np.log(total[known]), 1, w=np.sqrt(total[known]))
    return float(np.sqrt((np.log(allowed) - start) / slope))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--only", action="append", choices=sorted(DETECTORS))
    options = parser.parse_args()
    detectors = {name: DETECTORS[name]() for name in options.only or DETECTORS}
    found = collect(options.rooms, detectors)
    known = {f"{name}/{make().version}" for name, make in DETECTORS.items()}
    before = json.loads(CALIBRATION.read_text()) if CALIBRATION.exists() else {}
    tables = {name: each for name, each in before.items() if name in known}
    for name, detector in detectors.items():
        tables[f"{name}/{detector.version}"] = table(found[name])
        print(name, json.dumps(tables[f"{name}/{detector.version}"]))
    CALIBRATION.write_text(json.dumps(tables, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
