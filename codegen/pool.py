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
* helpers sleep in a lock of Python's C interface, some 30 us after their last work: they cost
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

MOST = 255
"""Helpers of one pool."""
FIRST, STRIDE = 64, 16
CPUS, CPU_WORDS = FIRST + STRIDE * MOST, 16
STATE, HELPERS, DONE, ONE, SEVERAL, PRESENT_CPU, SET_CPUS = 16, 51, 52, 53, 54, 56, 57
CLOSED = 1 << 32

CODE = """
declare i32 @codegen_pool_acquire(ptr, i32)
declare void @codegen_pool_release(ptr)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)

define internal void @send_away(ptr %pool, ptr %helper, i64 %cpu) {
  %at_left = getelementptr i64, ptr %helper, i64 3
  %left = load i64, ptr %at_left
  %other = icmp ne i64 %left, %cpu
  %known = icmp ult i64 %cpu, CPU_BITS
  %go = and i1 %other, %known
  br i1 %go, label %copy, label %end
copy:
  %mask = alloca [CPU_WORDS x i64]
  %cpus = getelementptr i64, ptr %pool, i64 CPUS
  call void @llvm.memcpy.p0.p0.i64(ptr %mask, ptr %cpus, i64 CPU_BYTES, i1 0)
  %number = lshr i64 %cpu, 6
  %at_word = getelementptr i64, ptr %mask, i64 %number
  %word = load i64, ptr %at_word
  %place = and i64 %cpu, 63
  %bit = shl i64 1, %place
  %others = xor i64 %bit, -1
  %without = and i64 %word, %others
  store i64 %without, ptr %at_word
  store i64 %cpu, ptr %at_left
  %at_thread = getelementptr i64, ptr %helper, i64 2
  %thread64 = load i64, ptr %at_thread
  %thread = trunc i64 %thread64 to i32
  %at_set = getelementptr i64, ptr %pool, i64 57
  %set = load ptr, ptr %at_set
  %failed = call i32 %set(i32 %thread, i64 CPU_BYTES, ptr %mask)
  br label %end
end:
  ret void
}

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
  %at_one = getelementptr i64, ptr %pool, i64 53
  %at_several = getelementptr i64, ptr %pool, i64 54
  %one = load ptr, ptr %at_one
  %several = load ptr, ptr %at_several
  %has_library = icmp ne i64 %library, 0
  %has_one = icmp ne ptr %one, null
  %limits = and i1 %has_library, %has_one
  br i1 %limits, label %limit, label %open
limit:
  call void %one()
  br label %open
open:
  store ptr %task, ptr %at_task
  store ptr %data, ptr %at_data
  store i64 %count, ptr %at_count
  store atomic i64 0, ptr %next monotonic, align 8
  store atomic i64 0, ptr %state release, align 8
  %helpers = load atomic i64, ptr %at_helpers monotonic, align 8
  %others = sub i64 %count, 1
  %few = icmp slt i64 %others, %helpers
  %wanted = select i1 %few, i64 %others, i64 %helpers
  %at_present = getelementptr i64, ptr %pool, i64 56
  %present = load ptr, ptr %at_present
  %can_ask = icmp ne ptr %present, null
  br i1 %can_ask, label %ask, label %call
ask:
  %here = call i32 %present()
  %here64 = sext i32 %here to i64
  br label %call
call:
  %cpu = phi i64 [-1, %open], [%here64, %ask]
  br label %call_next
call_next:
  %k = phi i64 [0, %call], [%k_next, %called]
  %k_more = icmp slt i64 %k, %wanted
  br i1 %k_more, label %call_one, label %working
call_one:
  %k_words = mul i64 %k, 16
  %k_at = add i64 %k_words, 64
  %at_call = getelementptr i64, ptr %pool, i64 %k_at
  call void @send_away(ptr %pool, ptr %at_call, i64 %cpu)
  %was = atomicrmw xchg ptr %at_call, i64 CALLED acq_rel
  %asleep = icmp eq i64 %was, ASLEEP
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
  call void %several()
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
  br label %awake
awake:
  %called = atomicrmw xchg ptr %at_call, i64 AWAKE acq_rel
  br label %join
join:
  %now = load atomic i64, ptr %state acquire, align 8
  %bit = and i64 %now, CLOSED
  %closed = icmp ne i64 %bit, 0
  br i1 %closed, label %rest, label %enter
enter:
  %more = add i64 %now, 1
  %entered = cmpxchg ptr %state, i64 %now, i64 %more acq_rel monotonic
  %in = extractvalue {i64, i1} %entered, 1
  br i1 %in, label %busy, label %join
busy:
  call void @work(ptr %pool)
  %left = atomicrmw sub ptr %state, i64 1 acq_rel
  %last = icmp eq i64 %left, LAST
  br i1 %last, label %tell, label %rest
tell:
  call void @codegen_pool_release(ptr %done)
  br label %rest
rest:
  br label %listen
listen:
  %turn = phi i64 [0, %rest], [%turn_next, %listen_again]
  %word = load atomic i64, ptr %at_call acquire, align 8
  %again = icmp eq i64 %word, CALLED
  br i1 %again, label %awake, label %quiet
quiet:
  %tired = icmp sge i64 %turn, REST
  br i1 %tired, label %lie_down, label %listen_again
listen_again:
  PAUSE
  %turn_next = add i64 %turn, 1
  br label %listen
lie_down:
  %lying = cmpxchg ptr %at_call, i64 AWAKE, i64 ASLEEP acq_rel monotonic
  %down = extractvalue {i64, i1} %lying, 1
  br i1 %down, label %sleep, label %awake
}
"""
LOOKS = 4000
"""How often the caller looks whether the last helper is done before it sleeps: microseconds."""
REST = 2000
"""How often a helper looks for new work before it sleeps: some 30 us. It then has a CPU already
when the next loop or product of the program comes, instead of waiting for one."""
ASLEEP, CALLED, AWAKE = 0, 1, 2
"""What may stand in the word by which a helper is called."""

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
    words = {"POOL": base, "CLOSED": CLOSED, "LAST": CLOSED + 1, "LOOKS": LOOKS, "REST": REST}
    words |= {"ASLEEP": ASLEEP, "CALLED": CALLED, "AWAKE": AWAKE, "PAUSE": pause()}
    words |= {"CPU_BITS": 64 * CPU_WORDS, "CPU_BYTES": 8 * CPU_WORDS}
    words |= {"CPU_WORDS": CPU_WORDS, "CPUS": CPUS}
    text = CODE
    for word, value in words.items():
        text = text.replace(word, str(value))
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine
