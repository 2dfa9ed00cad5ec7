"""Small functions around compiled ones, made from text: numba wants a function for each signature.

wrapper("loss_grad", "def loss_grad(x):\\n    return run(contiguous(x))\\n", {"run": run, ...})
"""

from __future__ import annotations

import linecache
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

_number = count()


def wrapper(name: str, text: str, given: Mapping[str, Any]) -> Any:
    """The plain function `name` that `text` defines, with `given` and NumPy as its globals."""
    path = f"<tracegrad {name} {next(_number)}>"
    # Tracebacks and numba's messages find the lines here.
    linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
    space: dict[str, Any] = {"np": np, "__name__": f"tracegrad.wrapper.{name}", **given}
    exec(compile(text, path, "exec"), space)
    return space[name]
