"""The rings hold: what imports what, read from the code itself and from a running interpreter."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
OUTSIDE = {"faust", "sqlalchemy", "onnxruntime", "aiokafka", "kafka", "psycopg", "httpx", "aiohttp", "requests",
           "socket", "dash", "fastapi"}  # fmt: skip
PURE = [*sorted((ROOT / "stream" / "domain").rglob("*.py")), ROOT / "dashboard" / "figures.py"]


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_domain_is_pure(path: Path) -> None:
    assert not {name.split(".")[0] for name in _imports(path)} & OUTSIDE


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_domain_imports_no_outer_ring(path: Path) -> None:
    ours = {name for name in _imports(path) if name.startswith("crosswind.")}
    allowed = ("crosswind.stream.domain", "crosswind.dashboard", "crosswind.errors", "crosswind.models.taxonomy")
    assert all(name.startswith(allowed) for name in ours), ours


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_domain_asks_no_clock(path: Path) -> None:
    calls = {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert not calls & {"now", "utcnow", "today", "monotonic", "uuid4"}


@pytest.mark.parametrize("path", sorted((ROOT / "stream" / "service").glob("*.py")), ids=lambda path: path.name)
def test_the_service_does_not_know_the_adapters(path: Path) -> None:
    assert not [name for name in _imports(path) if ".adapters" in name or name.startswith("crosswind.dashboard")]


@pytest.mark.parametrize(
    "module", ["crosswind.cli", "crosswind.up", "crosswind.score", "crosswind.stream.worker",
               "crosswind.dashboard.serve", "crosswind.stream.feed.cli"],
)  # fmt: skip
def test_serving_imports_neither_torch_nor_transformers(module: str) -> None:
    code = f"import sys, {module}; print(sorted({{'torch', 'transformers', 'optimum'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert result.stdout.strip() == "[]"
