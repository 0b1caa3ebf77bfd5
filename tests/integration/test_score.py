"""`crosswind score`: one line per line, in order, whatever is in them."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from crosswind.errors import DataError
from crosswind.score import score_file
from crosswind.settings import load_settings
from crosswind.stream.adapters.onnx_scorer import OnnxScorer


def _score(lines: list[str], bundle: Path, folder: Path) -> tuple[int, list[dict[str, object]]]:
    file = folder / "in.jsonl"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    out = io.StringIO()
    status = score_file(file, load_settings({"model": str(bundle)}), out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def test_answers_come_in_order_with_all_fields(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = ['{"text": "profit falls", "id": "a"}', '{"title": "oil rises", "body": "again", "lang": "en-GB"}']
    status, answers = _score(lines, tiny_bundle, tmp_path)
    assert status == 0
    assert [(a["id"], a["topic"], a["sentiment"]) for a in answers] == [
        ("a", "earnings", "negative"),
        (2, "commodities", "positive"),
    ]
    assert answers[1]["lang"] == "en"
    for answer in answers:
        for head in answer["probabilities"].values():  # type: ignore[attr-defined]
            assert sum(head.values()) == pytest.approx(1, abs=1e-4)
        assert len(str(answer["model"])) == 16


def test_bad_lines_keep_their_place(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = ['{"text": "profit falls"}', "{", "[1]", "{}", '{"text": 7}', '{"text": "oil rises"}']
    status, answers = _score(lines, tiny_bundle, tmp_path)
    assert status == DataError.exit_code
    assert ["error" in answer for answer in answers] == [False, True, True, True, True, False]


def test_a_bad_row_is_named_by_its_id(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = ['{"id": "a17", "text": 7}', '{"id": 0}', '{"id": "a19"', '{"text": ""}']
    _, answers = _score(lines, tiny_bundle, tmp_path)
    assert [answer["id"] for answer in answers] == ["a17", 0, 3, 4]
    assert all("error" in answer for answer in answers)


def test_a_missing_file_is_a_clear_error(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read"):
        score_file(tmp_path / "none", load_settings({"model": str(tiny_bundle)}), io.StringIO())


def test_half_a_surrogate_pair_is_an_error_in_its_place(tiny_bundle: Path, tmp_path: Path) -> None:
    lines = [r'{"text": "bank \ud800 fails"}', r'{"text": "bank", "id": "\udfff"}', '{"text": "oil rises"}']
    status, answers = _score(lines, tiny_bundle, tmp_path)
    assert status == DataError.exit_code
    assert [answer["id"] for answer in answers] == [1, 2, 3]
    assert ["half of a surrogate pair" in str(answer.get("error")) for answer in answers] == [True, True, False]


def test_each_text_is_inferred_once_and_threads_have_many_at_a_time(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: list[int] = []
    run = OnnxScorer._run

    def counted(scorer: OnnxScorer, texts: Sequence[Sequence[int]]) -> Any:
        runs.append(len(texts))
        return run(scorer, texts)

    monkeypatch.setattr(OnnxScorer, "_run", counted)
    lines = [json.dumps({"text": "profit falls " * (n % 3 + 1), "id": n}) if n % 7 else "{" for n in range(150)]
    _, answers = _score(lines, tiny_bundle, tmp_path)
    assert [answer["id"] for answer in answers] == [n if n % 7 else n + 1 for n in range(150)]
    assert sum(runs) == sum(1 for n in range(150) if n % 7)
    assert min(runs) > 8, "so that as many threads have something to do"
