"""From text to compiled functions: the generated module is a file, imported and compiled once.

In: a `loops.Module`. Out: `Built`: numba dispatchers by name, the text, the path of the file.
What was compiled before, by any process, is loaded from `cache`.
"""

from __future__ import annotations

import linecache
import pickle
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field, replace
from functools import cache as memoized
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numba
from numba.core import config
from numba.core.errors import NumbaError
from numba.core.serialize import dumps

from codegen import apart, cache, compiler, foreign, known, parts, promises, source
from codegen.collecting import rarely
from codegen.emit.lowering import Program
from codegen.errors import CodegenError, CompileError
from codegen.interrupts import interruptible
from codegen.keys import key, signature
from codegen.loops import Forward, Function, Module
from codegen.progress import progress
from codegen.records import dataclass
from codegen.schedule import Settled, scheduled
from codegen.threads import offer

_LOCK = threading.RLock()
"""numba's compiler is not safe against itself: one compilation at a time."""


@dataclass(frozen=True)
class Options:
    """`boundscheck` compiles every index check in, for debugging; without `disk` nothing is read
    from the disk cache or kept there."""

    boundscheck: bool = False
    disk: bool = True


@dataclass(frozen=True)
class Form:
    """A version of a function: with `threads`, for large arrays, or without; an `entry` gets all
    calls and hands on those for the other version, which is compiled at the first of them."""

    threads: bool
    entry: bool = True

    @property
    def other(self) -> Form:
        return Form(not self.threads, entry=False)


@dataclass(frozen=True)
class Built:
    """The compiled functions by name, their text, its file, `hit` or why not, seconds by stage.

    `given`: for each function the numbers of the results that are its last parameters; `threads`:
    whether loops run on several threads; `other`: how to have the other version, if there is one.
    """

    functions: dict[str, Any]
    source: str
    path: Path
    cache: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    given: dict[str, tuple[int, ...]] = field(default_factory=dict)
    threads: bool = False
    other: Callable[[], Built] | None = None
    frozen: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    """The code of the functions as data, where it was read or kept."""


def given(function: Function) -> tuple[int, ...]:
    return tuple(p.result for p in function.parameters if p.result is not None)


def loaded(name: str, text: str, path: Path, given: Mapping[str, Any] | None = None) -> ModuleType:
    """The generated module, imported under a name that nothing else has; `given` are the foreign
    functions that it calls."""
    module = ModuleType(name)
    module.__dict__.update(given or {})
    module.__file__ = str(path)
    # The text is known, whatever becomes of the file: tracebacks and `inspect` find it here.
    linecache.cache[str(path)] = (len(text), None, text.splitlines(keepends=True), str(path))
    exec(compile(text, str(path), "exec"), module.__dict__)
    sys.modules[name] = module
    return module


def print_module(module: Module, threads: bool = False) -> str:
    """The text of the module that `build` compiles: as the entry, or with `threads` as the version
    to which that hands on calls."""
    return source.print_module(scheduled(module, threads, entry=not threads))


def export_source(module: Module, threads: bool = False) -> str:
    """The text of a module that imports only numpy and numba; runs with NUMBA_DISABLE_JIT=1 too.
    With `threads` loops over large arrays are numba's `prange`."""
    ordered = scheduled(module, threads, entry=False)
    return source.print_module(ordered, source.Options(standalone=True))


def build(
    module: Module,
    *,
    options: Options = Options(),
    by_graph: cache.Key | None = None,
    extents: Mapping[str, int] = MappingProxyType({}),
    threads: bool | None = None,
) -> Built:
    """Order the loops, print, and compile `module`, or load what was compiled before. `by_graph` is
    the key by which `known` is to find the last function.

    Of the version with threads and the one without the entry is the one for `extents`, those of the
    first call, so that only one of them is compiled for it; or `threads` says which.

    Raises CompileError, which carries the text, if numba refuses it.
    """
    start = time.perf_counter()
    settled = Settled(module)
    if options.boundscheck:
        # Bounds are checked in one version only: in the one on whose lines one can put a finger.
        form = Form(threads=False, entry=False)
    else:
        form = Form(settled.is_large(extents) if threads is None else threads)
    return _version(settled, form, options, by_graph, start)


def _version(
    settled: Settled, form: Form, options: Options, by_graph: cache.Key | None, start: float
) -> Built:
    """One version, compiled; `start` is when work on it began."""
    ordered = settled.version(form.threads, form.entry)
    if form == Form(threads=True) and not forwards(ordered):
        # What it returns is not plain to see, so small calls could not be handed on.
        return _version(settled, Form(threads=False), options, by_graph, start)
    text = source.print_module(ordered, source.Options(boundscheck=options.boundscheck))
    printed = time.perf_counter()
    with _LOCK, rarely():
        built = _built(ordered, text, form, options)
    stages = {"print": printed - start, "compile": time.perf_counter() - printed}
    numbers = {f.name: given(f) for f in ordered.functions if not f.kernel}
    built = replace(built, timings=stages, given=numbers, threads=form.threads)
    places = forwards(ordered)
    if by_graph is not None and built.frozen and not options.boundscheck:
        keep(built, ordered.functions[-1].name, places, by_graph)
    built = replace(built, frozen={})
    if not places:
        return built
    by_graph = by_graph and known.with_threads(by_graph, form.other.threads)

    @memoized
    def other() -> Built:
        return _version(settled, form.other, options, by_graph, time.perf_counter())

    own = signature(ordered.functions[-1])
    offer(built.path.stem, lambda: _address(other(), own, places[0]))
    return replace(built, other=other)


