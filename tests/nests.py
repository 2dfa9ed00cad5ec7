"""Transformations to nest, and programs of every family of operations to nest them around.

A layer makes a function from vectors to vectors of another, traced, and says what that means in
numbers, computed from values of the function inside. A derivative's meaning is a central
difference; that of `vmap`, `scan`, `cond`, `checkpoint` is plain Python.

    jvp(vmap(grad(f)))(x)     =     (g(x + h v) - g(x - h v)) / 2h     with     g = vmap(grad(f))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tracegrad as tg
from codegen.costs import SCIPY
from tests import oracle
from tracegrad.function import Function
from tracegrad.ir.interpret import interpret
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import SAMPLES, Sample
from tracegrad.ops.unknown import NoFormula

Vector = Callable[[Any], Any]
"""A function from vectors to vectors."""

STEP = 1e-5
LARGEST = 12
"""Elements of a program's arguments: a gradient's meaning costs two values for each."""

ROLLED = 20
"""Steps of a Python loop that is rolled, whatever its body."""


def direction(x: Any) -> np.ndarray:
    """A direction in the space of `x`, which may be traced: its extent is an int or a size."""
    return np.cos(2.0 + 3.0 * tg.arange(x.shape[0]))


def weights(y: Any) -> Any:
    return np.cos(1.0 + tg.arange(y.shape[0]))


def beside(x: Any) -> Any:
    """Another point of the same domain."""
    return 0.9 * x + 0.1 * x[::-1]


def weighted(f: Vector) -> Callable[[Any], Any]:
    """A scalar of a function's result; its elements are told apart by their weights."""

    def run(x: Any) -> Any:
        y = f(x)
        return np.sum(y * weights(y))

    return run


def slope(f: Callable[..., Any], x: np.ndarray, t: np.ndarray) -> Any:
    return (f(x + STEP * t) - f(x - STEP * t)) / (2 * STEP)


def along(f: Vector) -> Vector:
    return lambda x: slope(f, x, direction(x))


def unit_slopes(f: Vector) -> Vector:
    return lambda x: np.array([slope(weighted(f), x, e) for e in np.eye(len(x))])


def sum_of_two(f: Vector) -> Vector:
    return lambda x: f(x) + f(beside(x))


def plain(f: Vector) -> Vector:
    return f


@dataclass(frozen=True)
class Layer:
    """A transformation, made a function from vectors to vectors, and what it means in numbers."""

    traced: Callable[[Vector], Vector]
    meaning: Callable[[Vector], Vector] = plain
    mode: str = ""
    """"forward" or "reverse" for a derivative: what it does first to the function inside."""
    order: int = 1
    """How many derivatives it takes, 0 for none."""


