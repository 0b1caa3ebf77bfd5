import pytest

from crosswind.dashboard.exports import safe_cell


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])
def test_what_a_spreadsheet_would_run_is_a_text(sign: str) -> None:
    assert safe_cell(f"{sign}1+1") == f"'{sign}1+1"
    assert safe_cell([f"{sign}1", "b"]) == f"'{sign}1; b"
    assert safe_cell(f"1{sign}1") == f"1{sign}1"
