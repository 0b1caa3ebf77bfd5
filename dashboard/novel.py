"""The filter 'only what is new': each story is listed once, by the article that begins it."""

from typing import Any

from sqlalchemy import and_, select

from crosswind.stream.adapters.postgres.schema import ArticleRow
from crosswind.stream.adapters.postgres.story_tables import StoryMemberRow


def begins() -> Any:
    """The condition of an article that it begins its story, or has none."""
    elsewhere = StoryMemberRow.story_id != StoryMemberRow.article_id
    return ~select(StoryMemberRow.article_id).where(of_article(), elsewhere).exists()


def of_article() -> Any:
    """The condition that a member is the article's."""
    return and_(ArticleRow.run == StoryMemberRow.run, ArticleRow.article_id == StoryMemberRow.article_id)
