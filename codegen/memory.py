"""Memory of arrays that compiled code allocates: large blocks are used again.

In: from compiled code a number of bytes. Out: a block of memory under numba's reference count; when
nobody holds it any more a large one is kept for the next allocation of about that size, up to a
limit. Why: the C library gives large blocks back to the system (those above 32 MiB always, smaller
ones when several are free), and the next call pays for each of their pages with a fault: five
running sums of 6 million numbers and their gradient take 130 ms here, and 470 ms without.

Threads take no lock. A place for a free block is 0 (empty), 1 (somebody is at it) or 2 (full), and
who changes 2 or 0 to 1 has it for himself; so a block is always one array's, or nobody's. The state
is an array of 64-bit words:

    0  limit in bytes      1  bytes kept
    8 + 3 k                place k: its state, the block, the block's size

A block is preceded by two words: the address that the C library gave, and the size.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

from llvmlite import binding as llvm

from codegen.extensions import RUNTIME, extension

SYMBOL = "codegen_memory_"
LARGE = 128 * 1024
"""Bytes from which on blocks are kept: the C library's own are below."""
PLACES = 128
LIMIT = 512 * 2**20
HEAD, STRIDE = 8, 3

CODE = """
define ptr @codegen_memory_new(i64 %size, i32 %align) {
  %large = icmp uge i64 %size, LARGE
  br i1 %large, label %kept, label %plain
plain:
  %small = tail call ptr inttoptr (i64 SMALL to ptr)(i64 %size, i32 %align)
  ret ptr %small
kept:
  %allocator = inttoptr i64 ALLOCATOR to ptr
  %made = tail call ptr inttoptr (i64 EXTERNAL to ptr)(i64 %size, ptr %allocator)
  ret ptr %made
}

define ptr @codegen_memory_take(i64 %size, ptr %ignored) {
  %words = inttoptr i64 WORDS to ptr
  %rounded = add i64 %size, 4095
  %need = and i64 %rounded, -4096
  %quarter = lshr i64 %need, 2
  %most = add i64 %need, %quarter
  br label %next
next:
  %k = phi i64 [0, %0], [%k_next, %other]
  %more = icmp ult i64 %k, PLACES
  br i1 %more, label %look, label %fresh
look:
  %k_words = mul i64 %k, 3
  %k_at = add i64 %k_words, 8
  %place = getelementptr i64, ptr %words, i64 %k_at
  %at_block = getelementptr i64, ptr %place, i64 1
  %at_size = getelementptr i64, ptr %place, i64 2
  %state = load atomic i64, ptr %place monotonic, align 8
  %full = icmp eq i64 %state, 2
  br i1 %full, label %claim, label %other
claim:
  %seen = load atomic i64, ptr %at_size monotonic, align 8
  %seen_fits = call i1 @fits(i64 %seen, i64 %need, i64 %most)
  br i1 %seen_fits, label %change, label %other
change:
  %changed = cmpxchg ptr %place, i64 2, i64 1 acq_rel monotonic
  %mine = extractvalue {i64, i1} %changed, 1
  br i1 %mine, label %certain, label %other
certain:
  %have = load atomic i64, ptr %at_size monotonic, align 8
  %have_fits = call i1 @fits(i64 %have, i64 %need, i64 %most)
  br i1 %have_fits, label %found, label %back
back:
  store atomic i64 2, ptr %place release, align 8
  br label %other
found:
  %block = load ptr, ptr %at_block
  store atomic i64 0, ptr %place release, align 8
  %at_kept = getelementptr i64, ptr %words, i64 1
  %before = atomicrmw sub ptr %at_kept, i64 %have monotonic
  ret ptr %block
other:
  %k_next = add i64 %k, 1
  br label %next
fresh:
  %total = add i64 %need, 96
  %raw = call ptr inttoptr (i64 ALLOCATE to ptr)(i64 %total)
  %none = icmp eq ptr %raw, null
  br i1 %none, label %fail, label %head
fail:
  ret ptr null
head:
  %start = ptrtoint ptr %raw to i64
  %above = add i64 %start, 79
  %line = and i64 %above, -64
  %user = add i64 %line, 16
  %made = inttoptr i64 %user to ptr
  %at_raw = getelementptr i64, ptr %made, i64 -2
  %at_need = getelementptr i64, ptr %made, i64 -1
  store ptr %raw, ptr %at_raw
  store i64 %need, ptr %at_need
  ret ptr %made
}

define internal i1 @fits(i64 %size, i64 %need, i64 %most) alwaysinline {
  %enough = icmp uge i64 %size, %need
  %close = icmp ule i64 %size, %most
  %both = and i1 %enough, %close
  ret i1 %both
}

define internal void @drop(ptr %block) {
  %at_raw = getelementptr i64, ptr %block, i64 -2
  %raw = load ptr, ptr %at_raw
  call void inttoptr (i64 FREE to ptr)(ptr %raw)
  ret void
}

define void @codegen_memory_shrink(i64 %coming) {
  %words = inttoptr i64 WORDS to ptr
  %at_kept = getelementptr i64, ptr %words, i64 1
  br label %next
next:
  %k = phi i64 [0, %0], [%k_next, %other]
  %limit = load atomic i64, ptr %words monotonic, align 8
  %kept = load atomic i64, ptr %at_kept monotonic, align 8
  %sum = add i64 %kept, %coming
  %over = icmp sgt i64 %sum, %limit
  %more = icmp ult i64 %k, PLACES
  %go_on = and i1 %over, %more
  br i1 %go_on, label %look, label %end
look:
  %k_words = mul i64 %k, 3
  %k_at = add i64 %k_words, 8
  %place = getelementptr i64, ptr %words, i64 %k_at
  %changed = cmpxchg ptr %place, i64 2, i64 1 acq_rel monotonic
  %mine = extractvalue {i64, i1} %changed, 1
  br i1 %mine, label %free, label %other
free:
  %at_block = getelementptr i64, ptr %place, i64 1
  %at_size = getelementptr i64, ptr %place, i64 2
  %block = load ptr, ptr %at_block
  %size = load atomic i64, ptr %at_size monotonic, align 8
  store atomic i64 0, ptr %place release, align 8
  %before = atomicrmw sub ptr %at_kept, i64 %size monotonic
  call void @drop(ptr %block)
  br label %other
other:
  %k_next = add i64 %k, 1
  br label %next
end:
  ret void
}

define void @codegen_memory_give(ptr %block, ptr %ignored) {
  %words = inttoptr i64 WORDS to ptr
  %at_kept = getelementptr i64, ptr %words, i64 1
  %at_need = getelementptr i64, ptr %block, i64 -1
  %size = load i64, ptr %at_need
  %limit = load atomic i64, ptr %words monotonic, align 8
  %never = icmp sgt i64 %size, %limit
  br i1 %never, label %free, label %room
room:
  call void @codegen_memory_shrink(i64 %size)
  br label %next
next:
  %k = phi i64 [0, %room], [%k_next, %other]
  %more = icmp ult i64 %k, PLACES
  br i1 %more, label %look, label %free
look:
  %k_words = mul i64 %k, 3
  %k_at = add i64 %k_words, 8
  %place = getelementptr i64, ptr %words, i64 %k_at
  %state = load atomic i64, ptr %place monotonic, align 8
  %empty = icmp eq i64 %state, 0
  br i1 %empty, label %claim, label %other
claim:
  %changed = cmpxchg ptr %place, i64 0, i64 1 acq_rel monotonic
  %mine = extractvalue {i64, i1} %changed, 1
  br i1 %mine, label %keep, label %other
keep:
  %at_block = getelementptr i64, ptr %place, i64 1
  %at_size = getelementptr i64, ptr %place, i64 2
  store ptr %block, ptr %at_block
  store atomic i64 %size, ptr %at_size monotonic, align 8
  %before = atomicrmw add ptr %at_kept, i64 %size monotonic
  store atomic i64 2, ptr %place release, align 8
  ret void
other:
  %k_next = add i64 %k, 1
  br label %next
free:
  call void @drop(ptr %block)
  ret void
}
"""


