"""Convolution and correlation of two vectors, by one operation that is its own adjoint's kind.

    y = correlation(a, v):    y[k] = sum over j of a[k + j] * v[j],    k = 0 ... n - m
    d_v = correlation(a, d_y)         d_a = correlation(d_y with m - 1 zeros at both ends, v[::-1])

`np.convolve(a, v)` is the correlation of `a`, with zeros at both ends, and `v[::-1]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Call, Const, Expr, Load, Var
from codegen.loops import Accumulate, Assign, For, If, Store
from tracegrad.ir.dims import Size, knows, required
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType
from tracegrad.ops.constant import astype
from tracegrad.ops.extent import extent
from tracegrad.ops.op import PUBLIC, as_operand, bind, public, register, sample, type_of
from tracegrad.ops.padding import pad
from tracegrad.ops.slicing import slices

BLOCK = 1024
"""Elements of the result that stay in cache while all of `v` is gone through."""

MODES: tuple[Any, ...] = ("full", "same", "valid")


class Correlation(Op):
    """`y[k] = sum over j of a[k + j] * v[j]`, where both are there; `a` is not the shorter one."""

    name = "correlation"
    linear = (0, 1)
    stored = (0, 1)

    def infer(self, a: ArrayType, v: ArrayType) -> ArrayType:
        return a.with_shape((a.shape[0] - v.shape[0] + 1,))

    def reference(self, a: np.ndarray, v: np.ndarray) -> np.ndarray:
        return np.correlate(a, v, "valid")

    def text(self, a: str, v: str) -> str:
        return f'np.correlate({a}, {v}, "valid")'

    def work(self, node: Any) -> tuple[float, Size]:
        return 2, node.type.shape[0] * node.inputs[1].type.shape[0]

    def transpose(self, ct: Array, a: Array, v: Array) -> tuple[Array | None, ...]:
        return self.to_longer(ct, v), self.to_shorter(ct, a)

    def vjp(self, wanted: tuple[bool, ...], ct: Array, out: Array, a: Array, v: Array):
        return (
            self.to_longer(ct, v) if wanted[0] else None,
            self.to_shorter(ct, a) if wanted[1] else None,
        )

    def jvp(self, tangents: tuple[Array | None, ...], out: Array, a: Array, v: Array) -> Array:
        t_a, t_v = tangents
        parts = [] if t_a is None else [bind(self, t_a, v)]
        parts += [] if t_v is None else [bind(self, a, t_v)]
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def to_longer(self, ct: Array, v: Array) -> Array:
        """The cotangent of `a`."""
        around = type_of(v).shape[0] - 1
        return bind(self, pad(ct, ((around, around),)), PUBLIC["flip"](v))

    def to_shorter(self, ct: Array, a: Array) -> Array:
        """The cotangent of `v`."""
        return bind(self, a, ct)

    def batch(self, mapped: tuple[bool, ...], a: Array, v: Array) -> None:
        return None

    def kernel(self, lowering: Any, node: Any) -> None:
        """Many results of few products each: vectors of results, block by block; else sums."""
        count, taps = (extent(x.type.shape[0]) for x in (node, node.inputs[1]))
        lowering.allocate(node)
        few = Call("less_equal", (taps, count), ex.BOOL)
        blocks, sums = self._in_blocks(lowering, node), self._sums(lowering, node)
        lowering.append(If(few, blocks, sums, lowering.comment(node)))

    def _product(self, lowering: Any, node: Any, k: Expr, j: Expr) -> Expr:
        a, v = (lowering.arrays[x] for x in node.inputs)
        dtype = node.type.dtype
        factors = (Load(a, (ex.add(k, j),), dtype), Load(v, (j,), dtype))
        return Call("multiply", factors, dtype)

    def _in_blocks(self, lowering: Any, node: Any) -> tuple[Any, ...]:
        dtype, taps = node.type.dtype, extent(node.inputs[1].type.shape[0])
        count, array = extent(node.type.shape[0]), lowering.arrays[node]
        start, end, k, j = (
            Var(lowering.namer.unique(f"{node.name}_{name}")) for name in ("start", "end", "k", "j")
        )
        limit = Call("minimum", (ex.add(start, ex.integer(BLOCK)), count), ex.INT)
        product = self._product(lowering, node, k, j)
        return (
            For(
                start,
                count,
                (
                    Assign(end, limit),
                    For(k, end, (Store(array, (k,), Const(0, dtype)),), start),
                    For(
                        j,
                        taps,
                        (
                            For(
                                k,
                                end,
                                (Accumulate(array, (k,), "add", product, dtype),),
                                start,
                            ),
                        ),
                        sequential=True,
                    ),
                ),
                step=BLOCK,
            ),
        )

    def _sums(self, lowering: Any, node: Any) -> tuple[Any, ...]:
        dtype, taps = node.type.dtype, extent(node.inputs[1].type.shape[0])
        total = Var(lowering.namer.unique(f"{node.name}_total"), dtype)
        k, j = (Var(lowering.namer.unique(f"{node.name}_{name}")) for name in ("k", "j"))
        product = self._product(lowering, node, k, j)
        added = Accumulate(total.name, None, "add", product, dtype)
        inner = (Assign(total, Const(0, dtype)), For(j, taps, (added,)))
        stored = Store(lowering.arrays[node], (k,), total)
        return (For(k, extent(node.type.shape[0]), (*inner, stored)),)


CORRELATION = register(Correlation())


@public(np.convolve)
def convolve(a: Any, v: Any, mode: str = "full") -> Any:
    """The discrete convolution of two vectors: f64[n], f64[m] -> f64[n + m - 1] in mode "full".

    "same": the middle max(n, m) of these; "valid": where they overlap completely. Raises ValueError
    for empty vectors.
    """
    a, v = _vectors("convolve", a, v)
    if not _is_shorter(v, a, mode):
        a, v = v, a
    return _overlapped(a, PUBLIC["flip"](v), mode)


@public(np.correlate)
def correlate(a: Any, v: Any, mode: str = "valid") -> Any:
    """The cross-correlation of vectors, `sum over j of a[k + j] * v[j]`; modes as `convolve`."""
    a, v = _vectors("correlate", a, v)
    if _is_shorter(v, a, mode):
        return _overlapped(a, v, mode)
    return PUBLIC["flip"](_overlapped(v, a, mode))


def _vectors(name: str, a: Any, v: Any) -> tuple[Any, Any]:
    a, v = (PUBLIC["atleast_1d"](as_operand(x)) for x in (a, v))
    for what, x in (("a", a), ("v", v)):
        if type_of(x).rank != 1:
            raise ValueError(f"{name}: {what} has to be a vector, not {type_of(x)}")
        if not required(1, "<=", type_of(x).shape[0]):
            raise ValueError(f"{what} cannot be empty")
    common = np.result_type(type_of(a).dtype, type_of(v).dtype)
    return astype(a, common), astype(v, common)


def _is_shorter(v: Any, a: Any, mode: str) -> bool:
    """Whether `v` is not longer than `a`. Where data decides, the two have to be given so, except
    in mode "full", for which it does not matter.
    """
    sizes = type_of(v).shape[0], "<=", type_of(a).shape[0]
    return knows(*sizes) is not False if mode == "full" else required(*sizes)


def _overlapped(a: Any, v: Any, mode: str) -> Any:
    """The correlation with `v`, not longer than `a`, where they overlap at all, half, or wholly."""
    if mode not in MODES:
        raise ValueError(f"mode must be one of {', '.join(map(repr, MODES))} (got {mode!r})")
    if mode == "valid":
        return bind(CORRELATION, a, v)
    size, taps = type_of(a).shape[0], type_of(v).shape[0]
    whole = bind(CORRELATION, pad(a, ((taps - 1, taps - 1),)), v)
    return whole if mode == "full" else slices(whole, {0: ((taps - 1) // 2, size, 1)})


for way in MODES:
    sample(lambda a, v, way=way: np.convolve(a, v, way), (7,), (3,))
    sample(lambda a, v, way=way: (np.convolve(a, v, way), np.correlate(a, v, way)), (2,), (5,))
    sample(lambda a, v, way=way: np.correlate(a, v, way) ** 2, (6,), (4,))
sample(lambda a: np.convolve(a, [1, 2, 3], "same"), (4,), kinds="fi", smooth=False)
sample(lambda a: np.correlate(a, a, "same"), (4,), kinds="fi", smooth=False)
sample(lambda a: np.convolve(a, a[:2]) * 2, (1500,))
