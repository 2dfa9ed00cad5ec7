"""From text to compiled functions: the generated module is a file, imported and compiled once.

In: a `loops.Module`. Out: `Built`: numba dispatchers by name, the text, the path of the file.
What was compiled before, by any process, is loaded from `cache`.
"""

from __future__ import annotations

import inspect
import linecache
import pickle
import platform
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache as memoized
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import numba
from llvmlite import binding as llvm
from numba.core import config
from numba.core.errors import NumbaError
from numba.core.serialize import dumps

from codegen import (
    apart,
    arguments,
    arrays,
    cache,
    calling,
    compiler,
    emit,
    foreign,
    known,
    library,
    parts,
    promises,
    shortcuts,
    source,
    straight,
    target,
    vecmath,
)
from codegen.emit.lowering import Program
from codegen.errors import CodegenError, CompileError
from codegen.interrupts import interruptible
from codegen.loops import Forward, Function, Module, Parameter
from codegen.progress import progress
from codegen.schedule import scheduled
from codegen.threads import offer

_LOCK = threading.RLock()
"""numba's compiler is not safe against itself: one compilation at a time."""

COMPILER = (compiler, apart, arguments, arrays, calling, parts, shortcuts, straight, target)
"""The modules that say how a program becomes code, beside `emit`."""


@dataclass(frozen=True)
class Options:
    """`boundscheck` compiles every index check in, for debugging; without `disk` nothing is read
    from the disk cache or kept there; `threads` makes the version for large arrays, to which the
    other one hands on calls."""

    boundscheck: bool = False
    disk: bool = True
    threads: bool = False


@dataclass(frozen=True)
class Built:
    """The compiled functions by name, their text, its file, `hit` or why not, seconds by stage.

    `given`: for each function the numbers of the results that are its last parameters; `large`: how
    to have the version for large arrays, if there is one.
    """

    functions: dict[str, Any]
    source: str
    path: Path
    cache: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    given: dict[str, tuple[int, ...]] = field(default_factory=dict)
    large: Callable[[], Built] | None = None
    frozen: dict[str, list[Any]] = field(default_factory=dict, repr=False)
    """The code of the functions as data, where it was read or kept."""


def argument_type(parameter: Parameter) -> numba.types.Type:
    """The numba type of an argument: a C-contiguous array, or a scalar."""
    scalar = numba.from_dtype(parameter.dtype)
    return numba.types.Array(scalar, parameter.rank, "C") if parameter.rank else scalar


def signature(function: Function) -> tuple[numba.types.Type, ...]:
    return tuple(argument_type(parameter) for parameter in function.parameters)


def given(function: Function) -> tuple[int, ...]:
    return tuple(p.result for p in function.parameters if p.result is not None)