class Allocator(ctypes.Structure):
    """numba's description of an allocator: `malloc(size, data)`, `realloc`, `free(block, data)`."""

    _fields_ = (
        ("malloc", ctypes.c_void_p),
        ("realloc", ctypes.c_void_p),
        ("free", ctypes.c_void_p),
        ("data", ctypes.c_void_p),
    )


class Memory:
    """The blocks of this process; `new` is the address of the function that compiled code calls."""

    def __init__(self) -> None:
        self.words = (ctypes.c_int64 * (HEAD + STRIDE * PLACES))()
        self.words[0] = _limit[0]
        self.allocator = Allocator()
        helpers = extension(RUNTIME).c_helpers
        numbers = {
            "WORDS": ctypes.addressof(self.words),
            "ALLOCATOR": ctypes.addressof(self.allocator),
            "ALLOCATE": helpers["Allocate"],
            "FREE": helpers["Free"],
            "SMALL": helpers["MemInfo_alloc_aligned"],
            "EXTERNAL": external(helpers["get_api"]),
            "LARGE": LARGE,
            "PLACES": PLACES,
        }
        self.engine = compiled(numbers)
        # Arrays may be freed until the process ends: what that takes must stay.
        for kept in (self.engine, self.words, self.allocator):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        self.allocator.malloc = self.engine.get_function_address("codegen_memory_take")
        self.allocator.free = self.engine.get_function_address("codegen_memory_give")
        self.new: int = self.engine.get_function_address("codegen_memory_new")
        shrink = self.engine.get_function_address("codegen_memory_shrink")
        self.shrink = ctypes.CFUNCTYPE(None, ctypes.c_int64)(shrink)


def external(get_api: int) -> int:
    """numba's function that allocates an array's memory by another allocator; the second one of the
    table that it offers to C."""
    table = ctypes.CFUNCTYPE(ctypes.c_void_p)(get_api)()
    return (ctypes.c_void_p * 2).from_address(table)[1]  # type: ignore[return-value]


def compiled(numbers: dict[str, int]) -> Any:
    """The machine code, with these numbers for the words in capitals."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    text = CODE
    for word in sorted(numbers, key=len, reverse=True):
        text = text.replace(word, str(numbers[word]))
    machine = llvm.Target.from_default_triple().create_target_machine(opt=0)  # 3 ms, not 10
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(text), machine)
    engine.finalize_object()
    return engine


_limit = [LIMIT]
_made: list[Memory] = []


@cache
def memory() -> Memory:
    """The blocks, made when compiled code first asks for them."""
    made = Memory()
    _made.append(made)
    return made


def register(name: str) -> str:
    """Make a function known to LLVM; its symbol."""
    symbol = SYMBOL + name
    if not llvm.address_of_symbol(symbol):
        llvm.add_symbol(symbol, getattr(memory(), name))
    return symbol


def set_limit(nbytes: int) -> None:
    """Keep so many bytes of free blocks at most."""
    _limit[0] = nbytes
    for made in _made:
        made.words[0] = nbytes
        made.shrink(0)


def kept_bytes() -> int:
    """The bytes of all free blocks."""
    return sum(made.words[1] for made in _made)
