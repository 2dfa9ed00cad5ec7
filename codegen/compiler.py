"""numba's compiler with passes of our own.

In: a Python function of a generated module, with its loop program, and its argument types. Out: a
numba dispatcher. Differences from `numba.njit`:

* LLVM code is written from the loop program (`codegen.emit`), not from the function's bytecode.
* Functions linked in are private to the compiled object. Under their public names, which hold a
  per-process counter, an object loaded from disk could be bound to another process's idea of them
  (numba #10486). Nor may they only be internal: LLVM's linker finds those by name all the same, and
  NRT_decref of ours, which looks for no null where it is given none, would be the caller's own.
* What is the same for all blocks of a parallel loop stays outside of its kernel.
* Machine code is made in the way of `machine`.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numba
from llvmlite import binding as llvm
from numba.core import types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompileResult
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.runtime.nrt import rtsys
from numba.core.typed_passes import NoPythonBackend

from codegen import machine, native, parts, target
from codegen.distributions import DRAWS, SYMBOL
from codegen.emit.lowering import Lowering, Typed
from codegen.library import versions
from codegen.vecmath import rare

UNCACHEABLE = "numba.dynamic.globals.tracegrad"
"""A name by which numba tells code that must not be kept on disk."""


class Library(JITCodeLibrary):
    """Compiled code of one function of a generated module; `marker` is part of its symbols."""

    marker = ""

    def _optimize_functions(self, ll_module: Any) -> None:
        """Left to the optimisation of the linked module: 8 % less time, the same code."""
        ll_module.data_layout = self._codegen._data_layout

    def _optimize_final_module(self) -> None:
        for name in self._linked():
            self._final_module.get_function(name).linkage = "private"
        # numba optimises twice, to prune reference counts in between; here are none to prune.
        manager, builder = self._codegen._module_pass_manager()
        manager.run(self._final_module, builder)
        rare.inlined(self._final_module, builder)

    def _finalize_specific(self) -> None:
        with machine.quickly():
            super()._finalize_specific()

    def _linked(self) -> set[str]:
        """The functions that nobody else calls."""
        linked = {f.name for library in self._linking_libraries for f in defined(library)}
        own = {f.name for f in defined(self) if self.marker not in f.name}
        return (linked | own) & {f.name for f in defined(self)}

    def _get_module_for_linking(self) -> Any:
        """The module for callers, marked so that numba keeps no caller in its own disk cache.

        That cache would not see when the code changes (numba #1833), and would hand its object to a
        process that does not know the symbols in it.
        """
        first = self._shared_module is None
        module = super()._get_module_for_linking()
        if first:
            mark = f"@{UNCACHEABLE} = weak_odr constant i8 0"
            module.link_in(llvm.parse_assembly(mark))
        return module


@register_pass(mutates_CFG=False, analysis_only=True)
class OwnLibrary(FunctionPass):
    """Make the library before lowering would make a plain one."""

    _name = "codegen_own_library"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.marker = state.func_id.func.__module__
        state.library.enable_object_caching()
        return False


def defined(library: Any) -> list[Any]:
    """The functions of a library that are not only declared."""
    return [f for f in library._final_module.functions if not f.is_declaration]


PASSES = (Typed, OwnLibrary, Lowering, NoPythonBackend)


class Compiler(target.Compiler):
    """The pipeline for functions of generated modules."""

    passes = PASSES


@register_pass(mutates_CFG=False, analysis_only=True)
class OwnHandedLibrary(OwnLibrary):
    """Make the library of a function that Python does not call."""

    _name = "codegen_own_handed_library"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        state.flags.no_cpython_wrapper = True
        state.flags.no_cfunc_wrapper = True
        return super().run_pass(state)


class HandedCompiler(target.Compiler):
    """The pipeline for versions of functions that others hand calls to."""

    passes = (Typed, OwnHandedLibrary, Lowering, NoPythonBackend)


class Handed(parts.Part):
    """A version of a function that gets its calls from another one: all there is to it is its
    address."""

    def add_overload(self, cres: Any) -> None:
        cres.library._ensure_finalized()
        super().add_overload(cres)


def handed(function: Any) -> Any:
    """A dispatcher for such a version, without compiled code."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "nopython": True}
    return Handed(function, targetoptions=options, pipeline_class=HandedCompiler)


def dispatcher(function: Any, boundscheck: bool) -> Any:
    """A numba dispatcher without compiled code. With bounds checks indices stay signed, so that
    a wrong one is reported as it is."""
    options: dict[str, Any] = {"error_model": "numpy", "nogil": True, "no_cfunc_wrapper": True}
    if boundscheck:
        return numba.njit(boundscheck=True, **options)(function)
    options["nopython"] = True
    return target.Dispatcher(function, targetoptions=options, pipeline_class=Compiler)


def frozen(dispatcher: Any) -> list[Any]:
    """The compiled code of a dispatcher as data that can be pickled."""
    return [result._reduce() for result in dispatcher.overloads.values()]


def parcel(data: list[Any], other: str | None) -> native.Code:
    """The frozen code of a dispatcher for `native`. `other`: what its other version returns, if
    there is one."""
    (_, _, (code, bitcode)), found, environment, signature, *_, others = data[0]
    places = dict.fromkeys((environment, *others))
    inside, outside = native.symbols(bitcode)
    wrapper = found.llvm_cpython_wrapper_name
    constants = tuple((env.env_name, tuple(env.consts)) for env in places)
    return native.Code(
        name=found.qualname.split(".")[-1],
        module=found.modname,
        object=code,
        wrapper=wrapper if wrapper in inside else "",
        entry=found.llvm_func_name,
        environment=found.env_name,
        constants=constants,
        undefined=outside,
        signature=(str(signature.args), str(signature.return_type)),
        other="" if other is None else str(versions.result_type(other)),
    )


def relocatable(dispatcher: Any) -> bool:
    """Whether the code holds no address of this process."""
    return not any(r.library.has_dynamic_globals for r in dispatcher.overloads.values())


def address(dispatcher: Any, given: tuple[types.Type, ...], result: str) -> int:
    """Where the compiled code of a dispatcher lies, if it takes these types and returns the one of
    that name, else 0."""
    (found,) = dispatcher.overloads.values()
    if (found.signature.args, found.signature.return_type) != (given, versions.result_type(result)):
        return 0
    return found.library.get_pointer_to_function(found.fndesc.llvm_func_name)


def thaw(dispatcher: Any, data: list[Any]) -> None:
    """Give a dispatcher the compiled code that `frozen` took from one.

    Raises LookupError if the code calls something that this process does not have.
    """
    context = dispatcher.targetctx
    rtsys.initialize(context)  # arrays are allocated through it; a compilation would start it too
    for reduced in data:
        _, _, (_, bitcode) = reduced[0]
        resolve_externals(context, bitcode)
        result = CompileResult._rebuild(context, *reduced)
        context.insert_user_function(result.entry_point, result.fndesc, [result.library])
        dispatcher.add_overload(result)


def resolve_externals(context: Any, bitcode: bytes) -> None:
    """See to it that what a piece of code calls is known to LLVM, which would else end the process.

    Most of numba's symbols are registered with its implementations, and those take 0.3 s to load:
    only if there is one that needs them.
    """
    names = set(native.symbols(bitcode)[1])
    for name in names:
        if name.startswith(SYMBOL):
            import_module(DRAWS).register(name.removeprefix(SYMBOL))
        else:
            native.register_own(name)
    if unknown(context, names):
        context.refresh()
    if missing := unknown(context, names):
        raise LookupError(f"no symbol {', '.join(sorted(missing))}")


def unknown(context: Any, names: set[str]) -> set[str]:
    engine = context.codegen()._engine
    return {n for n in names if not llvm.address_of_symbol(n) and not engine.is_symbol_defined(n)}
