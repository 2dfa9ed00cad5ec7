"""Compiled functions kept by the graph that they were made of.

In: a digest of everything that a program consists of before it is ordered, printed and compiled.
Out: its code, from the process that compiled it. The other key, of the generated text and all that
is compiled with it (`keys.key`), can only be told when the loops are ordered and numba is there.
This one takes the generator's own files for what they would print:

    graph            a digest that the caller makes
    sources          name, size and time of change of each file of tracegrad and codegen
    packages         numba, llvmlite, NumPy, SciPy: version, place, time of change
    Python, CPU      as in the other key
    environment      numba's variables

Where that is not all (numba's settings changed by hand, files changed since they were loaded) there
is no key, and the long way is taken.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache as memoized
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm

from codegen import STARTED, cache, native, threads

SETTINGS = (
    "OPT",
    "BOUNDSCHECK",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "CPU_NAME",
    "CPU_FEATURES",
    "ENABLE_AVX",
    "LLVM_REFPRUNE_PASS",
    "LLVM_REFPRUNE_FLAGS",
    "DEBUGINFO_DEFAULT",
    "DEBUG_NRT",
    "NRT_STATS",
    "ENABLE_PROFILING",
    "FULL_TRACEBACKS",
)
"""numba's settings that change the code it makes."""

PACKAGES = ("numba", "llvmlite", "numpy", "scipy")
ROOTS = tuple(Path(__file__).resolve().parents[1] / name for name in ("codegen", "tracegrad"))


def key(name: str, parts: tuple[tuple[str, str], ...]) -> cache.Key | None:
    """The key of a program; None if there can be none in this process."""
    if "NUMBA_DISABLE_JIT" in os.environ or not (is_plain() and unchanged()):
        return None
    variables = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    return cache.Key(name, (*parts, ("environment", str(variables)), *surroundings()))


def load(found: cache.Key | None, build: Callable[[], Any]) -> native.Loaded | None:
    """The compiled function, if it was kept and everything that it needs is here. `build` compiles
    it, for its other version, where that is not kept: with this one as the entry."""
    loaded = None if found is None else _loaded(found)
    if found is None or loaded is None or not loaded.code.other:
        return loaded
    module, other = loaded.code.module, with_threads(found, not loaded.code.threads)
    wanted = (loaded.code.signature[0], loaded.code.other)

    def version() -> int:
        there = _loaded(other)
        if there is not None and there.code.signature == wanted:
            return there.address
        build()  # which offers its own way to it
        return threads.VERSIONS.make[module]()

    threads.offer(module, version)
    return loaded


def _loaded(found: cache.Key) -> native.Loaded | None:
    data, _ = cache.load(found, cache.by_graph())
    if data is None:
        return None
    try:
        return native.load(native.Code.unpickled(data))
    except Exception:  # whatever is wrong with it, the long way is right
        cache.discard(cache.by_graph() / found.stem)
        return None


def keep(found: cache.Key, code: native.Code) -> None:
    """Put a function on disk, to be found by this key, in place of one that is damaged."""
    if cache.load(found, cache.by_graph())[0] is None:
        cache.store(found, "", code.pickled(), cache.by_graph())


def with_threads(found: cache.Key, threads: bool) -> cache.Key:
    """The key of the version to which the entry hands on calls."""
    return replace(found, parts=(*found.parts, ("threads", str(threads))))


@memoized
def surroundings() -> tuple[tuple[str, str], ...]:
    """The parts of the key that are the same for all programs of a process."""
    features = llvm.get_host_cpu_features().flatten()
    return (
        ("sources", sources()[0]),
        ("packages", "\n".join(map(package, PACKAGES))),
        ("Python", f"{sys.implementation.cache_tag} {platform.python_version()}"),
        ("CPU", f"{llvm.get_process_triple()} {llvm.get_host_cpu_name()} {features}"),
    )


@memoized
def sources() -> tuple[str, float]:
    """A digest of what the file system says of our files, and when the last one was changed."""
    digest, last = hashlib.sha256(), 0.0
    for path, found in sorted(pair for root in ROOTS for pair in files(str(root))):
        digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
        # An installer may give files the time at which they were packed, but not this one.
        last = max(last, found.st_mtime, found.st_ctime)
    return digest.hexdigest(), last


def files(folder: str) -> list[tuple[str, os.stat_result]]:
    found = []
    for item in os.scandir(folder):
        if item.is_dir():
            found += files(item.path)
        elif item.name.endswith(".py"):
            found.append((item.path, item.stat()))
    return found


def unchanged() -> bool:
    """Whether our files are what this process has loaded."""
    return sources()[1] < STARTED


def package(name: str) -> str:
    """Which build of a package there is, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return f"no {name}"
    origin = Path(spec.origin)
    site = origin.parents[1]
    installed = sorted(item for item in os.listdir(site) if item.startswith(f"{name}-"))
    return f"{origin} {origin.stat().st_mtime_ns} {installed}"


def is_plain() -> bool:
    """Whether numba's settings are what the environment makes of them."""
    if Path(".numba_config.yaml").exists():
        return False
    config = sys.modules.get("numba.core.config")
    if config is None:
        return True
    own = unaltered(config.__file__, str(sorted(os.environ.items())))
    return all(vars(config).get(name) == vars(own).get(name) for name in SETTINGS)


@memoized
def unaltered(file: str, environment: str) -> Any:
    """numba's settings as another process with this environment would have them."""
    spec = spec_from_file_location("codegen_settings_of_numba", file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
