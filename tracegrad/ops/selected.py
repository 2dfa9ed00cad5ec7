"""What a computed mask selects, `x[mask]`: as many elements as hold, which no type can say.

It stays the whole array beside the mask: elementwise functions apply to all of it, reductions and
writes count what the mask holds.

    y[x < 0] *= 0.1        =>   y = where(x < 0, y * 0.1, y)
    np.log(x[x > 0]).sum() =>   sum(where(x > 0, log(where(x > 0, x, 1)), 0))

Elements that do not hold are 1, so that no function of them is NaN and neither is its derivative.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import PUBLIC, Unsized, type_of
from tracegrad.ops.selection import where


class Selected(Unsized):
    """The elements of `whole` where `mask`, which has its first axes, holds."""

    __array_priority__ = 300

    def __init__(self, whole: Any, mask: Any) -> None:
        self.mask = mask
        self.spread = _spread(mask, type_of(whole).rank)
        self.whole = where(self.spread, whole, type_of(whole).dtype.type(1))

    def chosen_by(self, mask: Any) -> bool:
        """Whether `mask` is the same value as this mask."""
        return mask is self.mask or getattr(mask, "node", 0) is getattr(self.mask, "node", 1)

    def _map(self, function: Callable[..., Any], *operands: Any) -> Selected:
        return Selected(function(*(self._beside(x) for x in operands)), self.mask)

    def _beside(self, other: Any) -> Any:
        if isinstance(other, Selected):
            if not other.chosen_by(self.mask):
                raise self.unsized("it meets what another mask selects")
            return other.whole
        if type_of(other).rank:
            raise self.unsized("it meets an array")
        return other

    def unsized(self, use: str) -> UnsupportedError:
        return UnsupportedError(
            f"{type_of(self.whole)}[mask] with a computed mask, and {use}: how many elements that "
            "has depends on data; use np.where(mask, x, 0), or a mask that is a constant of the "
            "program"
        )

    def sum(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduced("sum", where(self.spread, self.whole, 0), axis, keepdims)

    def prod(self, axis: Any = None, keepdims: bool = False) -> Any:
        return self._reduced("prod", self.whole, axis, keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Any:
        held = where(self.spread, PUBLIC["ones_like"](self.whole), 0)
        return self.sum(axis, keepdims) / self._reduced("sum", held, axis, keepdims)

    def _reduced(self, name: str, values: Any, axis: Any, keepdims: bool) -> Any:
        rank = type_of(self.mask).rank
        whole = axis is None or (axis in (0, -1) and rank == type_of(values).rank)
        if keepdims or not (whole or axis == 0):
            raise self.unsized(f"it is reduced with axis={axis}, keepdims={keepdims}")
        return PUBLIC[name](values, None if whole else tuple(range(rank)))

    @property
    def size(self) -> Any:
        """How many elements are selected: a traced number."""
        ones = PUBLIC["ones_like"](self.whole, dtype=np.int64)
        return PUBLIC["sum"](where(self.spread, ones, 0))

    @property
    def dtype(self) -> np.dtype:
        return type_of(self.whole).dtype

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise self.unsized(f"np.{ufunc.__name__} has options")
        return self._map(ufunc, *inputs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        del types
        reduction = {np.sum: Selected.sum, np.prod: Selected.prod, np.mean: Selected.mean}
        if function not in reduction or not isinstance(args[0], Selected):
            raise self.unsized(f"np.{function.__name__} is applied to it")
        return reduction[function](*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise self.unsized(f"its .{name} is asked for")

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        raise self.unsized("it is made a NumPy array")

    def __getitem__(self, key: Any) -> Any:
        raise self.unsized("elements of it are taken")

    def __matmul__(self, other: Any) -> Any:
        raise self.unsized("it is multiplied as a matrix")

    __rmatmul__ = __matmul__

    def __len__(self) -> int:
        raise self.unsized("len() is asked for")

    def __iter__(self) -> Any:
        raise self.unsized("it is iterated over")

    def __bool__(self) -> bool:
        raise self.unsized("it is used as a condition")

    def __hash__(self) -> int:
        raise self.unsized("it is returned, or given to another function")


def _spread(mask: Any, rank: int) -> Any:
    """The mask with an axis of extent 1 for each further axis of the array."""
    type = type_of(mask)
    return PUBLIC["reshape"](mask, type.shape + (1,) * (rank - type.rank))


def _operators() -> None:
    comparisons = ("lt", "le", "gt", "ge", "eq", "ne")
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", *comparisons):
        function = getattr(operator, name)
        setattr(Selected, f"__{name}__", _binary(function))
        if name not in comparisons:
            setattr(Selected, f"__r{name}__", _binary(lambda a, b, f=function: f(b, a)))
    for name in ("neg", "pos", "abs"):
        setattr(Selected, f"__{name}__", _unary(getattr(operator, name)))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Selected, Any], Selected]:
    return lambda self, other: self._map(function, self, other)


def _unary(function: Callable[[Any], Any]) -> Callable[[Selected], Selected]:
    return lambda self: self._map(function, self)


_operators()
