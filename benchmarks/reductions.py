"""Reductions over each axis beside the memory's own speed and NumPy: a markdown table.

    PYTHONPATH=. python benchmarks/reductions.py               # the table
    PYTHONPATH=. python benchmarks/reductions.py sum max       # some rows of it
    PYTHONPATH=. python benchmarks/reductions.py --write       # docs/reductions.md

64 MB of numbers, more than the caches hold, on one thread. The limit is a loop by hand that adds
all of them in any order; a figure is its time divided by ours (NumPy's), the best of 16 rounds in
which all take turns (NumPy in every eighth), in time of the processor, so that other processes
count little: 1.00 is the speed of memory. Results are compared with NumPy's first. Takes about two
minutes on an idle machine, half of it for compiling 126 functions.
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
from typing import Any

import numba
import numpy as np
from numba import njit

import tracegrad as tg

BYTES, ROUNDS, SELDOM = 1 << 26, 16, 8
SHAPES: dict[str, tuple[tuple[int, ...], Any]] = {
    "all": ((-1,), None),
    "last, 4096": ((-1, 4096), 1),
    "last, 64": ((-1, 64), 1),
    "first, 4096": ((-1, 4096), 0),
    "first, 64": ((-1, 64), 0),
    "0 and 2": ((64, -1, 256), (0, 2)),
    "middle": ((64, -1, 256), 1),
}
"""What is reduced, with the extent of a row: the shape, the axis."""


def logsumexp(x: Any, axis: Any) -> Any:
    largest = np.max(x, axis=axis, keepdims=True)
    total = np.log(np.sum(np.exp(x - largest), axis=axis, keepdims=True))
    return np.squeeze(largest + total, axis=axis)


PROGRAMS: dict[str, Callable[[Any, Any], Any]] = {
    "sum": lambda x, axis: np.sum(x, axis=axis),
    "max": lambda x, axis: np.max(x, axis=axis),
    "min": lambda x, axis: np.min(x, axis=axis),
    "argmax": lambda x, axis: np.argmax(x, axis=axis),
    "prod": lambda x, axis: np.prod(x, axis=axis),
    "any": lambda x, axis: np.any(x > 10, axis=axis),
    "all": lambda x, axis: np.all(x < 10, axis=axis),
    "norm": lambda x, axis: np.sqrt(np.sum(x * x, axis=axis)),
    "logsumexp": logsumexp,
}


@njit(error_model="numpy", fastmath={"reassoc", "nsz"})
def read(x, total):
    """The sum of all, in any order."""
    for i in range(x.size):
        total += x[i]
    return total


def best(calls: list[Callable[[], Any]]) -> list[float]:
    """The best time of each call, taken in turn; the last one in some rounds only."""
    found = [math.inf] * len(calls)
    for turn in range(ROUNDS):
        for k, call in enumerate(calls if turn % SELDOM == 0 else calls[:-1]):
            start = time.thread_time()
            call()
            found[k] = min(found[k], time.thread_time() - start)
    return found


def measure(name: str, dtype: np.dtype, x: np.ndarray) -> str:
    """One line of the table: ours and NumPy's share of the limit for each shape."""
    cells = []
    for shape, axis in SHAPES.values():
        if name == "argmax" and isinstance(axis, tuple):
            cells.append("")
            continue
        array = x.reshape(shape)

        def program(array: Any, axis: Any = axis) -> Any:
            return PROGRAMS[name](array, axis)

        traced = tg.trace(program)
        # a product of 2**24 factors has as many roundings, NumPy's all in the same direction
        rtol = 0.1 if name == "prod" else 1e-3
        np.testing.assert_allclose(traced(array), program(array), rtol=rtol)
        read(x, dtype.type(0))
        limit, ours, numpy = best(
            [
                lambda: read(x, dtype.type(0)),
                lambda traced=traced, array=array: traced(array),
                lambda program=program, array=array: program(array),
            ]
        )
        cells.append(f"{limit / ours:.2f} ({limit / numpy:.2f})")
    return f"| {name} | {dtype.name} | {' | '.join(cells)} |"


def table(names: list[str]) -> Iterator[str]:
    yield f"| reduction | dtype | {' | '.join(SHAPES)} |"
    yield "|---|---|" + "---:|" * len(SHAPES)
    for name in names or PROGRAMS:
        for dtype in (np.dtype(np.float64), np.dtype(np.float32)):
            random = np.random.default_rng(0)
            yield measure(
                name, dtype, random.uniform(0.9999, 1.0001, BYTES // dtype.itemsize).astype(dtype)
            )


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


INTRODUCTION = """# Reductions

How fast `np.sum`, `np.max`, ... of a traced function read memory, over each axis: 64 MB of numbers
(more than the caches hold), one thread, `benchmarks/reductions.py`. The limit is a loop by hand
that adds all numbers in any order. A figure is the limit's processor time divided by ours, in
brackets by NumPy's; 1.00 is the speed of memory, more than that is noise. Columns: which axes are
reduced, and how long the last axis is.

What makes them so:

* Sums are taken in blocks in a fixed order (see `codegen/schedule/sums.py`); products likewise in
  vectors of partial products, so that a product of many numbers may overflow at another place than
  one taken from left to right.
* `max` and `min` propagate NaN as NumPy does; of zeros of both signs either may be found, in NumPy
  too (which one depends on the length and the place).
* Over the first axis long rows go by four or eight at a time (`codegen/schedule/columns.py`), so
  that memory is read and not the accumulators.
* `argmax` and `argmin` compare rows of up to 64 numbers as a whole: vectors with their own maximum,
  which gives a bit for each number. Of more numbers they find the best of each block and look for
  its place in one block only (rows of 65 to 128 float32 take about twice as long as reading them).
  Over the first axis they keep a value and a place of 32 bits for each column.
* `logsumexp` is bound by its exponentials: one takes three times as long as reading a number.

"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*PROGRAMS, []])
    parser.add_argument("--write", action="store_true", help="write docs/reductions.md")
    options = parser.parse_args()
    tg.set_num_threads(1)
    lines = []
    for line in table(options.names):
        lines.append(line)
        print(line, file=sys.stderr if options.write else sys.stdout, flush=True)
    if options.write:
        path = Path(__file__).parent.parent / "docs" / "reductions.md"
        path.write_text(INTRODUCTION + machine() + "\n\n" + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
