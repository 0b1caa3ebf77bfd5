"""MarianMT from transformers to ONNX to serving, on a tiny real model that the test trains until it is right."""

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crosswind.errors import BundleError, ModelError, SettingsError
from crosswind.export import translator as files
from crosswind.stream.adapters.translation import Marian, OnnxTranslator, longest_for
from crosswind.stream.adapters.translation_search import Search, search

torch = pytest.importorskip("torch", reason="needs crosswind[train]")
pytest.importorskip("sentencepiece", reason="needs crosswind[train]")

from crosswind.export.translation import Request, check_parity, export_translator, load_marian  # noqa: E402
from tests.integration.export.tiny_marian import SENTENCES, generate  # noqa: E402

ROOT = Path(__file__).parents[3]


def words(count: int, seed: int = 1) -> list[str]:
    """Texts that the model never saw: it is unsure of them, so every step of the search counts."""
    rng, known = random.Random(seed), [word for sentence in SENTENCES for word in sentence.split()]
    return [" ".join(rng.choices(known, k=rng.randint(1, 9))) for _ in range(count)]


@pytest.fixture(scope="module")
def served(translators: Path) -> Marian:
    return Marian(translators / "de-en")


@pytest.mark.parametrize("beams", [1, 4])
def test_its_twenty_sentences_are_translated_right(served: Marian, beams: int) -> None:
    assert served.translate(list(SENTENCES), beams) == list(SENTENCES.values())


@pytest.mark.parametrize("beams", [1, 2, 4])
def test_the_search_finds_what_transformers_finds(served: Marian, tiny_marian: Path, beams: int) -> None:
    model, tokenizer = load_marian(str(tiny_marian))
    texts = words(40)
    found, same, whole = served.translate(texts, beams), 0, []
    for text, ours in zip(texts, found, strict=True):
        most = min(64, longest_for(served.ids(text)))
        theirs, ended = generate(model, tokenizer, text, beams, most)
        whole += [theirs] if ended else []  # what has run away is cut in other ways
        same += ended and theirs == ours
    assert len(set(whole)) > 12
    assert same >= len(whole) - 1  # beams of equal score may fall either way


def test_a_translation_does_not_depend_on_its_batch(served: Marian) -> None:
    texts = [*SENTENCES, *words(12, seed=2)]
    together = served.translate(texts, beams=1)
    assert [served.translate([text], beams=1)[0] for text in texts] == together


@pytest.mark.parametrize(
    "text", ["", "   ", "Gewinn  steigt ", "ﬁrma ＡＢＣ", "利益 增长 прибыль", "a\u200db\u00a0c", "👍🏽 +3 %",
             "<unk> </s> <pad>", ">>fr<< Gewinn"]
)  # fmt: skip
def test_the_converted_tokenizer_gives_the_same_ids(served: Marian, tiny_marian: Path, text: str) -> None:
    _, tokenizer = load_marian(str(tiny_marian))
    wanted = tokenizer.spm_source.encode(" ".join(text.split()), out_type=str)
    assert served.ids(text) == [*(tokenizer.encoder.get(piece, 1) for piece in wanted), tokenizer.eos_token_id]


def test_a_long_text_is_cut_and_ends(served: Marian) -> None:
    text = " ".join(words(60))
    assert len(served.ids(text)) == served.manifest.max_tokens == 64
    assert len(served.translate([text])) == 1


