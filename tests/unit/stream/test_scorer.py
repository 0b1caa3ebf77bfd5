"""The scorer on a tiny real bundle: invariant, exact, and clear about what it will not load."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from crosswind.errors import BundleError, ProviderError
from crosswind.stream.adapters.onnx_scorer import OnnxScorer, to_ppm
from crosswind.stream.domain.article import PPM, Sentiment
from tests.integration.deployment.bundles import numberless

TEXTS = ["profit falls", "bank fails", "oil rises", "nothing at all", "profit rises and oil falls", ""]


@given(arrays.arrays(np.float64, st.integers(2, 15), elements=st.floats(0, 1)).filter(lambda a: a.sum() > 1e-6))
def test_ppm_sums_exactly_and_is_close(probabilities: "np.ndarray[tuple[int], np.dtype[np.float64]]") -> None:
    ppm = to_ppm(probabilities)
    assert sum(ppm) == PPM
    assert np.allclose(np.array(ppm) / PPM, probabilities / probabilities.sum(), atol=2e-6)


def test_a_score_does_not_depend_on_company_or_threads(tiny_bundle: Path) -> None:
    one, four = OnnxScorer(tiny_bundle, threads=1), OnnxScorer(tiny_bundle, threads=4)
    alone = [one.score([text])[0] for text in TEXTS]
    assert one.score(TEXTS) == alone
    assert four.score(TEXTS[::-1]) == alone[::-1]


def test_an_unsure_sentiment_counts_as_neutral(tiny_bundle: Path) -> None:
    (score,) = OnnxScorer(tiny_bundle).score([""])
    assert (score.unsure, score.sentiment) == (True, Sentiment.NEUTRAL)


def test_logits_that_are_no_numbers_are_an_error_and_no_score(tiny_bundle: Path, tmp_path: Path) -> None:
    scorer = OnnxScorer(numberless(tiny_bundle, tmp_path / "numberless"), threads=1)
    assert scorer.score(["profit falls"])[0].sentiment is Sentiment.NEGATIVE
    with pytest.raises(BundleError, match=f"{scorer.version} gives sentiment logits that are no numbers"):
        scorer.score(["profit falls", "oil rises"])


def test_cuda_is_refused_where_there_is_none(tiny_bundle: Path) -> None:
    with pytest.raises(ProviderError, match="CUDAExecutionProvider is not available"):
        OnnxScorer(tiny_bundle, device="cuda")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_one_flipped_bit_is_found(name: str, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(tiny_bundle, folder)
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(BundleError, match="was altered"):
        OnnxScorer(folder)


def test_a_changed_manifest_is_found(tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(tiny_bundle, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["unsure_below"] = 0.0
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="its contents give"):
        OnnxScorer(folder)


@pytest.mark.parametrize("change", ["extra", "missing", "link"])
def test_a_bundle_is_closed(change: str, tiny_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "b"
    shutil.copytree(tiny_bundle, folder)
    if change == "extra":
        (folder / "notes.txt").write_text("x")
    else:
        (folder / "tokenizer.json").unlink()
    if change == "link":
        (folder / "tokenizer.json").symlink_to(tiny_bundle / "tokenizer.json")
    with pytest.raises(BundleError):
        OnnxScorer(folder)
