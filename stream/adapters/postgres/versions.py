"""Further inputs of articles that are stored: told apart into versions and copies, in the transaction that stores.

The articles' rows are locked in key order, after the buckets and before the watermarks, so that two writers cannot
deadlock, and settle the inputs of one article one after the other. Nothing here touches what was counted.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from sqlalchemy import Connection, text

from crosswind.stream.adapters.postgres.article_rows import FIELDS, TYPED, article_of, origin_of, rows_of
from crosswind.stream.domain.article import Origin, ScoredArticle
from crosswind.stream.domain.stories.meaning import pack
from crosswind.stream.domain.versions import Copy, Settled, recalled, receipt, said, settle

# Not FOR UPDATE: that would wait for stories and translations, which hold the key only.
_LOCK = text(f"""
    SELECT {FIELDS} FROM article WHERE run = :run AND article_id = ANY(:ids) ORDER BY article_id FOR NO KEY UPDATE
""")

_VERSIONS = text(f"""
    SELECT {FIELDS}, meaning FROM article_version WHERE run = :run AND article_id = ANY(:ids)
    ORDER BY article_id, version
""")

_COPIES = text("""
    SELECT article_id, origin_topic, origin_partition, origin_offset, first_seen_at FROM duplicate
    WHERE run = :run AND article_id = ANY(:ids)
""")

_MEANINGS = text("""
    SELECT article_id, CAST(meaning AS real[]) AS meaning FROM article_meaning
    WHERE run = :run AND article_id = ANY(:ids)
""")

_CUT = text("""
    DELETE FROM article_version v
    USING unnest(CAST(:article_id AS text[]), CAST(:kept AS int[])) AS cut(article_id, kept)
    WHERE v.run = :run AND v.article_id = cut.article_id AND v.version > cut.kept
""")

_ADD = text(f"""
    INSERT INTO article_version (run, {FIELDS}, version, meaning)
    SELECT :run, {FIELDS}, version, meaning
    FROM json_to_recordset(CAST(:rows AS json)) AS input({TYPED}, version int, meaning bytea)
""")

_NO_COPIES = text("""
    DELETE FROM duplicate d
    USING unnest(CAST(:article_id AS text[]), CAST(:topic AS text[]), CAST(:partition AS int[]),
                 CAST(:offset AS bigint[])) AS o(article_id, topic, part, at)
    WHERE d.run = :run AND d.article_id = o.article_id AND d.origin_topic = o.topic AND d.origin_partition = o.part
      AND d.origin_offset = o.at
