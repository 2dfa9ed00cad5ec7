"""What stands in for NumPy's, SciPy's and Python's functions in a traced function.

Each function here takes a library's function and makes one that knows of traced arrays; `REPLACED`
says which. Without anything traced among the arguments they are the library's.

    np.zeros(3)              ->  an array that can hold traced values (tracegrad.tracing.fresh)
    np.sum([x, y], axis=0)   ->  tg.sum of the two stacked
    np.r_[0.0, x]            ->  np.concatenate(([0.0], x))
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tracegrad.errors import UnsupportedError
from tracegrad.ir.dims import Dim
from tracegrad.ops.distributions import DISTRIBUTIONS, METHODS
from tracegrad.ops.op import NUMPY, PUBLIC, Bindable, SizeValue, type_of
from tracegrad.ops.translators import Columns, Grid, OpenGrid, Rows
from tracegrad.tracing.array import Traced
from tracegrad.tracing.fresh import NUMBERS, fresh, fresh_of_sizes
from tracegrad.tracing.grown import Grown
from tracegrad.tracing.size import TracedSize, is_whole
from tracegrad.tracing.trace import current_trace

Replace = Callable[..., Any]


def cholesky(
    a: Any, lower: bool = False, overwrite_a: bool = False, check_finite: bool = True
) -> Any:
    """`scipy.linalg.cholesky`: upper unless asked otherwise."""
    del overwrite_a, check_finite
    return PUBLIC["linalg.cholesky"](a, upper=not lower)


def solve(
    a: Any, b: Any, lower: bool = False, *, assume_a: str | None = None, transposed: bool = False
) -> Any:
    """`scipy.linalg.solve`: of a matrix said to be positive definite only one triangle counts."""
    if assume_a in ("pos", "positive definite"):
        return PUBLIC["linalg.cho_solve"](PUBLIC["linalg.cho_factor"](a, lower), b)
    if assume_a in ("sym", "her", "symmetric", "hermitian"):
        a = mirrored(a, lower)
    elif assume_a not in (None, "gen", "general"):
        raise UnsupportedError(
            f"scipy.linalg.solve with assume_a={assume_a!r} is not supported on traced arrays: "
            "leave it out, or use solve_triangular"
        )
    return PUBLIC["linalg.solve"](PUBLIC["matrix_transpose"](a) if transposed else a, b)


def eigh(a: Any, b: Any = None, *, lower: bool = True, eigvals_only: bool = False) -> Any:
    """`scipy.linalg.eigh`; with `b = c @ c.T`: `a @ v = w * b @ v` has the eigenvalues of
    `inv(c) @ a @ inv(c).T`, and its eigenvectors `u` give `v = inv(c).T @ u`.
    """
    triangle = "L" if lower else "U"
    if b is None:
        name = "linalg.eigvalsh" if eigvals_only else "linalg.eigh"
        found = PUBLIC[name](a, triangle)
        return found if eigvals_only else tuple(found)
    c = cholesky(mirrored(b, lower), lower=True)
    across, turn = PUBLIC["linalg.solve_triangular"], PUBLIC["matrix_transpose"]
    half = across(c, mirrored(a, lower), lower=True)
    values, vectors = PUBLIC["linalg.eigh"](across(c, turn(half), lower=True))
    return values if eigvals_only else (values, across(c, vectors, trans="T", lower=True))


def mirrored(a: Any, lower: bool) -> Any:
    """The symmetric matrix of one triangle."""
    half, rest = ("tril", -1) if lower else ("triu", 1)
    return PUBLIC[half](a) + PUBLIC["matrix_transpose"](PUBLIC[half](a, rest))


def holds_traced(value: Any) -> bool:
    """Whether a value, or one nested in it, is traced or eager."""
    if isinstance(value, Bindable | SizeValue | Grown):
        return True
    if isinstance(value, tuple | list):
        return any(map(holds_traced, value))
    if isinstance(value, dict):
        return any(map(holds_traced, value.values()))
    return isinstance(value, np.ndarray) and value.dtype == object


def holds_arrays(value: Any) -> bool:
    """Whether a list, or one nested in it, has a traced or eager array among its items."""
    if isinstance(value, tuple | list):
        return any(map(holds_arrays, value))
    return isinstance(value, Bindable)


def filled(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes arrays: the array may be written to."""

    @functools.wraps(numpys)
    def make(*args: Any, **kwargs: Any) -> Any:
        if current_trace() is None:
            return numpys(*args, **kwargs)
        value = kwargs.get("fill_value", args[1] if len(args) > 1 else None)
        if numpys in (np.full, np.full_like) and holds_traced(value):
            return PUBLIC[numpys.__name__](*args, **kwargs)
        found = sized_like(numpys, args, kwargs)
        return fresh(numpys(*args, **kwargs)) if found is None else found

    return make


