"""The scalar functions in a loop beside NumPy's and the C library's: a markdown table.

    PYTHONPATH=. python benchmarks/vecmath.py            # the table
    PYTHONPATH=. python benchmarks/vecmath.py --write    # docs/vecmath.md

One row a function and dtype: the largest error found against mpmath, then nanoseconds an element
(8192 elements, all in the first cache; the three are timed in turn, 60 rounds, the best counts).
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from types import FunctionType
from typing import Any

import numba
import numpy as np
from numba import njit
from scipy import special

import codegen
from codegen.expr import Call, Load, Var
from codegen.loops import For, Function, Module, Parameter, Return, Store
from codegen.vecmath.reference import ABSOLUTE, REFERENCES, Reference, exact, sample, ulps

SIZE, ROUNDS, CALLS = 8192, 60, 5
OTHERS: dict[str, Callable[..., Any]] = {
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(x.dtype.type(0), x),
}
# Plain numba: what one writes without this package.
PLAIN = {
    "exp2": lambda x: 2.0**x,
    "sigmoid": lambda x: 1.0 / (1.0 + math.exp(-x)),
    "softplus": lambda x: math.log1p(math.exp(x)),
    "arcsin": math.asin,
    "arccos": math.acos,
    "arctan": math.atan,
    "arcsinh": math.asinh,
    "arccosh": math.acosh,
    "arctanh": math.atanh,
    "arctan2": math.atan2,
    "gammaln": math.lgamma,
    "power": math.pow,
    "log2": np.log2,
    "cbrt": np.cbrt,
    "fmod": np.fmod,
    "remainder": lambda a, b: a % b,
    "floor_divide": lambda a, b: a // b,
    "maximum": np.maximum,
    "logaddexp": np.logaddexp,
    "logaddexp2": np.logaddexp2,
}
EXACT = (
    Reference("maximum", max, -10, 10, arity=2),
    Reference("fmod", math.fmod, 0.5, 10, arity=2),
    Reference("remainder", math.fmod, 0.5, 10, arity=2),
    Reference("floor_divide", math.fmod, 0.5, 10, arity=2),
)


def loop(function: Any, arity: int, compiled: Callable[..., Any]) -> Callable[..., None]:
    """A compiled loop that applies the function to every element."""

    def one(a, out):
        for i in range(out.size):
            out[i] = function(a[i])

    def two(a, b, out):
        for i in range(out.size):
            out[i] = function(a[i], b[i])

    return compiled(one if arity == 1 else two)


def generated(name: str, arity: int, dtype: Any) -> Callable[..., None]:
    """A loop program that applies the function to every element."""
    kind, i, n = np.dtype(dtype), Var("i"), Var("n")
    arrays = ("a", "b")[:arity]
    value = Call(name, tuple(Load(array, (i,), kind) for array in arrays), kind)
    parameters = tuple(Parameter(array, kind, 1) for array in (*arrays, "out"))
    body = (For(i, n, (Store("out", (i,), value),)), Return(()))
    function = Function("run", parameters, body, sizes=(("n", "out", 0),))
    return codegen.build(Module((function,))).functions["run"]


def plain(name: str, arity: int) -> Callable[..., None] | None:
    """The loop over what numba makes of the C library's function, if it has one."""
    function = PLAIN.get(name) or getattr(math, name, None)
    if isinstance(function, FunctionType):
        function = njit(error_model="numpy")(function)
    return None if function is None else loop(function, arity, njit(error_model="numpy"))


def nanoseconds(calls: list[Callable[[], Any]]) -> list[float]:
    """The best time of each call per element, taken in turn."""
    best = [math.inf] * len(calls)
    for call in calls:
        call()
    for _ in range(ROUNDS):
        for k, call in enumerate(calls):
            start = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[k] = min(best[k], (time.perf_counter() - start) / (CALLS * SIZE) * 1e9)
    return best


def largest_error(row: Reference, ours: Callable[..., None], dtype: np.dtype) -> str:
    if row in EXACT:
        return "exact"
    columns = sample(row, dtype, 2000, seed=1)
    result = np.empty_like(columns[0])
    ours(*columns, result)
    unit = 0.0 if row in REFERENCES else 1.0 if row.arity == 1 else 0.5
    return f"{ulps(result, exact(row, columns), dtype, unit).max():.2f}"


def measure(row: Reference, dtype: np.dtype) -> str:
    """One line of the table."""
    random = np.random.default_rng(0)
    columns = [random.uniform(row.low, row.high, SIZE).astype(dtype) for _ in range(row.arity)]
    out = np.empty(SIZE, dtype)
    ours = generated(row.name, row.arity, dtype)
    numpy = OTHERS.get(row.name) or getattr(np, row.name, None) or getattr(special, row.name)
    library = plain(row.name, row.arity)
    calls = [lambda: ours(*columns, out), lambda: numpy(*columns)]
    if library is not None:
        calls.append(lambda: library(*columns, out))
    times = [f"{t:.2f}" for t in nanoseconds(calls)] + [""] * (library is None)
    error = largest_error(row, ours, dtype)
    return f"| {row.name} | {dtype.name} | {error} | {' | '.join(times)} |"


def table(names: list[str]) -> Iterator[str]:
    yield "| function | dtype | max ulp | ours, ns | NumPy or SciPy, ns | plain numba, ns |"
    yield "|---|---|---:|---:|---:|---:|"
    for row in REFERENCES + ABSOLUTE + EXACT:
        for dtype in (np.dtype(np.float64), np.dtype(np.float32)):
            if not names or row.name in names:
                yield measure(row, dtype)


def machine() -> str:
    cpu = numba.core.codegen.ll.get_host_cpu_name()
    versions = (
        f"numba {numba.__version__}, NumPy {np.__version__}, Python {platform.python_version()}"
    )
    load = os.getloadavg()[1]
    state = f"; {load:.0f} processes ran at the time, so read single figures with care"
    return (
        f"Measured on {date.today()}, CPU type {cpu}, one thread; {versions}{state * (load > 1.5)}."
    )


INTRODUCTION = """# Vector math

The scalar functions that generated loops call (`codegen/vecmath`). LLVM inlines and vectorises them
inside the loop, whatever else stands in it. Every function is Python source in which you can read
the method; the coefficients come from `codegen/vecmath/derive.py`.

What holds for all of them: an element has the same bits wherever it stands in an array; NaN,
infinities, signed zeros and denormals are treated as NumPy does; sin, cos and tan are right for
arguments of every size; under `NUMBA_DISABLE_JIT=1` they run as plain Python with the same bits.

* `max ulp`: the largest error against mpmath over 6,000 points, two thirds of them near the usual
  range and near zero, one third random bit patterns (all exponents). For `logaddexp` and
  `logaddexp2` the unit is that of a result of at least 1/2, for `digamma` of at least 1.
* `ns`: nanoseconds an element for 8192 elements in a loop that does nothing else, so that loads and
  stores count too, compiled as generated functions are; the implementations take turns, the best of
  60 rounds counts. NumPy's column
  includes the allocation of the result; SciPy's functions stand in where NumPy has none.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--write", action="store_true", help="write docs/vecmath.md")
    options = parser.parse_args()
    lines = []
    for line in table(options.names):
        lines.append(line)
        print(line, file=sys.stderr if options.write else sys.stdout, flush=True)
    if options.write:
        path = Path(__file__).parent.parent / "docs" / "vecmath.md"
        path.parent.mkdir(exist_ok=True)
        path.write_text(INTRODUCTION + machine() + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
