"""The traced extent: what a traced function sees as `x.shape[0]`.

x[: n // 2]  stays symbolic       n > 3  becomes a guard       range(n)  makes n a constant
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.ir.dims import Dim, Size, holds, knows, of_data
from tracegrad.ops.constant import SIZE
from tracegrad.ops.op import PUBLIC, Bindable, SizeValue, bind
from tracegrad.tracing.trace import current_trace, leaked


class TracedSize(SizeValue):
    """An extent: integer arithmetic is symbolic, a comparison becomes a guard.

    Where Python needs the number it is pinned: the version is for this extent only.
    """

    def __init__(self, dim: Dim) -> None:
        self.dim = dim

    def __index__(self) -> int:
        return pinned(self.dim)

    def __float__(self) -> float:
        return float(pinned(self.dim))

    __int__ = __trunc__ = __floor__ = __ceil__ = __index__

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """What NumPy's own functions make of it, `np.arange(n)` among them: the number."""
        return np.array(pinned(self.dim), dtype)

    def __round__(self, digits: int | None = None) -> Any:
        return self if digits is None or digits >= 0 else round(pinned(self.dim), digits)

    def __bool__(self) -> bool:
        return bool(self != 0)

    def __hash__(self) -> int:
        return hash(self.dim)

    def _compare(self, relation: str, other: Any) -> Any:
        if is_whole(other):
            known = knows(self.dim, relation, _as_dim(other))
            return PUBLIC[_NAMES[relation]](self.value, other) if known is None else known
        if isinstance(other, float | np.floating):
            if of_data(self.dim):
                return PUBLIC[_NAMES[relation]](self.value, other)
            return _RELATIONS[relation](pinned(self.dim), other)
        return NotImplemented

    def __eq__(self, other: object) -> Any:
        return self._compare("==", other)

    def __ne__(self, other: object) -> Any:
        return self._compare("!=", other)

    def __lt__(self, other: Any) -> Any:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Any:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Any:
        return _not(self._compare("<=", other))

    def __ge__(self, other: Any) -> Any:
        return _not(self._compare("<", other))

    def __neg__(self) -> Any:
        return sized(-self.dim)

    def __pos__(self) -> Any:
        return self

    def __abs__(self) -> Any:
        return self if holds(0, "<=", self.dim) else -self

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self

    def __pow__(self, exponent: Any) -> Any:
        if isinstance(exponent, int | np.integer) and exponent >= 0:
            result: Size = 1
            for _ in range(int(exponent)):
                result = self.dim * result
            return sized(result)
        value = self.value
        return PUBLIC["power"](value / 1 if is_whole(exponent) else value, exponent)

    def __rpow__(self, base: Any) -> Any:
        return PUBLIC["power"](base, self.value)

    @property
    def value(self) -> Any:
        """The extent as a number of the program."""
        return bind(SIZE, size=self.dim)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        whole = method == "__call__" and not options and all(map(is_whole, inputs))
        if whole and ufunc in _SYMBOLIC:
            a, b = (x if isinstance(x, TracedSize) else int(x) for x in inputs)
            return _SYMBOLIC[ufunc](a, b)
        lifted = [x.value if isinstance(x, TracedSize) else x for x in inputs]
        return getattr(ufunc, method)(*lifted, **options)

    def __repr__(self) -> str:
        return str(self.dim)

    def __format__(self, spec: str) -> str:
        return format(str(self.dim), spec)


def _not(value: Any) -> Any:
    """The opposite of a comparison's result, which may be a traced one."""
    if value is NotImplemented:
        return value
    return not value if isinstance(value, bool) else PUBLIC["logical_not"](value)


_NAMES = {"==": "equal", "!=": "not_equal", "<": "less", "<=": "less_equal"}
_RELATIONS = {"==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le}
_SYMBOLIC: dict[np.ufunc, Callable[[Any, Any], Any]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.floor_divide: operator.floordiv,
    np.remainder: operator.mod,
}


def is_whole(value: Any) -> bool:
    """An integer: a traced extent, Python's, or NumPy's."""
    return isinstance(value, TracedSize | int | np.integer)


def _as_dim(value: Any) -> Size:
    return value.dim if isinstance(value, TracedSize) else int(value)


class Shape(tuple[Any, ...]):
    """What a traced function sees as `x.shape`: a tuple, whose product, `np.prod(x.shape)`, stays
    symbolic; other functions of NumPy's get the numbers.
    """

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if function is np.prod and len(args) == 1 and not kwargs:
            return math.prod(self)
        plain = [tuple(arg) if isinstance(arg, Shape) else arg for arg in args]
        return function(*plain, **kwargs)

    def __getitem__(self, index: Any) -> Any:
        found = tuple(self).__getitem__(index)
        return Shape(found) if isinstance(index, slice) else found


def sized(size: Size) -> int | TracedSize:
    return TracedSize(size) if isinstance(size, Dim) else size


def pinned(size: Size) -> int:
    """The number behind an extent; the version is valid for this extent only."""
    trace = current_trace()
    if trace is None:
        raise leaked("a traced function")
    return trace.assumptions.pin(size)


def _size_operator(symbolic: Callable[[Any, Any], Any] | None, name: str, reflected: bool) -> Any:
    """Integers stay symbolic sizes; any other operand turns the size into a traced number."""

    def method(self: TracedSize, other: Any) -> Any:
        if is_whole(other) and symbolic is not None:
            a, b = self.dim, _as_dim(other)
            if reflected:
                a, b = b, a
            if name in ("floor_divide", "remainder") and knows(b, "==", 0):
                raise ZeroDivisionError("division of a size by zero")
            return sized(symbolic(a, b))
        if isinstance(other, Bindable | np.ndarray):
            return NotImplemented
        return PUBLIC[name](other, self.value) if reflected else PUBLIC[name](self.value, other)

    return method


for _symbol, _function, _name in (
    ("add", operator.add, "add"),
    ("sub", operator.sub, "subtract"),
    ("mul", operator.mul, "multiply"),
    ("floordiv", operator.floordiv, "floor_divide"),
    ("mod", operator.mod, "remainder"),
    ("truediv", None, "divide"),
    ("and", None, "bitwise_and"),
    ("or", None, "bitwise_or"),
    ("xor", None, "bitwise_xor"),
    ("lshift", None, "left_shift"),
    ("rshift", None, "right_shift"),
):
    setattr(TracedSize, f"__{_symbol}__", _size_operator(_function, _name, reflected=False))
    setattr(TracedSize, f"__r{_symbol}__", _size_operator(_function, _name, reflected=True))
