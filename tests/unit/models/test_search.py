import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("optuna", reason="optuna is not installed")

from crosswind.models.inputs import Inputs
from crosswind.models.search import Choice, Tried, as_table, search, trainer
from crosswind.models.tokens import Plan
from crosswind.models.trackers import Tracker
from tests.unit.models.test_recipe import inputs  # noqa: F401 - a fixture
from tests.unit.models.tiny import TASKS


def good(choice: Choice) -> float:
    return 1 - abs(choice.rate - 1e-4) * 1000 - choice.smoothing


class Training:
    """Trains nothing: its score is a function of the choice, so the search's own work is seen."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def __call__(self, choice: Choice, folder: Path, tracker: Tracker) -> None:
        self.epochs.append(0)
        for epoch in (1, 2, 3):
            tracker.log(epoch, {"score": good(choice) * epoch / 3})
            self.epochs[-1] = epoch


def test_the_best_trial_comes_first_and_bad_ones_are_ended_early(tmp_path: Path) -> None:
    training = Training()
    found = search(training, tmp_path, 16, layers=4)
    complete = [tried for tried in found if tried.state == "complete"]
    assert found[0].score == max(tried.score for tried in complete)
    assert found[0].score == pytest.approx(good(found[0].choice))
    assert {tried.state for tried in found} == {"complete", "pruned"}
    assert sum(epochs < 2 for epochs in training.epochs) >= 1
    assert all(tried.choice.freeze <= 2 for tried in found)


def test_a_search_goes_on_where_it_stopped(tmp_path: Path) -> None:
    first = search(Training(), tmp_path, 3, layers=4)
    training = Training()
    second = search(training, tmp_path, 5, layers=4)
    assert len(training.epochs) == 2
    assert {tried.number for tried in second} == {0, 1, 2, 3, 4}
    assert {tried.choice for tried in first} < {tried.choice for tried in second}
    assert len({tried.choice for tried in second}) == 5
    assert len(json.loads((tmp_path / "search.json").read_text("utf-8"))) == 5
    assert search(training, tmp_path, 5, layers=4) == second


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])  # noted as failed, and left as if it still ran
def test_a_killed_trial_is_not_lost_among_the_others(tmp_path: Path, end: type[BaseException]) -> None:
    begun: list[Choice] = []

    def killed(choice: Choice, folder: Path, tracker: Tracker) -> None:
        begun.append(choice)
        tracker.log(1, {"score": 0.1})
        raise end

    with pytest.raises(end):
        search(killed, tmp_path, 2, layers=4)
    training = Training()
    found = search(training, tmp_path, 2, layers=4)
    assert sum(tried.state == "complete" for tried in found) >= 1
    assert len({*begun, *(tried.choice for tried in found)}) == 1 + len(training.epochs)


def test_the_table_names_every_parameter() -> None:
    table = as_table([Tried(3, "complete", 0.5, Choice(1e-4, 32, 2, 1, 0.05))])
    assert "| 3 | complete | 0.5000 | 1.00e-04 | 32 | 2 | 1 | 0.050 |" in table


def test_it_searches_over_the_real_recipe(inputs: Inputs, tmp_path: Path) -> None:  # noqa: F811
    plan = Plan(tmp_path / "search", epochs=1, align_batch=1, max_tokens=32, half=False)
    found = search(trainer(replace(inputs), plan, TASKS), plan.out, 2, layers=3)
    assert [tried.state for tried in found] == ["complete", "complete"]
    assert (plan.out / f"trial-{found[0].number}" / "heads.safetensors").is_file()
