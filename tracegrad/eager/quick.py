"""Elementwise operations on tensors by the shortest way.

In: operands of one floating dtype, or numbers. Out: what `bind` would give, without the questions
that are settled by that: `x * w` is NumPy's product and, if a gradient is wanted, a node whose rule
is looked up by what varies (which operands want one, the dtype, shapes that differ). All else is
left to the long way, and so are errors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tracegrad.eager.core import Core
from tracegrad.eager.modes import is_grad_enabled
from tracegrad.eager.node import call_site
from tracegrad.eager.rule import Rule, rule_for
from tracegrad.ir.graph import Node
from tracegrad.ir.types import ArrayType
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.matmul import MATMUL
from tracegrad.ops.op import NUMPY, PUBLIC, type_of
from tracegrad.ops.operators import ArrayMethods

DOUBLE, SINGLE = np.dtype(np.float64), np.dtype(np.float32)
FAILED = (TypeError, ValueError, ArithmeticError)
MOST = 10_000

_runs: dict[Elementwise, Callable[..., Any] | None] = {}
"""How an operation is computed where no operand needs a conversion."""
_rules: dict[Any, Rule] = {}


def _run_of(op: Elementwise) -> Callable[..., Any] | None:
    """The NumPy function, if operands of one floating dtype are what it takes as they are."""
    plain = type(op).reference is Elementwise.reference and op.arity < 3
    for dtype in (DOUBLE, SINGLE):
        plain = plain and _taken(op, dtype) == (dtype,) * op.arity
    found = _runs[op] = op.numpy if plain else None
    return found


def _taken(op: Elementwise, dtype: np.dtype) -> tuple[np.dtype, ...] | None:
    """The dtypes that operands of this one are converted to."""
    try:
        return op.loop_dtypes([ArrayType(dtype)] * op.arity)[:-1]
    except FAILED:
        return None


def unary(op: Elementwise, x: Core) -> Core | None:
    """`op(x)`; None where the long way must be taken."""
    run, array = _runs[op] if op in _runs else _run_of(op), x._data
    dtype = array.dtype
    if run is None or op.arity != 1 or (dtype is not DOUBLE and dtype is not SINGLE):
        return None
    try:
        result = run(array)
    except FAILED:
        return None
    if type(result) is not np.ndarray:
        result = np.asarray(result)
    elif result is array or result.base is not None:
        return None  # a view, which remembers of what
    out = x.of(result)
    if result.dtype is not dtype:
        return out if result.dtype.kind == "b" else None
    if is_grad_enabled():
        source = x._node()
        if source is not None:
            _remember(out, op, (x,), (array,), (source,))
    return out


def binary(op: Elementwise, a: Any, b: Any) -> Core | None:
    """`op(a, b)`, of which one is a tensor; None where the long way must be taken."""
    run = _runs[op] if op in _runs else _run_of(op)
    if run is None or op.arity != 2:
        return None
    x, y = a, b
    try:
        if isinstance(a, Core):
            x, kind = a._data, type(a)
            if isinstance(b, Core):
                y = b._data
            else:
                b = y = _operand(b, x.dtype)
        else:
            y, kind = b._data, type(b)
            a = x = _operand(a, y.dtype)
        dtype = x.dtype
        if dtype is not y.dtype or (dtype is not DOUBLE and dtype is not SINGLE):
            return None
        result = run(x, y)
    except FAILED:
        return None
    if type(result) is not np.ndarray:
        result = np.asarray(result)
    elif result is x or result is y or result.base is not None:
        return None
    out = kind.of(result)
    if result.dtype is not dtype:
        return out if result.dtype.kind == "b" else None
    if is_grad_enabled():
        first = a._node() if isinstance(a, Core) else None
        second = b._node() if isinstance(b, Core) else None
        if first is not None or second is not None:
            _remember(out, op, (a, b), (x, y), (first, second))
    return out


def product(a: Any, b: Any) -> Core | None:
    """`a @ b` of two matrices, of which one is a tensor; None where the long way must be taken."""
    x = a._data if isinstance(a, Core) else a
    y = b._data if isinstance(b, Core) else b
    if type(x) is not np.ndarray or type(y) is not np.ndarray:
        return None
    dtype = x.dtype
    if not x.ndim == y.ndim == 2 or dtype is not y.dtype:
        return None
    if dtype is not DOUBLE and dtype is not SINGLE:
        return None
    kind = type(a) if isinstance(a, Core) else type(b)
    return kind.bind(MATMUL, (a, b), {"flip": (False, False), "stacks": False})


def _operand(value: Any, dtype: np.dtype) -> Any:
    """What is no tensor: numbers in the dtype of the other operand. Raises TypeError."""
    kind = type(value)
    if kind is float or kind is int:
        return dtype.type(value)
    if kind is np.ndarray or isinstance(value, np.generic):
        return value
    raise TypeError


def _remember(
    out: Core,
    op: Elementwise,
    args: tuple[Any, ...],
    arrays: tuple[Any, ...],
    sources: tuple[Node | None, ...],
) -> None:
    """Have `out` be the result of `op` in the graph."""
    array = out._data
    shape, wanted = array.shape, tuple([source is not None for source in sources])
    shapes: Any = None
    for x in arrays:
        if x.shape != shape and type(x) is np.ndarray:
            shapes = tuple([x.shape for x in arrays])
            break
    key = (op, wanted, array.dtype is DOUBLE, shapes)
    rule = _rules.get(key)
    if rule is None:
        if len(_rules) > MOST:
            _rules.clear()
        types = [type_of(arg) for arg in args]
        rule = _rules[key] = rule_for(op, (), types, out.type, wanted, shapes is None)
    if rule.wanted:
        site, label = call_site(4)
        out._remember(op, args, (), sources, rule, site, label)


def _operator(name: str, reflected: bool = False) -> Callable[[Any, Any], Any]:
    op = PUBLIC[name]
    assert isinstance(op, Elementwise)
    short = {"subtract": "sub", "multiply": "mul", "divide": "truediv", "remainder": "mod"}
    short |= {"less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge"}
    spelling = f"__{'r' if reflected else ''}{short.get(name, name)}__"
    long = getattr(ArrayMethods, spelling)

    def forward(self: Core, other: Any) -> Any:
        out = binary(op, self, other)
        return long(self, other) if out is None else out

    def backward(self: Core, other: Any) -> Any:
        out = binary(op, other, self)
        return long(self, other) if out is None else out

    return backward if reflected else forward


class Quick(Core):
    """Operators and ufuncs of tensors."""

    __add__, __radd__ = _operator("add"), _operator("add", True)
    __sub__, __rsub__ = _operator("subtract"), _operator("subtract", True)
    __mul__, __rmul__ = _operator("multiply"), _operator("multiply", True)
    __truediv__, __rtruediv__ = _operator("divide"), _operator("divide", True)
    __lt__, __le__ = _operator("less"), _operator("less_equal")
    __gt__, __ge__ = _operator("greater"), _operator("greater_equal")

    @classmethod
    def elementwise(cls, op: Elementwise, args: tuple[Any, ...]) -> Self | None:
        """`op` of tensors; None where the long way must be taken."""
        if len(args) == 1:
            return unary(op, args[0])  # type: ignore[return-value]
        return binary(op, *args) if len(args) == 2 else None  # type: ignore[return-value]

    def __matmul__(self, other: Any) -> Any:
        out = product(self, other)
        return super().__matmul__(other) if out is None else out

    def __rmatmul__(self, other: Any) -> Any:
        out = product(other, self)
        return super().__rmatmul__(other) if out is None else out

    def __neg__(self) -> Any:
        out = unary(PUBLIC["negative"], self)  # type: ignore[arg-type]
        return super().__neg__() if out is None else out

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        op = NUMPY.get(ufunc)
        if method == "__call__" and not options and isinstance(op, Elementwise):
            out = self.elementwise(op, inputs)
            if out is not None:
                return out
        return super().__array_ufunc__(ufunc, method, *inputs, **options)