def keep(built: Built, name: str, places: list[Forward], by_graph: cache.Key) -> None:
    """Have `known` find a function in processes to come."""
    other = source.returned(places[0].returns) if places else None
    code = compiler.parcel(built.frozen[name], other)
    known.keep(by_graph, replace(code, given=built.given[name], threads=built.threads))


def forwards(module: Module) -> list[Forward]:
    """The places where functions hand calls on to their other versions."""
    return [s for f in module.functions for s in f.body if isinstance(s, Forward)]


def _address(other: Built, given: tuple[numba.types.Type, ...], forward: Forward) -> int:
    """Where the other version lies. Raises CompileError if it takes or returns something else than
    the one that hands on to it."""
    (function,) = other.functions.values()
    found = compiler.address(function, given, source.returned(forward.returns))
    if not found:
        raise CompileError("the other version has other types", other.source)
    return found


def _built(module: Module, text: str, form: Form, options: Options) -> Built:
    found = key(module, text, handed(form, options))
    given = {name: f.function for f, name in source.foreign_names(module).items()}
    reached = [foreign.dependencies(function) for function in given.values()]
    path = cache.directory() / found.stem / f"{found.stem}.py"
    space = loaded(found.stem, text, path, given)
    if vars(config)["DISABLE_JIT"]:
        functions = {f.name: getattr(space, f.name) for f in module.functions if not f.kernel}
        return Built(functions, text, path, "not compiled: NUMBA_DISABLE_JIT is set")
    if opaque := [name for d in reached for name in d.opaque]:
        state = f"miss: a foreign function reads {', '.join(opaque)}, which has no key"
        code, options = None, replace(options, disk=False)
    elif options.disk:
        code, state = cache.load(found)
    else:
        code, state = None, "miss: the disk cache is off"
    if code is not None:
        functions = _dispatchers(module, space, form, options)
        try:
            frozen = pickle.loads(code)
            for name, data in frozen.items():
                compiler.thaw(functions[name], data)
                functions[name].disable_compile()  # another type of argument is a TypeError
            return Built(functions, text, path, state, frozen=frozen)
        except Exception as error:  # whatever is wrong with it, compiling again is right
            state = f"miss: the entry cannot be loaded ({error})"
            cache.discard(path.parent)
    with interruptible(), progress(module.functions[-1].name, text.count("\n")):
        functions = _compiled(module, space, form, options, text)
    if options.disk and not all(d.certain for d in reached):
        state += "; not kept: a foreign function was compiled before its globals were looked at"
    elif options.disk and not all(map(compiler.relocatable, functions.values())):
        state += "; not kept: the code holds addresses of this process"
    elif options.disk:
        frozen = {name: compiler.frozen(function) for name, function in functions.items()}
        state += "" if cache.store(found, text, dumps(frozen)) else "; not kept"
        return Built(functions, text, path, state, frozen=frozen)
    return Built(functions, text, path, state)


def handed(form: Form, options: Options) -> bool:
    """Whether Python does not call the functions: only the other version does."""
    return not (form.entry or options.boundscheck)


def _dispatchers(module: Module, space: ModuleType, form: Form, options: Options) -> dict[str, Any]:
    """Dispatchers without code, in the module too (where its text made plain ones)."""
    functions: dict[str, Any] = {}
    for function in module.functions:
        plain = getattr(space, function.name).py_func
        plain.program = Program(function, apart.Facts(function.apart, function.extents))
        if function.kernel and not options.boundscheck:
            continue  # a part of the LLVM module of the function that calls it
        if handed(form, options):
            made = compiler.handed(plain)
        else:
            made = compiler.dispatcher(plain, options.boundscheck)
        setattr(space, function.name, made)
        if not function.kernel:
            functions[function.name] = made
    return functions


def _compiled(
    module: Module, space: ModuleType, form: Form, options: Options, text: str
) -> dict[str, Any]:
    """The functions, compiled; where numba refuses one, with all that it has loaded."""
    try:
        return _translated(module, space, form, options)
    except (NumbaError, CodegenError):
        parts.complete()
    try:
        return _translated(module, space, form, options)
    except (NumbaError, CodegenError) as error:
        for function in module.functions:
            promises.verify(function)
        name = module.functions[-1].name
        refused = CompileError(f"numba refused {name}: {error}", text)
        refused.comment = getattr(error, "comment", "")
        raise refused from error


def _translated(module: Module, space: ModuleType, form: Form, options: Options) -> dict[str, Any]:
    functions = _dispatchers(module, space, form, options)
    for function in module.functions:
        if function.kernel:
            continue  # compiled for the types with which it is called
        functions[function.name].compile(signature(function))
        functions[function.name].disable_compile()  # another type of argument is a TypeError
    return functions
