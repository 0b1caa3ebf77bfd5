"""Finds the thresholds behind 'at most N false alarms per series and month', on tuning seeds only.

    python bench/calibrate_alerts.py                        every statistic; writes stream/rules/calibration.json
    python bench/calibrate_alerts.py --only scan --rooms 100

Newsrooms without any crisis, but with all hazards, are judged minute by minute; for each band of expected negatives
per hour, the height is kept that was passed as often as each budget allows. Statistics left out keep what they have.
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

from bench.judged import Floats, alarms, scores  # noqa: E402
from bench.scenarios import newsroom  # noqa: E402
from crosswind.stream.domain.detect.budget import MONTH_HOURS  # noqa: E402
from crosswind.stream.domain.detect.detector import Detector  # noqa: E402
from crosswind.stream.service.rules import CALIBRATION, DETECTORS  # noqa: E402

EDGES = (0.0, 0.15, 0.5, 1.5, 5.0, 1e9)
"""Bands of expected negatives per hour."""
BUDGETS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03)
FIRST_SEED = 1000
QUIETER = 0.85
Found = dict[str, list[tuple[float, Floats]]]


def collect(rooms: int, detectors: dict[str, Detector], first_seed: int = FIRST_SEED) -> tuple[Found, float]:
    """Per statistic: each series' typical level and its scores, minute by minute; and the months of one series."""
    found: Found = {name: [] for name in detectors}
    months = 0.0
    for seed in tqdm(range(first_seed, first_seed + rooms), disable=None):
        each, typical = scores(newsroom(seed), detectors)
        months = typical.shape[1] / MONTH_HOURS
        for name, score in each.items():
            found[name] += [(float(level.mean()), row.astype(np.float32)) for level, row in zip(typical, score)]
    return found, months


def table(found: list[tuple[float, Floats]], months: float) -> dict[str, object]:
    """The table of one statistic, as `calibration.json` holds it."""
    levels, heights = [], []
    for low, high in pairwise(EDGES):
        band = [(level, row) for level, row in found if low <= level < high]
        if len(band) < 20:
            continue
        levels.append(float(np.exp(np.mean(np.log([max(level, 1e-3) for level, _ in band])))))
        heights.append(_heights([row for _, row in band], months))
    return {"levels": levels, "budgets": list(BUDGETS), "heights": lifted(heights)}


def lifted(heights: list[list[float]]) -> list[list[float]]:
    """Quiet series hardly ever have the least evidence, so any height would do for them; but a rule may ask for less
    evidence, so theirs is never far below that of the next louder band."""
    for quiet, loud in list(pairwise(heights))[::-1]:
        quiet[:] = [round(max(low, QUIETER * high), 4) for low, high in zip(quiet, loud, strict=True)]
    return heights


def _heights(rows: list[Floats], months: float) -> list[float]:
    """Per budget the lowest height that is passed no more often, over all rows together."""
    out, last = [], 0.0
    top = max(float(row.max()) for row in rows)
    grid = np.concatenate([np.arange(0.5, 12.0, 0.05), np.geomspace(12.0, max(top, 13.0) + 1.0, 200)])
    rates = _rates(rows, grid, months)
    for budget in BUDGETS:
        passed = np.flatnonzero(rates <= budget)
        height = float(grid[passed[0]]) if len(passed) else top
        last = max(height, last + 0.02)  # a table must rise, or nothing could be read back from it
        out.append(round(last, 4))
    return out


def _rates(rows: list[Floats], grid: Floats, months: float) -> Floats:
    """Alarms per series and month at each height."""
    total = np.zeros(len(grid))
    for row in rows:
        best = float(row.max())
        for place in np.flatnonzero(grid <= best):
            total[place] += len(alarms(row >= grid[place]))
    rates = total / (len(rows) * months)
    return np.maximum.accumulate(rates[::-1])[::-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", type=int, default=60)
    parser.add_argument("--only", action="append", choices=sorted(DETECTORS))
    options = parser.parse_args()
    detectors = {name: DETECTORS[name]() for name in options.only or DETECTORS}
    tables = json.loads(CALIBRATION.read_text()) if CALIBRATION.exists() else {}
    found, months = collect(options.rooms, detectors)
    for name, detector in detectors.items():
        tables[f"{name}/{detector.version}"] = table(found[name], months)
        print(name, json.dumps(tables[f"{name}/{detector.version}"]))
    CALIBRATION.write_text(json.dumps(tables, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
