"""PyTorch's spellings of methods: `dim=`, `keepdim=`, `view`, `permute`, `relu`, `norm`, ...

Where NumPy and PyTorch disagree NumPy wins: `x.max(dim=0)` gives values only. `x.size` is NumPy's
number of elements, and calling it, `x.size()`, gives PyTorch's shape. `var` and `std` divide by n.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import numpy as np

from tracegrad.eager.autograd import Autograd
from tracegrad.eager.node import labelled
from tracegrad.errors import UnsupportedError
from tracegrad.ops.op import PUBLIC


class Size(int):
    """The number of elements; called, the shape or one of its extents."""

    shape: tuple[int, ...] = ()

    def __call__(self, dim: int | None = None) -> Any:
        return self.shape if dim is None else self.shape[dim]


def _reduction(name: str) -> Callable[..., Any]:
    def method(self: Any, axis: Any = None, *rest: Any, **options: Any) -> Any:
        options = numpy_names(options)
        axis = options.pop("axis", axis)
        if rest and isinstance(rest[0], bool):
            options["keepdims"], rest = rest[0], rest[1:]
        return PUBLIC[name](self, axis, *rest, **options)

    method.__name__ = name
    method.__doc__ = f"`tg.{name}` over `axis` (or `dim`)."
    return method


def numpy_names(options: dict[str, Any]) -> dict[str, Any]:
    """`dim` and `keepdim` are `axis` and `keepdims`."""
    for ours, theirs in (("axis", "dim"), ("keepdims", "keepdim")):
        if theirs in options:
            options[ours] = options.pop(theirs)
    return options


def _function(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return PUBLIC[name](self, *args, **numpy_names(options))

    method.__name__ = name
    method.__doc__ = f"`tg.{name}` of this tensor."
    return method


class Methods(Autograd):
    """Methods that spell a public function."""

    sum, mean, prod, max, min = map(_reduction, ("sum", "mean", "prod", "max", "min"))
    var, std, any, all = map(_reduction, ("var", "std", "any", "all"))
    argmax, argmin = map(_reduction, ("argmax", "argmin"))
    cumsum, cumprod = map(_reduction, ("cumsum", "cumprod"))
    softmax, log_softmax, logsumexp = map(_reduction, ("softmax", "log_softmax", "logsumexp"))

    exp, log, sqrt, square, sin, cos = map(
        _function, ("exp", "log", "sqrt", "square", "sin", "cos")
    )
    tan, tanh, sinh, cosh, expm1 = map(_function, ("tan", "tanh", "sinh", "cosh", "expm1"))
    log1p, log2, log10, abs, sign = map(_function, ("log1p", "log2", "log10", "abs", "sign"))
    floor, ceil, trunc, reciprocal = map(_function, ("floor", "ceil", "trunc", "reciprocal"))
    relu, sigmoid, erf, softplus = map(_function, ("relu", "sigmoid", "erf", "softplus"))
    maximum, minimum, where = map(_function, ("maximum", "minimum", "where"))
    add, sub, mul, div = map(_function, ("add", "subtract", "multiply", "divide"))
    pow, neg, matmul, mm = map(_function, ("power", "negative", "matmul", "matmul"))
    mv, dot, outer, clamp = map(_function, ("matmul", "dot", "outer", "clip"))
    eq, ne, lt, le = map(_function, ("equal", "not_equal", "less", "less_equal"))
    gt, ge, isnan, isinf = map(_function, ("greater", "greater_equal", "isnan", "isinf"))
    isfinite, tril, triu, flip = map(_function, ("isfinite", "tril", "triu", "flip"))
    argsort = _function("argsort")
    unsqueeze, moveaxis = map(_function, ("expand_dims", "moveaxis"))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def size(self) -> Size:
        """The number of elements; `x.size()` is the shape, `x.size(0)` one extent of it."""
        size = Size(self._data.size)
        size.shape = self._data.shape
        return size

    @property
    def nbytes(self) -> int:
        return self._data.nbytes

    def numel(self) -> int:
        return self._data.size

    def dim(self) -> int:
        return self._data.ndim

    def contiguous(self) -> Self:
        """Itself if its elements lie in row-major order, else a copy that does."""
        return self if self._data.flags.c_contiguous else PUBLIC["copy"](self)

    def t(self) -> Self:
        """The transpose of a matrix; vectors and scalars as they are."""
        if self._data.ndim > 2:
            raise RuntimeError(
                f"t() expects a tensor with <= 2 dimensions, but self is {self._data.ndim}D; use "
                "permute"
            )
        return PUBLIC["transpose"](self)

    def view(self, *shape: Any) -> Self:
        """The same elements under another shape."""
        return self.reshape(*shape)

    def view_as(self, other: Any) -> Self:
        return self.reshape(other.shape)

    def permute(self, *dims: Any) -> Self:
        return self.transpose(*dims)

    def transpose(self, *axes: Any) -> Self:
        """NumPy's transpose: axes in their new order; for a matrix this is PyTorch's too."""
        return super().transpose(*axes)

    def flatten(self, start_dim: Any = 0, end_dim: int = -1) -> Self:
        """The axes from `start_dim` to `end_dim` as one."""
        rank, shape = self._data.ndim, self._data.shape
        start = 0 if isinstance(start_dim, str) else start_dim % rank if rank else 0
        end = end_dim % rank if rank else 0
        middle = int(np.prod(shape[start : end + 1], dtype=np.int64))
        return self.reshape((*shape[:start], middle, *shape[end + 1 :]))

    def squeeze(self, axis: Any = None, *, dim: Any = None) -> Self:
        """Without axes of extent 1; a given `dim` of another extent stays (PyTorch)."""
        if dim is not None:
            return PUBLIC["squeeze"](self, dim) if self._data.shape[dim] == 1 else self
        return PUBLIC["squeeze"](self, axis)

    def expand(self, *sizes: Any) -> Self:
        """Repeated along axes of extent 1, without memory; -1 keeps an extent."""
        wanted = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
        kept = (*(1,) * (len(wanted) - self._data.ndim), *self._data.shape)
        shape = tuple(old if new == -1 else new for old, new in zip(kept, wanted, strict=True))
        return PUBLIC["broadcast_to"](self, shape)

    def expand_as(self, other: Any) -> Self:
        return PUBLIC["broadcast_to"](self, other.shape)

    @labelled
    def norm(self, p: float = 2, dim: Any = None, keepdim: bool = False) -> Self:
        """The p-norm of the elements; its derivative at zero is zero."""
        size = PUBLIC["abs"](self)
        if p == np.inf:
            return PUBLIC["max"](size, dim, keepdims=keepdim)
        if p == 1:
            return PUBLIC["sum"](size, dim, keepdims=keepdim)
        total = PUBLIC["sum"](size**p, dim, keepdims=keepdim)
        positive = total > 0
        root = PUBLIC["where"](positive, total, 1) ** (0.5 if p == 2 else 1 / p)
        return PUBLIC["where"](positive, root, total)

    def sort(self, *args: Any, **options: Any) -> Any:
        """Refused: NumPy sorts in place, PyTorch returns values and indices."""
        raise UnsupportedError(
            "x.sort() changes x in NumPy and returns values and indices in PyTorch: use tg.sort(x) "
            "and tg.argsort(x)"
        )

    def double(self) -> Self:
        return self.astype(np.float64)

    def float(self) -> Self:
        return self.astype(np.float32)

    def long(self) -> Self:
        return self.astype(np.int64)

    def int(self) -> Self:
        return self.astype(np.int32)

    def bool(self) -> Self:
        return self.astype(np.bool_)

    def type_as(self, other: Any) -> Self:
        return self.astype(other.dtype)

    def to(self, dtype: Any) -> Self:
        """Converted to `dtype` (there are no other devices)."""
        return self.astype(getattr(dtype, "dtype", dtype))
