"""Write docs/ops.md: the supported functions, computed from the registry of operations.

    python docs/make_ops.py            # writes docs/ops.md
    python docs/make_ops.py --print    # prints it

The tables are by module of `tracegrad.ops`, headed by the first line of its docstring.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

import tracegrad.eager.creation
import tracegrad.ops
from tracegrad.later import Later
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import NUMPY, PUBLIC
from tracegrad.ops.operators import ArrayMethods
from tracegrad.ops.scipy import SciPy
from tracegrad.ops.unknown import NoFormula

PAGE = Path(__file__).with_name("ops.md")

HEAD = """# Operations

What traced functions and tensors may use. Every function exists as `tg.<name>` and takes arrays,
numbers and nested lists of them; the NumPy or SciPy function in the second column does the same
when it is applied to a traced array or a tensor. Arguments, results, dtypes and errors are NumPy's.
Anything else raises an error that names the nearest function listed here.

Functions with a floating result are differentiable in both modes, to any order, unless the notes
say otherwise.

Operators: `+ - * / // % ** @`, `& | ^ ~ << >>`, comparisons, indexing, and their in-place forms.
"""

MODULES = (("np.linalg", np.linalg), ("np.fft", np.fft), ("np", np))


def spellings(function: Callable[..., Any]) -> str:
    """The NumPy and SciPy functions that mean `function`."""
    found = {spelling(theirs) for theirs, ours in NUMPY.items() if ours is function}
    return ", ".join(f"`{name}`" for name in sorted(found - {""}))


def spelling(function: Any) -> str:
    """`np.tanh`, `scipy.special.erf`; empty for a function that only we have."""
    if isinstance(function, SciPy):
        return f"scipy.special.{function.name}"
    name = getattr(function, "__name__", "")
    found = (prefix for prefix, module in MODULES if getattr(module, name, None) is function)
    return next((f"{prefix}.{name}" for prefix in found), "")


def home(function: Any) -> str:
    """The module of `tracegrad.ops` in which a public function is defined."""
    if not isinstance(function, Elementwise):
        return inspect.unwrap(function).__module__
    for name, module in vars(tracegrad.ops).items():
        if inspect.ismodule(module) and function in vars(module).values():
            return f"tracegrad.ops.{name}"
    return "tracegrad.ops.elementwise"


def notes(function: Any) -> str:
    """What is missing of an elementwise function's derivative; the first line about another one."""
    if not isinstance(function, Elementwise):
        return (inspect.getdoc(function) or "").partition("\n")[0].replace("|", "\\|")
    has = [p is not None and not isinstance(p, NoFormula) for p in function.partials]
    if not any(has):
        return "no derivative"
    return "" if all(has) else f"derivative in {sum(has)} of {len(has)} arguments"


def listed() -> dict[str, Any]:
    """The public functions by name, those that load later loaded."""
    return {
        name: getattr(tracegrad.eager.creation, name) if isinstance(function, Later) else function
        for name, function in PUBLIC.items()
    }


def tables() -> Iterator[str]:
    functions = listed()
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(functions, key=str.lower):
        groups[home(functions[name])].append(name)
    for module in sorted(groups):
        heading = (import_module(module).__doc__ or module).strip().splitlines()[0].rstrip(".")
        yield f"\n## {re.split('[:,]', heading)[0]}\n"
        yield "| `tg.` | through | notes |"
        yield "|---|---|---|"
        for name in groups[module]:
            function = functions[name]
            yield f"| `{name}` | {spellings(function)} | {notes(function)} |"


def methods() -> str:
    names = [name for name in dir(ArrayMethods) if name in dir(np.ndarray) and name[0] != "_"]
    return "\n## Methods and attributes of arrays\n\n" + ", ".join(f"`{name}`" for name in names)


def page() -> str:
    return "\n".join([HEAD.rstrip("\n"), *tables(), methods()]) + "\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(page(), end="")
    else:
        PAGE.write_text(page(), "utf-8")
