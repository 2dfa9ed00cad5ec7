"""From text to compiled functions: the generated module is a file, imported and compiled.

In: a `loops.Module`. Out: `Built`: numba dispatchers by name, the text, the path of the file.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from numba.core.errors import NumbaError

from codegen import source
from codegen.errors import CompileError
from codegen.loops import Function, Module, Parameter
from codegen.schedule import optimize

_LOCK = threading.RLock()
"""numba's compiler is not safe against itself: one compilation at a time."""


@dataclass(frozen=True)
class Options:
    """`boundscheck` compiles every index check in, for debugging."""

    boundscheck: bool = False


@dataclass(frozen=True)
class Built:
    functions: dict[str, Any]
    source: str
    path: Path
    cache: str = "miss: no cache yet"
    timings: dict[str, float] = field(default_factory=dict)


def directory() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tracegrad"


def argument_type(parameter: Parameter) -> numba.types.Type:
    """The numba type of an argument: a C-contiguous array, or a scalar."""
    scalar = numba.from_dtype(parameter.dtype)
    return numba.types.Array(scalar, parameter.rank, "C") if parameter.rank else scalar


def signature(function: Function) -> tuple[numba.types.Type, ...]:
    return tuple(argument_type(parameter) for parameter in function.parameters)


def _written(name: str, text: str) -> Path:
    """The text as a file named after its content; written under another name first."""
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = directory() / "modules"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{name}_{digest}.py"
    if not path.exists():
        handle, temporary = tempfile.mkstemp(dir=folder, suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    return path


def _imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def build(module: Module, *, options: Options = Options()) -> Built:
    """Print, write, import and compile `module`.

    Raises CompileError, which carries the text, if numba refuses it.
    """
    with _LOCK:
        start = time.perf_counter()
        text = source.print_module(
            scheduled(module), source.Options(boundscheck=options.boundscheck)
        )
        printed = time.perf_counter()
        path = _written(module.functions[0].name, text)
        loaded = _imported(path)
        functions = {function.name: getattr(loaded, function.name) for function in module.functions}
        for function in module.functions:
            try:
                functions[function.name].compile(signature(function))
            except NumbaError as error:
                message = f"numba refused {function.name}: {error}"
                raise CompileError(message, text) from error
        done = time.perf_counter()
    return Built(
        functions, text, path, timings={"print": printed - start, "compile": done - printed}
    )


def scheduled(module: Module) -> Module:
    """The module with every function's loops in their final order."""
    return replace(module, functions=tuple(optimize(f) for f in module.functions))


def print_module(module: Module) -> str:
    """The text of the module that `build` compiles."""
    return source.print_module(scheduled(module))


def export_source(module: Module) -> str:
    """The text of a module that imports only numpy and numba; runs with NUMBA_DISABLE_JIT=1 too."""
    return source.print_module(scheduled(module), source.Options(standalone=True))
