"""Versions of an article: what each of its inputs said, in the order of receipt, whatever order they came in.

An input whose text differs from that of the version before it is a version; one that repeats it is a copy. Which are
which follows from the inputs alone, so that any order of delivery, in any batches and repeated, ends the same.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

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
        edits: origins of the versions that say something else than the input that is counted said.
        copies: the other inputs, without the counted one.
    """

    versions: list[ScoredArticle]
    edits: frozenset[Origin]
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
        others: of several with one origin the first is taken; they are one input, delivered again.
    """
    by_origin: dict[Origin, ScoredArticle] = {}
    for one in (counted, *others):
        by_origin.setdefault(one.article.origin, one)
    inputs = sorted(by_origin.values(), key=lambda one: receipt(one.article))
    versions = [
        one for before, one in zip([None, *inputs], inputs, strict=False)
        if before is None or said(before.article) != said(one.article)
    ]  # fmt: skip
    places = [receipt(version.article) for version in versions]
    own = bisect_right(places, receipt(counted.article)) - 1
    edits = frozenset(version.article.origin for place, version in enumerate(versions) if place != own)
    copies = [one for one in inputs if one.article.origin not in edits | {counted.article.origin}]
    return Settled(versions, edits, copies)