@memoized
def surroundings() -> tuple[tuple[str, str], ...]:
    """The parts of the key that are the same for all modules of a process."""
    features = llvm.get_host_cpu_features().flatten()
    packages = ("numba", "llvmlite", "numpy", "scipy")
    return (
        ("versions", " ".join(f"{package} {version(package)}" for package in packages)),
        ("Python", f"{sys.implementation.cache_tag} {platform.python_version()}"),
        ("CPU", f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"),
        ("callees", vecmath.fingerprint() + library.fingerprint()),
        ("compiler", emit.fingerprint() + "".join(map(inspect.getsource, COMPILER))),
    )


def key(module: Module, text: str) -> cache.Key:
    """Everything on which the compiled code of a module depends."""
    given = source.foreign_names(module)
    signatures = [(f.name, str(signature(f))) for f in module.functions if not f.kernel]
    settings = [(name, str(vars(config).get(name))) for name in known.SETTINGS]
    facts = [([p.shape for p in f.parameters], f.apart, f.extents) for f in module.functions]
    parts = (
        ("text", text),
        ("signatures", str(signatures)),
        ("what is known of arguments", str(facts)),
        ("numba settings", str(settings)),
        *((f"foreign {f.name}", foreign.dependencies(f.function).digest) for f in given),
        *surroundings(),
    )
    return cache.Key(module.functions[-1].name, parts)


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
    """The text of the module that `build` compiles."""
    return source.print_module(scheduled(module, threads))


def export_source(module: Module, threads: bool = False) -> str:
    """The text of a module that imports only numpy and numba; runs with NUMBA_DISABLE_JIT=1 too.
    With `threads` loops over large arrays are numba's `prange`."""
    ordered = scheduled(module, True if threads else None)
    return source.print_module(ordered, source.Options(standalone=True))


def build(
    module: Module, *, options: Options = Options(), by_graph: cache.Key | None = None
) -> Built:
    """Order the loops, print, and compile `module`, or load what was compiled before. `by_graph` is
    the key by which `known` is to find the last function.

    Raises CompileError, which carries the text, if numba refuses it.
    """
    start = time.perf_counter()
    # Bounds are checked in one version only: in the one on whose lines one can put a finger.
    threads = None if options.boundscheck else options.threads
    ordered = scheduled(module, threads)
    text = source.print_module(ordered, source.Options(boundscheck=options.boundscheck))
    printed = time.perf_counter()
    with _LOCK:
        built = _built(ordered, text, options)
    stages = {"print": printed - start, "compile": time.perf_counter() - printed}
    built = replace(built, timings=stages, given={f.name: given(f) for f in ordered.functions})
    places = forwards(ordered)
    if by_graph is not None and built.frozen and not options.boundscheck:
        keep(built, ordered.functions[-1].name, places, by_graph)
    built = replace(built, frozen={})
    if not places:
        return built
    more, by_graph = replace(options, threads=True), by_graph and known.with_threads(by_graph)
    large = memoized(lambda: build(module, options=more, by_graph=by_graph))
    small = signature(ordered.functions[-1])
    offer(built.path.stem, lambda: _address(large(), small, places[0]))
    return replace(built, large=large)


def keep(built: Built, name: str, places: list[Forward], by_graph: cache.Key) -> None:
    """Have `known` find a function in processes to come."""
    large = source.returned(places[0].returns) if places else None
    code = compiler.parcel(built.frozen[name], large)
    known.keep(by_graph, replace(code, given=built.given[name]))


def forwards(module: Module) -> list[Forward]:
    """The places where functions hand calls on to their versions with threads."""
    return [s for f in module.functions for s in f.body if isinstance(s, Forward)]


def _address(large: Built, given: tuple[numba.types.Type, ...], forward: Forward) -> int:
    """Where the version with threads lies. Raises CompileError if it takes or returns something
    else than the one that hands on to it."""
    (function,) = large.functions.values()
    found = compiler.address(function, given, source.returned(forward.returns))
    if not found:
        raise CompileError("the version with threads has other types", large.source)
    return found


def _built(module: Module, text: str, options: Options) -> Built:
    found = key(module, text)
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
        functions = _dispatchers(module, space, options)
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
        functions = _compiled(module, space, options, text)
    if options.disk and not all(d.certain for d in reached):
        state += "; not kept: a foreign function was compiled before its globals were looked at"
    elif options.disk and not all(map(compiler.relocatable, functions.values())):
        state += "; not kept: the code holds addresses of this process"
    elif options.disk:
        frozen = {name: compiler.frozen(function) for name, function in functions.items()}
        state += "" if cache.store(found, text, dumps(frozen)) else "; not kept"
        return Built(functions, text, path, state, frozen=frozen)
    return Built(functions, text, path, state)


def _dispatchers(module: Module, space: ModuleType, options: Options) -> dict[str, Any]:
    """Dispatchers without code, in the module too (where its text made plain ones)."""
    functions: dict[str, Any] = {}
    for function in module.functions:
        plain = getattr(space, function.name).py_func
        plain.program = Program(function, apart.Facts(function.apart, function.extents))
        if function.kernel:
            made = compiler.kernel(plain, options.boundscheck)
        elif options.threads:
            made = compiler.handed(plain)
        else:
            made = compiler.dispatcher(plain, options.boundscheck)
        setattr(space, function.name, made)
        if not function.kernel:
            functions[function.name] = made
    return functions


def _compiled(module: Module, space: ModuleType, options: Options, text: str) -> dict[str, Any]:
    """The functions, compiled; where numba refuses one, with all that it has loaded."""
    try:
        return _translated(module, space, options)
    except (NumbaError, CodegenError):
        parts.complete()
    try:
        return _translated(module, space, options)
    except (NumbaError, CodegenError) as error:
        for function in module.functions:
            promises.verify(function)
        name = module.functions[-1].name
        refused = CompileError(f"numba refused {name}: {error}", text)
        refused.comment = getattr(error, "comment", "")
        raise refused from error


def _translated(module: Module, space: ModuleType, options: Options) -> dict[str, Any]:
    functions = _dispatchers(module, space, options)
    for function in module.functions:
        if function.kernel:
            continue  # compiled for the types with which it is called
        functions[function.name].compile(signature(function))
        functions[function.name].disable_compile()  # another type of argument is a TypeError
    return functions
