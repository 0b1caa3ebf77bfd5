"""Versions of an article: what each of its inputs said, in the order of receipt, whatever order they came in.

An input whose text differs from that of the version before it is a version; one that repeats it is a copy. Which are
which follows from the inputs alone, so that any order of delivery, in any batches and repeated, ends the same.

An input is known by its receipt: a topic that was made anew, or a broker that forgot, gives an origin once more.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import groupby

from crosswind.stream.domain.article import Article, Origin, ScoredArticle

Receipt = tuple[datetime, str, int, int]
"""When an input was received and its origin: two inputs never have the same."""


@dataclass(frozen=True, slots=True)
class Copy:
    """An input that repeated the version before it, and of which no more is kept."""

    first_seen_at: datetime
    origin: Origin


@dataclass(frozen=True, slots=True)
class Settled:
    """What the inputs of one article are.

    Attributes:
        versions: in the order of receipt; the first is version 1.
        edits: receipts of the versions that say something else than the input that is counted said.
        copies: the other inputs, without the counted one, and without those that repeat one of their own origin.
    """

    versions: list[ScoredArticle]
    edits: frozenset[Receipt]
    copies: list[ScoredArticle]


def receipt(of: Article | Copy) -> Receipt:
    """The place of an input among the others of its article."""
    return of.first_seen_at, of.origin.topic, of.origin.partition, of.origin.offset


def said(article: Article) -> tuple[str, str, str, tuple[str, ...]]:
    """What makes a version another one: title, body, language and entities."""
    return article.title, article.body, article.lang, article.entities


def recalled(versions: Sequence[ScoredArticle], copies: Iterable[Copy]) -> list[ScoredArticle]:
    """Known inputs as they were: copies say, and are scored, what the version before them is.

    Args:
        versions: at least one, in the order of receipt. A copy before the first (noted before versions were kept) is
            taken to repeat that.
    """
    places = [receipt(version.article) for version in versions]
    found = list(versions)
    for copy in copies:
        version = versions[max(0, bisect_right(places, receipt(copy)) - 1)]
        article = replace(version.article, first_seen_at=copy.first_seen_at, origin=copy.origin)
        found.append(replace(version, article=article))
    return found


def settle(counted: ScoredArticle, others: Iterable[ScoredArticle]) -> Settled:
    """Tells versions from copies.

    Args:
        counted: the input that counts in the buckets: the one that was stored first.
        others: of several with one receipt the first is taken; they are one input, delivered again.
    """
    by_receipt: dict[Receipt, ScoredArticle] = {}
    for one in (counted, *others):
        by_receipt.setdefault(receipt(one.article), one)
    inputs = [by_receipt[place] for place in sorted(by_receipt)]
    stretches = [list(alike) for _, alike in groupby(inputs, key=lambda one: said(one.article))]
    versions = [alike[0] for alike in stretches]
    places = [receipt(version.article) for version in versions]
    counts = receipt(counted.article)
    own = bisect_right(places, counts) - 1
    edits = frozenset(place for number, place in enumerate(places) if number != own)
    copies = [one for alike in stretches for one in _of_different_origin(alike)
              if receipt(one.article) not in edits and receipt(one.article) != counts]  # fmt: skip
    return Settled(versions, edits, copies)


def _of_different_origin(alike: Iterable[ScoredArticle]) -> Iterator[ScoredArticle]:
    """Of inputs that say the same, one after the other, the first of each origin."""
    seen: set[Origin] = set()
    for one in alike:
        if one.article.origin not in seen:
            seen.add(one.article.origin)
            yield one
