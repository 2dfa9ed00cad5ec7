"""Projections: one of the results of a node that has several (a loop, a branch)."""

from __future__ import annotations

from typing import Any

from tracegrad.ir.op import Op
from tracegrad.ir.types import ArrayType, TupleType
from tracegrad.ops.op import register


class Project(Op):
    """`y = results[index]`; the differentiation passes hand derivatives through."""

    name = "project"
    linear = (0,)

    def infer(self, results: ArrayType, *, index: int) -> ArrayType:
        assert isinstance(results, TupleType)
        return results.parts[index]

    def reference(self, results: Any, *, index: int) -> Any:
        return results[index]

    def text(self, results: str, *, index: int) -> str:
        return f"{results}[{index}]"

    def kernel(self, lowering: Any, node: Any) -> None:
        lowering.project(node)


PROJECT = register(Project())
