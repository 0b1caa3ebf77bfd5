"""Stories: are translations found, events told apart, copies counted once, and what does it cost?

    python bench/stories.py                       # everything, on the shipped bundle
    python bench/stories.py --only events --tune  # look for criteria on the tuning part
    python bench/stories.py --docs                # the figures go into docs/stories.md

(a) `translations`: sentences of ntrex128 that the bundle's `meaning` was not learned from, in 20 languages.
(b) `events`: written headlines in 19 languages (`bench/data/events.txt`), with hard negatives; the first half of the
    groups tunes every method's threshold, the second half judges.
(c) `alerts`: copies of one story against a surge of many. (d) `cost`: CPU, memory, lookups (`bench/story_cost.py`);
what stories take from the stream's articles a second is measured there: `bench/throughput.py --only told`.
"""

import argparse
import itertools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.figures import write_figures
from bench.story_cost import share, window
from crosswind.export import bundle
from crosswind.models.projection import read_parallel, retrieval
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.identity import title_key
from crosswind.stream.domain.memory import Memory
from crosswind.stream.domain.series import MINUTE, Counting, History, Mention, Series
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.decision import Criteria
from crosswind.stream.domain.stories.evidence import Weigher
from crosswind.stream.domain.stories.facts import overlap, shingles_of
from crosswind.stream.domain.stories.meaning import unpack
from crosswind.stream.domain.stories.story import Telling
from crosswind.stream.domain.watch import Watch
from crosswind.stream.service.rules import load_rules

EVENTS = Path(__file__).parent / "data/events.txt"
START = datetime(2026, 3, 2, tzinfo=UTC)
Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Headline:
    """One written headline of an event."""

    event: int
    lang: str
    title: str


def read_events() -> list[list[Headline]]:
    """Groups of headlines; the events of a group are easily taken for each other."""
    lines = [line for line in EVENTS.read_text("utf-8").splitlines() if not line.startswith("#")]
    groups, number = [], itertools.count()
    for block in "\n".join(lines).strip().split("\n\n"):
        events = [(next(number), part.split("\n")) for part in block.strip().split("\n-\n")]
        groups.append([Headline(n, row[:2], row[3:]) for n, rows in events for row in rows])
    return groups


SOON, SLOWLY = 60.0, 360.0
"""Minutes between the beginning of an event and a telling of it, in the mean; the bars are of the first."""


def tellings(
    headlines: Sequence[Headline], meanings: Sequence[bytes], seed: int, delay: float = SOON
) -> list[tuple[Telling, int]]:
    """A feed: each event begins at a random time of two days, its tellings follow within hours."""
    rng = np.random.default_rng(seed)
    begins = {event: rng.uniform(0, 2880) for event in sorted({h.event for h in headlines})}
    feed = []
    for place, (headline, meaning) in enumerate(zip(headlines, meanings, strict=True)):
        at = START + timedelta(minutes=begins[headline.event] + rng.exponential(delay))
        one = Telling(f"{place:06}", at, f"source-{place % 7}", headline.lang, headline.title,
                      title_key(headline.title), (), meaning, "bench")  # fmt: skip
        feed.append((one, headline.event))
    return sorted(feed, key=lambda pair: pair[0].order)


def b_cubed(found: Sequence[Any], truth: Sequence[Any]) -> tuple[float, float, float]:
    """B-cubed precision, recall and F1 (Bagga and Baldwin 1998)."""
    places, goals = np.unique(found, return_inverse=True)[1], np.unique(truth, return_inverse=True)[1]
    same, right = places[:, None] == places[None], goals[:, None] == goals[None]
    both = (same & right).sum(1)
    precision, recall = float((both / same.sum(1)).mean()), float((both / right.sum(1)).mean())
    return precision, recall, 2 * precision * recall / (precision + recall)


