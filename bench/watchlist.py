"""A watchlist of 50,000 names: what it costs an article, beside all that is done to one before it is stored.

    python bench/watchlist.py                half a minute
    python bench/watchlist.py --json out.json

The same articles of the sample feed, in turns, with and without the list, scores from a cache: all that our own code
does to an article between the two topics, from the bytes of `news.raw` to the row for the database. Faust, the broker
and the database are left out, so in the whole stream the share is smaller. The last line and the exit status say
whether the bar holds.
"""

import argparse
import gzip
import json
import random
import statistics
import sys
import time
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.jobs.workers import CachedScorer  # noqa: E402
from crosswind.stream.adapters.language import LangidDetector  # noqa: E402
from crosswind.stream.agents import Outgoing  # noqa: E402
from crosswind.stream.domain.article import Origin  # noqa: E402
from crosswind.stream.domain.contract import decode_scored  # noqa: E402
from crosswind.stream.domain.validate import Limits  # noqa: E402
from crosswind.stream.domain.watchlist import Alias, Watchlist  # noqa: E402
from crosswind.stream.service.scoring import Message, judge  # noqa: E402

BAR = 0.10
SYLLABLES = ("ka", "to", "mi", "ra", "ben", "sol", "ter", "na", "vi", "lo", "gar", "del", "mon", "shi", "pre", "tan")
SCRIPTS = ("", "特斯", "株", "은행", "Банк", "بنك", "ธนาคาร")
ENDINGS = ("", " Group", " AG", " Holdings", " Bank")
RECEIVED = datetime(2026, 12, 31, tzinfo=UTC)
LIMITS = Limits(max_bytes=100_000, future=timedelta(hours=1))
FEED = ROOT / "stream/feed/sample"


def names(count: int, rng: random.Random) -> list[Alias]:
    """Names of three to five syllables, some in other scripts, four to an entity."""
    found: dict[str, Alias] = {}
    while len(found) < count:
        word = "".join(rng.choices(SYLLABLES, k=rng.randint(3, 5))).capitalize()
        text = rng.choice(SCRIPTS) + word + rng.choice(ENDINGS)
        found.setdefault(text, Alias(text, f"entity {len(found) // 4}"))
    return list(found.values())


def messages(count: int) -> list[Message]:
    """The first articles of the sample feed as they come from the broker."""
    path = next(FEED.glob("*.jsonl.gz"))
    with gzip.open(path, "rb") as lines:
        return [Message(Origin("news.raw", 0, place), RECEIVED, None, line.rstrip())
                for place, line in enumerate(islice(lines, count))]  # fmt: skip


def seconds(batch: list[Message], scorer: CachedScorer, detector: LangidDetector, watchlist: Watchlist | None) -> float:
    """CPU seconds of one pass."""
    started = time.process_time()
    judged = judge(batch, scorer=scorer, detect=detector.detect, limits=LIMITS, watchlist=watchlist)
    for _, value, _ in Outgoing.of(judged, {}).scored:
        decode_scored(value)
    return time.process_time() - started


def main() -> int:
    """Measures, prints a table, says whether the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aliases", type=int, default=50_000)
    parser.add_argument("--articles", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    started = time.process_time()
    watchlist = Watchlist(names(given.aliases, random.Random(0)))
    built = time.process_time() - started
    batch, scorer, detector = messages(given.articles), CachedScorer(), LangidDetector()
    for kind in (None, watchlist):
        seconds(batch, scorer, detector, kind)
    pairs = [(seconds(batch, scorer, detector, None), seconds(batch, scorer, detector, watchlist))
             for _ in range(given.rounds)]  # fmt: skip
    without, with_list = (statistics.median(column) / len(batch) * 1e6 for column in zip(*pairs, strict=True))
    share = statistics.median(b / a for a, b in pairs) - 1
    print(f"names {len(watchlist):,}, built in {built:.2f} s; articles {len(batch):,}, {given.rounds} rounds in turns")
    print(f"without {without:.1f} µs an article, with the list {with_list:.1f} µs: {share:+.1%}")
    if given.json:
        result = {"aliases": len(watchlist), "built_seconds": built, "without_us": without, "with_us": with_list,
                  "share": share, "bar": BAR}  # fmt: skip
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    holds = share <= BAR
    print(f"{'1 of 1 bars hold' if holds else '0 of 1 bars hold'}: slower by {share:.1%}, at most {BAR:.0%}")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
