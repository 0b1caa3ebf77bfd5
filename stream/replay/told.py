"""The stories of a staged feed: one pass in event order, before it is replayed.

The live story engine gives stories in the order of event time and id, and so does this pass; which stories there are
depends on nothing else. So speed, batches, kills and stretches of a replay do not show in them.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import pyarrow as pa

from crosswind.stream.adapters.story_index import StoryIndex
from crosswind.stream.domain.stories.clusters import Stories
from crosswind.stream.domain.stories.story import Telling

_NAMES = ("article_id", "event_at", "source", "lang", "title", "title_key", "entities", "meaning", "model")


def told(tables: Iterable[pa.Table]) -> Iterator[pa.Array]:
    """For each table of articles that ascend by `event_at` and id, the story of each row; "" without a meaning.

    It is the story an article came to first, as the alert engine counts it.
    """
    stories = Stories(StoryIndex)
    for table in tables:
        rows = table.select(list(_NAMES)).to_pylist()
        yield pa.array([stories.assign(_telling(row)).story_id if row["meaning"] else "" for row in rows], pa.string())


def _telling(row: dict[str, Any]) -> Telling:
    return Telling(
        row["article_id"], row["event_at"], row["source"], row["lang"], row["title"], row["title_key"],
        tuple(row["entities"]), row["meaning"], row["model"],
    )  # fmt: skip
