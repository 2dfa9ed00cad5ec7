"""A small compiler: from loop programs (`loops`, `expr`) to compiled functions in a Python file.

`build(module)` compiles, `print_module(module)` shows the text, `export_source(module)` gives a
text that needs only numpy and numba. The data types load at once; what needs numba loads when it is
first asked for.
"""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

from codegen import expr, loops
from codegen.errors import CodegenError, CompileError

STARTED = time.time()
"""Files changed after that are not what this process has loaded."""

_LAZY = {
    "Built": "codegen.module",
    "Options": "codegen.module",
    "build": "codegen.module",
    "print_module": "codegen.module",
    "export_source": "codegen.module",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'codegen' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


__all__ = ["CodegenError", "CompileError", "expr", "loops"]
