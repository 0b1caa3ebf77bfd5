"""The output `meaning`: learned so that translations meet."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession

from crosswind.models.contrast import refine
from crosswind.models.meaning_graph import TABLE, add_pool
from crosswind.models.projection import Parallel, learn, rarity, read_parallel, retrieval
from crosswind.models.sources import kept_back


def test_directions_of_language_shrink_and_those_of_sentences_stay() -> None:
    rng = np.random.default_rng(0)
    sentences, langs = np.repeat(np.arange(200), 3), ["en", "de", "ja"] * 200
    content = rng.standard_normal((200, 24))[sentences] @ np.eye(24, 40)
    language = np.zeros((600, 40))
    language[:, 24:] = 6 * rng.standard_normal((600, 16))
    rows = content + language + 0.3 * rng.standard_normal((600, 40))
    parallel = Parallel([""] * 600, sentences, langs)
    matrix, offset = learn(rows, sentences, 24)
    assert min(retrieval(rows, parallel).values()) < 0.7
    assert min(retrieval(rows @ matrix + offset, parallel).values()) > 0.9


def test_sharpening_makes_translations_each_others_nearest() -> None:
    rng = np.random.default_rng(1)
    langs, mixed, accents = ["en", "de", "ja"], rng.standard_normal((12, 40)), 4 * rng.standard_normal((3, 40))

    def told(count: int) -> tuple[np.ndarray, Parallel]:
        sentences = np.repeat(np.arange(count), 3)
        content = rng.standard_normal((count, 12))[sentences] @ mixed
        rows = content + np.tile(accents, (count, 1)) + 0.8 * rng.standard_normal((count * 3, 40))
        return rows, Parallel([""] * count * 3, sentences, langs * count)

    (rows, _), (fresh, judged) = told(200), told(200)
    table = np.arange(600).reshape(200, 3)
    start = np.eye(40, 24), np.zeros(24)
    matrix, offset = refine(rows, table, 0, *start, steps=120)
    assert min(retrieval(fresh @ start[0] + start[1], judged).values()) < 0.7
    assert min(retrieval(fresh @ matrix + offset, judged).values()) > 0.9
    assert np.array_equal(refine(rows, table, 0, *start, steps=120)[0], matrix)


def test_what_measures_is_never_learned_from(tmp_path: Path) -> None:
    (tmp_path / "parallel").mkdir()
    with gzip.open(tmp_path / "parallel/ntrex128.jsonl.gz", "wt", encoding="utf-8") as out:
        for number in range(1, 1_401):
            for lang in ("en", "lt"):
                print(json.dumps({"id": f"ntrex128:{number}", "lang": lang, "text": f"{lang} {number}"}), file=out)
    learned = read_parallel(tmp_path, True, 10_000, ("en", "lt"))
    measured = read_parallel(tmp_path, False, 10_000, ("en", "lt"))
    assert set(measured.sentences) == set(range(2, 1_000, 2))
    assert set(learned.sentences) == set(range(1, 1_401)) - set(measured.sentences)
    assert list(read_parallel(tmp_path, False, 2, ("en",)).texts) == ["en 2", "en 4"]
    assert not kept_back("tatoeba_laser:2")


def test_a_token_weighs_the_less_the_more_of_a_language_it_makes_up() -> None:
    weights = rarity([[0, 1, 1, 1], [0, 2, 3, 3]], ["en", "ja"], 5)
    assert weights[4] == 1.0
    assert weights[4] > weights[2] == weights[0] > weights[3] > weights[1] > 0


def test_a_mean_weighs_tokens_and_leaves_padding_out() -> None:
    states = np.array([[1.0, 2.0], [3.0, 5.0], [100.0, 100.0]], np.float32)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
              for name in ("input_ids", "attention_mask")]  # fmt: skip
    graph = helper.make_graph([helper.make_node("Gather", ["states", "input_ids"], ["layer"])], "g", inputs,
                              [helper.make_tensor_value_info("pool/mean", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(states, "states"),
                               numpy_helper.from_array(np.array([1.0, 0.25, 1.0], np.float16), TABLE)])  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    add_pool(model, "layer", "pool")
    ids = np.array([[0, 1, 2], [1, 1, 2]], np.int64)
    mask = np.array([[1, 1, 0], [1, 1, 0]], np.int64)
    (found,) = InferenceSession(model.SerializeToString()).run(None, {"input_ids": ids, "attention_mask": mask})
    assert found.tolist() == [pytest.approx([1.75 / 1.25, 3.25 / 1.25]), pytest.approx([3.0, 5.0])]
