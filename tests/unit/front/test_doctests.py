"""Every example in a docstring is true."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PATHS = [
    path
    for folder in ("crosswind", "stream", "export", "dashboard")
    for path in sorted((ROOT / folder).glob("**/*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples(path: Path) -> None:
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    module = importlib.import_module(name if name.startswith("crosswind") else f"crosswind.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples() -> None:
    assert len(PATHS) >= 10
