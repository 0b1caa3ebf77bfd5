import json
from pathlib import Path

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from crosswind.errors import DataError
from crosswind.models import calibration, evaluation
from crosswind.models.cli import app
from crosswind.models.network import Manifest, Network, read_manifest, save_model
from crosswind.models.rows import Row
from crosswind.stream.adapters.onnx_scorer import OnnxScorer
from tests.unit.models.tiny import TASKS


def perfect(rows: list[Row]) -> evaluation.Logits:
    """Logits that answer every labelled row right."""
    found = {}
    for task in TASKS:
        logits = np.zeros((len(rows), len(task.labels)), dtype=np.float32)
        for i, row in enumerate(rows):
            if (label := row.label(task.name)) is not None:
                logits[i, task.labels.index(label)] = 9
        found[task.name] = logits
    return found


def test_scores_come_in_total_and_per_language(rows: list[Row]) -> None:
    scores = {(s.task, s.group): s for s in evaluation.score(rows, perfect(rows), TASKS)}
    assert set(scores) == {(t.name, g) for t in TASKS for g in ("all", "de", "en")}
    total = scores["topic", "all"]
    assert total.macro_f1 == total.accuracy == total.low == total.high == 1
    assert total.rows == sum(r.topic is not None for r in rows)
    assert total.rows == scores["topic", "de"].rows + scores["topic", "en"].rows
    assert total.ece < 0.01


def test_rows_without_labels_cannot_be_scored() -> None:
    rows = [Row(text="x", lang="en", source="s")]
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluation.score(rows, perfect(rows), TASKS)


def test_a_label_that_the_model_does_not_know_is_named() -> None:
    rows = [Row(text="x", lang="en", source="s", topic="weather")]
    logits = {t.name: np.zeros((1, len(t.labels)), dtype=np.float32) for t in TASKS}
    with pytest.raises(DataError, match="weather"):
        evaluation.score(rows, logits, TASKS)


def test_an_unsure_sentiment_counts_as_neutral_and_an_unsure_topic_as_it_is() -> None:
    rows = [Row(text="x", lang="en", source="s", topic=TASKS[0].labels[0], sentiment="neutral")] * 2
    logits = {task.name: np.zeros((2, len(task.labels)), dtype=np.float32) for task in TASKS}
    for task in TASKS:
        logits[task.name][:, 0] = [0.5, 9]  # the first of all labels: positive, 0.45 and 1.0
    plain, served = (evaluation.score(rows, logits, TASKS, unsure_below=below) for below in (0.0, 0.5))
    right = [{s.task: s.accuracy for s in scores if s.group == "all"} for scores in (plain, served)]
    assert right == [{"topic": 1.0, "sentiment": 0.0}, {"topic": 1.0, "sentiment": 0.5}]
    assert [s.ece for s in plain] == [s.ece for s in served]


def test_a_bundle_is_evaluated_as_it_is_served(tiny_bundle: Path, tmp_path: Path) -> None:
    text = "rises falls" + 17 * " x"
    assert OnnxScorer(tiny_bundle, threads=1).score([text])[0].unsure
    (tmp_path / "rows.csv").write_text(f"text,lang,sentiment\n{text},en,neutral\nrises,en,positive\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["evaluate", "--bundle", str(tiny_bundle), "--data", str(tmp_path / "rows.csv")])
    assert result.exit_code == 0, result.output
    assert "| sentiment | all | 2 | 1.000 |" in result.output


def test_the_report_is_written_three_ways(rows: list[Row], tmp_path: Path) -> None:
    evaluation.write_report(evaluation.score(rows, perfect(rows), TASKS), tmp_path)
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))[0]["macro_f1"] == 1
    assert "| topic | all |" in (tmp_path / "scores.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "plotly" in page.lower()
    assert "macro-F1 by group" in page


def test_the_direction_of_pairs() -> None:
    good = np.array([[3, 0, 0], [0, 3, 0], [0, 0, 3]], dtype=np.float32)
    bad = np.array([[0, 0, 3], [0, 0, 3], [3, 0, 0]], dtype=np.float32)
    assert evaluation.direction(good, bad) == pytest.approx((2 / 3, 1 / 3))
    assert evaluation.direction(good[:0], bad[:0]) == (0, 0)


@pytest.fixture
def folder(network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> Path:
    save_model(tmp_path / "model", network.eval(), tokenizer, Manifest(base="tiny", tasks=TASKS, max_tokens=32))
    return tmp_path / "model"


def test_a_text_alone_and_in_a_batch_gets_the_same_logits(folder: Path) -> None:
    classify = evaluation.classifier(folder)
    texts = ["bank profit rises", "deal", "loss falls and falls"]
    together = classify(texts)
    for i, text in enumerate(texts):
        assert np.allclose(classify([text])["topic"][0], together["topic"][i], atol=1e-5)


def test_calibration_is_stored_in_the_manifest(folder: Path, rows: list[Row]) -> None:
    logits = perfect(rows)
    calibration.calibrate(folder, rows, lambda texts: logits)
    manifest = read_manifest(folder)
    assert set(manifest.temperature) == {"topic", "sentiment"}
    assert set(manifest.unsure_below) == {"sentiment"}
    assert manifest.temperature["topic"] < 1  # always right, so it may be surer


def test_the_command_evaluates_a_file(folder: Path, rows: list[Row], tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    lines = [f"{r.text},{r.lang},{r.topic or ''}" for r in rows]
    file.write_text("\n".join(["title,lang,topic", *lines]), encoding="utf-8")
    out = tmp_path / "report"
    result = CliRunner().invoke(
        app, ["evaluate", "--model", str(folder), "--data", str(file), "--map", "text=title", "--out", str(out)]
    )
    assert result.exit_code == 0, result.output
    assert "| topic | de |" in result.output
    assert (out / "report.html").is_file()


def test_the_command_prepares_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("t,s\n" + "".join(f"Headline {'abcdefghij'[i]}{i},gut\n" for i in range(10)), encoding="utf-8")
    arguments = ["data", "prepare", str(file), "--out", str(tmp_path / "out"), "--map", "text=t"]
    result = CliRunner().invoke(app, [*arguments, "--map", "sentiment=s", "--label", "gut=positive", "--lang", "de"])
    assert result.exit_code == 0, result.output
    assert "| positive |" in result.output


def test_help_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys; import crosswind.models.cli; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