def by_vjp(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        y, pullback = tg.vjp(f, x)
        return pullback(weights(y))[0]

    return run


def with_value(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        (value, aux), d_x = tg.value_and_grad(lambda x: (weighted(f)(x), x[:1]), has_aux=True)(x)
        return np.concatenate([np.reshape(value, (1,)), aux, d_x])

    return run


def with_value_meant(f: Vector) -> Vector:
    return lambda x: np.concatenate([[weighted(f)(x)], x[:1], unit_slopes(f)(x)])


def contracted(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        jacobian = tg.jacrev(f)(x)
        return weights(jacobian) @ jacobian

    return run


def custom_jvp(f: Vector) -> Vector:
    """`f` behind a rule that is its own derivative."""
    whole = tg.custom_jvp(f)
    whole.defjvp(lambda primals, tangents: tg.jvp(f, primals, tangents))
    return whole


def custom_vjp(f: Vector) -> Vector:
    whole = tg.custom_vjp(f)
    whole.defvjp(lambda x: (f(x), x), lambda x, ct: tg.vjp(f, x)[1](ct))
    return whole


def mapped(f: Vector, axis: int) -> Vector:
    each = tg.vmap(f, in_axes=axis, out_axes=axis)
    return lambda x: each(np.stack([x, beside(x)], axis=axis)).sum(axis=axis)


def scanned(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        return tg.scan(lambda c, s: (beside(c), s * f(c)), x, np.array([1.0, 0.5]))[1].sum(axis=0)

    return run


def in_segments(f: Vector) -> Vector:
    def step(state: Any, _: Any) -> Any:
        x, total = state
        return (beside(x), total + f(x)), None

    return lambda x: tg.scan(step, (x, 0 * f(x)), None, 2, checkpoint=1)[0][1]


def counted(f: Vector) -> Vector:
    def step(_: Any, state: Any) -> Any:
        return beside(state[0]), state[1] + f(state[0])

    return lambda x: tg.fori_loop(0, 2, step, (x, 0 * f(x)))[1]


def repeated(f: Vector) -> Vector:
    def step(s: Any) -> Any:
        return s[0] + 1, beside(s[1]), s[2] + f(s[1])

    return lambda x: tg.while_loop(lambda s: s[0] < 2, step, (0, x, 0 * f(x)))[2]


def unrolled(f: Vector) -> Vector:
    """A Python loop that is rolled while it is traced, if its body is small."""

    def run(x: Any) -> Any:
        total = 0 * f(x)
        for step in range(ROLLED):
            total = total + f(x) / (1 + step)
            x = beside(x)
        return total

    return run


def unrolled_meant(f: Vector) -> Vector:
    def run(x: Any) -> Any:
        parts = []
        for step in range(ROLLED):
            parts.append(f(x) / (1 + step))
            x = beside(x)
        return np.sum(parts, axis=0)

    return run


def pyflow(f: Vector) -> Vector:
    @tg.trace(python_control_flow=True)
    def run(x: Any) -> Any:
        total = 0 * f(x)
        for _ in tg.range(2):
            if x[0] < 50:
                total += f(x)
            else:
                total -= f(x)
            x = beside(x)
        return total

    return run


LAYERS = {
    "grad": Layer(lambda f: tg.grad(weighted(f)), unit_slopes, "reverse"),
    "value_and_grad": Layer(with_value, with_value_meant, "reverse"),
    "vjp": Layer(by_vjp, unit_slopes, "reverse"),
    "jacrev": Layer(contracted, unit_slopes, "reverse"),
    "jvp": Layer(lambda f: lambda x: tg.jvp(f, (x,), (direction(x),))[1], along, "forward"),
    "linearize": Layer(lambda f: lambda x: tg.linearize(f, x)[1](direction(x)), along, "forward"),
    "jacfwd": Layer(lambda f: lambda x: tg.jacfwd(f)(x) @ direction(x), along, "forward"),
    "hvp": Layer(
        lambda f: lambda x: tg.hvp(weighted(f))(x, direction(x)),
        lambda f: along(unit_slopes(f)),
        "reverse",
        2,
    ),
    "hessian": Layer(
        lambda f: lambda x: tg.hessian(weighted(f))(x) @ direction(x),
        lambda f: along(unit_slopes(f)),
        "reverse",
        2,
    ),
    "vmap": Layer(lambda f: mapped(f, 0), sum_of_two, order=0),
    "vmap columns": Layer(lambda f: mapped(f, 1), sum_of_two, order=0),
    "checkpoint": Layer(tg.checkpoint, order=0),
    "custom_jvp": Layer(custom_jvp, order=0),
    "custom_vjp": Layer(custom_vjp, order=0),
    "cond": Layer(lambda f: lambda x: tg.cond(x[0] < 50, f, lambda x: 2 * f(x), x), order=0),
    "switch": Layer(
        lambda f: (
            lambda x: tg.switch(np.sum(x > 50), [f, lambda x: 2 * f(x), lambda x: 3 * f(x)], x)
        ),
        order=0,
    ),
    "scan": Layer(scanned, lambda f: lambda x: f(x) + 0.5 * f(beside(x)), order=0),
    "segments": Layer(in_segments, sum_of_two, order=0),
    "map": Layer(
        lambda f: lambda x: tg.map(f, np.stack([x, beside(x)])).sum(axis=0), sum_of_two, order=0
    ),
    "fori_loop": Layer(counted, sum_of_two, order=0),
    "while_loop": Layer(repeated, sum_of_two, order=0),
    "python loop": Layer(unrolled, unrolled_meant, order=0),
    "python_control_flow": Layer(pyflow, sum_of_two, order=0),
}

COSTLY = ("python loop",)
"""Layers that trace what is inside of them many times."""


def order(names: Sequence[str]) -> int:
    return sum(LAYERS[name].order for name in names)


def lacks_a_rule(names: Sequence[str]) -> bool:
    """Whether forward mode meets `custom_vjp`: from the inside out, before reverse mode does."""
    waiting = by_jvp = False
    for name in names:
        mode = LAYERS[name].mode
        if waiting and (mode == "forward" or (mode and by_jvp)):
            return True
        waiting = name == "custom_vjp" or (waiting and not mode)
        by_jvp = waiting and (by_jvp or name == "custom_jvp")
    return False


@dataclass(frozen=True)
class Program:
    """A sample, or an elementwise operation, as a function of one vector; a point."""

    name: str
    family: str
    sample: Sample

    def at(self, seed: int = 0) -> tuple[Vector, np.ndarray]:
        args = oracle.drawn_arguments(self.sample, np.dtype(float), seed)
        sizes = np.cumsum([0, *(np.size(x) for x in args)])

        def program(v: Any) -> Any:
            parts = [
                np.reshape(v[start:stop], np.shape(x)) if np.ndim(x) else v[start]
                for start, stop, x in zip(sizes, sizes[1:], args, strict=False)
            ]
            found = oracle.flat(self.sample.program(*parts))
            return np.concatenate([np.reshape(y, (-1,)) for y in found if is_float(y)])

        return program, np.concatenate([np.reshape(x, -1) for x in args])


def is_float(y: Any) -> bool:
    kind = y.type.dtype.kind if hasattr(y, "type") else np.asarray(y).dtype.kind
    return kind == "f"


def _programs() -> dict[str, Program]:
    found = [_of_sample(number, s) for number, s in enumerate(SAMPLES) if _usable(s)]
    found += [_of_row(op) for op in REGISTRY.values() if _has_partials(op)]
    return {program.name: program for program in found}


def _usable(sample: Sample) -> bool:
    sizes = [int(np.prod(shape)) for shape in sample.shapes]
    return sample.smooth and "f" in sample.kinds and all(sizes) and 0 < sum(sizes) <= LARGEST


def _of_sample(number: int, sample: Sample) -> Program:
    code = sample.program.__code__
    family = Path(code.co_filename).stem
    return Program(f"{family}-{code.co_firstlineno}-{number}", family, sample)


def _has_partials(op: Any) -> bool:
    return isinstance(op, Elementwise) and any(_active(op)) and "f" in op.kinds


def _active(op: Elementwise) -> list[bool]:
    """By which arguments there is a derivative."""
    return [p is not None and not isinstance(p, NoFormula) for p in op.partials]


DOMAINS = {
    "arccosh": (1.5, 3.0),
    "arcsin": (-0.8, 0.8),
    "arccos": (-0.8, 0.8),
    "arctanh": (-0.8, 0.8),
    "logit": (0.2, 0.8),
    "ndtri": (0.2, 0.8),
    "erfinv": (-0.8, 0.8),
    "erfcinv": (0.2, 0.8),
}
"""Where a function is defined and smooth, if not between 0.6 and 1.4."""


def _of_row(op: Any) -> Program:
    if op.scalar in SCIPY:
        return Program(f"row-{op.name}", "rows", _inside(op))
    domain = DOMAINS.get(op.name, (0.6, 1.4))
    return Program(f"row-{op.name}", "rows", Sample(op, ((3,),) * op.arity, domain))


def _inside(op: Elementwise) -> Sample:
    """Between the ends of each argument's own domain; what there is no derivative by is fixed."""
    domains = [op.domain[min(k, len(op.domain) - 1)] for k in range(op.arity)]
    active = _active(op)

    def program(*parts: Any) -> Any:
        given = iter(parts)
        return op(
            *(
                low + (high - low) * next(given)
                if free
                else int(low)
                if low == high
                else (low + high) / 2
                for (low, high), free in zip(domains, active, strict=True)
            )
        )

    return Sample(program, ((3,),) * sum(active), (0.3, 0.7))


PROGRAMS = _programs()
FAMILIES: dict[str, list[str]] = defaultdict(list)
for _name, _program in PROGRAMS.items():
    FAMILIES[_program.family].append(_name)


class Numbers:
    """A function traced once, evaluated node by node with NumPy."""

    def __init__(self, f: Vector, x: np.ndarray) -> None:
        self.graph = Function(f).version_for((x,), {})[0].graph

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(interpret(self.graph, [x])[0])


def nested(f: Vector, names: Sequence[str]) -> Vector:
    for name in names:
        f = LAYERS[name].traced(f)
    return f


def check(program: str, names: Sequence[str], seed: int = 0) -> None:
    """Every layer from the inside out, traced, against its meaning by the layer inside it."""
    f, x = PROGRAMS[program].at(seed)
    numbers = Numbers(f, x)
    for name in names:
        layer, inside = LAYERS[name], numbers
        f = layer.traced(f)
        numbers = Numbers(f, x)
        found, expected = numbers(x), layer.meaning(inside)(x)
        assert found.shape == expected.shape
        scale = 1 + np.max(np.abs(expected), initial=0) + np.max(np.abs(inside(x)), initial=0)
        # Rounding; a difference loses eps / h and h**2; one of differences eps / h**2 and h**2.
        bound = (1e-10, 1e-5, 1e-3)[layer.order] * scale
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=bound, err_msg=str(names))


def check_compiled(program: str, names: Sequence[str], seed: int = 0) -> None:
    """The compiled nest against the interpreted one."""
    f, x = PROGRAMS[program].at(seed)
    f = nested(f, names)
    found, expected = np.asarray(tg.trace(f)(x)), Numbers(f, x)(x)
    # Chains of some hundred operations in another order.
    scale = 1 + np.max(np.abs(expected), initial=0)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * scale, err_msg=str(names))
