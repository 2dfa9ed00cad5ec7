"""What compiled code needs of its surroundings, one by one: `python -m tracegrad doctor`.

ok    compiler    first gradient right after 1.4 s
wrong cache       /home/ada/.cache/tracegrad: not a directory of this user: remove it, or ...
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from llvmlite import binding as llvm
from numba.core import config

from codegen import cache
from tracegrad.function import trace

PACKAGES = ("tracegrad", "numpy", "numba", "llvmlite", "scipy")
VECTORS = ("avx512f", "avx2", "avx", "sse2", "sve", "neon")


class Finding(Exception):
    """What is wrong, and what to do about it."""


def report() -> int:
    """Print a line for each check; 0 if all are in order, 1 if not."""
    wrong = 0
    for check in CHECKS:
        try:
            state, text = "ok", check()
        except Finding as finding:
            state, text, wrong = "wrong", str(finding), 1
        print(f"{state:5} {check.__name__:9} {text}")
    return wrong


def versions() -> str:
    return ", ".join([f"Python {platform.python_version()}", *_installed()])


def _installed() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            yield f"{package} (from a source directory)"


def processor() -> str:
    features = llvm.get_host_cpu_features()
    widest = next((name for name in VECTORS if features.get(name)), "no vector unit known to us")
    return f"{llvm.get_host_cpu_name()}, {widest}, {os.cpu_count()} CPUs"


def settings() -> str:
    """numba's environment variables that make compiled code slow."""
    slow = {"DISABLE_JIT": "nothing is compiled", "BOUNDSCHECK": "every index is checked"}
    for name, effect in slow.items():
        if vars(config).get(name):
            raise Finding(f"NUMBA_{name} is set: {effect}; unset it for full speed")
    if int(vars(config)["OPT"]) < 3:
        raise Finding("NUMBA_OPT is lower than 3; unset it for full speed")
    return "no setting of numba's slows compiled code"


def blas() -> str:
    """The BLAS behind SciPy, called through its function pointers."""
    a = np.arange(6.0).reshape(2, 3)
    found = trace(lambda a, b: a @ b)(a, a.T)
    if not np.array_equal(found, [[5, 14], [14, 50]]):
        raise Finding(f"a matrix product gives {found.tolist()}: reinstall scipy and numba")
    return "a product through SciPy's BLAS is right"


def storage() -> str:
    """The disk cache: ours, private, writable."""
    root = cache.directory()
    where = "set XDG_CACHE_HOME to a directory of your own"
    if root.exists() and not cache.private(root):
        raise Finding(f"{root} is open to others or not yours: chmod 700 it, or {where}")
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=existing, prefix="."):
            pass
    except OSError as error:
        raise Finding(f"{existing} cannot be written ({error.strerror}): {where}") from None
    entries = cache.entries()
    held = sum(entry.bytes for entry in entries) / 2**20
    return f"{root}: {len(entries)} entries, {held:.1f} of {cache.LIMIT / 2**20:.0f} MiB"


def compiler() -> str:
    """Trace, differentiate, compile and run a gradient with a value that is known."""
    start = time.perf_counter()
    gradient = trace(lambda x: np.mean(np.exp(x) * x)).grad(np.array([0.0, 1.0]))
    seconds = time.perf_counter() - start
    if not np.allclose(gradient, [0.5, np.e], rtol=1e-15, atol=0):
        raise Finding(f"a gradient is wrong: {gradient.tolist()} is not [0.5, e]; please report it")
    return f"first gradient right after {seconds:.2f} s"


CHECKS: tuple[Callable[[], str], ...] = (
    versions,
    processor,
    settings,
    storage,
    compiler,
    blas,
)
