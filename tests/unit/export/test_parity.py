import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosswind.export.bundle import Head
from crosswind.export.parity import ALL, State, answers, binomial_tail, compare, judge
from crosswind.export.report import Measured, Report, write_report
from crosswind.models.rows import Row

HEAD = Head(name="sentiment", labels=("positive", "neutral", "negative"))


def rows(count: int, lang: str = "de", label: str | None = "positive") -> list[Row]:
    return [Row(text="x", lang=lang, source="t", sentiment=label) for _ in range(count)]


def logits(*chosen: int) -> np.ndarray:
    return np.eye(3, dtype=np.float32)[list(chosen)] * 4


def states(
    before: np.ndarray, after: np.ndarray, texts: list[Row], strict: bool = False
) -> dict[tuple[str, str], State]:
    found = judge("int8", compare(texts, HEAD, before, after, 0.0), strict)
    return {(verdict.lang, verdict.measure): verdict.state for verdict in found}


def test_equal_logits_hold_every_gate() -> None:
    same = logits(*[0, 1, 2] * 20)
    assert set(states(same, same, rows(60)).values()) == {State.HELD}


def test_comparison_counts_flips_and_the_f1_that_they_cost() -> None:
    total, german = compare(rows(4), HEAD, logits(0, 0, 0, 0), logits(0, 0, 0, 2), 0.0)
    assert (total.lang, german.lang) == (ALL, "de")
    assert (german.flips, german.agreement, german.largest) == (1, 0.75, 4.0)
    assert german.drop == pytest.approx(1 - (2 * 3 / 7) / 2)


def test_one_flip_among_fifty_is_undecided_in_a_language_and_failed_over_all() -> None:
    before, after = logits(*[0] * 50), logits(*[0] * 49, 1)
    found = states(before, after, rows(50, label=None))
    assert found == {(ALL, "agreement"): State.FAILED, ("de", "agreement"): State.UNDECIDED}


def test_strict_holds_small_languages_to_the_measured_figure() -> None:
    found = states(logits(*[0] * 50), logits(*[0] * 49, 1), rows(50, label=None), strict=True)
    assert found["de", "agreement"] is State.FAILED


def test_one_bad_language_among_good_ones_fails_by_name() -> None:
    texts = rows(2000, "en", None) + rows(50, "sv", None)
    after = logits(*[0] * 2040, *[1] * 10)
    found = states(logits(*[0] * 2050), after, texts)
    assert found[ALL, "agreement"] is State.HELD
    assert found["en", "agreement"] is State.HELD
    assert found["sv", "agreement"] is State.FAILED


def test_a_certain_loss_of_f1_fails_the_language() -> None:
    texts = rows(60, "sv", "positive") + rows(60, "sv", "negative")
    found = states(logits(*[0] * 60, *[2] * 60), logits(*[0] * 60, *[2] * 40, *[0] * 20), texts)
    assert found["sv", "macro-F1 drop"] is State.FAILED


def test_fp32_fails_by_the_size_of_the_difference_alone() -> None:
    near, far = logits(0, 1), logits(0, 1)
    near[0, 0] += 5e-5
    far[1, 2] += 2e-4
    for after, state in ((near, State.HELD), (far, State.FAILED)):
        found = judge("fp32", compare(rows(2), HEAD, logits(0, 1), after, 0.0))
        assert {verdict.state for verdict in found} == {state}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_fail_in_their_language_at_every_precision(precision: str, broken: float) -> None:
    good = logits(*[1] * 40)
    after = good.copy()
    after[:20] = broken  # all alike: the answer given stays one of the labels
    texts = rows(20, "de", None) + rows(20, "sv", None)
    for before, exported in ((good, after), (after, good), (after, after)):
        found = judge(precision, compare(texts, HEAD, before, exported, 0.0))
        assert {verdict.lang for verdict in found if verdict.state is State.FAILED} >= {ALL, "de"}
        assert {verdict.lang for verdict in found if not np.isfinite(verdict.value)} == {ALL, "de"}


def test_a_report_of_what_is_no_number_is_json_that_anyone_can_read(tmp_path: Path) -> None:
    found = compare(rows(2), HEAD, logits(0, 1), np.full((2, 3), np.nan, np.float32), 0.0)
    measured = Measured("int8", "", 1, 1.0, found, judge("int8", found))
    write_report(Report("tiny", "", False, 1.0, [measured]), tmp_path / "tiny", "rejected")
    raw = (tmp_path / "tiny.rejected.json").read_text("utf-8")
    (precision,) = json.loads(raw, parse_constant=pytest.fail)["precisions"]
    assert precision["gates"][0] | {"limit": None, "value": None, "state": "failed"} == precision["gates"][0]


def test_verdict_names_language_and_amount() -> None:
    verdict = next(v for v in judge("int8", compare(rows(4, "sv", None), HEAD, logits(0, 0, 0, 0),
                                                    logits(0, 0, 0, 2), 0.0)) if v.lang == "sv")  # fmt: skip
    assert str(verdict) == "sv, sentiment: agreement 75.00%, limit 99% (4 texts)"


def test_an_unsure_sentiment_is_answered_neutral_and_a_topic_is_not() -> None:
    flat = np.asarray([[0.1, 0.0, 0.2]], np.float32)
    topic = Head(name="topic", labels=("a", "b", "c"))
    assert answers(flat, HEAD, 0.5).tolist() == [1]
    assert answers(flat, topic, 0.5).tolist() == [2]


@given(st.integers(1, 100_000), st.data())
def test_binomial_tail_falls_from_one_as_k_grows(n: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n))
    assert 0 <= binomial_tail(n, k + 1, 0.01) <= binomial_tail(n, k, 0.01) <= binomial_tail(n, 0, 0.01) == 1


def test_a_language_with_many_texts_is_judged() -> None:
    texts = rows(20_000, "sv", None)
    found = states(logits(*[0] * 20_000), logits(*[0] * 19_500, *[1] * 500), texts)
    assert found["sv", "agreement"] is State.FAILED


def test_each_side_is_answered_by_its_own_head_and_threshold() -> None:
    """Sure at temperature 1 and threshold 0.5, unsure at temperature 9; the logits are the same."""
    same, warm = logits(0, 2), Head(name="sentiment", labels=HEAD.labels, temperature=9.0)
    assert compare(rows(2), HEAD, same, same, 0.5)[0].flips == 0
    assert compare(rows(2), HEAD, same, same, 0.5, (warm, 0.5))[0].flips == 2
    assert compare(rows(2), HEAD, same, same, 0.5, (warm, 0.0))[0].flips == 0
