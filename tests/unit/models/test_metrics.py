import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from crosswind.errors import DataError
from crosswind.models.calibration import apply_threshold, fit_temperature, fit_threshold, log_loss, source_weights
from crosswind.models.metrics import accuracy, bootstrap, calibration_error, confusion, macro_f1, softmax
from crosswind.models.rows import Row

answers = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60)


@given(answers)
@settings(deadline=None)
def test_measures_agree_with_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    truth, given_ = [p[0] for p in pairs], [p[1] for p in pairs]
    assert accuracy(truth, given_) == pytest.approx(accuracy_score(truth, given_))
    assert macro_f1(truth, given_) == pytest.approx(f1_score(truth, given_, average="macro", zero_division=0.0))
    assert (confusion(truth, given_, 4) == confusion_matrix(truth, given_, labels=range(4))).all()


def test_no_rows_score_zero() -> None:
    assert macro_f1([], []) == 0
    assert bootstrap([], [], 3) == (0, 0)


@given(answers)
@settings(deadline=None)
def test_the_interval_is_ordered_and_seeded(pairs: list[tuple[int, int]]) -> None:
    truth, given_ = [p[0] for p in pairs], [p[1] for p in pairs]
    low, high = bootstrap(truth, given_, 4, rounds=50, seed=3)
    assert 0 <= low <= high <= 1
    assert (low, high) == bootstrap(truth, given_, 4, rounds=50, seed=3)


def test_the_interval_holds_the_score() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 400)
    given_ = np.where(rng.random(400) < 0.8, truth, rng.integers(0, 3, 400))
    low, high = bootstrap(truth.tolist(), given_.tolist(), 3)
    assert low < macro_f1(truth.tolist(), given_.tolist()) < high
    assert high - low < 0.12


def sample(rows: int, sharpness: float, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Logits whose true temperature is `sharpness`, and labels drawn from them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (rows, 3)).astype(np.float32)
    truth = [int(rng.choice(3, p=p)) for p in softmax(logits)]
    return (logits * sharpness).astype(np.float32), truth


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_fitted_temperature_undoes_overconfidence(sharpness: float) -> None:
    logits, truth = sample(4000, sharpness)
    assert fit_temperature(logits, truth) == pytest.approx(sharpness, rel=0.15)


def test_a_large_source_does_not_decide_for_a_small_one() -> None:
    (large, right), (small, also) = sample(4000, 1.0), sample(400, 3.0)
    rows = [Row(text="", lang="ja", source="large")] * 4000 + [Row(text="", lang="id", source="small")] * 400
    logits, truth = np.concatenate([large, small]), [*right, *also]
    alike = fit_temperature(logits, truth, source_weights(rows))
    assert fit_temperature(logits, truth) < 1.3 < alike < 3.0
    assert alike == pytest.approx(fit_temperature(np.concatenate([large[:400], small]), [*right[:400], *also]), rel=0.1)


def test_scaling_lowers_the_calibration_error_and_keeps_the_answers() -> None:
    logits, truth = sample(4000, 3.0)
    temperature = fit_temperature(logits, truth)
    before, after = softmax(logits), softmax(logits, temperature)
    assert calibration_error(after, truth) < 0.03 < calibration_error(before, truth)
    assert log_loss(logits, truth, temperature) <= log_loss(logits, truth, 1.0)
    assert (before.argmax(1) == after.argmax(1)).all()


def test_a_sure_and_right_model_has_no_calibration_error() -> None:
    assert calibration_error(np.eye(3), [0, 1, 2]) == 0


def test_temperature_needs_rows() -> None:
    with pytest.raises(DataError, match="validation"):
        fit_temperature(np.zeros((0, 3), dtype=np.float32), [])


def test_an_answer_below_the_threshold_is_neutral() -> None:
    probabilities = np.array([[0.5, 0.2, 0.3], [0.9, 0.05, 0.05]])
    assert apply_threshold(probabilities, 0.6, neutral=1).tolist() == [1, 0]


def test_the_threshold_costs_next_to_nothing() -> None:
    logits, truth = sample(3000, 1.0)
    probabilities = softmax(logits)
    threshold = fit_threshold(probabilities, truth, neutral=1)
    assert threshold >= 1 / 3
    with_it = macro_f1(truth, apply_threshold(probabilities, threshold, 1).tolist())
    assert with_it >= macro_f1(truth, probabilities.argmax(1).tolist()) - 0.002
