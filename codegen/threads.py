"""How many threads parallel loops and BLAS use, and the pool behind them.

In: a number, from the environment or by `use(n)`. Out: cells that compiled code looks into: the
address of the function that runs blocks (null for one thread), and whether the present thread is
one that Python knows.

    use(2); present()      # 2: parallel loops on two threads, NumPy's and SciPy's BLAS too

The pool starts at the first loop that is large enough; in a forked child, which has none of its
parent's threads, it starts anew.
"""

from __future__ import annotations

import _thread
import ctypes
import os
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy
from llvmlite import binding as llvm

from codegen.gemm import Blas
from codegen.pool import RUN, Pool, address
from codegen.poolcode import MOST

SYMBOL = "codegen_threads_"
VARIABLES = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that say how many threads to use, the first one that is set."""


def available() -> int:
    """The CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default() -> int:
    for name in VARIABLES:
        first = os.environ.get(name, "").split(",")[0].strip()
        if first.isdigit() and int(first) > 0:
            return int(first)
    return available()


class State:
    """The number of threads and the pool, of this process; `chosen` once somebody has set it."""

    def __init__(self) -> None:
        self.count = default()
        self.chosen = False
        self.pool: Pool | None = None
        self.blas: Blas | None = None
        self.lock = threading.Lock()
        self.cell = ctypes.c_void_p()
        self.first = RUN(self.start)
        self.follow()

    def follow(self) -> None:
        """What compiled code calls: nothing, what starts the pool, or the pool."""
        if self.count == 1 or ctypes.sizeof(ctypes.c_void_p) != 8:
            self.cell.value = None
        elif self.pool is None:
            self.cell.value = address(self.first)
        else:
            self.pool.grow(min(self.count - 1, MOST))
            self.cell.value = self.pool.run

    def start(self, task: int, data: int, count: int, library: int) -> None:
        """Start the pool, then do what it does."""
        with self.lock:
            if self.pool is None:
                self.pool = Pool(self.limit())
            self.follow()
        run = self.cell.value
        (RUN(run) if run else alone)(task, data, count, library)

    def limit(self) -> tuple[int, int]:
        """Addresses of what puts BLAS on one thread and lets it go, or zeros."""
        return self.blas.limit if self.blas is not None else (0, 0)

    def forget(self) -> None:
        """In a forked child: the parent's threads are not here, nor is who held the lock."""
        self.pool, self.lock = None, threading.Lock()
        if self.blas is not None:
            self.blas.forget()
        VERSIONS.lock = threading.RLock()
        self.follow()


def alone(task: int, data: int, count: int, library: int) -> None:
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64)(task)
    for block in range(count):
        function(data, block)


STATE = State()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=STATE.forget)


VERSION = "version_"
NONE = -1
"""In the cell of a function that has no other version."""

FIND = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)


class Versions:
    """For each compiled module a cell with the address of its other version, the one with threads
    or the one without: 0 before anybody asked for it. `make` is what compiles it."""

    def __init__(self) -> None:
        self.cells: dict[str, ctypes.c_int64] = {}
        self.make: dict[str, Callable[[], int]] = {}
        self.find = FIND(self.found)
        self.lock = threading.RLock()

    def cell(self, module: str) -> ctypes.c_int64:
        return self.cells.setdefault(module, ctypes.c_int64(0))

    def found(self, place: int) -> int:
        """What compiled code calls that finds a 0 in its cell, which lies at `place`. It goes on in
        the version that it is in if there is no other.
        """
        known = list(self.cells.items())
        module, cell = next(pair for pair in known if ctypes.addressof(pair[1]) == place)
        try:
            with self.lock:
                if not cell.value:
                    cell.value = self.make[module]() if module in self.make else NONE
        except KeyboardInterrupt:
            _thread.interrupt_main()  # Python stops when it is back from compiled code
            return 0
        except Exception as error:  # nothing may be raised through compiled code
            cell.value = NONE
            message = f"{module} has one version for small and large arrays: {error}"
            warnings.warn(message, RuntimeWarning, stacklevel=2)
        return cell.value


VERSIONS = Versions()


def register(name: str) -> str:
    """Make one of our cells or functions known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        llvm.add_symbol(symbol, place(name))
    return symbol


def place(name: str) -> int:
    if name.startswith(VERSION):
        return ctypes.addressof(VERSIONS.cell(name.removeprefix(VERSION)))
    match name:
        case "run":
            return ctypes.addressof(STATE.cell)
        case "python":
            return address(ctypes.pythonapi.PyGILState_GetThisThreadState)
        case "find":
            return address(VERSIONS.find)
    raise LookupError(f"compiled code knows nothing called {name}")


def register_version(module: str) -> str:
    return register(VERSION + module)


def offer(module: str, make: Callable[[], int]) -> None:
    """`make` gives the address of the module's other version when it is first needed."""
    VERSIONS.make[module] = make


def present() -> int:
    return STATE.count


def use(count: int) -> None:
    """Use so many threads in parallel loops and in BLAS."""
    with STATE.lock:
        STATE.count, STATE.chosen = count, True
        STATE.follow()
        limit_blas()


def products(real: Mapping[str, int]) -> Blas:
    """SciPy's BLAS in blocks on these threads, given its `sgemm` and `dgemm`: once it is loaded. It
    uses as many threads as was asked for."""
    with STATE.lock:
        if STATE.blas is None:
            STATE.blas = Blas(ctypes.addressof(STATE.cell), real, scipy_blas())
            if STATE.pool is not None:
                STATE.pool.limit_blas(STATE.limit())
            if STATE.chosen:
                limit_blas()
        return STATE.blas


def limit_blas() -> None:
    """NumPy's and SciPy's BLAS use as many threads as our loops."""
    own, _ = scipy_blas()
    for library in blas_libraries():
        get, put = (function(library, f"{verb}_num_threads") for verb in ("get", "set"))
        if STATE.blas is not None and own and address(get) == own:
            STATE.blas.use(STATE.count)
        elif put is not None:
            put(ctypes.c_int(STATE.count))


def blas_libraries() -> Iterator[ctypes.CDLL]:
    """The OpenBLAS of NumPy's and of SciPy's wheel, where they are loaded."""
    packages = Path(numpy.__file__).parents[1]
    for folder in ("numpy.libs", "scipy.libs", "numpy/.dylibs", "scipy/.dylibs"):
        for path in (packages / folder).glob("*openblas*"):
            if (library := loaded(path)) is not None:
                yield library


def loaded(path: Path) -> ctypes.CDLL | None:
    """A shared library if this process has it already."""
    try:
        return ctypes.CDLL(str(path), mode=getattr(os, "RTLD_NOLOAD", 0) | ctypes.DEFAULT_MODE)
    except OSError:
        return None


def function(library: ctypes.CDLL, name: str) -> Any:
    """`openblas_get_num_threads` and the like, under the name that this build gives it."""
    for prefix in ("scipy_", ""):
        for suffix in ("64_", "", "_64"):
            if hasattr(library, symbol := f"{prefix}openblas_{name}{suffix}"):
                return getattr(library, symbol)
    return None


def scipy_blas() -> tuple[int, int]:
    """The addresses of SciPy's `get_num_threads` and `set_num_threads`, zeros if there are none."""
    for library in blas_libraries():
        get, put = (function(library, f"{verb}_num_threads") for verb in ("get", "set"))
        if "scipy.libs" in library._name and get is not None and put is not None:
            return address(get), address(put)
    return 0, 0
