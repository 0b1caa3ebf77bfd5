"""Translated headlines, kept by article, language and model."""

from collections.abc import Mapping, Sequence

from sqlalchemy import Engine, text

from crosswind.stream.adapters.postgres.errors import database
from crosswind.stream.service.translation import Headline

_HEADLINES = text("""
    SELECT a.article_id, a.title, a.lang, t.text, t.model
    FROM article a
    LEFT JOIN translation t ON t.run = a.run AND t.article_id = a.article_id AND t.target = :target
                            AND t.title = a.title
    WHERE a.run = :run AND a.article_id = ANY(:ids)
""")

# Locked in one order, so that two that keep the same articles never wait for each other in a circle.
_KEEP = text("""
    WITH given AS (
        SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:titles AS text[]), CAST(:texts AS text[]),
                             CAST(:models AS text[])) AS input(article_id, title, text, model)
    ), known AS (
        SELECT a.article_id, given.title, given.text, given.model
        FROM given JOIN article a ON a.run = :run AND a.article_id = given.article_id AND a.title = given.title
        ORDER BY a.article_id FOR KEY SHARE OF a
    )
    INSERT INTO translation (run, article_id, target, title, text, model)
    SELECT :run, article_id, :target, title, text, model FROM known ORDER BY article_id
    ON CONFLICT (run, article_id, target) DO UPDATE
    SET title = excluded.title, text = excluded.text, model = excluded.model, made_at = clock_timestamp()
""")

_UNTRANSLATED = text("""
    SELECT a.article_id FROM article a
    JOIN unnest(CAST(:langs AS text[]), CAST(:models AS text[])) AS wanted(lang, model) ON wanted.lang = a.lang
    WHERE a.run = :run AND a.lang <> :target
      AND NOT EXISTS (SELECT FROM unnest(CAST(:passed AS text[])) AS passed(id) WHERE passed.id = a.article_id)
      AND NOT EXISTS (SELECT FROM translation t WHERE t.run = a.run AND t.article_id = a.article_id
                      AND t.target = :target AND t.title = a.title AND t.model = wanted.model)
    ORDER BY a.published_at DESC, a.article_id DESC LIMIT :limit
""")


class PostgresTranslations:
    """Implements `TranslationStore`.

    Args:
        engine: one that can write.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def headlines(self, run: str, article_ids: Sequence[str], target: str) -> list[Headline]:
        """See `TranslationStore.headlines`."""
        values = {"run": run, "ids": list(article_ids), "target": target}
        with database("reading translations"), self._engine.connect() as connection:
            return [Headline(*row) for row in connection.execute(_HEADLINES, values)]

    def keep(self, run: str, target: str, found: Sequence[Headline]) -> None:
        """See `TranslationStore.keep`."""
        values = {
            "run": run, "target": target, "ids": [one.article_id for one in found],
            "titles": [one.title for one in found], "texts": [(one.text or "").replace("\x00", "") for one in found],
            "models": [one.model for one in found],
        }  # fmt: skip
        with database("keeping translations"), self._engine.begin() as connection:
            connection.execute(_KEEP, values)

    def untranslated(
        self, run: str, target: str, models: Mapping[str, str], limit: int, passed: Sequence[str] = ()
    ) -> list[str]:
        """See `TranslationStore.untranslated`."""
        values = {
            "run": run, "target": target, "langs": list(models), "models": list(models.values()), "limit": limit,
            "passed": list(passed),
        }  # fmt: skip
        with database("reading articles"), self._engine.connect() as connection:
            return list(connection.execute(_UNTRANSLATED, values).scalars())
