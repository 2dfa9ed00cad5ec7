"""What traced arrays and eager tensors have in common: operators, methods, NumPy's protocols.

Each spells a public function of the `tg` namespace; nothing is computed here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.types import ArrayType
from tracegrad.later import Later
from tracegrad.ops.op import NUMPY, PUBLIC, Bindable, type_of, weak_or_dtype
from tracegrad.ops.scipy import meaning, spelling

difflib = Later("difflib")

_UFUNC_REDUCTIONS = {
    np.add: "sum",
    np.multiply: "prod",
    np.maximum: "max",
    np.minimum: "min",
    np.logical_and: "all",
    np.logical_or: "any",
    np.logaddexp: "logsumexp",
}
_UFUNC_ACCUMULATIONS = {
    np.add: "cumsum",
    np.multiply: "cumprod",
    np.maximum: "maximum_accumulate",
    np.minimum: "minimum_accumulate",
}


def numpy_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], options: dict[str, Any]):
    """NumPy's `__array_ufunc__`: the ufunc, or a method of it, on traced or eager operands."""
    out = options.pop("out", None)
    ours = meaning(ufunc)
    if method == "__call__" and ours is not None:
        mask = options.pop("where", True)
        if mask is not True:
            inputs = tuple(_where_used(mask, x) for x in inputs)
        result = _call_ufunc(ufunc, ours, inputs, options)
        if mask is not True:
            result = PUBLIC["where"](mask, result, 0 if out is None else out[0])
    elif method == "reduce" and ufunc in _UFUNC_REDUCTIONS:
        options.setdefault("axis", 0)
        result = PUBLIC[_UFUNC_REDUCTIONS[ufunc]](*inputs, **options)
    elif method == "accumulate" and ufunc in _UFUNC_ACCUMULATIONS:
        options.setdefault("axis", 0)
        result = PUBLIC[_UFUNC_ACCUMULATIONS[ufunc]](*inputs, **options)
    elif method == "at" and f"{ufunc.__name__}_at" in PUBLIC:
        return PUBLIC[f"{ufunc.__name__}_at"](*inputs)
    elif method == "outer" and ours is not None:
        result = ours(PUBLIC["reshape"](inputs[0], _spread_shape(*inputs)), inputs[1])
    elif method == "__call__":
        unsupported(spelling(ufunc), ufunc.__name__)
    else:
        unsupported(f"{spelling(ufunc)}.{method}", ufunc.__name__)
    return result if out is None else _into(out[0], result)


def _where_used(mask: Any, x: Any) -> Any:
    """`x` where `mask` holds, else 1: `np.divide(a, b, out=c, where=b != 0)` has a derivative, and
    no NaN in it, where `b` is 0.
    """
    type = type_of(x)
    return x if type.weak else PUBLIC["where"](mask, x, type.dtype.type(1))


def _spread_shape(a: Any, b: Any) -> tuple[Any, ...]:
    """The shape of `a` with an axis of extent 1 for each axis of `b`."""
    return type_of(a).shape + (1,) * type_of(b).rank


