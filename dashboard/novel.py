"""The filter 'only what is new': each story is listed once, by its first article in the list."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from sqlalchemy import and_, select, tuple_
from sqlalchemy.orm import aliased

from crosswind.stream.adapters.postgres.schema import ArticleRow
from crosswind.stream.adapters.postgres.story_tables import StoryMemberRow

OTHER: Final = aliased(ArticleRow)
"""The articles of a story, one of which is its first in the list."""
STEP: Final = 5000
"""Articles looked at in one statement at most."""
Rows = Callable[[Any], Sequence[Any]]


def first_ones(rows: Rows, run: str, query: Any, count: int, passes: Sequence[Any]) -> Sequence[Any]:
    """The newest rows of a list of articles that have no story, or are the first of it in the list.

    In steps that grow, and each story is looked at once: asked of each article by one statement, a story that is told
    thousands of times would be read as often.

    Args:
        query: the list, newest first; it may begin at a page's cursor.
        passes: the conditions by which an article is in the list, told of `OTHER`. Not the cursor: what a page before
            this one has is in the list, too.
    """
    story = select(StoryMemberRow.story_id).where(of_article()).scalar_subquery().label("story")
    keys = query.with_only_columns(ArticleRow.published_at, ArticleRow.article_id, story)
    firsts: dict[str, str] = {}
    found: list[str] = []
    after: list[Any] = []
    step = 2 * count
    while True:
        some = rows(keys.where(*after).limit(step))
        firsts |= _firsts(rows, run, sorted({row.story for row in some if row.story} - set(firsts)), passes)
        found += [row.article_id for row in some if not row.story or firsts.get(row.story) == row.article_id]
        if len(found) >= count or len(some) < step:
            return rows(query.where(ArticleRow.article_id.in_(found[:count])).limit(count)) if found else []
        after = [tuple_(ArticleRow.published_at, ArticleRow.article_id) < (some[-1].published_at, some[-1].article_id)]
        step = min(4 * step, STEP)


def _firsts(rows: Rows, run: str, stories: Sequence[str], passes: Sequence[Any]) -> dict[str, str]:
    """Story -> its first article that passes."""
    if not stories:
        return {}
    query = select(StoryMemberRow.story_id, StoryMemberRow.article_id).join(
        OTHER, and_(OTHER.run == StoryMemberRow.run, OTHER.article_id == StoryMemberRow.article_id)
    )
    query = query.where(StoryMemberRow.run == run, StoryMemberRow.story_id.in_(stories), *passes)
    query = query.order_by(StoryMemberRow.story_id, StoryMemberRow.at, StoryMemberRow.article_id)
    return {row.story_id: row.article_id for row in rows(query.distinct(StoryMemberRow.story_id))}


def of_article() -> Any:
    """The condition that a member is the article's."""
    return and_(ArticleRow.run == StoryMemberRow.run, ArticleRow.article_id == StoryMemberRow.article_id)
