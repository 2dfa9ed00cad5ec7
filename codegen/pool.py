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
* helpers sleep in a lock of Python's C interface: they cost nothing while there is no work.

The pool is an array of 64-bit words, fields on cache lines of their own:

    0          taken
    16         state: joined helpers, bit 32 = closed
    32         next block
    48         task, data, count, helpers, lock of the caller, BLAS's get and set of its threads
    64 + 16 k  helper k is called, its lock
"""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from llvmlite import binding as llvm

MOST = 255
"""Helpers of one pool."""
FIRST, STRIDE = 64, 16
STATE, HELPERS, DONE, GET, SET = 16, 51, 52, 53, 54
CLOSED = 1 << 32

CODE = """
declare i32 @codegen_pool_acquire(ptr, i32)
declare void @codegen_pool_release(ptr)

define internal void @work(ptr %pool) {
  %next = getelementptr i64, ptr %pool, i64 32
  %at_task = getelementptr i64, ptr %pool, i64 48
  %at_data = getelementptr i64, ptr %pool, i64 49
  %at_count = getelementptr i64, ptr %pool, i64 50
  %task = load ptr, ptr %at_task
  %data = load ptr, ptr %at_data
  %count = load i64, ptr %at_count
  br label %take
take:
  %block = atomicrmw add ptr %next, i64 1 acq_rel
  %more = icmp slt i64 %block, %count
  br i1 %more, label %one, label %done
one:
  call void %task(ptr %data, i64 %block)
  br label %take
done:
  ret void
}

define void @codegen_pool_run(ptr %task, ptr %data, i64 %count, i64 %library) {
  %pool = inttoptr i64 POOL to ptr
  %claim = cmpxchg ptr %pool, i64 0, i64 1 acq_rel monotonic
  %mine = extractvalue {i64, i1} %claim, 1
  br i1 %mine, label %prepare, label %alone
alone:
  %i = phi i64 [0, %0], [%i_next, %alone_one]
  %i_more = icmp slt i64 %i, %count
  br i1 %i_more, label %alone_one, label %end
alone_one:
  call void %task(ptr %data, i64 %i)
  %i_next = add i64 %i, 1
  br label %alone
prepare:
  %state = getelementptr i64, ptr %pool, i64 16
  %next = getelementptr i64, ptr %pool, i64 32
  %at_task = getelementptr i64, ptr %pool, i64 48
  %at_data = getelementptr i64, ptr %pool, i64 49
  %at_count = getelementptr i64, ptr %pool, i64 50
  %at_helpers = getelementptr i64, ptr %pool, i64 51
  %at_done = getelementptr i64, ptr %pool, i64 52
  %at_get = getelementptr i64, ptr %pool, i64 53
  %at_set = getelementptr i64, ptr %pool, i64 54
  %get = load ptr, ptr %at_get
  %set = load ptr, ptr %at_set
  %has_library = icmp ne i64 %library, 0
  %has_set = icmp ne ptr %set, null
  %limits = and i1 %has_library, %has_set
  br i1 %limits, label %limit, label %open
limit:
  %threads = call i32 %get()
  call void %set(i32 1)
  br label %open
open:
  %before = phi i32 [0, %prepare], [%threads, %limit]
  store ptr %task, ptr %at_task
  store ptr %data, ptr %at_data
  store i64 %count, ptr %at_count
  store atomic i64 0, ptr %next monotonic, align 8
  store atomic i64 0, ptr %state release, align 8
  %helpers = load atomic i64, ptr %at_helpers monotonic, align 8
  %others = sub i64 %count, 1
  %few = icmp slt i64 %others, %helpers
  %wanted = select i1 %few, i64 %others, i64 %helpers
  br label %call_next
call_next:
  %k = phi i64 [0, %open], [%k_next, %called]
  %k_more = icmp slt i64 %k, %wanted
  br i1 %k_more, label %call_one, label %working
call_one:
  %k_words = mul i64 %k, 16
  %k_at = add i64 %k_words, 64
  %at_call = getelementptr i64, ptr %pool, i64 %k_at
  %was = atomicrmw xchg ptr %at_call, i64 1 acq_rel
  %asleep = icmp eq i64 %was, 0
  br i1 %asleep, label %wake, label %called
wake:
  %at_lock = getelementptr i64, ptr %at_call, i64 1
  %lock = load ptr, ptr %at_lock
  call void @codegen_pool_release(ptr %lock)
  br label %called
called:
  %k_next = add i64 %k, 1
  br label %call_next
working:
  call void @work(ptr %pool)
  %last = atomicrmw or ptr %state, i64 CLOSED acq_rel
  %inside = icmp ne i64 %last, 0
  br i1 %inside, label %watch, label %finished
watch:
  %looks = phi i64 [0, %working], [%looks_next, %look_again]
  %seen = load atomic i64, ptr %state acquire, align 8
  %gone = icmp eq i64 %seen, CLOSED
  %enough = icmp sge i64 %looks, LOOKS
  %leave = or i1 %gone, %enough
  br i1 %leave, label %wait, label %look_again
look_again:
  %looks_next = add i64 %looks, 1
  br label %watch
wait:
  %done = load ptr, ptr %at_done
  %ignored = call i32 @codegen_pool_acquire(ptr %done, i32 1)
  br label %finished
finished:
  br i1 %limits, label %restore, label %free
restore:
  call void %set(i32 %before)
  br label %free
free:
  store atomic i64 0, ptr %pool release, align 8
  br label %end
end:
  ret void
}

