import csv
import io

import pytest

from crosswind.dashboard.exports import _lines, safe_cell
from crosswind.stream.replay import figures

SIGNS = ["=", "+", "-", "@", "＝", "＋", "－", "＠"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_run_is_a_text(sign: str) -> None:
    assert safe_cell(f"{sign}1+1") == f"'{sign}1+1"
    assert safe_cell([f"{sign}1", "b"]) == f"'{sign}1; b"
    assert safe_cell(f"1{sign}1") == f"1{sign}1"


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("begin", ["", ";", "; ", ";\u3000", "\t", "a;", 'a, "b"; ', 'a;"', 'a; " ', "a\n", ";\t"])
def test_whatever_a_spreadsheet_splits_at_no_cell_is_a_formula(separator: str, begin: str) -> None:
    titles = [f"{begin}{sign}1+cmd|' /C calc'!A0" for sign in SIGNS]
    text = "".join(_lines(("id", "title", "entities"), [["a", title, ["Acme", title]] for title in titles]))
    rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=separator))
    cells = [cell.strip(' "') for row in rows for cell in row]
    assert [cell for cell in cells if cell.startswith(tuple(SIGNS))] == []


def test_the_alarms_of_a_backtest_are_as_safe() -> None:
    assert (figures._cell("a; =1"), figures._cell("＝1"), figures._cell(-0.5)) == ("a; '=1", "'＝1", -0.5)


def test_a_semicolon_alone_changes_nothing() -> None:
    assert safe_cell("Profit up; 3 - 2 = 1, C++; a") == "Profit up; 3 - 2 = 1, C++; a"
