"""Real Postgres, real translator: each headline is translated once, kept with its article, shown where it is."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Engine, text

from crosswind.dashboard.components import article_table
from crosswind.dashboard.queries import Reader, Wanted
from crosswind.dashboard.view import View
from crosswind.errors import BundleError
from crosswind.export import translator as files
from crosswind.export.bundle import MANIFEST
from crosswind.settings import load_settings
from crosswind.stream.adapters.postgres.store import PostgresTrendStore
from crosswind.stream.adapters.postgres.translation_tables import TranslationRow
from crosswind.stream.adapters.postgres.translations import PostgresTranslations
from crosswind.stream.adapters.translation import OnnxTranslator
from crosswind.stream.adapters.translation_desk import TranslationDesk, open_translations
from crosswind.stream.domain.ingest import Delivery
from crosswind.stream.notify.adapters.render import words
from crosswind.stream.notify.adapters.senders import Senders
from crosswind.stream.notify.domain.subscription import Channel
from crosswind.stream.notify.service.dispatcher import Message
from crosswind.stream.service import translation
from crosswind.stream.service.translation import Translation, Translations
from tests.builders import scored_article
from tests.notify_helpers import KEY, VAULT, alert

TITLES = {"Der Gewinn fällt deutlich": "de", "Pelnas krito": "lt", "Profit falls": "en", "Streik ist beendet": "de"}
IDS = [f"{number:032x}" for number in range(len(TITLES))]


class Counting(OnnxTranslator):
    """The real one, noting what it was asked."""

    asked: list[str]

    def translate(self, source: str, target: str, texts: Sequence[str]) -> list[str]:
        self.asked = [*getattr(self, "asked", []), *texts]
        return super().translate(source, target, texts)


@pytest.fixture
def stored(engine: Engine) -> Engine:
    articles = [scored_article(n, title=title, lang=lang) for n, (title, lang) in enumerate(TITLES.items())]
    PostgresTrendStore(engine).ingest("live", [Delivery(article, 0) for article in articles])
    return engine


def test_headlines_are_translated_once_and_a_missing_pair_is_said(stored: Engine, translators: Path) -> None:
    translator = Counting(translators)
    service = Translations(translator, PostgresTranslations(stored))
    version = translator.version("de", "en")
    expected = {
        IDS[0]: Translation("de", "en", "Profit falls sharply", version), IDS[1]: Translation("lt", "en", None),
        IDS[3]: Translation("de", "en", "The strike is over", version),
    }  # fmt: skip
    assert service.translate("live", [*IDS, "unknown"], "en") == expected
    assert service.translate("live", IDS, "en") == expected
    assert service.look("live", IDS, "en") == (expected, [])
    assert len(translator.asked) == 2


def test_a_corrected_headline_is_translated_anew(stored: Engine, translators: Path) -> None:
    service = Translations(OnnxTranslator(translators), PostgresTranslations(stored))
    service.translate("live", IDS[:1], "en")
    with stored.begin() as connection:
        connection.execute(text("UPDATE article SET title = 'Der Gewinn steigt deutlich' WHERE lang = 'de'"))
    answers, lacking = service.look("live", IDS[:1], "en")
    assert (answers, [one.title for one in lacking]) == ({}, ["Der Gewinn steigt deutlich"])
    assert service.translate("live", IDS[:1], "en")[IDS[0]].text == "Profit rises sharply"


def test_a_translation_by_another_model_is_made_anew(stored: Engine, translators: Path) -> None:
    translator = Counting(translators)
    service = Translations(translator, PostgresTranslations(stored))
    service.translate("live", IDS[:1], "en")
    with stored.begin() as connection:
        connection.execute(text("UPDATE translation SET model = 'former'"))
    service.translate("live", IDS[:1], "en")
    assert len(translator.asked) == 2


def resealed(folder: Path, **changes: str) -> str:
    manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
    return files.seal(folder, {name: manifest[name] for name in manifest} | changes).version


def test_a_translator_that_is_added_anew_is_used_at_once(stored: Engine, translators: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(translators, tmp_path / "t")
    translator = OnnxTranslator(folder)
    service = Translations(translator, PostgresTranslations(stored))
    before = service.translate("live", IDS[:1], "en")[IDS[0]].model
    version = resealed(folder / "de-en", base="a better one")
    assert translator.version("de", "en") == version != before
    assert [one.article_id for one in service.look("live", IDS[:1], "en")[1]] == IDS[:1]
    assert service.translate("live", IDS[:1], "en")[IDS[0]].model == version
    assert translator._open["de", "en"].manifest.version == version
    assert service.look("live", IDS[:1], "en")[1] == []


@pytest.fixture
def half_broken(stored: Engine, translators: Path, tmp_path: Path) -> Path:
    """A folder with two pairs of which de-en is damaged; a French article is stored, too."""
    article = scored_article(9, minutes=-9, title="Der Gewinn steigt deutlich", lang="fr")
    PostgresTrendStore(stored).ingest("live", [Delivery(article, 0)])
    folder = shutil.copytree(translators, tmp_path / "t")
    shutil.copytree(folder / "de-en", folder / "fr-en")
    resealed(folder / "fr-en", source="fr")
    (folder / "de-en" / files.PIECES).write_text("{}")
    return folder


def test_a_damaged_pair_is_named_and_holds_up_no_other(stored: Engine, half_broken: Path) -> None:
    told: list[tuple[str, int, Exception]] = []
    service = Translations(OnnxTranslator(half_broken), PostgresTranslations(stored), lambda *one: told.append(one))
    found = service.translate("live", [*IDS, f"{9:032x}"], "en")
    assert found.keys() == {IDS[1], f"{9:032x}"}
    assert found[f"{9:032x}"].text == "Profit rises sharply"
    ((pair, count, error),) = told
    assert (pair, count, type(error)) == ("de-en", 2, BundleError)
    assert "altered" in str(error)


@pytest.mark.usefixtures("stored")
def test_the_command_translates_what_it_can_and_names_the_damaged_pair(half_broken: Path, database_url: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "crosswind", "translate", "articles", "--to", "en", "--translators", str(half_broken),
         "--database-url", database_url],
        capture_output=True, text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert found.returncode == 4
    assert "1 headlines translated to en, from de, fr" in found.stdout
    assert "de-en cannot be used" in found.stderr


@pytest.mark.usefixtures("stored")
def test_headlines_of_a_damaged_pair_do_not_use_up_the_limit(half_broken: Path, database_url: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "crosswind", "translate", "articles", "--to", "en", "--translators", str(half_broken),
         "--database-url", database_url, "--limit", "1"],
        capture_output=True, text=True, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "1 headlines translated to en" in found.stdout, found.stderr


class Failing(OnnxTranslator):
    """The real one, that a library leaves in the lurch at what says `spoilt`."""

    def translate(self, source: str, target: str, texts: Sequence[str]) -> list[str]:
        if "spoilt" in texts:
            raise RuntimeError
        return super().translate(source, target, texts)


@pytest.mark.parametrize(("spoilt", "limit", "done"), [(1, 2, 2), (2, 9, 2), (3, 9, 0)])
def test_a_spoilt_text_is_passed_over_and_a_language_that_always_fails_is_left(
    spoilt: int, limit: int, done: int, stored: Engine, translators: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    articles = [scored_article(100 + n, title="spoilt", lang="de") for n in range(spoilt)]
    PostgresTrendStore(stored).ingest("live", [Delivery(article, 0) for article in articles])
    monkeypatch.setattr(translation, "CHUNK", 1)
    translator = Failing(translators)
    service = Translations(translator, PostgresTranslations(stored))
    models = {"de": translator.version("de", "en") or ""}
    assert service.ahead("live", "en", models, limit) == done
    assert service.ahead("live", "en", models, limit) == 0


def test_translations_go_with_their_article_and_of_gone_ones_none_is_kept(stored: Engine, translators: Path) -> None:
    store = PostgresTranslations(stored)
    service = Translations(OnnxTranslator(translators), store)
    service.translate("live", IDS, "en")
    kept = store.headlines("live", IDS[:1], "en")
    with stored.begin() as connection:
        connection.execute(text("DELETE FROM article"))
        assert connection.execute(text("SELECT count(*) FROM translation")).scalar() == 0
    store.keep("live", "en", kept)
    with stored.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM translation")).scalar() == 0


def test_what_is_left_to_translate_is_known(stored: Engine, translators: Path) -> None:
    store = PostgresTranslations(stored)
    translator = OnnxTranslator(translators)
    models = {"de": translator.version("de", "en") or ""}
    assert store.untranslated("live", "en", models, 10) == [IDS[3], IDS[0]]
    Translations(translator, store).translate("live", IDS[:1], "en")
    assert store.untranslated("live", "en", models, 10) == [IDS[3]]
    assert store.untranslated("live", "en", {"de": "a newer model"}, 10) == [IDS[3], IDS[0]]
    assert store.untranslated("live", "en", {"de": "a newer model"}, 10, [IDS[3]]) == [IDS[0]]


def test_the_page_shows_what_is_known_and_then_the_rest(stored: Engine, translators: Path) -> None:
    settings = load_settings({"translators": translators})
    opened = open_translations(settings, stored)
    assert opened is not None
    desk, reader = TranslationDesk(opened), Reader(stored, "live")
    page, before = reader.articles(Wanted()), reader.version()
    first = desk.ask("live", IDS, "en")
    assert set(first) == {IDS[1]}
    deadline = time.monotonic() + 60
    while reader.version() == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert reader.version() != before
    shown = str(article_table(page, View(), "/", desk.ask("live", IDS, "en")))
    desk.close()
    assert "Profit falls sharply" in shown
    assert "no translator lt→en" in shown
    assert "Der Gewinn fällt deutlich" in shown


def test_nothing_is_translated_unless_configured(stored: Engine) -> None:
    assert open_translations(load_settings({}), stored) is None


def test_a_database_that_is_away_leaves_the_page_without_translations(stored: Engine, translators: Path) -> None:
    with stored.begin() as connection:
        connection.execute(text("DROP TABLE translation"))
    desk = TranslationDesk(Translations(OnnxTranslator(translators), PostgresTranslations(stored)))
    assert desk.ask("live", IDS, "en") == {}
    desk.close()


def test_a_message_carries_translations_for_people(stored: Engine, translators: Path) -> None:
    service = Translations(OnnxTranslator(translators), PostgresTranslations(stored))
    titles = dict(zip(IDS, TITLES, strict=True))
    message = Message("m", "s", Channel.APPRISE, "h", "en", "", (alert(evidence=IDS),), titles=titles)

    async def work() -> Message:
        async with Senders(load_settings({"seal_key": KEY}), VAULT, translations=service) as send:
            return await send._translated(message)

    said = words(asyncio.run(work()), "l", "u")
    assert "Der Gewinn fällt deutlich (de→en: Profit falls sharply)" in said.text
    assert "Pelnas krito (no translator lt→en)" in said.text
    assert "Profit falls\n" in said.text


def test_a_hostile_translation_stays_text() -> None:
    hostile = {"a1": Translation("de", "en", "<script>alert(1)</script>\u202e\n{{ 7*7 }}", "m")}
    message = Message("m", "s", Channel.APPRISE, "h", "en", "", (alert(evidence=["a1"]),), titles={"a1": "Titel"},
                      translations=hostile)  # fmt: skip
    said = words(message, "l", "u")
    assert "<script" not in said.html
    assert "\u202e" not in said.text
    own = words(replace(message, template="{{ headlines }}"), "l", "u")
    assert "Titel (de→en: &lt;script&gt;" in own.text


def test_the_migration_makes_the_table_that_the_code_has(engine: Engine) -> None:
    with engine.connect() as connection:
        differences = compare_metadata(MigrationContext.configure(connection), TranslationRow.metadata)
    assert [one for one in differences if "translation" in str(one)] == []
