from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from crosswind.errors import ModelError
from crosswind.models.dataset import Pair
from crosswind.models.network import Manifest, Network, load_model
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.trackers import NoTracker
from crosswind.models.training import Trainer, balance, freeze, targets
from tests.unit.models.tiny import TASKS

PAIRS = [Pair("profit rises", "über profit", "de"), Pair("loss falls", "利益 falls", "ja")]
Make = Callable[..., Trainer]


class KilledError(Exception):
    """What a test raises in the middle of a run."""


@pytest.fixture
def make(network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], tmp_path: Path) -> Make:
    start = {name: tensor.clone() for name, tensor in network.state_dict().items()}

    def trainer(
        base: dict[str, torch.Tensor] = start, train: Sequence[Row] = rows[:32], pairs: Sequence[Pair] = PAIRS,
        **changes: object,
    ) -> Trainer:  # fmt: skip
        network.load_state_dict(base)
        network.requires_grad_(True)
        plan = Plan(**{"out": tmp_path / "run", "epochs": 3, "batch": 8, "rate": 1e-2, "head_rate": 1e-2,
                       "freeze": 1, "align_every": 2, "half": False, **changes})  # type: ignore[arg-type]  # fmt: skip
        return Trainer(network, tokenizer, train, rows[32:], pairs, plan, Manifest(base="tiny", tasks=TASKS))

    return trainer


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([p.detach().reshape(-1) for p in trainer.network.parameters()])


def test_it_learns_what_the_words_give_away(make: Make) -> None:
    history = make(epochs=12, patience=99).run()
    assert history[-1]["loss"] < history[0]["loss"]
    assert max(h["score"] for h in history) > 0.7


def test_the_same_seed_gives_the_same_weights(make: Make, tmp_path: Path) -> None:
    first, second = make(), None
    first.run()
    expected = weights(first)
    second = make(out=tmp_path / "other")
    second.run()
    assert torch.equal(weights(second), expected)


@pytest.mark.parametrize("kill_at", [1, 3, 4, 6, 11])
def test_a_run_killed_at_any_step_ends_with_the_same_weights(make: Make, tmp_path: Path, kill_at: int) -> None:
    whole = make(out=tmp_path / "whole", checkpoint_seconds=0)
    whole.run()
    expected, history = weights(whole), [(h["score"], h["loss"]) for h in whole.history]

    def kill(trainer: Trainer) -> None:
        if trainer.step == kill_at:
            raise KilledError

    with pytest.raises(KilledError):
        make(checkpoint_seconds=0).run(kill)
    resumed = make(checkpoint_seconds=0)
    resumed.run()
    assert torch.equal(weights(resumed), expected)
    assert [(h["score"], h["loss"]) for h in resumed.history] == history


@pytest.mark.parametrize("minutes", [0.0, 1e-9])
def test_a_finished_run_is_not_trained_again(make: Make, minutes: float) -> None:
    make(minutes=minutes).run()
    again = make(minutes=minutes)
    steps: list[int] = []
    again.run(lambda trainer: steps.append(trainer.step))
    assert steps == []


def test_a_checkpoint_of_another_plan_is_refused(make: Make) -> None:
    make(epochs=1).run()
    with pytest.raises(ModelError, match="other settings"):
        make(epochs=1, rate=5e-3).run()


@pytest.mark.parametrize(
    "name", ["encoder.embeddings.word_embeddings.weight", "encoder.encoder.layer.2.output.dense.weight"]
)
def test_a_checkpoint_over_another_base_is_refused(make: Make, network: Network, name: str) -> None:
    base = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    make(epochs=1).run()
    base[name][0, 0] += 1
    with pytest.raises(ModelError, match=r"other settings \(starting weights\)"):
        make(base=base, epochs=1).run()


def test_a_checkpoint_of_other_data_or_tasks_is_refused(make: Make, network: Network, rows: list[Row]) -> None:
    make(epochs=1).run()
    said_otherwise = msgspec.structs.replace(rows[31], topic="deals" if rows[31].topic == "earnings" else "earnings")
    for train in (rows[:33], [*rows[:31], said_otherwise]):
        with pytest.raises(ModelError, match=r"other settings \(training rows\)"):
            make(train=train, epochs=1).run()
    with pytest.raises(ModelError, match=r"other settings \(parallel pairs\)"):
        make(pairs=[*PAIRS, PAIRS[0]], epochs=1).run()
    network.tasks = (replace(TASKS[0], smoothing=0.2), *TASKS[1:])
    with pytest.raises(ModelError, match=r"other settings \(tasks\)"):
        make(epochs=1).run()


