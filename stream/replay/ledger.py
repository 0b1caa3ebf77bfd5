"""Buckets in memory, for replays, with the figures that Postgres gives the same engine.

Counts of the last days are kept per minute, those of the weeks before per hour, both sparse; the negative articles of
the last days one by one. What no evaluation can ask for any more is dropped, so memory depends on how dense the feed
is, not on how long.
"""

from collections import defaultdict
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from crosswind.stream.domain.bucket import ALL
from crosswind.stream.domain.panel import LOOKBACK, MENTIONS
from crosswind.stream.domain.rules import RuleSet
from crosswind.stream.domain.series import MINUTE, Counts, History, Hours, Mention, Series
from crosswind.stream.domain.universe import NEVER, Universe, hour_of
from crosswind.stream.domain.watermark import Watermark
from crosswind.stream.replay.cells import NOTHING, Cells, Ints
from crosswind.stream.replay.times import EPOCH, advance
from crosswind.stream.service.alerting import LATE, Counted

_KEPT = LOOKBACK // timedelta(hours=1) + LATE // timedelta(hours=1) + 2
_FINE = MENTIONS // timedelta(hours=1) + LATE // timedelta(hours=1) + 2


class Ledger:
    """The buckets and negative articles of one replay, fed in event order.

    Args:
        languages: whether each language is counted over all topics, too: some rule watches that.
    """

    def __init__(self, languages: bool = False) -> None:
        self._languages = languages
        self.watermark = Watermark()
        self._numbers: dict[Series, int] = {Series(ALL): 0}
        self._names: list[Series] = [Series(ALL)]
        self._fine: dict[int, Cells] = {}
        self._coarse: dict[int, tuple[Ints, Ints, Ints]] = {}
        self._mentions: dict[int, list[Mention]] = defaultdict(list)
        self._shared: dict[str, str] = {}

    @property
    def series(self) -> list[Series]:
        """Every series that ever had an article, in the order of their first."""
        return list(self._names)

    def take(self, table: pa.Table) -> None:
        """Counts articles (columns of `columns.SCHEMA` and `event_at`), in event order, each once."""
        micros = table["event_at"].cast(pa.int64()).to_numpy()
        minutes = micros // 60_000_000
        negative = pc.equal(table["sentiment"], "negative").to_numpy(zero_copy_only=False)
        self._count(table, minutes, negative.astype(np.int64))
        self._remember(table.filter(pa.array(negative)), minutes[negative])
        self.watermark = advance(self.watermark, micros)

    def _count(self, table: pa.Table, minutes: Ints, negative: Ints) -> None:
        rows, places = self._rows(table)
        hours = minutes[places] // 60
        order = np.argsort(hours, kind="stable")
        rows, places, hours = rows[order], places[order], hours[order]
        edges = np.flatnonzero(np.diff(hours)) + 1
        for part in np.split(np.arange(len(hours)), edges):
            if len(part):
                hour = int(hours[part[0]])
                cells = self._fine.setdefault(hour, Cells())
                cells.add(rows[part], minutes[places[part]] % 60, negative[places[part]])
                self._coarse.pop(hour, None)

    def _rows(self, table: pa.Table) -> tuple[Ints, Ints]:
        """Numbers of the series that each article counts in, and the article's place: parallel arrays."""
        topics, topic_names = _coded(table["topic"])
        langs, lang_names = _coded(table["lang"])
        whole = np.zeros(len(table), np.int64)
        topic = np.array([self._number(Series(name)) for name in topic_names], np.int64)[topics]
        pairs, place = np.unique(topics * len(lang_names) + langs, return_inverse=True)
        numbers = [
            self._number(Series(topic_names[p // len(lang_names)], lang_names[p % len(lang_names)])) for p in pairs
        ]
        pair = np.array(numbers, np.int64)[place]
        every = np.arange(len(table))
        entities = table["entities"].combine_chunks()
        parents = pc.list_parent_indices(entities).to_numpy(zero_copy_only=False).astype(np.int64)
        codes, names = _coded(pc.list_flatten(entities))
        entity = np.array([self._number(Series(ALL, ALL, name)) for name in names], np.int64)[codes]
        named = np.unique(np.stack([parents, entity]), axis=1) if len(parents) else np.zeros((2, 0), np.int64)
        named = named[:, named[1] != 0]  # an entity named `*` would be the whole run
        rows, places = [whole, topic, pair, named[1]], [every, every, every, named[0]]
        if self._languages:
            rows.append(np.array([self._number(Series(ALL, name)) for name in lang_names], np.int64)[langs])
            places.append(every)
        return np.concatenate(rows), np.concatenate(places)

    def _number(self, series: Series) -> int:
        number = self._numbers.get(series)
        if number is None:
            number = self._numbers[series] = len(self._names)
            self._names.append(series)
        return number

    def _remember(self, table: pa.Table, minutes: Ints) -> None:
        names = ("article_id", "source", "title_key", "topic", "lang", "negative_ppm", "model", "entities")
        columns = [table[name].to_pylist() for name in names]
        columns.append(table["story"].to_pylist() if "story" in table.column_names else [""] * len(table))
        share = self._shared.setdefault
        for minute, ident, source, key, topic, lang, ppm, model, entities, story in zip(minutes, *columns, strict=True):
            at = EPOCH + int(minute) * MINUTE
            mention = Mention(at, ident, share(source, source), key, share(topic, topic), share(lang, lang), ppm,
                              share(model, model), tuple(entities), story)  # fmt: skip
            series = [Series(mention.topic), Series(mention.topic, mention.lang), Series(ALL)]
            if self._languages:
                series.append(Series(ALL, mention.lang))
            for one in (*series, *(Series(ALL, ALL, name) for name in set(entities) - {ALL})):
                self._mentions[self._numbers[one]].append(mention)

    def forget_before(self, evaluated: datetime) -> None:
        """Drops what no evaluation after `evaluated` asks for."""
        hour = hour_of(evaluated)
        for old in [one for one in self._fine if one < hour - _FINE]:
            self._coarse[old] = self._coarse.get(old) or self._fine[old].hourly()
            del self._fine[old]
        for old in [one for one in self._coarse if one < hour - _KEPT]:
            del self._coarse[old]
        limit = evaluated - timedelta(hours=_FINE)
        for number, mentions in list(self._mentions.items()):
            if mentions and mentions[0].minute < limit:
                kept = [mention for mention in mentions if mention.minute >= limit]
                self._mentions[number] = kept
                if not kept:
                    del self._mentions[number]

    def first_minute(self, since: datetime | None) -> datetime | None:
        """The first minute with an article, at or after `since`, of those still known."""
        low = -(2**60) if since is None else (since - EPOCH) // MINUTE
        for hour in sorted(hour for hour in self._fine if hour >= low // 60):
            minutes = self._fine[hour].flat()[1] + hour * 60
            later = minutes[minutes >= low]
            if len(later):
                return EPOCH + int(later.min()) * MINUTE
        return None

    def counted(self, since: datetime, evaluated_to: datetime, last: datetime) -> list[Counted]:
        """See `AlertUnit.counted`."""
        found = []
        edge, end = (evaluated_to - EPOCH) // MINUTE, (last - EPOCH) // MINUTE
        for hour in range(hour_of(since), end // 60 + 1):
            if hour in self._fine:
                rows, minutes, _ = self._fine[hour].flat()
                at = minutes[rows == 0] + hour * 60
                now = int((at <= end).sum())
                if now:
                    found.append(Counted(hour * 3600, int((at <= edge).sum()), now))
        return found

    def universe(self, first: datetime, last: datetime) -> Universe:
        """See `AlertUnit.universe`."""
        begin, before = hour_of(first), np.full(len(self._names), NEVER, np.int64)
        for hour in sorted({*self._fine, *self._coarse}):
            if hour < begin:
                before[self._hour_of(hour)[0]] = hour
        during = [self._hour_of(hour)[0] for hour in range(begin, hour_of(last) + 1)]
        return Universe.of(self._names, begin, before, during)

    def histories(
        self, rules: RuleSet, first: datetime, last: datetime, wanted: Collection[Series]
    ) -> dict[Series, History]:
        """See `AlertUnit.histories`."""
        numbers = self._loud(rules, first, last) | {self._number(one) for one in wanted} | {0}
        chosen = np.array(sorted(numbers, key=lambda number: self._names[number]), np.int64)
        begin = first.replace(minute=0) - MENTIONS
        fine = self._minutely(chosen, begin, (last - begin) // MINUTE + 1)
        coarse = self._hourly(chosen, hour_of(first - LOOKBACK), hour_of(begin))
        run = int(np.flatnonzero(chosen == 0)[0])
        found = {}
        for place, number in enumerate(chosen):
            mentions = [m for m in self._mentions.get(int(number), ()) if begin <= m.minute <= last]
            past = Hours(coarse[0][place], coarse[1][place], coarse[1][run])
            found[self._names[number]] = History.of(begin, fine[0][place], fine[1][place], fine[1][run], mentions, past)
        return found

    def _loud(self, rules: RuleSet, first: datetime, last: datetime) -> set[int]:
        """Series with enough negatives in some hours that no window of a rule is longer than."""
        reach = -(-rules.widest // 60) + 1
        hours = range(hour_of(first) - reach, hour_of(last) + 1)
        sums = np.zeros((len(self._names), len(hours) + 1), np.int64)
        for place, hour in enumerate(hours):
            rows, negative, _ = self._hour_of(hour)
            sums[rows, place + 1] = negative
        sums = np.cumsum(sums, axis=1)
        most = (sums[:, reach:] - sums[:, :-reach]).max(axis=1)
        return {int(number) for number in np.flatnonzero(most >= rules.least_headlines)}

    def _hour_of(self, hour: int) -> tuple[Ints, Ints, Ints]:
        known = self._coarse.get(hour)
        if known is None:
            cells = self._fine.get(hour)
            if cells is None:
                return NOTHING
            known = self._coarse[hour] = cells.hourly()
        return known

    def _places(self, chosen: Ints) -> Ints:
        places = np.full(len(self._names), -1, np.int64)
        places[chosen] = np.arange(len(chosen))
        return places

    def _hourly(self, chosen: Ints, first: int, end: int) -> tuple[Counts, Counts]:
        """Negatives and articles, int64 [series, hours]."""
        places = self._places(chosen)
        shape = (len(chosen), end - first)
        negative, articles = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for column in range(end - first):
            rows, bad, count = self._hour_of(first + column)
            at = places[rows]
            known = at >= 0
            negative[at[known], column], articles[at[known], column] = bad[known], count[known]
        return negative, articles

    def _minutely(self, chosen: Ints, begin: datetime, minutes: int) -> tuple[Counts, Counts]:
        """Negatives and articles, int64 [series, minutes]."""
        places, low = self._places(chosen), (begin - EPOCH) // MINUTE
        cells = len(chosen) * minutes
        negative, articles = np.zeros(cells, np.int64), np.zeros(cells, np.int64)
        for hour in range(low // 60, (low + minutes - 1) // 60 + 1):
            if hour in self._fine:
                rows, minute, bad = self._fine[hour].flat()
                at, column = places[rows], minute + hour * 60 - low
                kept = (at >= 0) & (column < minutes)
                index = at[kept] * minutes + column[kept]
                np.add.at(articles, index, 1)
                np.add.at(negative, index, bad[kept])
        return negative.reshape(-1, minutes), articles.reshape(-1, minutes)


def _coded(column: Any) -> tuple[Ints, list[str]]:
    """Codes and names of a column of text."""
    coded = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    coded = coded.dictionary_encode()
    if isinstance(coded, pa.ChunkedArray):
        coded = coded.combine_chunks()
    return coded.indices.to_numpy(zero_copy_only=False).astype(np.int64), coded.dictionary.to_pylist()
