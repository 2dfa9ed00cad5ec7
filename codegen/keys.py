"""By what the compiled code of a module is found on disk, once its text is printed.

In: a `loops.Module` as it is compiled, its text. Out: a `cache.Key` over all that the code depends
on: text, signatures, settings, versions, the CPU, and the files that say how text becomes code.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache as memoized
from pathlib import Path

import llvmlite
import numba
import numpy
import scipy
from llvmlite import binding as llvm
from numba.core import config

from codegen import cache, foreign, known, source
from codegen.loops import Function, Module, Parameter


def argument_type(parameter: Parameter) -> numba.types.Type:
    """The numba type of an argument: a C-contiguous array, or a scalar."""
    scalar = numba.from_dtype(parameter.dtype)
    return numba.types.Array(scalar, parameter.rank, "C") if parameter.rank else scalar


def signature(function: Function) -> tuple[numba.types.Type, ...]:
    return tuple(argument_type(parameter) for parameter in function.parameters)


@memoized
def surroundings() -> tuple[tuple[str, str], ...]:
    """The parts of the key that are the same for all modules of a process."""
    features = llvm.get_host_cpu_features().flatten()
    packages = (numba, llvmlite, numpy, scipy)
    return (
        ("versions", " ".join(f"{p.__name__} {p.__version__}" for p in packages)),
        ("Python", f"{sys.implementation.cache_tag} {platform.python_version()}"),
        ("CPU", f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"),
        ("compiler and callees", sources(Path(__file__).parent)),
    )


def sources(package: Path) -> str:
    """A digest of all files of a package. Of this one: of what makes the code and of what is called
    in it, whether this process has loaded them or not."""
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def key(module: Module, text: str, handed: bool = False) -> cache.Key:
    """Everything on which the compiled code of a module depends."""
    given = source.foreign_names(module)
    signatures = [(f.name, str(signature(f))) for f in module.functions if not f.kernel]
    settings = [(name, str(vars(config).get(name))) for name in known.SETTINGS]
    facts = [([p.shape for p in f.parameters], f.apart, f.extents) for f in module.functions]
    parts = (
        ("text", text),
        ("handed calls only", str(handed)),
        ("signatures", str(signatures)),
        ("what is known of arguments", str(facts)),
        ("numba settings", str(settings)),
        *((f"foreign {f.name}", foreign.dependencies(f.function).digest) for f in given),
        *surroundings(),
    )
    return cache.Key(module.functions[-1].name, parts)