def test_frozen_parts_stand_still_and_others_move(make: Make) -> None:
    trainer = make(epochs=1)
    before = {name: p.detach().clone() for name, p in trainer.network.named_parameters()}
    trainer.run()
    moved = {name for name, p in trainer.network.named_parameters() if not torch.equal(p, before[name])}
    assert not any(name.startswith(("encoder.embeddings", "encoder.encoder.layer.0")) for name in moved)
    assert any(name.startswith("encoder.encoder.layer.2") for name in moved)
    assert {"heads.topic.weight", "heads.sentiment.bias"} <= moved


def test_remembering_the_frozen_layers_changes_no_answer(make: Make) -> None:
    frozen, fluid = make(freeze=1), make(freeze=0)
    chosen = [0, 5, 9]
    with torch.no_grad():
        frozen.network.eval()
        one = frozen.network.pool_from(*frozen.data.batch(chosen), 1)
        other = fluid.network.pool_from(*fluid.data.batch(chosen), 0)
    assert torch.allclose(one, other, atol=2e-2)  # remembered in bf16


def test_a_time_limit_ends_the_run_with_a_model(make: Make, tmp_path: Path) -> None:
    trainer = make(epochs=1000, patience=10**6, minutes=0.01)
    trainer.run()
    assert trainer.epoch < 1000
    assert load_model(tmp_path / "run")[2].metrics["validation"]["epoch"] >= 1


def test_the_loss_of_an_epoch_that_time_cut_is_that_of_its_steps(make: Make, tmp_path: Path) -> None:
    whole = make(out=tmp_path / "whole", epochs=1).run()
    cut = make(epochs=1, minutes=1e-9)
    assert cut.run()[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.4)
    assert cut.step == 1


def test_a_time_that_ends_between_two_epochs_begins_no_other(make: Make) -> None:
    class Slow(NoTracker):
        def log(self, epoch: int, values: Mapping[str, object]) -> None:
            trainer._since -= 3600

    trainer = make(minutes=30)
    trainer.tracker = Slow()
    trainer.run()
    assert (trainer.epoch, trainer.step) == (1, 4)


def test_alignment_pulls_the_foreign_half_to_the_english(make: Make) -> None:
    def distance(trainer: Trainer) -> float:
        assert trainer.parallel is not None
        with torch.no_grad():
            trainer.network.eval()
            english = trainer.network.pool_from(*trainer.parallel.batch([0, 2]), 1)
            foreign = trainer.network.pool_from(*trainer.parallel.batch([1, 3]), 1)
        return float(1 - torch.nn.functional.cosine_similarity(english, foreign).mean())

    trainer = make(epochs=8, align_every=1, align_vector=20.0, patience=99)
    before = distance(trainer)
    trainer.run()
    assert distance(trainer) < before


def test_more_frozen_layers_than_there_are_is_refused(network: Network) -> None:
    with pytest.raises(ModelError, match="3 layers"):
        freeze(network, 4)


def test_embeddings_learn_only_when_asked(make: Make, tmp_path: Path) -> None:
    def moved(out: str, **changes: object) -> bool:
        trainer = make(epochs=1, freeze=0, out=tmp_path / out, **changes)
        words = trainer.network.encoder.get_input_embeddings().weight
        before = words.detach().clone()
        trainer.run()
        return not torch.equal(words, before)

    assert not moved("still")
    assert moved("learning", learn_embeddings=True)


def test_embeddings_below_frozen_layers_cannot_learn(network: Network) -> None:
    with pytest.raises(ModelError, match="say --freeze 0"):
        freeze(network, 1, embeddings=False)


def test_an_unknown_label_is_refused(network: Network) -> None:
    with pytest.raises(ModelError, match="weather"):
        targets([Row(text="x", lang="en", source="s", topic="weather")], network)


def test_rare_classes_weigh_more(network: Network) -> None:
    rows = [Row(text=str(i), lang="en", source="s", topic="earnings" if i else "deals") for i in range(10)]
    weights_ = balance(rows, network, Plan(out=Path("unused")))["topic"]
    assert weights_[1] > weights_[0]
    assert float(9 * weights_[0] + weights_[1]) == pytest.approx(10)
