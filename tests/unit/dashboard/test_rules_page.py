"""The page of rules says what its figures are of."""

from dataclasses import replace
from typing import Any

import pytest

from crosswind.dashboard import i18n, rules_page
from crosswind.dashboard.rules_desk import RulesOut
from crosswind.stream.adapters.postgres.alert_orders import Scored
from crosswind.stream.domain.rules import Per
from crosswind.stream.domain.scorecard import Measure

RULES = RulesOut("v", "d", True, [], "")
EACH = Scored("surge", "v1", 3, 1, 1, 0.5, Measure(Per.SERIES, 12, 0.05, True), 0.041, 0.0137, 60.0, 0.01)
WHOLE = replace(EACH, rule="all", measure=Measure(Per.RULE, 12, 0.5, True), told_per_month=1.25)
GONE = replace(WHOLE, rule="old", rule_version="v0", measure=Measure(Per.RULE, None, None, False))


def words(found: Any) -> str:
    """The texts of a page, in their order."""
    if isinstance(found, list | tuple):
        return "|".join(filter(None, map(words, found)))
    return words(found.children) if hasattr(found, "children") else str(found or "")


def test_each_rate_says_what_it_is_of() -> None:
    i18n.use("en")
    said = words(rules_page.page(RULES, [EACH, WHOLE]))
    assert "surge|v1|3|1|1|50%|0.041 / series" in said
    assert "all|v1|3|1|1|50%|1.250 / rule" in said
    assert "may lie above the budget" in said
    assert "no longer in use" not in said


@pytest.mark.parametrize(("problem", "gone"), [(None, True), ("no rules", False)])
def test_a_version_that_is_gone_is_marked_unless_the_file_cannot_be_used(problem: str | None, gone: bool) -> None:
    i18n.use("en")
    said = words(rules_page.page(replace(RULES, problem=problem), [EACH, GONE]))
    assert ("v0| no longer in use|3" in said) == gone
    assert "where none has its name" in said