""")


@dataclass(slots=True)
class Others:
    """What became of further inputs.

    Attributes:
        duplicates, edited, redelivered: deliveries, counted.
        copies: inputs to be noted as duplicates; some may be noted already.
    """

    duplicates: int = 0
    edited: int = 0
    redelivered: int = 0
    copies: list[ScoredArticle] = field(default_factory=list)


@dataclass(slots=True)
class _Known:
    """What is stored of one article: the input that counts, its versions when there are any, its copies."""

    counted: ScoredArticle
    versions: list[ScoredArticle]
    copies: list[Copy] = field(default_factory=list)

    def settled(self, more: Iterable[ScoredArticle]) -> Settled:
        """What its inputs are with further ones."""
        return settle(self.counted, [*recalled(self.versions or [self.counted], self.copies), *more])

    def repeated_by(self, more: Iterable[ScoredArticle]) -> bool:
        """Whether further inputs are copies beyond doubt, as nearly all are: there was no edit, and this is none."""
        first = self.counted.article
        return not self.versions and all(
            said(one.article) == said(first) and receipt(one.article) > receipt(first) for one in more
        )


def settle_others(connection: Connection, run: str, others: Sequence[ScoredArticle], meanings: bool) -> Others:
    """Settles deliveries whose article is stored from another input.

    Args:
        meanings: what versions mean is kept, too.
    """
    found, by_article = Others(), defaultdict[str, list[ScoredArticle]](list)
    for one in others:
        by_article[one.article.article_id].append(one)
    if not by_article:
        return found
    known = _locked(connection, run, sorted(by_article))
    edited = {ident: more for ident, more in by_article.items()
              if ident in known and not known[ident].repeated_by(more)}  # fmt: skip
    for ident in known.keys() - edited.keys():  # what a sweep has dropped since is not known: it counts as expired
        copies = [one for one in by_article[ident] if one.article.origin != known[ident].counted.article.origin]
        found.copies += copies
        found.duplicates += len(copies)
        found.redelivered += len(by_article[ident]) - len(copies)
    if edited:
        _recall(connection, run, {ident: known[ident] for ident in edited}, meanings)
        settled = {ident: known[ident].settled(more) for ident, more in edited.items()}
        _write(connection, run, {ident: (known[ident], settled[ident]) for ident in sorted(edited)}, meanings)
        for ident, more in edited.items():
            _count(found, known[ident], settled[ident], more)
    return found


def _count(found: Others, known: _Known, settled: Settled, more: Iterable[ScoredArticle]) -> None:
    found.copies += settled.copies
    stored = {receipt(version.article) for version in known.versions}
    copies = {receipt(copy.article) for copy in settled.copies}
    for one in more:
        place = receipt(one.article)
        if place in copies:
            found.duplicates += 1
        elif place in settled.edits and place not in stored:
            found.edited += 1
            stored.add(place)
        else:
            found.redelivered += 1


def _locked(connection: Connection, run: str, ids: list[str]) -> dict[str, _Known]:
    values = {"run": run, "ids": ids}
    known = {row.article_id: _Known(article_of(row), []) for row in connection.execute(_LOCK, values)}
    for row in connection.execute(_VERSIONS, values):
        if row.article_id in known:
            known[row.article_id].versions.append(article_of(row, bytes(row.meaning or b"")))
    return known


def _recall(connection: Connection, run: str, known: Mapping[str, _Known], meanings: bool) -> None:
    """Reads what is needed where something is edited: copies, and what the counted input means."""
    values = {"run": run, "ids": sorted(known)}
    for row in connection.execute(_COPIES, values):
        known[row.article_id].copies.append(Copy(row.first_seen_at, origin_of(row)))
    for row in connection.execute(_MEANINGS, values) if meanings else ():
        one, meaning = known[row.article_id], pack(np.asarray(row.meaning, np.float32))
        one.counted = replace(one.counted, score=replace(one.counted.score, meaning=meaning))


def _write(connection: Connection, run: str, changes: Mapping[str, tuple[_Known, Settled]], meanings: bool) -> None:
    """Versions from the first one that is another now; and copies that are versions now are copies no more."""
    cut: dict[str, int] = {}
    added: list[tuple[int, ScoredArticle]] = []
    freed: list[tuple[str, Origin]] = []
    for ident, (known, settled) in changes.items():
        before = [receipt(version.article) for version in known.versions]
        now = [receipt(version.article) for version in settled.versions]
        if now != [receipt(known.counted.article)]:
            kept = next((n for n, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1]),
                        min(len(before), len(now)))  # fmt: skip
            cut |= {ident: kept} if kept < len(before) else {}
            added += list(enumerate(settled.versions[kept:], kept + 1))
        freed += [(ident, copy.origin) for copy in known.copies if receipt(copy) in settled.edits]
    if cut:
        connection.execute(_CUT, {"run": run, "article_id": list(cut), "kept": list(cut.values())})
    if added:
        rows = [version for _, version in added]
        more = [{"version": number, "meaning": _hex(row.score.meaning) if meanings else None} for number, row in added]
        connection.execute(_ADD, {"run": run, "rows": rows_of(rows, more)})
    if freed:
        parts = {name: [getattr(origin, name) for _, origin in freed] for name in ("topic", "partition", "offset")}
        connection.execute(_NO_COPIES, {"run": run, "article_id": [ident for ident, _ in freed], **parts})


def _hex(meaning: bytes) -> str | None:
    """Bytes as Postgres reads them from text."""
    return rf"\x{meaning.hex()}" if meaning else None
