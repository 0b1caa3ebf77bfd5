"""What a student learns of its teacher's inner layers."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity
from transformers import PreTrainedTokenizerFast

from crosswind.models.dataset import Pair
from crosswind.models.distillation import open_teacher, shorten
from crosswind.models.lessons import Lessons, Scale, same_way
from crosswind.models.network import Manifest, Network, load_model
from crosswind.models.rows import Row
from crosswind.models.tokens import Plan
from crosswind.models.training import Trainer
from tests.unit.models.tiny import TASKS


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / "run", epochs=20, batch=8, rate=5e-3, head_rate=5e-3, freeze=0, align_every=0, half=False,
                patience=99)  # fmt: skip


def test_a_kept_layer_is_given_what_it_was_given_in_the_teacher() -> None:
    assert same_way(6, 12, 0) == {1: 2, 2: 4, 3: 7, 4: 9, 5: 11}
    assert same_way(6, 12, 4) == {5: 11}  # the frozen ones cannot learn
    assert same_way(1, 12, 0) == {}
    assert same_way(4, 2, 0) == {1: 0, 2: 1, 3: 2}  # of other descent: the same share of the way


def test_a_scale_gives_every_direction_nearly_the_same_variance() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(2_000, 3) * torch.tensor([10.0, 5.0, 4.0]) + torch.tensor([50.0, 0.0, 0.0])
    scaled = Scale.of(vectors)(vectors)
    assert scaled.mean(0).abs().max() < 1e-3
    spread = scaled.var(0)
    assert spread.max() / spread.min() < 1.3
    # Without it all point one way.
    assert cosine_similarity(vectors[:-1], vectors[1:]).mean() > 0.9
    assert abs(cosine_similarity(scaled[:-1], scaled[1:]).mean()) < 0.1


def test_a_direction_of_noise_alone_does_not_count_in_full() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(2_000, 2) * torch.tensor([1.0, 1e-4])
    assert Scale.of(vectors)(vectors).var(0).min() < 1e-4


@pytest.mark.parametrize("pairs", [False, True], ids=["rows", "pairs too"])
def test_a_students_inner_layers_come_near_its_teachers(
    pairs: bool, taught: Path, tokenizer: PreTrainedTokenizerFast, rows: list[Row], plan: Plan
) -> None:
    def away(weight: float) -> float:
        student, _, _ = load_model(taught)
        shorten(student, 2)
        teacher = replace(open_teacher(taught, TASKS), depth_weight=weight)
        # Of the pairs both halves are the same, so the row's own lesson is what they teach.
        parallel = [Pair(row.text, row.text, "de") for row in rows[:8]] if pairs else []
        trainer = Trainer(student, tokenizer, rows[:32], rows[32:], parallel,
                          replace(plan, out=plan.out / str(weight), align_every=1 if pairs else 0),
                          Manifest(base="tiny", tasks=TASKS), teacher=teacher)  # fmt: skip
        trainer.run()
        measure = replace(teacher, depth_weight=1.0)
        texts = [row.text for row in rows]
        lessons = Lessons(measure, student, plan, texts, range(len(texts)), [])
        mine = replace(teacher, network=student).judge(texts, plan, "", [1]).vectors
        return float(lessons.distance(mine, lessons.rows, torch.ones(len(texts))))

    assert away(1.0) < away(0.0) / 2


def test_a_student_of_another_width_learns_the_answers_only(
    taught: Path, network: Network, rows: list[Row], plan: Plan
) -> None:
    teacher = open_teacher(taught, TASKS)
    narrow, _, _ = load_model(taught)
    narrow.encoder.config.hidden_size //= 2
    texts = [row.text for row in rows[:4]]
    lessons = Lessons(teacher, narrow, plan, texts, range(4), [])
    assert not lessons.same_width
    assert list(lessons.depths) == []