def tuning_half(groups: Sequence[Sequence[Headline]]) -> list[Headline]:
    """What thresholds and weights may be learned from: the headlines of every second group."""
    return [headline for group in groups[0::2] for headline in group]


def judged_half(groups: Sequence[Sequence[Headline]]) -> list[Headline]:
    """The headlines of the other groups, which only judge."""
    return [headline for group in groups[1::2] for headline in group]


def ours(feed: Sequence[tuple[Telling, int]], criteria: Criteria, weigher: Weigher | None = None) -> list[str]:
    """The stories that the stream's own code finds, after all merges."""
    stories = Stories(StoryIndex, criteria, weigher=weigher)
    given = [stories.assign(one) for one, _ in feed]
    merged = {merge.younger: merge.older for assignment in given for merge in assignment.merges}

    def last(story: str) -> str:
        while story in merged:
            story = merged[story]
        return story

    return [last(assignment.story_id) for assignment in given]


def greedy(similar: Floats, cut: float) -> list[int]:
    """Each joins the story of the most similar one before, from `cut` on."""
    found: list[int] = []
    for row in range(len(similar)):
        best = int(similar[row, :row].argmax()) if row else 0
        found.append(found[best] if row and similar[row, best] >= cut else row)
    return found


def simhash(shingles: frozenset[str]) -> int:
    """Charikar's 64-bit fingerprint."""
    from hashlib import blake2b

    raw = b"".join(blake2b(s.encode(), digest_size=8).digest() for s in sorted(shingles))
    bits = np.unpackbits(np.frombuffer(raw, np.uint8).reshape(-1, 8), axis=1)
    return int.from_bytes(np.packbits(bits.sum(0) * 2 > len(bits)).tobytes(), "big")


def similarities(feed: Sequence[tuple[Telling, int]]) -> dict[str, Floats]:
    """The baselines' similarities, [n, n] each."""
    shingles = [shingles_of(one.title) for one, _ in feed]
    prints = np.array([simhash(s) for s in shingles], np.uint64)
    unit = np.stack([unpack(one.meaning) for one, _ in feed]).astype(np.float64)
    return {
        "Jaccard, letters by 4": np.array([[overlap(a, b) for b in shingles] for a in shingles]),
        "SimHash, 64 bits": 1 - np.bitwise_count(prints[:, None] ^ prints[None]) / 64,
        "fixed cosine": unit @ unit.T,
    }


def events(scorer: OnnxScorer, tune: bool) -> list[Row]:
    """(b): tuned on half of the groups, judged on the others."""
    groups = read_events()
    headlines = [one for group in groups for one in group]
    scores = scorer.score([h.title for h in headlines])
    meanings = {h: score.meaning for h, score in zip(headlines, scores, strict=True)}
    parts = [tuning_half(groups), judged_half(groups)]
    tuning, judged = (tellings(part, [meanings[h] for h in part], seed) for seed, part in enumerate(parts))
    criteria = search(tuning) if tune else Criteria()
    rows: list[Row] = []
    for name, similar in similarities(tuning).items():
        cuts = np.linspace(0.02, 0.98, 49)
        cut = max(cuts, key=lambda c: b_cubed(greedy(similar, c), [t for _, t in tuning])[2])
        rows.append(_row(name, greedy(similarities(judged)[name], cut), judged) | {"cut": round(float(cut), 2)})
    rows.append(_row("Crosswind, tuning part", ours(tuning, criteria), tuning))
    rows.append(_row("Crosswind", ours(judged, criteria), judged) | {"criteria": str(criteria)})
    rows[-1] |= {"events": len({h.event for h in headlines}), "languages": len({h.lang for h in headlines})}
    slow = tellings(parts[1], [meanings[h] for h in parts[1]], 1, SLOWLY)
    return [*rows[:-1], _row("Crosswind, told slowly", ours(slow, criteria), slow), rows[-1]]


