"""Matrix products in blocks: what compiled code calls instead of BLAS's `sgemm` and `dgemm`.

In: the addresses of BLAS's own two and of what gets and sets its number of threads. Out: functions
with the arguments of these two, and one each for many products of the same extents. A large product
becomes some products of rows (or columns) of its result, which the pool runs like the blocks of any
other loop, while BLAS is on one thread:

    1000 x 300 = (1000 x 500) @ (500 x 300), 2 CPUs  =>  rows 0 to 512, rows 512 to 1000

Why not BLAS's own threads: OpenBLAS gives each thread its share at once and waits for all of them
by spinning, then its threads spin on for 0.1 s. Beside our loops, or beside any other process, the
shares wait for each other: 1.1 ms became 25 to 130 ms. Here whoever has time takes the next block.

Where blocks begin follows from the extents and the number of CPUs of the machine, never from the
number of threads: in another block an element may be rounded differently.

BLAS's number of threads is one number for the whole process. It is 1 while at least one thread is
in a product or in a parallel loop that calls BLAS (`limit`), and what it was afterwards
(`release`). Words of the state:

    0 lock   1 users of the limit   2 number of threads to go back to   3, 4 BLAS's get and set
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

from llvmlite import binding as llvm

from codegen.gemmcode import MANY, MOST, NAMES, source
from codegen.pool import address, taken_lock


def power_of_two(count: int) -> int:
    """The least power of two that is not below `count`."""
    return 1 << max(count - 1, 0).bit_length()


class Blas:
    """The compiled functions of this module, and the state behind them.

    `cell` is where the address of the function stands that runs blocks, null for one thread; `real`
    the addresses of BLAS's `sgemm` and `dgemm`, `count` those of what gets and sets its number of
    threads, or zeros. There is one of this class in a process: generated code holds its addresses.
    """

    def __init__(self, cell: int, real: Mapping[str, int], count: tuple[int, int]) -> None:
        self._words = (ctypes.c_int64 * 5)(taken_lock(), 0, 1, *count)
        release(self._words[0])
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        python = ctypes.pythonapi
        symbols = {
            "codegen_gemm_acquire": address(python.PyThread_acquire_lock),
            "codegen_gemm_release": address(python.PyThread_release_lock),
            "codegen_gemm_python": address(python.PyGILState_GetThisThreadState),
            **{f"real_{name}": real[name] for name in NAMES},
        }
        for symbol, place in symbols.items():
            llvm.add_symbol(symbol, place)
        parts = min(power_of_two(os.cpu_count() or 1), MOST)
        text = source(ctypes.addressof(self._words), cell, parts)
        # All time is spent in what it calls: the quick translation, 2 ms instead of 20, will do.
        machine = llvm.Target.from_default_triple().create_target_machine(opt=0)
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
        self._engine.finalize_object()
        names = (*NAMES, *(name + MANY for name in NAMES))
        self.functions = {name: self._engine.get_function_address(name) for name in names}
        self.limit: tuple[int, int] = (
            self._engine.get_function_address("limit"),
            self._engine.get_function_address("release"),
        )

    def use(self, count: int) -> None:
        """BLAS has so many threads from now on, or as soon as no product is under way."""
        ctypes.CFUNCTYPE(None, ctypes.c_int)(self._engine.get_function_address("choose"))(count)

    def forget(self) -> None:
        """In a forked child: the threads are not here that were in a product."""
        release_all = self._words[1] > 0
        self._words[0], self._words[1] = taken_lock(), 0
        release(self._words[0])
        if release_all:
            self.use(self._words[2])


def release(lock: int) -> None:
    ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("PyThread_release_lock", ctypes.pythonapi))(lock)
