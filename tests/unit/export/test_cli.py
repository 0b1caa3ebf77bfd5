import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crosswind.errors import BundleError, DataError, ModelError
from crosswind.export.cli import app
from crosswind.export.texts import read_texts

runner = CliRunner()


def test_verify_says_the_version_and_that_smoke_was_answered(tiny_bundle: Path) -> None:
    found = json.loads(runner.invoke(app, ["bundle", "verify", str(tiny_bundle), "--json"]).output)
    version = json.loads((tiny_bundle / "manifest.json").read_text())["version"]
    assert found == {"ok": True, "version": version, "smoke": 1, "signed_by": None}


def test_show_prints_heads_and_diff_of_a_bundle_with_itself_is_empty(tiny_bundle: Path) -> None:
    shown = runner.invoke(app, ["bundle", "show", str(tiny_bundle)])
    assert '"earnings"' in shown.output
    same = runner.invoke(app, ["bundle", "diff", str(tiny_bundle), str(tiny_bundle)])
    assert same.output == "the manifests are the same\n"


def test_diff_with_texts_counts_answers_per_language(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "profit falls", "lang": "en"}\n')
    found = runner.invoke(
        app, ["bundle", "diff", str(tiny_bundle), str(tiny_bundle), "--texts", str(tmp_path / "t.jsonl"), "--json"]
    )
    answers = json.loads(found.output)["answers"]
    assert {(row["lang"], row["head"], row["flips"]) for row in answers} >= {("en", "topic", 0), ("*", "sentiment", 0)}


def test_a_folder_that_is_no_bundle_is_one_clear_error(tmp_path: Path) -> None:
    found = runner.invoke(app, ["bundle", "verify", str(tmp_path)])
    assert isinstance(found.exception, BundleError)
    assert "is not a bundle" in str(found.exception)


def test_without_the_train_extra_export_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "crosswind.export.build", raising=False)
    found = runner.invoke(app, ["export", str(tmp_path), "--out", str(tmp_path / "b")])
    assert isinstance(found.exception, ModelError)
    assert "pip install 'crosswind[train]'" in str(found.exception)


def test_a_line_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "a"}\n{"title": "b"}\n')
    with pytest.raises(DataError, match="line 2"):
        read_texts(tmp_path / "t.jsonl")
