"""Random numbers: a draw reads a generator's state, and what comes after reads the state after it.

    x = rng.normal(m, s, 3)     ->     z = draw(rng, "standard_normal", (3,));  rng' = after(rng, z)
                                       x = m + s * z

A state is a value of the graph, which is what keeps draws in their order: none is merged with
another, left out, or made again in a backward. In compiled code it is the address of the
generator's `bitgen_t`, the same before and after.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen import expr as ex
from codegen.expr import Expr, Load, Var
from codegen.loops import Alloc, Assign, Check, LibraryCall, Store, View
from codegen.records import dataclass
from tracegrad.errors import NotDifferentiableError
from tracegrad.ir.dims import Size, product
from tracegrad.ir.graph import Node
from tracegrad.ir.op import Array, Op
from tracegrad.ir.types import ArrayType, StateType
from tracegrad.ops.op import PUBLIC, register
from tracegrad.ops.shape import shape_text


@dataclass(frozen=True)
class Way:
    """How a draw is written: the generator's method, its arguments (`{0}`, `{shape}`, `{dtype}`).

    `partials`: the derivatives of the draw with respect to its parameters where the randomness
    below is held fixed (reparameterisation), from the draw `x` and the parameters; None if there
    is no formula.
    """

    call: str
    names: tuple[str, ...] = ()
    partials: tuple[Callable[..., Any] | None, ...] = ()


def _location(x: Any, loc: Any, scale: Any) -> Any:
    """`x = loc + scale * z`."""
    return 1.0


def _spread(x: Any, loc: Any, scale: Any) -> Any:
    return (x - loc) / scale


def _lognormal(x: Any, mean: Any, sigma: Any) -> Any:
    """`x = exp(mean + sigma * z)`."""
    return x * (PUBLIC["log"](x) - mean) / sigma


def _power_of(x: Any, a: Any) -> Any:
    """`x = u ** (1 / a)`."""
    return -x * PUBLIC["log"](x) / a


def _pareto(x: Any, a: Any) -> Any:
    """`x = exp(e / a) - 1`."""
    return -(1.0 + x) * PUBLIC["log1p"](x) / a


LOC_SCALE = (_location, _spread)

WAYS: dict[str, Way] = {
    "random": Way("random({shape}{dtype})"),
    "standard_normal": Way("standard_normal({shape}{dtype})"),
    "standard_exponential": Way("standard_exponential({shape}{dtype})"),
    "standard_exponential_inv": Way("standard_exponential({shape}{dtype}, method='inv')"),
    "dirichlet": Way("dirichlet({0}, {rows})", ("alpha",)),
    "hypergeometric": Way("hypergeometric({0}, {1}, {2}, {shape})"),
    "multinomial": Way("multinomial({0}, {1}, {rows})", ("n", "pvals")),
    "multivariate_hypergeometric": Way("multivariate_hypergeometric({0}, {1}, {rows})"),
    "multivariate_hypergeometric_count": Way(
        "multivariate_hypergeometric({0}, {1}, {rows}, 'count')"
    ),
    "permuted": Way("permuted(np.broadcast_to(np.arange({0}), {shape}), axis=-1)"),
    "integers": Way("integers({0}, {0} + {1}, {shape}, np.{name}, endpoint=True)"),
    "permutation": Way("permutation({size})"),
    "sample": Way("choice({0}, {shape}, replace=False, shuffle=bool({1}))"),
    "weighted_sample": Way("choice(len({0}), {shape}, replace=False, p={0})"),
    "binomial": Way("binomial({0}, {1}, {shape})", ("n", "p")),
    "beta": Way("beta({0}, {1}, {shape})", ("a", "b")),
    "chisquare": Way("chisquare({0}, {shape})", ("df",)),
    "f": Way("f({0}, {1}, {shape})", ("dfnum", "dfden")),
    "geometric": Way("geometric({0}, {shape})", ("p",)),
    "gumbel": Way("gumbel({0}, {1}, {shape})", ("loc", "scale"), LOC_SCALE),
    "laplace": Way("laplace({0}, {1}, {shape})", ("loc", "scale"), LOC_SCALE),
    "logistic": Way("logistic({0}, {1}, {shape})", ("loc", "scale"), LOC_SCALE),
    "lognormal": Way(
        "lognormal({0}, {1}, {shape})", ("mean", "sigma"), (lambda x, m, s: x, _lognormal)
    ),
    "logseries": Way("logseries({0}, {shape})", ("p",)),
    "negative_binomial": Way("negative_binomial({0}, {1}, {shape})", ("n", "p")),
    "noncentral_chisquare": Way("noncentral_chisquare({0}, {1}, {shape})", ("df", "nonc")),
    "noncentral_f": Way("noncentral_f({0}, {1}, {2}, {shape})", ("dfnum", "dfden", "nonc")),
    "pareto": Way("pareto({0}, {shape})", ("a",), (_pareto,)),
    "poisson": Way("poisson({0}, {shape})", ("lam",)),
    "power": Way("power({0}, {shape})", ("a",), (_power_of,)),
    "rayleigh": Way("rayleigh({0}, {shape})", ("scale",), (lambda x, scale: x / scale,)),
    "standard_cauchy": Way("standard_cauchy({shape})"),
    "standard_gamma": Way("standard_gamma({0}, {shape})", ("shape",)),
    "standard_t": Way("standard_t({0}, {shape})", ("df",)),
    "triangular": Way("triangular({0}, {1}, {2}, {shape})", ("left", "mode", "right")),
    "vonmises": Way("vonmises({0}, {1}, {shape})", ("mu", "kappa")),
    "wald": Way("wald({0}, {1}, {shape})", ("mean", "scale")),
    "weibull": Way("weibull({0}, {shape})", ("a",), (_power_of,)),
    "zipf": Way("zipf({0}, {shape})", ("a",)),
}

FLAT = ("dirichlet", "permuted")
"""The draws that are written row after row into memory."""

Checks = tuple[tuple[str, str], ...]
"""The error and the message for each condition that must hold."""


class Draw(Op):
    """Numbers from a generator. Operands: its state, the parameters, and a boolean for each of
    `checks`."""

    name = "draw"
    foldable = False
    weight = 8

    def infer(
        self,
        state: ArrayType,
        *operands: ArrayType,
        method: str,
        shape: tuple[Size, ...],
        dtype: np.dtype,
        checks: Checks,
    ) -> ArrayType:
        return ArrayType(dtype, shape)

    def reference(
        self, state: Any, *operands: Any, method: str, shape: Any, dtype: np.dtype, checks: Checks
    ) -> Any:
        count = len(operands) - len(checks)
        for good, (error, message) in zip(operands[count:], checks, strict=True):
            if not good:
                raise (OverflowError if error == "OverflowError" else ValueError)(message)
        names = [f"p{number}" for number in range(count)]
        text = _call("rng", names, method, shape, dtype)
        return eval(text, {"np": np, "rng": state, **dict(zip(names, operands, strict=False))})

    def text(
        self, state: str, *operands: str, method: str, shape: Any, dtype: Any, checks: Checks
    ) -> str:
        return _call(state, operands[: len(operands) - len(checks)], method, shape, dtype)

    def jvp(
        self,
        tangents: tuple[Array | None, ...],
        out: Array,
        state: Array,
        *operands: Array,
        method: str,
        shape: Any,
        dtype: np.dtype,
        checks: Checks,
    ) -> Array:
        way, params = WAYS[method], operands[: len(operands) - len(checks)]
        total: Any = None
        for number, tangent in enumerate(tangents[1 : 1 + len(params)]):
            if tangent is None:
                continue
            partial = way.partials[number] if number < len(way.partials) else None
            if partial is None:
                raise NotDifferentiableError(
                    f"draws of rng.{method} have no derivative with respect to "
                    f"{way.names[number]}: it does not enter as a location or scale; make it a "
                    "constant, or use an estimator with the derivative of the log density"
                )
            part = tangent * partial(out, *params)
            total = part if total is None else total + part
        return total

    def kernel(self, lowering: Any, node: Node) -> None:
        """The checks, the parameters in memory, one call of the library that fills the result."""
        attrs = node.attributes
        state, operands = node.inputs[0], node.inputs[1:]
        count = len(operands) - len(attrs["checks"])
        comment = lowering.comment(node)
        for good, (error, message) in zip(operands[count:], attrs["checks"], strict=True):
            lowering.append(Check(lowering.value(good, ()), error, message, comment))
        args = tuple(_parameter(lowering, operand) for operand in operands[:count])
        place = lowering.value(state, ()).name
        dtype = node.type.dtype
        if node.type.rank:
            array = lowering.allocate(node)
        else:
            array = lowering.namer.unique(f"{node.name}_drawn")
            lowering.append(Alloc(array, (ex.integer(1),), dtype))
        filled = array
        if attrs["method"] in FLAT and node.type.rank > 1:
            filled = lowering.namer.unique(f"{array}_all")
            lowering.append(View(filled, array, (lowering.size(product(attrs["shape"])),)))
        lowering.append(LibraryCall(attrs["method"], args, (place, filled), comment))
        if not node.type.rank:
            value = Load(array, (ex.integer(0),), dtype)
            lowering.append(Assign(Var(node.name, dtype), value, comment))
            lowering.scalars[node] = Var(node.name, dtype)


def _parameter(lowering: Any, operand: Node) -> str | Expr:
    """A scalar, or the name of an array."""
    if not operand.type.rank:
        return lowering.value(operand, ())
    if operand in lowering.arrays:
        return lowering.arrays[operand]
    name = lowering.namer.unique(f"{operand.name or 'parameter'}_drawn")
    shape = tuple(lowering.size(size) for size in operand.type.shape)
    lowering.append(Alloc(name, shape, operand.type.dtype))
    with lowering.nest(operand.type.shape) as index:
        lowering.append(Store(name, index, lowering.value(operand, index)))
    return name


def _call(state: str, operands: Any, method: str, shape: Any, dtype: np.dtype) -> str:
    """The draw in Python."""
    kind = "" if dtype == np.float64 else f", np.{dtype.name}"
    name = "bool_" if dtype.kind == "b" else dtype.name
    size = shape_text(shape) if shape else "None"
    rows = shape_text(shape[:-1]) if len(shape) > 1 else "None"
    ends = {"size": shape[0], "rows": rows} if shape else {}
    text = WAYS[method].call.format(*operands, shape=size, dtype=kind, name=name, **ends)
    return f"{state}.{text.replace('(0, 0 + ', '(0, ')}"


class After(Op):
    """The state of a generator after a draw."""

    name = "after"
    foldable = False

    def infer(self, state: ArrayType, draw: ArrayType, *, generator: str) -> ArrayType:
        return StateType.of(generator)

    def reference(self, state: Any, draw: Any, *, generator: str) -> Any:
        return state

    def text(self, *args: str, generator: str) -> str:
        return generator

    def element(self, read: Callable[..., Expr], index: tuple[Expr, ...], node: Node) -> Expr:
        return read(0, ())


DRAW, AFTER = register(Draw()), register(After())
