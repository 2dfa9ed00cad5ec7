"""The threads that run blocks of parallel loops, and the few machine instructions between them.

In: a number of helpers. Out: the address of `run(task, data, count, library)`, which calls
`task(data, block)` for every block from 0 to `count`, on the calling thread and on those helpers
that come in time, and returns when all are done.

Why not numba's layers: `workqueue` aborts the process when two threads use it, `omp` kills a forked
child, both wait by spinning (12 ms a launch beside another busy process, where this takes 8 us),
and each `prange` costs 0.25 s of compiling. Here

* one launch runs at a time; who finds the pool taken (another Python thread, a launch inside a
  block) runs its blocks alone, so nothing waits and thread counts never multiply;
* blocks are handed out by an atomic counter; the caller works too and at the end waits only for
  helpers that have joined, never for one that has yet to wake up;
* helpers sleep in a lock of Python's C interface, some 60 us after their last work: they cost
  nothing while there is none.

The pool is an array of 64-bit words, fields on cache lines of their own:

    0          taken
    16         state: joined helpers, bit 32 = closed
    32         next block
    48         task, data, count, helpers, lock of the caller, what limits BLAS to one thread
               and what lets it go
    56         where the present CPU is asked for, where a thread's CPUs are set, or zeros
    64 + 16 k  helper k is called, its lock, its number, the CPU it was told to leave
    4144       the CPUs that helpers may use, a bit each

A helper that the system wakes up on the CPU of its caller would wait for it: where other processes
are at work Linux does so. A launch therefore first tells helpers to leave the CPU that it is on,
which takes a system call when that is another one than last time.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import threading
from collections.abc import Iterable
from typing import Any

from llvmlite import binding as llvm

from codegen.poolcode import (
    CLOSED,
    CPU_WORDS,
    CPUS,
    DONE,
    FIRST,
    HELPERS,
    ONE,
    PRESENT_CPU,
    SET_CPUS,
    SEVERAL,
    STATE,
    STRIDE,
    source,
)

RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
HELP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Pool:
    """`run` is the address of the function that runs blocks; helpers start when first wanted."""

    def __init__(self, limit: tuple[int, int] = (0, 0)) -> None:
        self._words = (ctypes.c_int64 * (CPUS + CPU_WORDS))()
        self._base = ctypes.addressof(self._words)
        self._started = 0
        self._words[STATE], self._words[DONE] = CLOSED, taken_lock()
        self._words[PRESENT_CPU], self._words[SET_CPUS] = placing()
        self.limit_blas(limit)
        self._engine = compiled(self._base)
        # Helpers sleep in this code until the process ends: it must not be taken down before.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._words))
        self.run: int = self._engine.get_function_address("codegen_pool_run")

    def limit_blas(self, functions: tuple[int, int]) -> None:
        """Addresses of what puts BLAS on one thread and lets it go again, or zeros."""
        self._words[ONE], self._words[SEVERAL] = functions

    def grow(self, helpers: int) -> None:
        """Use this many helpers from now on. Raises RuntimeError if no thread can be started."""
        function = HELP(self._engine.get_function_address("codegen_pool_help"))
        if self._words[PRESENT_CPU]:
            for number, word in enumerate(cpu_bits(os.sched_getaffinity(0))):
                self._words[CPUS + number] = word
        while self._started < helpers:
            place = FIRST + STRIDE * self._started
            self._words[place + 1] = taken_lock()
            name, where = f"codegen-{self._started}", self._base + 8 * place
            thread = threading.Thread(target=function, args=(where,), name=name, daemon=True)
            thread.start()
            self._words[place + 2], self._words[place + 3] = thread.native_id or 0, -1
            self._started += 1
        self._words[HELPERS] = helpers


def placing() -> tuple[int, int]:
    """Addresses of Linux's `sched_getcpu` and `sched_setaffinity`; zeros elsewhere."""
    if not sys.platform.startswith("linux"):
        return 0, 0
    system = ctypes.CDLL(None)
    return address(system.sched_getcpu), address(system.sched_setaffinity)


def cpu_bits(cpus: Iterable[int]) -> list[int]:
    """A set of CPUs as Linux wants it, in signed words."""
    bits = sum(1 << cpu for cpu in cpus if cpu < 64 * CPU_WORDS)
    unsigned = [bits >> (64 * number) & (1 << 64) - 1 for number in range(CPU_WORDS)]
    return [ctypes.c_int64(word).value for word in unsigned]


def pause() -> str:
    """The instruction that makes a loop that only waits cheap."""
    match platform.machine().lower():
        case "x86_64" | "amd64":
            return "call void @llvm.x86.sse2.pause()"
        case "aarch64" | "arm64":
            return "call void @llvm.aarch64.hint(i32 1)"
    return ""


def taken_lock() -> int:
    """A lock of Python's C interface, which needs no Python to wait for it."""
    allocate, acquire = (
        ctypes.PYFUNCTYPE(ctypes.c_void_p)(("PyThread_allocate_lock", ctypes.pythonapi)),
        ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int)(
            ("PyThread_acquire_lock", ctypes.pythonapi)
        ),
    )
    lock = allocate()
    acquire(lock, 1)
    return lock


def compiled(base: int) -> Any:
    """The machine code of a pool whose words begin at that address."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.add_symbol("codegen_pool_acquire", address(ctypes.pythonapi.PyThread_acquire_lock))
    llvm.add_symbol("codegen_pool_release", address(ctypes.pythonapi.PyThread_release_lock))
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(source(base, pause())), machine)
    engine.finalize_object()
    return engine