define void @codegen_pool_help(ptr %at_call) {
  %pool = inttoptr i64 POOL to ptr
  %state = getelementptr i64, ptr %pool, i64 16
  %at_done = getelementptr i64, ptr %pool, i64 52
  %done = load ptr, ptr %at_done
  %at_lock = getelementptr i64, ptr %at_call, i64 1
  %lock = load ptr, ptr %at_lock
  br label %sleep
sleep:
  %ignored = call i32 @codegen_pool_acquire(ptr %lock, i32 1)
  store atomic i64 0, ptr %at_call release, align 8
  br label %join
join:
  %now = load atomic i64, ptr %state acquire, align 8
  %bit = and i64 %now, CLOSED
  %closed = icmp ne i64 %bit, 0
  br i1 %closed, label %sleep, label %enter
enter:
  %more = add i64 %now, 1
  %entered = cmpxchg ptr %state, i64 %now, i64 %more acq_rel monotonic
  %in = extractvalue {i64, i1} %entered, 1
  br i1 %in, label %busy, label %join
busy:
  call void @work(ptr %pool)
  %left = atomicrmw sub ptr %state, i64 1 acq_rel
  %last = icmp eq i64 %left, LAST
  br i1 %last, label %tell, label %sleep
tell:
  call void @codegen_pool_release(ptr %done)
  br label %sleep
}
"""
LOOKS = 4000
"""How often the caller looks whether the last helper is done before it sleeps: microseconds."""

RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
HELP = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


def address(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


class Pool:
    """`run` is the address of the function that runs blocks; helpers start when first wanted."""

    def __init__(self, blas: tuple[int, int] = (0, 0)) -> None:
        self._words = (ctypes.c_int64 * (FIRST + STRIDE * MOST))()
        self._base = ctypes.addressof(self._words)
        self._started = 0
        self._words[STATE], self._words[DONE] = CLOSED, taken_lock()
        self.use_blas(blas)
        self._engine = compiled(self._base)
        # Helpers sleep in this code until the process ends: it must not be taken down before.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._engine))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._words))
        self.run: int = self._engine.get_function_address("codegen_pool_run")

    def use_blas(self, functions: tuple[int, int]) -> None:
        """Addresses of what gets and sets BLAS's number of threads, or zeros."""
        self._words[GET], self._words[SET] = functions

    def grow(self, helpers: int) -> None:
        """Use this many helpers from now on. Raises RuntimeError if no thread can be started."""
        function = HELP(self._engine.get_function_address("codegen_pool_help"))
        while self._started < helpers:
            place = FIRST + STRIDE * self._started
            self._words[place + 1] = taken_lock()
            name, where = f"codegen-{self._started}", self._base + 8 * place
            threading.Thread(target=function, args=(where,), name=name, daemon=True).start()
            self._started += 1
        self._words[HELPERS] = helpers


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
    numbers = {"POOL": base, "CLOSED": CLOSED, "LAST": CLOSED + 1, "LOOKS": LOOKS}
    text = CODE
    for word, number in numbers.items():
        text = text.replace(word, str(number))
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine
