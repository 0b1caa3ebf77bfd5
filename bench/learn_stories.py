"""Learns what stories are told apart by: writes `stream/domain/stories/learned.json`.

    python bench/learn_stories.py

How common a sound is comes from the written corpus (`models/corpus`, its slots left out) and the odd sentences of
ntrex128. The weights come from pairs of headlines: the tuning half of `bench/data/events.txt`, and even sentences of
ntrex128 from number 600 on. `bench/stories.py` judges with the other half and the even sentences below 400, so nothing
that is learned from judges. Deterministic; takes about two minutes.
"""

import argparse
import math
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from stories import Headline, b_cubed, ours, read_events, tellings, tuning_half

from crosswind.export import bundle
from crosswind.models.projection import SENTENCES, read_parallel
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.domain.stories.decision import Criteria
from crosswind.stream.domain.stories.evidence import FEATURES, Learned, Told, Weigher
from crosswind.stream.domain.stories.facts import facts_of, sound, words_of
from crosswind.stream.domain.stories.meaning import unpack
from crosswind.stream.domain.stories.story import Telling
from crosswind.stream.service.ports import Scorer

ROOT = Path(__file__).parents[1]
OUT = ROOT / "stream/domain/stories/learned.json"
VERSION = 1
FIRST, LAST = 600, 1000
"""Sentences of ntrex128 that are learned from, the even ones of these numbers."""
NEAR = 25
"""Besides those of its own event, each headline is paired with so many of the nearest."""
SLOT = re.compile(r"\{\w+\}")
SEEN = 3
"""A sound in fewer texts than this is rare."""
Feed = Sequence[tuple[Telling, int]]
Floats = NDArray[np.float64]


def written() -> dict[str, list[str]]:
    """The written corpus: language -> headlines, slots in them and all."""
    found = defaultdict(list)
    for path in sorted((ROOT / "models/corpus").rglob("*.yaml")):
        content = msgspec.yaml.decode(path.read_bytes())
        cells = [rows for topic in content.get("patterns", {}).values() for rows in topic.values()]
        hard = [row["text"] for row in content.get("hard") or ()]
        found[content["lang"]] += [*(row for rows in cells for row in rows or ()), *hard]
    return found


def texts(data: Path) -> Iterator[str]:
    """What sounds are counted in."""
    for rows in written().values():
        yield from (SLOT.sub(" ", row) for row in rows)
    yield from read_parallel(data, True, SENTENCES).texts


def common_sounds(data: Path) -> dict[str, str]:
    """Digit -> sounds; the digit is ten times the logarithm of a sound's rarity over that of the rarest, cut off."""
    counts: Counter[str] = Counter()
    total = 0
    for text in texts(data):
        total += 1
        counts.update({sound(word) for word in words_of(text)} - {""})
    found = defaultdict(list)
    for name, count in sorted(counts.items()):
        if count >= SEEN and len(name) <= 12:
            found[str(min(9, max(0, int(10 * math.log(total / (1 + count)) / math.log(total)))))].append(name)
    return {digit: " ".join(names) for digit, names in sorted(found.items())}


def paired(feed: Feed) -> list[tuple[int, int]]:
    """The pairs that are learned from: all of one event, and those that are close."""
    unit = np.stack([unpack(one.meaning) for one, _ in feed]).astype(np.float64)
    truth = np.array([event for _, event in feed])
    similar = unit @ unit.T
    np.fill_diagonal(similar, -2)
    found = set()
    for row, near in enumerate(np.argsort(-similar, axis=1, kind="stable")[:, :NEAR]):
        others = {*near.tolist(), *np.flatnonzero(truth == truth[row]).tolist()} - {row}
        found |= {(min(row, other), max(row, other)) for other in others}
    return sorted(found)


def measured(feed: Feed, weigher: Weigher) -> tuple[Floats, NDArray[np.bool_]]:
    """Evidence of each pair, float64 [pairs, features], and whether it is one event."""
    told = [Told(facts_of(one.title), one.lang, frozenset(), one.meaning) for one, _ in feed]
    pairs = paired(feed)
    rows = [weigher.evidence(told[a], told[b]) for a, b in pairs]
    return np.array(rows), np.array([feed[a][1] == feed[b][1] for a, b in pairs])


def learn(parts: Sequence[tuple[Floats, NDArray[np.bool_]]]) -> tuple[float, dict[str, float]]:
    """A logistic regression in which each part weighs alike; the weights are those of the plain features."""
    rows, same = np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])
    weights = np.concatenate([np.full(len(p[1]), len(rows) / len(parts) / len(p[1])) for p in parts])
    mean, deviation = rows.mean(0), rows.std(0) + 1e-9
    model = LogisticRegression(max_iter=3000).fit((rows - mean) / deviation, same, sample_weight=weights)
    plain = model.coef_[0] / deviation
    named = dict(zip(FEATURES, np.round(plain, 4).tolist(), strict=True))
    return round(float(model.intercept_[0] - plain @ mean), 4), named


def feeds(scorer: Scorer, data: Path) -> dict[str, Feed]:
    """The events and the translations that are learned from."""
    parallel = read_parallel(data, False, LAST // 2)
    parallel = parallel.where(parallel.sentences >= FIRST)
    sentences = [
        Headline(int(s), lang, text)
        for s, lang, text in zip(parallel.sentences, parallel.langs, parallel.texts, strict=True)
    ]
    found = {}
    for seed, (name, part) in enumerate({"events": tuning_half(read_events()), "translations": sentences}.items()):
        meanings = [score.meaning for score in scorer.score([one.title for one in part])]
        found[name] = tellings(part, meanings, seed)
    return found


def main() -> int:
    """Learns, writes, and says how the learned feeds themselves come out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle's folder")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data", help="holds parallel/")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    scorer = OnnxScorer(bundle.resolve(args.model))
    source = f"bench/learn_stories.py, bundle {scorer.version}"
    fed = feeds(scorer, args.data)
    learned = Learned(VERSION, source, 0.0, dict.fromkeys(FEATURES, 0.0), common_sounds(args.data))
    intercept, weights = learn([measured(feed, Weigher(learned)) for feed in fed.values()])
    learned = msgspec.structs.replace(learned, intercept=intercept, weights=weights)
    args.out.write_bytes(msgspec.json.format(msgspec.json.encode(learned), indent=1) + b"\n")
    for name, feed in fed.items():
        f1 = b_cubed(ours(feed, Criteria(), Weigher(learned)), [event for _, event in feed])[2]
        print(f"{name}: B3-F1 {f1:.3f} on what was learned from", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