def test_serving_imports_neither_torch_nor_transformers(translators: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from crosswind.stream.adapters.translation import OnnxTranslator\n"
        f"print(OnnxTranslator(Path({str(translators)!r})).translate('de', 'en', ['Der Gewinn steigt deutlich']))\n"
        "print(sorted({'torch', 'transformers', 'optimum', 'sentencepiece'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.splitlines() == ["['Profit rises sharply']", "[]"]


def test_a_missing_pair_is_said(translators: Path) -> None:
    translator = OnnxTranslator(translators)
    assert translator.pairs == [("de", "en")]
    assert translator.version("lt", "en") is None
    with pytest.raises(ModelError, match="no translator from lt to en; there are: de-en"):
        translator.translate("lt", "en", ["Pelnas auga"])
    with pytest.raises(ModelError, match="no translator from en to de"):
        translator.translate("en", "de", ["Profit rises"])


def test_an_altered_translator_is_refused(translators: Path, tmp_path: Path) -> None:
    shutil.copytree(translators, tmp_path / "t")
    pieces = tmp_path / "t" / "de-en" / files.PIECES
    pieces.write_text(pieces.read_text("utf-8") + " ", "utf-8")
    with pytest.raises(BundleError, match="altered"):
        OnnxTranslator(tmp_path / "t").translate("de", "en", ["Gewinn"])
    (tmp_path / "t" / "de-en" / "more.txt").write_text("x")
    with pytest.raises(BundleError, match="lists"):
        files.verify(tmp_path / "t" / "de-en")


def test_a_damaged_translator_is_read_again_only_when_a_file_has_changed(
    translators: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(translators, tmp_path / "t") / "de-en"
    whole = (folder / files.PIECES).read_bytes()
    (folder / files.PIECES).write_bytes(whole + b" ")
    read: list[Path] = []
    verify = files.verify
    monkeypatch.setattr(files, "verify", lambda path: read.append(path) or verify(path))
    translator = OnnxTranslator(tmp_path / "t")
    for _ in range(3):
        with pytest.raises(BundleError, match="altered"):
            translator.translate("de", "en", ["Gewinn"])
    assert read == [folder]
    (folder / files.PIECES).write_bytes(whole)
    assert translator.translate("de", "en", ["Der Gewinn steigt deutlich"]) == ["Profit rises sharply"]
    assert read == [folder, folder]


def test_two_translators_of_one_pair_are_refused(translators: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        shutil.copytree(translators / "de-en", tmp_path / name)
    with pytest.raises(BundleError, match="both translate de-en"):
        OnnxTranslator(tmp_path)


def test_an_export_that_says_something_else_is_refused(served: Marian, tiny_marian: Path) -> None:
    model, tokenizer = load_marian(str(tiny_marian))
    with torch.no_grad():
        model.model.decoder.layers[1].fc2.weight.mul_(-3.0)
    with pytest.raises(ModelError, match="are those of PyTorch"):
        check_parity(served, model, tokenizer, list(SENTENCES))


def test_a_model_that_cannot_be_used_leaves_what_was_there(translators: Path, tmp_path: Path) -> None:
    out = tmp_path / "de-en"
    shutil.copytree(translators / "de-en", out)
    with pytest.raises(ModelError, match="no MarianMT model"):
        export_translator(Request(str(tmp_path), "de", "en", out))
    assert files.verify(out).pair == "de-en"
    assert [path.name for path in tmp_path.iterdir()] == ["de-en"]


def test_pickled_weights_are_refused(tiny_marian: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_marian, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    model, _ = load_marian(str(tiny_marian))
    torch.save(model.state_dict(), tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_marian(str(tmp_path / "pickled"))


def test_an_unknown_prefix_is_refused(tiny_marian: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not in the vocabulary"):
        export_translator(Request(str(tiny_marian), "de", "en", tmp_path / "t", prefix=">>fra<<"))


@pytest.mark.parametrize("pair", ["de", "de-de", "../x-en", "de-en-fr", "DE-en"])
def test_a_pair_is_two_languages(pair: str) -> None:
    with pytest.raises(BundleError, match="de-en"):
        files.languages_of(pair)


def test_beams_find_what_greed_misses() -> None:
    """Piece 2 looks best at first (0.6), but all that follows it is unlikely; 3 then 4 is likelier as a whole."""
    after = {0: {2: 0.6, 3: 0.4}, 2: {4: 0.3, 5: 0.3, 1: 0.4}, 3: {4: 1.0}, 4: {1: 1.0}, 5: {1: 1.0}}

    def step(pieces: np.ndarray, order: np.ndarray | None) -> np.ndarray:
        given = np.full((len(pieces), 6), -60.0, dtype=np.float32)
        for row, piece in enumerate(pieces.tolist()):
            for following, chance in after.get(piece, {1: 1.0}).items():
                given[row, following] = np.log(chance)
        return given

    greedy, wide = (search(step, [6, 6], Search(0, 1, beams, length_penalty=0.0)) for beams in (1, 3))
    assert greedy == [[2], [2]]
    assert wide == [[3, 4], [3, 4]]
    assert search(step, [6], Search(0, 1, 3, length_penalty=0.0, banned=(4,)))[0] != [3, 4]
    assert search(step, [1, 6], Search(0, 1, 3, length_penalty=0.0)) == [[], [3, 4]]


def command(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "crosswind", "translate", *arguments], capture_output=True, text=True,
                          input=given, cwd=ROOT)  # fmt: skip


def test_the_command_line_translates_and_says_what_it_cannot(translators: Path) -> None:
    lines = [
        {"text": "Notenbank senkt die Zinsen", "lang": "de"}, {"title": "Pelnas auga", "lang": "lt"}, {"lang": "de"},
        {"text": "Streik ist beendet"},
    ]  # fmt: skip
    given = "\n".join([*map(json.dumps, lines), "{"])
    found = command("text", "-", "--to", "en", "--from", "de", "--translators", str(translators), given=given)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [answer.get("translation") for answer in answers] == [
        "Central bank lowers rates", None, None, "The strike is over", None,
    ]  # fmt: skip
    assert "no translator from lt to en" in answers[1]["error"]
    assert found.returncode == 3
    assert "Traceback" not in found.stderr


def test_the_command_line_reads_languages_as_those_of_articles_and_answers_blank_lines(translators: Path) -> None:
    given = '{"text": "Notenbank senkt die Zinsen", "lang": "de-DE"}\n\n   \n{"text": "Streik ist beendet"}\n'
    found = command("text", "-", "--to", "EN", "--from", "DE", "--translators", str(translators), given=given)
    answers = [json.loads(line) for line in found.stdout.splitlines()]
    assert [answer.get("translation") for answer in answers] == [
        "Central bank lowers rates", None, None, "The strike is over",
    ]  # fmt: skip
    assert {answer["to"] for answer in answers if "to" in answer} == {"en"}
    assert ["not JSON" in answer.get("error", "") for answer in answers] == [False, True, True, False]
    refused = command("text", "-", "--to", "english", "--translators", str(translators))
    assert refused.returncode == 2
    assert "--to: 'english' is no language" in refused.stderr


def test_the_command_line_adds_and_lists_pairs(tiny_marian: Path, tmp_path: Path) -> None:
    made = command("add", "de-en", "--model", str(tiny_marian), "--translators", str(tmp_path / "t"))
    assert made.returncode == 0, made.stderr
    listed = command("pairs", "--translators", str(tmp_path / "t")).stdout.split()
    assert listed[0] == "de-en"
    assert listed[1] in made.stdout


def test_it_is_off_unless_configured() -> None:
    with pytest.raises(SettingsError, match="not a folder"):
        OnnxTranslator(Path("not/there"))
    refused = command("pairs")
    assert refused.returncode == 2
    assert "CROSSWIND_TRANSLATORS" in refused.stderr
