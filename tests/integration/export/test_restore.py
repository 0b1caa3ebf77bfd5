"""From a bundle back to a MODEL_DIR: what stood still is the base's again, what learned is there up to rounding."""

from pathlib import Path
from typing import Literal

import pytest
from typer.testing import CliRunner

from crosswind.errors import BundleError, ModelError
from crosswind.models.cli import app
from crosswind.models.rows import Row

torch = pytest.importorskip("torch", reason="needs crosswind[train]")
pytest.importorskip("optimum.exporters.onnx", reason="needs crosswind[train]")

from crosswind.export.build import Request, export_bundle  # noqa: E402
from crosswind.export.quantise import Recipe  # noqa: E402
from crosswind.models.distillation import shorten  # noqa: E402
from crosswind.models.network import Network, load_model, save_model  # noqa: E402
from crosswind.models.restore import restore  # noqa: E402
from tests.integration.export.tiny_model import make_tiny_model, sentences  # noqa: E402


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network whose upper layer and heads have moved away from the base it names."""
    base = make_tiny_model(tmp_path_factory.mktemp("base") / "tiny")
    network, tokenizer, manifest = load_model(base)
    manifest.base = str(base)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "layer.1." in name or name.startswith("heads."):
                parameter += 0.05 * torch.randn_like(parameter)
    save_model(base.with_name("trained"), network, tokenizer, manifest)
    return network


@pytest.fixture(scope="module")
def folder(trained: Network) -> Path:
    return Path(trained.encoder.config.name_or_path).with_name("trained")


@pytest.mark.parametrize(("precision", "fused"), [("fp32", False), ("int8", False), ("int8", True)])
def test_a_bundle_gives_back_the_model_it_came_from(
    trained: Network, folder: Path, precision: Literal["fp32", "int8"], fused: bool, tmp_path: Path
) -> None:
    rows = [Row(text=text, lang="en", source="t") for text in sentences(12)]
    request = Request(folder, tmp_path / "bundle", rows, sentences(20, seed=1), sentences(8), precision,
                      recipes=(Recipe(8, 4, True, "all"),), fused=fused)  # fmt: skip
    export_bundle(request)
    restored = restore(tmp_path / "bundle", tmp_path / "restored")
    before = trained.state_dict()
    for name, after in restored.state_dict().items():
        if "layer.1." in name or "word_embeddings" in name:
            assert (after - before[name]).norm() <= 0.05 * before[name].norm(), name
        else:
            assert torch.equal(after, before[name]), name
    again, tokenizer, manifest = load_model(tmp_path / "restored")
    assert manifest.languages == ["en", "de"]
    assert manifest.tasks[0].labels == trained.tasks[0].labels
    ids = tokenizer(sentences(6, seed=3), padding=True, return_tensors="pt")
    with torch.inference_mode():
        mine, theirs = (n.train(False)(ids["input_ids"], ids["attention_mask"]) for n in (again, trained))
    for head, logits in theirs.items():
        assert (mine[head] - logits).abs().max() < 0.1 * logits.std()


def test_what_is_no_bundle_is_refused_and_nothing_is_written(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        restore(folder, tmp_path / "out")
    answer = CliRunner().invoke(app, ["restore", str(tmp_path), "--out", str(tmp_path / "out")])
    assert answer.exit_code != 0
    assert not (tmp_path / "out").exists()


def test_a_base_of_another_shape_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from crosswind.models import restore as module

    rows = [Row(text=text, lang="en", source="t") for text in sentences(6)]
    export_bundle(Request(folder, tmp_path / "bundle", rows, sentences(8, seed=1), sentences(4), "fp32"))
    monkeypatch.setattr(module, "read_weights", lambda graph: {"embeddings.word_embeddings.weight": [[0.0]]})
    with pytest.raises(ModelError, match="no weights for"):
        restore(tmp_path / "bundle", tmp_path / "restored")


def test_a_distilled_bundle_gives_back_the_layers_it_kept(folder: Path, tmp_path: Path) -> None:
    base = folder.with_name("tiny")
    student, tokenizer, manifest = load_model(base)
    manifest.base = str(base)
    shorten(student, 1)
    save_model(tmp_path / "student", student, tokenizer, manifest)
    rows = [Row(text=text, lang="en", source="t") for text in sentences(6)]
    export_bundle(Request(tmp_path / "student", tmp_path / "bundle", rows, sentences(8, seed=1), sentences(4), "int8",
                          recipes=(Recipe(8, 4, True, "all"),)))  # fmt: skip
    restored = restore(tmp_path / "bundle", tmp_path / "restored")
    kept, _, _ = load_model(base)
    after = restored.encoder.state_dict()
    assert {name.split(".")[2] for name in after if name.startswith("encoder.layer.")} == {"0"}
    for name, before in kept.encoder.state_dict().items():
        if "layer.1." in name:  # it learned nothing since: the base's upper layer, exactly
            assert torch.equal(after[name.replace("layer.1.", "layer.0.")], before), name


def test_a_bundle_with_more_layers_than_its_base_is_refused(folder: Path, tmp_path: Path) -> None:
    shallow, tokenizer, manifest = load_model(folder.with_name("tiny"))
    shorten(shallow, 1)
    save_model(tmp_path / "shallow", shallow, tokenizer, manifest)
    whole, tokenizer, manifest = load_model(folder)
    manifest.base = str(tmp_path / "shallow")
    save_model(tmp_path / "whole", whole, tokenizer, manifest)
    rows = [Row(text=text, lang="en", source="t") for text in sentences(6)]
    export_bundle(Request(tmp_path / "whole", tmp_path / "bundle", rows, sentences(8, seed=1), sentences(4), "fp32"))
    with pytest.raises(ModelError, match="2 layers in the graph, its base"):
        restore(tmp_path / "bundle", tmp_path / "restored")
