"""`iddmbench.metrics` holds the functions that the harness calls, and no second version of any figure."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
METRICS = ROOT / "iddmbench" / "metrics"
PRODUCT = ("iddmbench", "attackers", "datasets", "defenses", "leaderboard")


def names_in(path: Path) -> set[str]:
    """Every name that a file reads, imports or looks up."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
    return found


def public() -> list[ast.FunctionDef | ast.ClassDef]:
    bodies = [ast.parse(path.read_text(encoding="utf-8")).body for path in sorted(METRICS.glob("*.py"))]
    found = [node for body in bodies for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return [node for node in found if not node.name.startswith("_")]


def test_every_metric_is_called_by_the_product() -> None:
    used = set().union(*(names_in(path) for folder in PRODUCT for path in (ROOT / folder).rglob("*.py")))
    assert [node.name for node in public() if node.name not in used] == []


def test_every_metric_is_documented() -> None:
    assert [node.name for node in public() if not ast.get_docstring(node)] == []


def test_every_metric_that_others_call_is_tested() -> None:
    outside = [path for folder in PRODUCT for path in (ROOT / folder).rglob("*.py") if METRICS not in path.parents]
    called = set().union(*map(names_in, outside))
    tested = set().union(*map(names_in, (ROOT / "tests").glob("*.py")))
    functions = [node for node in public() if isinstance(node, ast.FunctionDef) and node.name in called]
    assert [node.name for node in functions if node.name not in tested] == []
