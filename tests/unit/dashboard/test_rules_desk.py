import threading
from pathlib import Path

import pytest

from crosswind.dashboard import rules_desk
from crosswind.dashboard.queries import Reader
from crosswind.dashboard.rules_desk import RulesDesk, digest
from crosswind.errors import DataError
from crosswind.stream.adapters.postgres.engine import connect
from crosswind.stream.service.rules import DEFAULT

BASE = DEFAULT.read_text("utf-8")
ANN, BOB = BASE + "# Ann\n", BASE + "# Bob\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "rules.yaml"
    made.write_text(BASE, "utf-8")
    return made


def desk(path: Path) -> RulesDesk:
    """One of several dashboards over the same file; saving asks nothing of the database."""
    engine = connect("postgresql://nobody@127.0.0.1:1/nothing")
    return RulesDesk(Reader(engine, "live"), engine, path)


def test_of_two_who_save_over_the_same_text_at_once_one_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    def bob() -> None:
        try:
            desk(path).save(BOB, digest(BASE), digest(BOB))
        except DataError as error:
            told.append(str(error))

    second, write = threading.Thread(target=bob), rules_desk._write

    def late(where: Path, text: str) -> None:
        if text == ANN:
            second.start()
            second.join(0.5)  # he goes as far as he can: with nothing in his way, to the end
        write(where, text)

    monkeypatch.setattr(rules_desk, "_write", late)
    saved = desk(path).save(ANN, digest(BASE), digest(ANN))
    second.join()
    assert (saved.text, path.read_text("utf-8")) == (ANN, ANN)
    assert ["changed meanwhile" in one for one in told] == [True]


def test_no_rule_is_in_use_where_the_file_cannot_be_used(path: Path) -> None:
    assert [rule.name for rule in desk(path).in_use().rules] == ["negative-surge"]
    path.write_text("rules: 7", "utf-8")
    assert desk(path).in_use().rules == ()
    path.write_bytes(DEFAULT.read_bytes() + "# für uns".encode("latin-1"))
    assert desk(path).in_use().rules == ()
    path.unlink()
    assert desk(path).in_use().rules == ()


def test_a_folder_that_cannot_be_written_is_one_clear_error(path: Path) -> None:
    path.with_name(".rules.yaml.lock").mkdir()
    with pytest.raises(DataError, match="may the dashboard write there"):
        desk(path).save(ANN, digest(BASE), digest(ANN))
