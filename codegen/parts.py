"""The functions of `codegen` that generated ones call, compiled as parts of these only.

In: `exp_f64(x)` in a generated function, where `exp_f64` is a numba dispatcher like any. Out: the
same call of a twin of it, which is typed and lowered with the passes that our own source needs, and
optimised; but nothing is made for calls from Python and no machine code, which comes into being
with that of the caller. Four functions for a network's gradient: 0.10 instead of 0.31 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from numba.core import ir
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typed_passes import (
    IRLegalization,
    NativeLowering,
    NoPythonBackend,
    NopythonTypeInference,
    PreLowerStripPhis,
)
from numba.core.untyped_passes import (
    FixupArgs,
    GenericRewrites,
    IRProcessing,
    ReconstructSSA,
    RewriteDynamicRaises,
    TranslateByteCode,
)

from codegen import straight, target
from codegen.calling import Typed
from codegen.shortcuts import Shortcuts
from codegen.straight import own


class Part(target.Dispatcher):
    """A compiled function that only other compiled functions call."""

    def add_overload(self, cres: Any) -> None:
        key = object()  # stands where the function that Python calls would be
        cres = cres._replace(entry_point=key)
        self.targetctx.insert_user_function(key, cres.fndesc, [cres.library])
        self.overloads[tuple(cres.signature.args)] = cres

    def in_place(self, context: Any, builder: Any, arguments: Sequence[Typed]) -> Typed | None:
        """What a call returns, if the text can be written in its place."""
        return straight.in_place(context, builder, self.py_func, arguments, part)


class PartLibrary(JITCodeLibrary):
    """Code that is only ever linked into another function's, and made into machine code there."""

    marker = ""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._finalized = True


@register_pass(mutates_CFG=False, analysis_only=True)
class OwnPartLibrary(FunctionPass):
    """Make the library before lowering would make a plain one, and leave out what only calls from
    Python need."""

    _name = "codegen_own_part_library"
    library_class: type[PartLibrary] = PartLibrary

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = self.library_class(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.marker = state.func_id.func.__module__
        state.flags.no_compile = True
        state.flags.no_cpython_wrapper = True
        state.flags.no_cfunc_wrapper = True
        return False


@register_pass(mutates_CFG=False, analysis_only=False)
class Parts(FunctionPass):
    """Replace the dispatchers of `codegen` by their twins."""

    _name = "codegen_parts"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            for statement in block.body:
                match statement:
                    case ir.Assign(value=ir.Global() | ir.FreeVar() as name) if own(name.value):
                        name.value = part(name.value)
        return True


class PartCompiler(target.Compiler):
    """The pipeline for functions of `codegen`."""

    passes = (
        TranslateByteCode,
        FixupArgs,
        IRProcessing,
        Shortcuts,
        Parts,
        GenericRewrites,
        RewriteDynamicRaises,
        ReconstructSSA,
        NopythonTypeInference,
        PreLowerStripPhis,
        OwnPartLibrary,
        IRLegalization,
        NativeLowering,
        NoPythonBackend,
    )


@cache
def part(dispatcher: Any) -> Part:
    """The twin of a dispatcher."""
    return Part(
        dispatcher.py_func, targetoptions=dispatcher.targetoptions, pipeline_class=PartCompiler
    )


def complete() -> None:
    """Load all of numba's implementations, for twins made from now on too."""
    target.complete()
    part.cache_clear()