def _row(name: str, found: Sequence[Any], feed: Sequence[tuple[Telling, int]]) -> Row:
    precision, recall, f1 = b_cubed(found, [truth for _, truth in feed])
    return {"method": name, "precision": precision, "recall": recall, "f1": f1, "n": len(feed)}


GRID: dict[str, Sequence[float]] = {
    "join": np.arange(-1.5, 1.6, 0.25).tolist(),
    "merge": np.arange(-1.5, 2.1, 0.25).tolist(),
    "patience": [4.0, 6.0, 8.0, 12.0],
    "text": [0.5, 0.6, 0.7],
}


def search(feed: Sequence[tuple[Telling, int]]) -> Criteria:
    """Criteria that do best, one after the other, twice around."""
    best, score = Criteria(), 0.0
    for _, (name, values) in itertools.product(range(2), GRID.items()):
        for value in values:
            tried = replace(best, **{name: value})
            f1 = b_cubed(ours(feed, tried), [truth for _, truth in feed])[2]
            if f1 > score + 1e-9:
                best, score = tried, f1
        print(f"tuning {name}: {score:.4f} {best}", file=sys.stderr)
    return best


def translations(scorer: OnnxScorer, data: Path, sentences: int) -> list[Row]:
    """(a): retrieval per language with English, and the stories that come of it online."""
    parallel = read_parallel(data, False, sentences)
    meanings = [score.meaning for score in scorer.score(parallel.texts)]
    top1 = retrieval(np.stack([unpack(m) for m in meanings]).astype(np.float64), parallel)
    rows: list[Row] = [{"method": f"top-1 en-{lang}", "top1": value} for lang, value in sorted(top1.items())]
    headlines = [Headline(int(s), lang, text) for s, lang, text in
                 zip(parallel.sentences, parallel.langs, parallel.texts, strict=True)]  # fmt: skip
    feed, slow = (tellings(headlines, meanings, 2, delay) for delay in (SOON, SLOWLY))
    return [*rows, _row("stories of translations, told slowly", ours(slow, Criteria()), slow),
            _row("stories of translations", ours(feed, Criteria()), feed)]  # fmt: skip


def _alarms(told: Sequence[tuple[Telling, str]], counting: Counting, quiet: int = 2 * 1440) -> int:
    """Incidents that fire when these negatives, minute after minute, with their stories fall into a calm feed."""
    calm = np.zeros(quiet + 240, np.int64)
    calm[::60] = 1
    run = np.full(len(calm), 5, np.int64)
    negative = calm.copy()
    mentions = [
        Mention(START + int(m) * MINUTE, f"calm-{m}", "wire", f"calm-{m}", "credit", "en", 900_000, "bench")
        for m in np.flatnonzero(calm)
    ]
    for number, (one, story) in enumerate(told):
        negative[quiet + number] += 1
        at = START + (quiet + number) * MINUTE
        mentions.append(
            Mention(at, f"new-{number:03}", one.source, one.title_key, "credit", one.lang, 900_000, "bench", (), story)
        )
    histories = {
        Series("*"): History.of(START, run + negative, run + negative, run + negative, mentions),
        Series("credit"): History.of(START, negative, negative + 1, run + negative, mentions),
    }
    rules = load_rules()
    rules = replace(rules, rules=tuple(replace(rule, count=counting) for rule in rules.rules))
    first, last = START + quiet * MINUTE, START + (len(calm) - 1) * MINUTE
    _, changes = Watch("bench", rules).over(histories, Memory(), first, last)
    return sum(change.cause == "fired" for change in changes)


SPREAD = ("en", "de", "fr", "es", "pt", "zh", "ja", "ar")
"""Languages of a story that goes around."""
COPIES, TRIED, SURGES = 50, 40, 10


