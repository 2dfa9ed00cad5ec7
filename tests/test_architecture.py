"""The layers hold: who may import whom, nothing imported inside functions, codegen on its own."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted([*(ROOT / "tracegrad").rglob("*.py"), *(ROOT / "codegen").rglob("*.py")])

# Lowest first: a module may import from its own layer and from the ones below.
LAYERS = (
    ("codegen",),
    (
        "tracegrad.later",
        "tracegrad.errors",
        "tracegrad.ir",
        "tracegrad.pickled",
        "tracegrad.threads",
    ),
    ("tracegrad.tree",),
    ("tracegrad.ops",),
    ("tracegrad.tracing",),
    ("tracegrad.leaves", "tracegrad.passes", "tracegrad.reads", "tracegrad.shared"),
    ("tracegrad.autodiff", "tracegrad.lower"),
    ("tracegrad.nested",),
    ("tracegrad.control",),
    ("tracegrad.rolling",),
    (
        "tracegrad.inspect.cost",
        "tracegrad.inspect.dump",
        "tracegrad.inspect.extents",
        "tracegrad.inspect.failure",
        "tracegrad.inspect.guards",
        "tracegrad.inspect.kernels",
        "tracegrad.inspect.nests",
        "tracegrad.inspect.statements",
        "tracegrad.inspect.table",
        "tracegrad.inspect.unrolled",
    ),
    ("tracegrad.compile",),
    ("tracegrad.blocks",),
    ("tracegrad.run",),
    ("tracegrad.out", "tracegrad.unpacking"),
    ("tracegrad.filling",),
    ("tracegrad.entry",),
    ("tracegrad.version",),
    ("tracegrad.inspect",),
    ("tracegrad.pyflow",),
    ("tracegrad.function",),
    ("tracegrad.promise", "tracegrad.checkpoint_policies", "tracegrad.linearized"),
    (
        "tracegrad.transforms",
        "tracegrad.custom",
        "tracegrad.primitive",
        "tracegrad.checkpointing",
    ),
    ("tracegrad.budget", "tracegrad.testing"),
    ("tracegrad.dense",),
    ("tracegrad.jacobians", "tracegrad.mapping"),
    ("tracegrad.njit",),
    ("tracegrad.cfunc",),
    ("tracegrad.sparsity",),
    ("tracegrad.eager", "tracegrad.eager.tensor", "tracegrad.autograd"),
    ("tracegrad",),
    ("tracegrad.doctor", "tracegrad.__main__"),
)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> list[tuple[str, ast.stmt]]:
    found: list[tuple[str, ast.stmt]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node))
    return found


def layer(module: str) -> int:
    ranks = [
        rank
        for rank, names in enumerate(LAYERS)
        for name in names
        if module == name or (module.startswith(name + ".") and name != "tracegrad")
    ]
    assert ranks, f"{module} belongs to no layer: give it one"
    return min(ranks)


def type_checking_only(tree: ast.AST) -> set[ast.stmt]:
    return {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in node.body
    }


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_one_way(path: Path) -> None:
    tree = parsed(path)
    skipped = type_checking_only(tree)
    own = layer(module_name(path))
    for name, statement in imports(tree):
        if name.split(".")[0] in ("tracegrad", "codegen") and statement not in skipped:
            assert layer(name) <= own, f"{module_name(path)} reaches up to {name}"


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_no_import_inside_a_function(path: Path) -> None:
    tree = parsed(path)
    inside = [
        f"line {statement.lineno}: {name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for name, statement in imports(node)
    ]
    assert not inside, inside


def test_codegen_stands_alone() -> None:
    for path in (ROOT / "codegen").rglob("*.py"):
        names = [name for name, _ in imports(parsed(path))]
        assert not [name for name in names if name.startswith("tracegrad")], path


def test_importing_tracegrad_loads_neither_numba_nor_scipy() -> None:
    code = "import sys, tracegrad; print([m for m in ('numba', 'scipy') if m in sys.modules])"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.strip() == "[]"
