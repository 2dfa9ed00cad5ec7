"""A small compiler: from loop programs (`loops`, `expr`) to compiled functions in a Python file.

`build(module)` compiles, `print_module(module)` shows the text, `export_source(module)` gives a
text that needs only numpy and numba.
"""

from codegen import expr, loops, source
from codegen.errors import CodegenError, CompileError
from codegen.loops import Module
from codegen.module import Built, Options, build


def print_module(module: Module) -> str:
    """The text of the module that `build` compiles."""
    return source.print_module(module)


def export_source(module: Module) -> str:
    """The text of a module that imports only numpy and numba; runs with NUMBA_DISABLE_JIT=1 too."""
    return source.print_module(module, source.Options(standalone=True))


__all__ = [
    "Built",
    "CodegenError",
    "CompileError",
    "Options",
    "build",
    "export_source",
    "expr",
    "loops",
    "print_module",
]