class Arrays(type):
    """The kind of what stands in for `np.ndarray`, a class since `case np.ndarray():` wants one.

    `np.ndarray((n, m))` is `np.empty((n, m))`, which can be written to. Its instances are arrays,
    those to be among them: what is traced, unless it is a number, as NumPy's scalars are.
    """

    def __call__(cls, shape: Any, dtype: Any = float, *memory: Any, **named: Any) -> Any:
        if memory or named.keys() - {"order"}:
            return np.ndarray(shape, dtype, *memory, **named)
        return filled(np.empty)(shape, dtype, **named)

    def __instancecheck__(cls, value: Any) -> bool:
        if isinstance(value, Traced):
            return value.type.rank > 0
        return isinstance(value, np.ndarray)

    def __subclasscheck__(cls, kind: type) -> bool:
        return issubclass(kind, np.ndarray)

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is np.ndarray

    def __hash__(cls) -> int:
        return hash(np.ndarray)


def array_class(numpys: type[np.ndarray]) -> Any:
    """What a traced function sees as `np.ndarray`."""
    return Arrays("ndarray", (numpys,), {})


def counted(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes numbers at equal distances: as many as a traced extent says."""

    @functools.wraps(numpys)
    def make(*args: Any, **kwargs: Any) -> Any:
        found = None if current_trace() is None else sized_like(numpys, args, kwargs)
        return numpys(*args, **kwargs) if found is None else found

    return make


def sized_like(numpys: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The array that `numpys` makes for traced extents, with these left open; None without any, and
    for what has no operation: objects, and distances that are no integers.
    """
    sizes = [*extents((args, kwargs))]
    if not sizes or (numpys is np.arange and not all(map(is_whole, ends(args, kwargs)))):
        return None
    by_shape = numpys in BY_SHAPE
    dtype = kwargs.get("dtype", args[1] if by_shape and len(args) > 1 else None)
    if np.dtype(dtype).kind not in NUMBERS:
        return None
    named = {name: value for name, value in kwargs.items() if name not in IGNORED}
    made = PUBLIC[numpys.__name__](*(args[:2] if by_shape else args), **named)
    return fresh_of_sizes(sizes, made, lambda: numpys(*args, **kwargs))


def ends(args: Any, kwargs: Any) -> Iterator[Any]:
    """Start, stop and step of `np.arange`, as far as they are given."""
    yield from args[:3]
    yield from (kwargs[name] for name in ("start", "stop", "step") if name in kwargs)


def extents(value: Any) -> Iterator[Dim]:
    """The traced extents in a nested value."""
    match value:
        case TracedSize():
            yield value.dim
        case tuple() | list():
            for part in value:
                yield from extents(part)
        case dict():
            yield from extents([*value.values()])


def stacked(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """`np.array` and its like: lists of traced arrays become one."""

    @functools.wraps(numpys)
    def make(*args: Any, **kwargs: Any) -> Any:
        boxed = np.dtype(kwargs.get("dtype", args[1] if len(args) > 1 else None)) == object
        if current_trace() is None or boxed or not args or not holds_traced(args[0]):
            return numpys(*args, **kwargs)
        if numpys is np.array:
            kwargs.setdefault("copy", True)
        first = args[0].array() if isinstance(args[0], Grown) else args[0]
        least = kwargs.pop("ndmin", 0)
        kwargs.pop("subok", None)
        found = PUBLIC["asarray"](first, *args[1:], **kwargs)
        return found[(None,) * max(0, least - type_of(found).rank)] if least else found

    return make


def listed(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """A function that NumPy does not hand over where lists of traced arrays are given: `np.sum`."""

    @functools.wraps(numpys)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = (arg for arg in (*args, *kwargs.values()) if type(arg) in (tuple, list))
        return (NUMPY[numpys] if any(map(holds_arrays, given)) else numpys)(*args, **kwargs)

    return call


def laid_out(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """A function that settles how an array lies in memory: of a traced one the compiler decides."""

    @functools.wraps(numpys)
    def same(a: Any, *args: Any, **kwargs: Any) -> Any:
        if not holds_traced(a):
            return numpys(a, *args, **kwargs)
        return PUBLIC["asarray"](a, dtype=kwargs.get("dtype", args[0] if args else None))

    return same


def from_items(numpys: Callable[..., Any]) -> Callable[..., Any]:
    """`np.fromiter`: the items are taken first, then it is seen whether they are traced."""

    @functools.wraps(numpys)
    def call(iterable: Any, dtype: Any, count: int = -1, **kwargs: Any) -> Any:
        items = list(iterable)[: None if count < 0 else count]
        if holds_traced(items):
            return PUBLIC["asarray"](items, dtype=dtype)
        return numpys(items, dtype, count, **kwargs)

    return call


def refused(advice: str) -> Replace:
    """A function that calls one of the user's for each item, with advice in its place."""

    def replaced(numpys: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(numpys)
        def refuse(*args: Any, **kwargs: Any) -> Any:
            if not holds_traced((args, kwargs)):
                return numpys(*args, **kwargs)
            name = getattr(numpys, "__name__", "vectorize")
            raise UnsupportedError(f"np.{name} is not supported on traced arrays: {advice}")

        return refuse

    return replaced


def vectorized(numpys: type) -> Callable[..., Any]:
    """`np.vectorize`: what it makes of a function refuses traced arrays, with advice."""
    advice = (
        "call the function with whole arrays, np.where in the place of its conditions, or use "
        "tg.vmap(f)(x)"
    )

    def vectorize(*args: Any, **kwargs: Any) -> Any:
        return refused(advice)(numpys(*args, **kwargs))

    return vectorize


def ours(name: str, own: Callable[..., Any] | None = None) -> Replace:
    """SciPy's function for arrays, `own` or `tg.<name>` for traced ones."""

    def replaced(scipys: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(scipys)
        def call(*args: Any, **kwargs: Any) -> Any:
            if not holds_traced((args, kwargs)):
                return scipys(*args, **kwargs)
            given = {word: value for word, value in kwargs.items() if word not in REUSED}
            return (own or PUBLIC[name])(*args, **given)

        return call

    return replaced


def of_numbers(name: str) -> Replace:
    """A function of `math`, `tg.<name>` for traced numbers."""

    def replaced(maths: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(maths)
        def call(*args: Any) -> Any:
            if not any(isinstance(arg, Bindable) for arg in args):
                return maths(*args)
            if any(type_of(arg).rank for arg in args):
                raise TypeError(f"math.{maths.__name__} is for numbers: for arrays, tg.{name}")
            if maths is math.log and len(args) == 2:
                return PUBLIC["log"](args[0]) / PUBLIC["log"](args[1])
            return PUBLIC[name](*args)

        return call

    return replaced


REUSED = ("overwrite_a", "overwrite_b", "check_finite")
"""SciPy's words about memory and NaN: compiled code has its own ways."""
BY_SHAPE = (np.zeros, np.ones, np.empty, np.identity)
"""These take the dtype as their second argument, and after that only the order."""
IGNORED = ("order", "device", "like")
"""Where an array lies in memory: there is one answer in compiled code."""
MAKING = ("zeros", "ones", "empty", "full", "eye", "identity", "tri")
ALIKE = ("zeros_like", "ones_like", "empty_like", "full_like")


class Stated:
    """A distribution of `scipy.stats`, or one with its parameters given, as `norm(0, 1)`: its
    formulas for traced numbers, SciPy's methods for others.
    """

    def __init__(self, scipys: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> None:
        self._scipys, self._args, self._kwargs = scipys, args, kwargs or {}

    def __call__(self, *args: Any, **kwargs: Any) -> Stated:
        return Stated(self._scipys, args, kwargs)

    def __getattr__(self, method: str) -> Any:
        ours = DISTRIBUTIONS[self._scipys.name]
        if method not in METHODS[ours.discrete]:
            given = (
                self._scipys(*self._args, **self._kwargs) if self._args or self._kwargs else None
            )
            return getattr(self._scipys if given is None else given, method)

        def call(x: Any, *args: Any, **kwargs: Any) -> Any:
            args, kwargs = (x, *self._args, *args), {**self._kwargs, **kwargs}
            if holds_traced((args, kwargs)):
                return ours.call(method, args, kwargs)
            return getattr(self._scipys, method)(*args, **kwargs)

        return call


LAYING = ("ascontiguousarray", "asfortranarray", "asarray_chkfinite", "require")
OF_LISTS = (
    *("sum", "mean", "prod", "max", "min", "amax", "amin", "std", "var", "median", "average"),
    *("any", "all", "cumsum", "cumprod", "sort", "argmax", "argmin", "argsort", "diff", "ptp"),
    *("dot", "inner", "outer", "cross", "trace", "transpose", "ravel", "reshape", "where", "clip"),
    *("trapezoid", "interp", "nansum", "nanmean", "percentile", "quantile"),
)
REPLACED: dict[str, dict[str, Replace]] = {
    "numpy": {
        **dict.fromkeys((*MAKING, *ALIKE), filled),
        **dict.fromkeys(("array", "asarray", "asanyarray"), stacked),
        **dict.fromkeys(("arange", "linspace"), counted),
        **dict.fromkeys(LAYING, laid_out),
        **{name: listed for name in OF_LISTS if hasattr(np, name)},
        "ndarray": array_class,
        "r_": Rows,
        "c_": Columns,
        "mgrid": Grid,
        "ogrid": OpenGrid,
        "apply_along_axis": refused("use tg.vmap(f, in_axes=...), or axis= of what f calls"),
        "fromiter": from_items,
        "vectorize": vectorized,
    },
    "scipy.special": {
        name: ours(name)
        for name in ("logsumexp", "softmax", "log_softmax", "multigammaln", "polygamma")
    },
    "scipy.linalg": {
        name: ours(f"linalg.{name}")
        for name in (
            *("solve_triangular", "cho_factor", "cho_solve", "inv", "det", "norm"),
            *("block_diag", "toeplitz", "pinv", "svdvals", "eigvalsh"),
        )
    }
    | {
        "cholesky": ours("linalg.cholesky", cholesky),
        "solve": ours("linalg.solve", solve),
        "eigh": ours("linalg.eigh", eigh),
    },
    "scipy.integrate": {
        name: ours(name) for name in ("cumulative_trapezoid", "simpson", "trapezoid")
    },
    "scipy.stats": dict.fromkeys(DISTRIBUTIONS, Stated),
}
REPLACED["math"] = {
    name: of_numbers({"pow": "power", "lgamma": "gammaln"}.get(name, name))
    for name in (
        *("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "cbrt", "pow", "hypot"),
        *("sin", "cos", "tan", "sinh", "cosh", "tanh", "degrees", "radians", "fabs", "copysign"),
        *("erf", "erfc", "gamma", "lgamma", "fmod", "isnan", "isinf", "isfinite"),
    )
    if hasattr(math, name)  # exp2 and cbrt are there from Python 3.11 on
}
REPLACED["math"] |= {
    name: of_numbers(name.replace("a", "arc", 1))
    for name in ("asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh")
}
"""By module: the functions with a stand-in."""