def alerts(scorer: OnnxScorer, data: Path) -> list[Row]:
    """(c): stories told 50 times in 8 languages, one copy of each, and surges of 50 stories."""
    parallel = read_parallel(data, False, TRIED, SPREAD)
    told = [Headline(int(s), lang, text) for s, lang, text in
            zip(parallel.sentences, parallel.langs, parallel.texts, strict=True)]  # fmt: skip
    of = [[one for one in told if one.event == event] for event in sorted({one.event for one in told})]
    copies = [[some[i % len(some)] for i in range(COPIES)] for some in of]
    first: dict[int, Headline] = {}
    for headline in (h for g in read_events() for h in g):
        first.setdefault(headline.event, headline)
    surges = [list(first.values())[start :: len(first) // COPIES][:COPIES] for start in range(SURGES)]
    return [
        _raised("one copy", scorer, [some[:1] for some in copies]),
        _raised("one story, 50 copies", scorer, copies),
        _raised("50 stories", scorer, surges),
    ]


def _raised(name: str, scorer: OnnxScorer, feeds: Sequence[Sequence[Headline]]) -> Row:
    """How many of some feeds raise an alert, by what is counted; `most` and `least` are their numbers of stories."""
    fired, sizes, langs = dict.fromkeys(Counting, 0), list[int](), list[int]()
    for headlines in feeds:
        texts = sorted({h.title for h in headlines})
        meanings = {text: score.meaning for text, score in zip(texts, scorer.score(texts), strict=True)}
        feed = [Telling(f"{i:03}", START + i * MINUTE, f"source-{i % 25}", h.lang, h.title, title_key(h.title), (),
                        meanings[h.title], "b") for i, h in enumerate(headlines)]  # fmt: skip
        stories = Stories(StoryIndex)
        given = [(one, stories.assign(one).story_id) for one in feed]
        for counting in Counting:
            fired[counting] += _alarms(given, counting) > 0
        sizes.append(len({story for _, story in given}))
        langs.append(len({h.lang for h in headlines}))
    return {"method": name, "feeds": len(feeds), "languages": min(langs), "least": min(sizes), "most": max(sizes),
            "fired": fired[Counting.STORIES], "fired by headline": fired[Counting.HEADLINES],
            "fired by article": fired[Counting.ARTICLES]}  # fmt: skip


def bars(found: dict[str, list[Row]]) -> dict[str, bool]:
    """What was promised, and whether it holds."""
    held: dict[str, bool] = {}
    if rows := found.get("translations"):
        held["top-1 >= 0.97 for every pair"] = all(row["top1"] >= 0.97 for row in rows if "top1" in row)
        held["translations B3-F1 >= 0.90"] = rows[-1]["f1"] >= 0.90
    if rows := found.get("events"):
        held["events B3-F1 >= 0.90"] = rows[-1]["f1"] >= 0.90
        held["better than every baseline"] = all(rows[-1]["f1"] > row["f1"] for row in rows[:3])
        held[">= 300 events in >= 8 languages"] = rows[-1]["events"] >= 300 and rows[-1]["languages"] >= 8
    if rows := found.get("alerts"):
        held["50 copies raise what one copy raises"] = rows[1]["fired"] == rows[0]["fired"]
        held["a surge of 50 stories fires"] = rows[2]["fired"] == rows[2]["feeds"]
    if rows := found.get("cost"):
        held["<= 15 % of an article's CPU"] = rows[0]["share"] <= 0.15
        held["1 M stories <= 2 GB"] = rows[1]["gb_at_1m"] <= 2
        held["lookup p95 <= 5 ms"] = rows[1]["p95_ms"] <= 5
    return held


def as_markdown(found: dict[str, list[Row]], held: dict[str, bool], version: str) -> str:
    """What docs/stories.md shows of all parts."""
    lines = [f"Bundle {version}.", "", "| B³ | precision | recall | F1 |", "|---|---:|---:|---:|"]
    lines += [f"| {part}: {row['method']} | {row['precision']:.3f} | {row['recall']:.3f} | {row['f1']:.3f} |"
              for part in ("events", "translations") for row in found[part] if "f1" in row]  # fmt: skip
    pairs = {row["method"].rpartition("-")[2]: row["top1"] for row in found["translations"] if "top1" in row}
    listed = ", ".join(f"{lang} {share:.3f}" for lang, share in sorted(pairs.items(), key=lambda one: one[1]))
    lines += ["", f"The nearest English sentence is the right one: {listed}.", "",
              "| feeds | of them | stories found | alarms by stories | by headlines | by articles |",
              "|---|---:|---:|---:|---:|---:|"]  # fmt: skip
    lines += [f"| {row['method']} | {row['feeds']} | {row['least']}–{row['most']} | {row['fired']} | "
              f"{row['fired by headline']} | {row['fired by article']} |" for row in found["alerts"]]  # fmt: skip
    spent, kept = found["cost"]
    lines += ["", f"An article takes {spent['score_ms']:.1f} ms of CPU to score, {spent['store_ms']:.2f} ms to store "
              f"and {spent['stories_ms']:.2f} ms for its story, Postgres included. In a window of {kept['stories']:,} "
              f"stories one takes {kept['bytes'] / 1e3:.2f} kB, and an article {kept['p95_ms']:.1f} ms at the 95th "
              f"percentile ({kept['p95_cpu_ms']:.1f} ms of CPU).", "",
              "| bar | |", "|---|---|"]  # fmt: skip
    lines += [f"| {name} | {'holds' if good else '**not reached**'} |" for name, good in held.items()]
    return "\n".join(lines)


def main() -> int:
    """Runs the parts and prints a table of each; 0 when every bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="default", help="a bundle's folder")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared/data", help="holds parallel/")
    parser.add_argument("--only", action="append", choices=["translations", "events", "alerts", "cost"])
    parser.add_argument("--sentences", type=int, default=200, help="of ntrex128, each in 20 languages")
    parser.add_argument("--size", type=int, default=100_000, help="stories in the window for memory and lookups")
    parser.add_argument("--tune", action="store_true", help="search for criteria on the tuning part")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--known", type=Path, help="an earlier --json of the same bundle: its parts are not run again")
    parser.add_argument("--docs", action="store_true", help="write the figures of all parts into docs/stories.md")
    args = parser.parse_args()
    if args.docs and args.only:
        parser.error("--docs writes all parts; leave out --only")
    scorer = OnnxScorer(bundle.resolve(args.model))
    heads, width = [one for group in read_events() for one in group], len(scorer.score(["Bank fails"])[0].meaning)
    if not width:
        print("the bundle has no output `meaning`: run python -m crosswind.models.projection on it")
        return 1
    parts: dict[str, Callable[[], list[Row]]] = {
        "translations": lambda: translations(scorer, args.data, args.sentences),
        "events": lambda: events(scorer, args.tune),
        "alerts": lambda: alerts(scorer, args.data),
        "cost": lambda: [share(scorer, [h.title for h in heads], [h.lang for h in heads]), window(args.size, width)],
    }
    known = json.loads(args.known.read_text("utf-8")) if args.known else {}
    if known and known["model"] != scorer.version:
        parser.error(f"{args.known} is of bundle {known['model']}, this is {scorer.version}")
    found = {name: known.get(name) or part() for name, part in parts.items() if not args.only or name in args.only}
    for name, rows in found.items():
        print(f"\n{name}")
        for row in rows:
            print("  " + "  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))
    held = bars(found)
    if args.json:
        args.json.write_text(json.dumps({"model": scorer.version, **found, "bars": held}, indent=1) + "\n", "utf-8")
    if args.docs:
        write_figures("stories.md", "stories", as_markdown(found, held, scorer.version))
    failed = [name for name, good in held.items() if not good]
    print(f"\n{len(held) - len(failed)} of {len(held)} bars hold" + (f"; not: {'; '.join(failed)}" if failed else ""))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
