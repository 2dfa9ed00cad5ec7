"""The compiled functions of a version, for use from the user's own `@njit` code, and their source.

forward, backward = f.compiled(x).forward, f.compiled(x).backward      # numba dispatchers
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from codegen.schedule import Settled
from tracegrad.compile import Program
from tracegrad.errors import NotDifferentiableError
from tracegrad.inspect.dump import preformatted
from tracegrad.inspect.subject import Subject
from tracegrad.ir.graph import Graph
from tracegrad.ir.types import StateType
from tracegrad.tree import unflatten
from tracegrad.version import Version


class Differentiable(Protocol):
    """The part of a traced function that is needed here."""

    @property
    def value_and_grad(self) -> Any: ...


class GeneratedSource(str):
    """The text of a generated module, and the file it was compiled from."""

    path: Path

    def _repr_html_(self) -> str:
        return f"<p><code>{html.escape(str(self.path))}</code></p>{preformatted(self)}"


def generated_source(subject: Subject, which: str | None) -> GeneratedSource:
    kind = subject.choice(which)
    program = subject.program(kind)
    built = program.built
    large = Settled(program.module).is_large(subject.sizes(kind))
    if built.other is not None and built.threads != large:
        built = built.other()
    into = program.__dict__.get("into", program)
    called = ""
    if into is not program and into.has_run:
        called = (
            f"# calls run {into.name}, with its result arrays as parameters: {into.built.path}\n"
        )
    source = GeneratedSource(f"# {built.path}\n{called}{built.source}")
    source.path = built.path
    return source


class Compiled:
    """numba dispatchers, compiled when first asked for.

    Arrays are C-contiguous, values of rank 0 are scalars.

    primal(*arguments) -> results
    forward(*arguments) -> results, then the values kept for the backward
    backward(*cotangents of the floating results, *residuals) -> those of the floating arguments
    value_and_grad(*arguments) -> scalar result, gradient with respect to the first argument

    `print` shows the signatures of this version.
    """

    def __init__(self, subject: Subject, function: Differentiable) -> None:
        self._subject, self._function = subject, function

    @property
    def primal(self) -> Any:
        return self._subject.version.primal.function

    @property
    def forward(self) -> Any:
        return self._subject.full.forward.function

    @property
    def backward(self) -> Any:
        return self._subject.full.backward.function

    @property
    def value_and_grad(self) -> Any:
        return value_and_grad_program(self._subject, self._function).function

    def __repr__(self) -> str:
        programs = [self._subject.version.primal]
        if self._subject.differentiable:
            programs += [self._subject.full.forward, self._subject.full.backward]
        return "\n".join(signature(program) for program in programs)


def signature(program: Program) -> str:
    """`loss_backward(d_y: f64, x: f64[n, m]) -> d_x: f64[n, m]`."""
    graph: Graph = program.final
    given = ", ".join(f"{node.name}: {node.type}" for node in graph.inputs)
    made = ", ".join(f"{node.name or 'value'}: {node.type}" for node in graph.outputs)
    return f"{program.name}({given}) -> {made or '()'}"


def value_and_grad_program(subject: Subject, function: Differentiable) -> Program:
    """The program of the value and the gradient for the same types, sizes and static arguments."""
    args, kwargs = example(subject.version, subject.extents)
    version, _ = function.value_and_grad.version_for(args, kwargs, for_all=True)
    return version.primal


def has_gradient(subject: Subject, function: Differentiable) -> bool:
    """Whether `value_and_grad` is defined: a floating scalar result, a floating first argument."""
    try:
        value_and_grad_program(subject, function)
    except NotDifferentiableError:
        return False
    return True


def example(version: Version, extents: dict[str, int]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of the version's types and of these extents, all zero, with its static values."""
    graph = version.graph
    known: dict[str, Any] = dict(extents)
    leaves = []
    for node in graph.inputs:
        if isinstance(node.type, StateType):
            leaves.append(np.random.default_rng(0))
            continue
        type = node.type.substitute(known)
        zeros = np.zeros(type.shape, type.dtype)  # type: ignore[arg-type]
        leaves.append(0.0 if type.weak else zeros if type.rank else zeros[()])
    return unflatten(version.input_tree, iter(leaves))
