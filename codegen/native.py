"""Compiled functions from disk in a process that has no need of a compiler.

In: a compiled function as data (`Code`): an object file, the names in it, what it calls. Out: a
function that Python can call, and its address for other compiled code. Loading numba, ordering
loops and printing text take 0.4 s; linking an object file takes some milliseconds. Of numba only
extension modules are loaded (`extensions`).

    code = native.Code(...)            # in the process that compiled it (`compiler.parcel`)
    native.load(code).function(x)      # in another one

What is loaded is what numba would have loaded: the same object file, bound to the same functions.
"""

from __future__ import annotations

import builtins
import ctypes
import pickle
import sys
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm

from codegen import arrays, blas, cache, memory, numpyorder, special, threads
from codegen.extensions import FUNCTIONS, HELPERS, RUNTIME, extension
from codegen.records import dataclass

OWN = {home.SYMBOL: home for home in (arrays, blas, memory, numpyorder, special, threads)}
"""Modules of ours with functions that compiled code calls, by what their symbols begin with."""


class Unloadable(Exception):
    """The code needs something that only numba's compiler can set up."""


@dataclass(frozen=True)
class Code:
    """One compiled function as data."""

    name: str
    module: str
    object: bytes
    wrapper: str
    """The symbol of the function for Python, which takes a tuple of arguments; "" if there is
    none."""
    entry: str
    """The symbol of the function itself."""
    environment: str
    """The symbol of the place where the wrapper looks for the constants that it needs."""
    constants: tuple[tuple[str, tuple[Any, ...]], ...]
    """For each such place in the object its constants."""
    undefined: tuple[str, ...]
    """The symbols that it expects from outside."""
    signature: tuple[str, str]
    """The types of its arguments, and that of its result."""
    other: str = ""
    """The type of the result that its other version has to have, if there is one."""
    threads: bool = False
    """Whether it is the version with threads."""
    given: tuple[int, ...] = ()
    """The results that are its last parameters."""

    def pickled(self) -> bytes:
        return pickle.dumps(vars(self))

    @staticmethod
    def unpickled(data: bytes) -> Code:
        return Code(**pickle.loads(data))


@dataclass(frozen=True)
class Loaded:
    """A function that can be called, and the address of its compiled code."""

    code: Code
    function: Any
    address: int

    @property
    def path(self) -> Path:
        """Where its text lies, if that was not removed."""
        return cache.directory() / self.code.module / f"{self.code.module}.py"


def symbols(bitcode: bytes) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The symbols that a module has, and those that it expects from outside."""
    module = llvm.parse_bitcode(bitcode)
    named = [*module.functions, *module.global_variables]
    outside = [x.name for x in named if x.is_declaration and not x.name.startswith("llvm.")]
    return tuple(x.name for x in named if not x.is_declaration), tuple(outside)


def register_own(name: str) -> bool:
    """Make a symbol known to LLVM if it stands for something of ours; whether it does."""
    for prefix, home in OWN.items():
        if name.startswith(prefix):
            home.register(name.removeprefix(prefix))
            return True
    return False


def register(name: str) -> bool:
    """Make what a symbol stands for known to LLVM, as numba does; whether that is possible."""
    if register_own(name):
        return True
    address = place(name)
    if address is not None:
        llvm.add_symbol(name, address)
    return address is not None or bool(llvm.address_of_symbol(name))


def place(name: str) -> int | None:
    """Where a function or an object of numba's or Python's lies, in numba's names for them."""
    if name == "_Py_NoneStruct":
        return id(None)
    prefix, _, rest = name.partition("_")
    if prefix == "PyExc":
        return id(vars(builtins)[rest])
    if prefix == "NRT":
        return extension(RUNTIME).c_helpers.get(rest)
    if prefix == "numba":
        known = extension(HELPERS).c_helpers
        return known.get(rest, extension(FUNCTIONS).c_helpers.get(rest))
    if not llvm.address_of_symbol(name):  # sin and the like
        return extension(HELPERS).c_helpers.get(name)
    return None


def load(code: Code) -> Loaded:
    """Link the code and make a Python function of it. Raises Unloadable.

    A symbol that is not known would end the process, so all are looked up before.
    """
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine())
    # Python's own functions are known to LLVM from here on.
    if missing := [name for name in code.undefined if not register(name)]:
        raise Unloadable(f"no symbol {', '.join(missing)}")
    engine.add_object_file(llvm.ObjectFileRef.from_data(code.object))
    engine.finalize_object()
    if not (entry := engine.get_function_address(code.entry)):
        raise Unloadable("the object lacks its own function")
    dynfunc = extension(FUNCTIONS)
    environments = {}
    for symbol, constants in code.constants:
        made = environments[symbol] = dynfunc.Environment({"__name__": code.module})
        made.consts.extend(constants)
        if at := engine.get_global_value_address(symbol):
            ctypes.c_void_p.from_address(at).value = id(made)
    # Compiled code is never freed: arrays may outlive the function that made them.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object((engine, environments)))
    function = None
    if code.wrapper:
        here, environment = sys.modules[__name__], environments[code.environment]
        wrapper = engine.get_function_address(code.wrapper)
        function = dynfunc.make_function(here, code.name, "", wrapper, environment, ())
    return Loaded(code, function, entry)


def machine() -> Any:
    """A target for an engine that has nothing to compile."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm.Target.from_default_triple().create_target_machine(opt=0)
