from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from crosswind.errors import ModelError
from crosswind.models import distillation
from crosswind.models.dataset import Pair
from crosswind.models.distillation import Teacher, distillation_loss, open_teacher, shorten, spread, vector_loss
from crosswind.models.encoder import layers_of
from crosswind.models.network import Manifest, Network, Task, load_model, save_model
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.training import Trainer
from tests.unit.models.tiny import TASKS


def trainer(network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan,
            teacher: Teacher | None = None) -> Trainer:  # fmt: skip
    return Trainer(network, tokenizer, rows[:32], rows[32:], [], plan, Manifest(base="tiny", tasks=TASKS),
                   teacher=teacher)  # fmt: skip


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "run", epochs=12, batch=8, rate=1e-2, head_rate=1e-2, freeze=0, align_every=0, half=False,
                patience=99)  # fmt: skip


def test_a_student_learns_its_teacher_from_rows_without_labels(
    taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    student, _, _ = load_model(taught)
    shorten(student, 2)
    for head in student.heads.values():
        torch.nn.init.normal_(head.weight)
    bare = [Row(text=row.text, lang=row.lang, source=row.source) for row in rows]
    running = Trainer(student, tokenizer, bare[:32], rows[32:], [], plan, Manifest(base="tiny", tasks=TASKS),
                      teacher=open_teacher(taught, TASKS))  # fmt: skip
    history = running.run()
    assert len(layers_of(load_model(plan.out)[0].encoder)) == 2
    assert history[-1]["loss"] < history[0]["loss"] / 2
    assert max(record["score"] for record in history) > 0.7


def test_a_killed_student_ends_with_the_same_weights(
    taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan, tmp_path: Path
) -> None:
    def run(out: Path, kill_at: int = 0) -> Tensor:
        student, _, _ = load_model(taught)
        shorten(student, 2)
        short = replace(plan, out=out, epochs=3, checkpoint_seconds=0)
        running = trainer(student, tokenizer, rows, short, open_teacher(taught, TASKS))

        def kill(trainer: Trainer) -> None:
            if trainer.step == kill_at:
                raise KeyboardInterrupt

        running.run(kill)
        return torch.cat([p.detach().reshape(-1) for p in student.parameters()])

    expected = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", kill_at=6)
    assert torch.equal(run(tmp_path / "killed"), expected)


def test_a_checkpoint_with_another_teacher_is_refused(
    taught: Path, network: Network, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    short = replace(plan, epochs=1)
    trainer(network, tokenizer, rows, short, open_teacher(taught, TASKS)).run()
    with pytest.raises(ModelError, match="other settings"):
        trainer(network, tokenizer, rows, short).run()


def test_the_loss_is_zero_for_the_teacher_itself_and_grows_with_distance() -> None:
    teacher = {"topic": torch.tensor([[2.0, -1.0], [0.5, 0.5]])}
    weights = torch.ones(2)
    near, far = ({"topic": teacher["topic"] + torch.tensor([[step, -step]])} for step in (0.1, 1.0))
    assert float(distillation_loss(teacher, teacher, weights, 2.0)) == pytest.approx(0, abs=1e-6)
    small, large = (float(distillation_loss(other, teacher, weights, 2.0)) for other in (near, far))
    assert 0 < small < large


def test_a_row_without_weight_teaches_nothing() -> None:
    given, wanted = {"topic": torch.tensor([[3.0, 0.0]])}, {"topic": torch.tensor([[0.0, 3.0]])}
    assert float(distillation_loss(given, wanted, torch.zeros(1), 2.0)) == 0


def test_vectors_of_one_direction_are_near_and_of_another_width_teach_nothing() -> None:
    vectors, weights = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.ones(2)
    assert float(vector_loss(vectors * 3, vectors, weights)) == pytest.approx(0, abs=1e-6)
    assert float(vector_loss(-vectors, vectors, weights)) == pytest.approx(2)
    assert float(vector_loss(-vectors, vectors, torch.tensor([1.0, 0.0]))) == pytest.approx(1)
    assert float(vector_loss(torch.ones(2, 3), vectors, weights)) == 0


def test_a_student_comes_near_its_teachers_vectors(
    taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    def away(weight: float) -> float:
        student, _, _ = load_model(taught)
        shorten(student, 2)
        teacher = replace(open_teacher(taught, TASKS), vector_weight=weight)
        short = replace(plan, out=plan.out / str(weight), rate=1e-3)
        trainer(student, tokenizer, rows, short, teacher).run()
        texts = [row.text for row in rows]
        both = [
            replace(teacher, network=network).judge(texts, short, "").pooled
            for network in (student, load_model(taught)[0])
        ]
        return float(vector_loss(both[0], both[1], torch.ones(len(texts))))

    assert away(4.0) < away(0.0)


def test_a_foreign_sentence_is_pulled_to_the_teachers_vector_of_its_english_half(
    taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    student, _, _ = load_model(taught)
    shorten(student, 2)
    teacher = open_teacher(taught, TASKS)
    pairs = [Pair(rows[i].text, rows[i + 1].text, "de") for i in range(0, 8, 2)]
    running = Trainer(student, tokenizer, rows[:32], rows[32:], pairs, replace(plan, align_every=1),
                      Manifest(base="tiny", tasks=TASKS), teacher=teacher)  # fmt: skip
    goal = running._english(running.parallel, [2, 0]).pooled
    assert torch.equal(goal, teacher.judge([pairs[2].english, pairs[0].english], plan, "").pooled)


def test_rows_that_no_epoch_takes_are_not_judged(
    taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    student, _, _ = load_model(taught)
    shorten(student, 2)
    capped = replace(plan, epochs=1, caps={row.source: 2 for row in rows})
    running = trainer(student, tokenizer, rows, capped, open_teacher(taught, TASKS))
    assert running.lessons is not None
    judged = {i for i, vector in enumerate(running.lessons.rows.pooled) if bool(vector.any())}
    assert judged == set(running._order(0))
    assert 0 < len(judged) < 32


@pytest.mark.parametrize("keep", [0, 4])
def test_as_many_layers_as_there_are_not_are_refused(network: Network, keep: int) -> None:
    with pytest.raises(ModelError, match="has 3"):
        shorten(network, keep)


def test_layers_are_spread_from_the_first_to_the_last() -> None:
    assert spread(12, 4) == [0, 4, 7, 11]
    assert spread(12, 12) == list(range(12))
    assert spread(12, 7, still=3) == [0, 1, 2, 3, 6, 8, 11]
    assert spread(12, 2, still=4) == [0, 11]  # one at least learns
    assert distillation.spread(3, 1) == [2]


def test_a_teacher_with_other_heads_is_refused(network: Network, tokenizer: PreTrainedTokenizerFast,
                                               tmp_path: Path) -> None:  # fmt: skip
    save_model(tmp_path, network, tokenizer, Manifest(base="tiny", tasks=TASKS))
    with pytest.raises(ModelError, match="'topic' has the labels"):
        open_teacher(tmp_path, (Task("topic", ("other",)),))