def _call_ufunc(
    ufunc: np.ufunc, ours: Callable[..., Any], inputs: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    dtype = options.pop("dtype", None)
    if ufunc.signature is not None and dtype is None:
        return ours(*inputs, **options)
    if options:
        raise UnsupportedError(
            f"np.{ufunc.__name__}: the option {', '.join(options)} is not supported on traced or "
            "eager arrays"
        )
    if dtype is not None:
        inputs = tuple(PUBLIC["astype"](value, dtype) for value in inputs)
    return ours(*inputs)


def _into(out: Any, result: Any) -> Any:
    if not isinstance(out, Bindable):
        raise UnsupportedError(
            "out= is a NumPy array but the result is traced: use the returned value instead of out="
        )
    kind, own = type_of(result), out.type
    if not kind.weak and not np.can_cast(kind.dtype, own.dtype, "same_kind"):
        raise TypeError(
            f"cannot write {kind} into out= of type {own}: it would lose its kind of number"
        )
    out[...] = result  # type: ignore[index]
    return out


def numpy_function(function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """NumPy's `__array_function__`."""
    ours = NUMPY.get(function)
    if ours is None:
        module = function.__module__ or "numpy"
        unsupported(f"{module.replace('numpy', 'np')}.{function.__name__}", function.__name__)
    out = kwargs.pop("out", None)
    result = ours(*args, **kwargs)
    return result if out is None else _into(out, result)


def unsupported(spelling: str, name: str) -> NoReturn:
    near = difflib.get_close_matches(name, PUBLIC, n=1, cutoff=0.55)
    hint = f"the nearest supported one is tg.{near[0]}" if near else "docs/ops.md lists what is"
    raise UnsupportedError(f"{spelling} is not supported on traced or eager arrays; {hint}")


def _binary(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        return PUBLIC[name](self, other)

    return method


def _reflected(name: str) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not _is_operand(other):
            return NotImplemented
        return PUBLIC[name](other, self)

    return method


def _is_operand(value: Any) -> bool:
    return value is not None and not isinstance(value, str | bytes | dict | set)


def _unary(name: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        return PUBLIC[name](self)

    return method


def _method(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return PUBLIC[name](self, *args, **kwargs)

    method.__name__ = name
    return method


class ArrayMethods(Bindable):
    """Operators, methods and NumPy protocols of traced arrays and tensors."""

    __hash__ = object.__hash__

    __add__, __radd__ = _binary("add"), _reflected("add")
    __sub__, __rsub__ = _binary("subtract"), _reflected("subtract")
    __mul__, __rmul__ = _binary("multiply"), _reflected("multiply")
    __truediv__, __rtruediv__ = _binary("divide"), _reflected("divide")
    __floordiv__, __rfloordiv__ = _binary("floor_divide"), _reflected("floor_divide")
    __mod__, __rmod__ = _binary("remainder"), _reflected("remainder")
    __pow__, __rpow__ = _binary("power"), _reflected("power")
    __matmul__, __rmatmul__ = _binary("matmul"), _reflected("matmul")
    __and__, __rand__ = _binary("bitwise_and"), _reflected("bitwise_and")
    __or__, __ror__ = _binary("bitwise_or"), _reflected("bitwise_or")
    __xor__, __rxor__ = _binary("bitwise_xor"), _reflected("bitwise_xor")
    __lshift__, __rlshift__ = _binary("left_shift"), _reflected("left_shift")
    __rshift__, __rrshift__ = _binary("right_shift"), _reflected("right_shift")
    __eq__, __ne__ = _binary("equal"), _binary("not_equal")  # type: ignore[assignment]
    __lt__, __le__ = _binary("less"), _binary("less_equal")
    __gt__, __ge__ = _binary("greater"), _binary("greater_equal")
    __neg__, __abs__, __invert__ = _unary("negative"), _unary("abs"), _unary("invert")

    def __pos__(self) -> Any:
        return PUBLIC["positive"](self)

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        return numpy_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        del types
        return numpy_function(function, args, kwargs)

    sum, mean, prod, max, min = map(_method, ("sum", "mean", "prod", "max", "min"))
    var, std, any, all = map(_method, ("var", "std", "any", "all"))
    argmax, argmin, cumsum, cumprod = map(_method, ("argmax", "argmin", "cumsum", "cumprod"))
    ravel, squeeze, swapaxes, repeat = map(_method, ("ravel", "squeeze", "swapaxes", "repeat"))
    diagonal, clip, round = map(_method, ("diagonal", "clip", "round"))
    trace = _method("linalg.trace")
    dot, take, flatten = map(_method, ("dot", "take", "flatten"))
    argsort, searchsorted = map(_method, ("argsort", "searchsorted"))
    nonzero = _method("nonzero")

    def compress(self, condition: Any, axis: Any = None) -> Any:
        return PUBLIC["compress"](condition, self, axis)

    def sort(self, axis: int = -1, kind: Any = None, order: Any = None, *, stable: Any = None):
        """In place."""
        whole: Any = self
        whole[...] = PUBLIC["sort"](self, axis, kind, order, stable=stable)

    def fill(self, value: Any) -> None:
        """In place."""
        whole: Any = self
        whole[...] = value

    def reshape(self, *shape: Any, order: str = "C") -> Any:
        return PUBLIC["reshape"](self, shape[0] if len(shape) == 1 else shape, order)

    def transpose(self, *axes: Any) -> Any:
        if len(axes) == 1 and (axes[0] is None or isinstance(axes[0], tuple | list | np.ndarray)):
            axes = () if axes[0] is None else tuple(axes[0])
        return PUBLIC["transpose"](self, axes or None)

    def copy(self, order: str = "C") -> Any:
        del order
        return PUBLIC["copy"](self)

    def astype(self, dtype: Any, *, copy: bool = True) -> Any:
        result = PUBLIC["astype"](self, dtype)
        return PUBLIC["copy"](result) if copy and result is self else result

    def __getattr__(self, name: str) -> Any:
        """Unary functions as methods: NumPy calls them for the elements of an object array, as in
        `np.exp(np.array([c, s]))` of traced numbers.
        """
        if not name.startswith("_"):
            ufunc = getattr(np, name, None)
            if isinstance(ufunc, np.ufunc) and ufunc.nin == 1:
                return partial(ufunc, self)
        raise AttributeError(f"traced and eager arrays have no attribute {name!r}")

    @property
    def T(self) -> Any:
        return PUBLIC["transpose"](self)

    @property
    def mT(self) -> Any:
        return PUBLIC["matrix_transpose"](self)

    @property
    def real(self) -> Any:
        return PUBLIC["real"](self)

    @property
    def imag(self) -> Any:
        return PUBLIC["imag"](self)

    @property
    def dtype(self) -> np.dtype:
        return self.type.dtype

    @property
    def ndim(self) -> int:
        return self.type.rank

    @property
    def itemsize(self) -> int:
        return self.type.dtype.itemsize


def _size(a: Any, axis: int | None = None) -> Any:
    return a.size if axis is None else a.shape[axis]


def _result_type(*given: Any) -> np.dtype:
    arrays = (weak_zero(type_of(x)) if isinstance(x, Bindable) else x for x in given)
    return np.result_type(*arrays)


def weak_zero(type: ArrayType) -> Any:
    """What promotes like an array of this type."""
    kind = weak_or_dtype(type)
    return kind(0) if type.weak else kind


def _everywhere(x: Any, answer: bool) -> Any:
    """What is known of every element: of a scalar a value, which `if` can use."""
    if isinstance(x, Bindable) and not x.type.rank:
        return np.bool_(answer)
    return PUBLIC["full_like"](x, answer, dtype=bool)


NUMPY.update(
    {
        np.shape: lambda a: a.shape,
        np.ndim: lambda a: a.ndim,
        np.size: _size,
        np.result_type: _result_type,
        np.iscomplexobj: lambda x: False,
        np.isrealobj: lambda x: True,
        np.iscomplex: lambda x: _everywhere(x, False),
        np.isreal: lambda x: _everywhere(x, True),
    }
)
