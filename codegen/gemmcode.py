"""The LLVM code of `codegen.gemm`: products in blocks, and BLAS's number of threads.

In: addresses of the state and of the cell with the pool, and how many blocks to aim at. Out: text.

    source(words, cell, 2)  # @sgemm, @dgemm, @sgemm_many, @dgemm_many, @limit, @release, @choose
"""

from __future__ import annotations

from collections.abc import Mapping

NAMES = ("sgemm", "dgemm")
MANY = "_many"
"""After one of the names: the function for many products of the same extents."""

SERIAL = 1 << 18
"""Multiplications up to which OpenBLAS is on one thread anyway (4 * 65536 in its interface)."""
LEAST = 1 << 20
"""Multiplications of a block, at least: 20 us in float64, against 5 us for a launch."""
EXTENT = 64
"""Rows or columns of a block, at least: packing the other operand costs what 7 to 15 of them do."""
AMPLE = 1024
"""Where all blocks have so many rows, there are twice as many: the load is more even."""
MOST = 16
"""Blocks of one product."""
GROUPS = 64
"""Blocks of many products."""

ARGUMENTS = ("ta", "tb", "m", "n", "k", "alpha", "a", "lda", "b", "ldb", "beta", "c", "ldc")
"""Of `gemm`, all by reference: `c = a @ b` in Fortran's order, m x k times k x n."""

CODE = """
declare i32 @codegen_gemm_acquire(ptr, i32)
declare void @codegen_gemm_release(ptr)
declare ptr @codegen_gemm_python()
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

%many = type {i64, i64, i64, i64}
%given = type {ptr, i64, GIVEN_TYPES, ptr, i64, i64, i64, i64}

define void @limit() {
  %words = inttoptr i64 WORDS to ptr
  %lock = load ptr, ptr %words
  %taken = call i32 @codegen_gemm_acquire(ptr %lock, i32 1)
  %at_users = getelementptr i64, ptr %words, i64 1
  %users = load i64, ptr %at_users
  %more = add i64 %users, 1
  store i64 %more, ptr %at_users
  %first = icmp eq i64 %users, 0
  br i1 %first, label %look, label %end
look:
  %at_get = getelementptr i64, ptr %words, i64 3
  %get = load ptr, ptr %at_get
  %has = icmp ne ptr %get, null
  br i1 %has, label %change, label %end
change:
  %threads = call i32 %get()
  %wide = zext i32 %threads to i64
  %at_saved = getelementptr i64, ptr %words, i64 2
  store i64 %wide, ptr %at_saved
  %several = icmp ne i64 %wide, 1
  br i1 %several, label %one, label %end
one:
  %at_set = getelementptr i64, ptr %words, i64 4
  %set = load ptr, ptr %at_set
  call void %set(i32 1)
  br label %end
end:
  call void @codegen_gemm_release(ptr %lock)
  ret void
}

define void @release() {
  %words = inttoptr i64 WORDS to ptr
  %lock = load ptr, ptr %words
  %taken = call i32 @codegen_gemm_acquire(ptr %lock, i32 1)
  %at_users = getelementptr i64, ptr %words, i64 1
  %users = load i64, ptr %at_users
  %fewer = sub i64 %users, 1
  store i64 %fewer, ptr %at_users
  %at_saved = getelementptr i64, ptr %words, i64 2
  %saved = load i64, ptr %at_saved
  %at_set = getelementptr i64, ptr %words, i64 4
  %set = load ptr, ptr %at_set
  %last = icmp eq i64 %fewer, 0
  %has = icmp ne ptr %set, null
  %several = icmp ne i64 %saved, 1
  %can = and i1 %has, %several
  %must = and i1 %last, %can
  br i1 %must, label %back, label %end
back:
  %threads = trunc i64 %saved to i32
  call void %set(i32 %threads)
  br label %end
end:
  call void @codegen_gemm_release(ptr %lock)
  ret void
}

define void @choose(i32 %threads) {
  %words = inttoptr i64 WORDS to ptr
  %lock = load ptr, ptr %words
  %taken = call i32 @codegen_gemm_acquire(ptr %lock, i32 1)
  %at_users = getelementptr i64, ptr %words, i64 1
  %users = load i64, ptr %at_users
  %wide = zext i32 %threads to i64
  %at_saved = getelementptr i64, ptr %words, i64 2
  store i64 %wide, ptr %at_saved
  %at_set = getelementptr i64, ptr %words, i64 4
  %set = load ptr, ptr %at_set
  %free = icmp eq i64 %users, 0
  %has = icmp ne ptr %set, null
  %now = and i1 %free, %has
  br i1 %now, label %change, label %end
change:
  call void %set(i32 %threads)
  br label %end
end:
  call void @codegen_gemm_release(ptr %lock)
  ret void
}

define internal void @part(ptr %data, i64 %block) {
LOADS
  %at_axis = getelementptr %given, ptr %data, i32 0, i32 16
  %by_rows = load i64, ptr %at_axis
  %at_parts = getelementptr %given, ptr %data, i32 0, i32 17
  %parts = load i64, ptr %at_parts
  %at_step = getelementptr %given, ptr %data, i32 0, i32 18
  %step = load i64, ptr %at_step
  %at_group = getelementptr %given, ptr %data, i32 0, i32 19
  %group = load i64, ptr %at_group
  %own_m = alloca i32
  %own_n = alloca i32
  %m32 = load i32, ptr %m
  %n32 = load i32, ptr %n
  %lda32 = load i32, ptr %lda
  %ldb32 = load i32, ptr %ldb
  %ldc32 = load i32, ptr %ldc
  %wide_lda = zext i32 %lda32 to i64
  %wide_ldb = zext i32 %ldb32 to i64
  %wide_ldc = zext i32 %ldc32 to i64
  %letter_a = load i8, ptr %ta
  %letter_b = load i8, ptr %tb
  %a_plain = icmp eq i8 %letter_a, 78
  %b_plain = icmp eq i8 %letter_b, 78
  %a_apart = select i1 %a_plain, i64 1, i64 %wide_lda
  %b_apart = select i1 %b_plain, i64 %wide_ldb, i64 1
  %rows = icmp ne i64 %by_rows, 0
  %a_each = select i1 %rows, i64 0, i64 %a_apart
  %b_each = select i1 %rows, i64 %b_apart, i64 0
  %c_each = select i1 %rows, i64 %wide_ldc, i64 1
  %long32 = select i1 %rows, i32 %n32, i32 %m32
  %long = zext i32 %long32 to i64
  %items = load i64, ptr %many
  %at_by_a = getelementptr %many, ptr %many, i32 0, i32 1
  %by_a = load i64, ptr %at_by_a
  %at_by_b = getelementptr %many, ptr %many, i32 0, i32 2
  %by_b = load i64, ptr %at_by_b
  %at_by_c = getelementptr %many, ptr %many, i32 0, i32 3
  %by_c = load i64, ptr %at_by_c
  %all = mul i64 %items, %parts
  %first = mul i64 %block, %group
  %after = add i64 %first, %group
  %stop = call i64 @llvm.smin.i64(i64 %after, i64 %all)
  br label %next
next:
  %unit = phi i64 [%first, %0], [%unit_next, %one]
  %more = icmp slt i64 %unit, %stop
  br i1 %more, label %one, label %end
one:
  %item = sdiv i64 %unit, %parts
  %number = srem i64 %unit, %parts
  %start = mul i64 %number, %step
  %left = sub i64 %long, %start
  %count = call i64 @llvm.smin.i64(i64 %step, i64 %left)
  %count32 = trunc i64 %count to i32
  %new_m = select i1 %rows, i32 %m32, i32 %count32
  %new_n = select i1 %rows, i32 %count32, i32 %n32
  store i32 %new_m, ptr %own_m
  store i32 %new_n, ptr %own_n
PLACES
  call void %real(CALL_PART)
  %unit_next = add i64 %unit, 1
  br label %next
end:
  ret void
}

define internal void @large(ptr %real, i64 %size, DEFINED, ptr %many) {
  %data = alloca %given
STORES
  call void @limit()
  %m32 = load i32, ptr %m
  %n32 = load i32, ptr %n
  %k32 = load i32, ptr %k
  %wide_m = zext i32 %m32 to i64
  %wide_n = zext i32 %n32 to i64
  %wide_k = zext i32 %k32 to i64
  %items = load i64, ptr %many
  %mn = mul i64 %wide_m, %wide_n
  %work = mul i64 %mn, %wide_k
  %rows = icmp sge i64 %wide_n, %wide_m
  %long = select i1 %rows, i64 %wide_n, i64 %wide_m
  br label %halve
halve:
  %parts = phi i64 [PARTS, %0], [%half, %halved]
  %extent = sdiv i64 %long, %parts
  %each = sdiv i64 %work, %parts
  %short = icmp slt i64 %extent, EXTENT
  %light = icmp slt i64 %each, LEAST
  %bad = or i1 %short, %light
  %twice = mul i64 %parts, %items
  %enough = icmp sge i64 %twice, ENOUGH
  %fewer = or i1 %bad, %enough
  %several = icmp sgt i64 %parts, 1
  %again = and i1 %fewer, %several
  br i1 %again, label %halved, label %found
halved:
  %half = lshr i64 %parts, 1
  br label %halve
found:
  %long_parts = icmp sge i64 %extent, AMPLE
  %can = icmp slt i64 %parts, MOST
  %also = and i1 %long_parts, %can
  %alone = icmp sgt i64 %parts, 1
  %double = and i1 %also, %alone
  %shift = zext i1 %double to i64
  %wanted = shl i64 %parts, %shift
  %up = add i64 %long, %wanted
  %up_1 = sub i64 %up, 1
  %share = sdiv i64 %up_1, %wanted
  %share_15 = add i64 %share, 15
  %step = and i64 %share_15, -16
  %long_step = add i64 %long, %step
  %long_step_1 = sub i64 %long_step, 1
  %number = sdiv i64 %long_step_1, %step
  %units = mul i64 %number, %items
  %by_count_up = add i64 %units, GROUPS_1
  %by_count = sdiv i64 %by_count_up, GROUPS
  %unit_work = sdiv i64 %work, %number
  %unit_work_1 = add i64 %unit_work, 1
  %by_work = sdiv i64 LEAST, %unit_work_1
  %at_least = call i64 @llvm.smax.i64(i64 %by_work, i64 1)
  %group = call i64 @llvm.smax.i64(i64 %by_count, i64 %at_least)
  %units_up = add i64 %units, %group
  %units_up_1 = sub i64 %units_up, 1
  %blocks = sdiv i64 %units_up_1, %group
  %axis = zext i1 %rows to i64
  %at_axis = getelementptr %given, ptr %data, i32 0, i32 16
  store i64 %axis, ptr %at_axis
  %at_parts = getelementptr %given, ptr %data, i32 0, i32 17
  store i64 %number, ptr %at_parts
  %at_step = getelementptr %given, ptr %data, i32 0, i32 18
  store i64 %step, ptr %at_step
  %at_group = getelementptr %given, ptr %data, i32 0, i32 19
  store i64 %group, ptr %at_group
  %cell = inttoptr i64 CELL to ptr
  %run = load ptr, ptr %cell
  %ready = icmp ne ptr %run, null
  %here = call ptr @codegen_gemm_python()
  %known = icmp ne ptr %here, null
  %split = icmp sgt i64 %blocks, 1
  %ready_known = and i1 %ready, %known
  %together = and i1 %ready_known, %split
  br i1 %together, label %launch, label %serial
launch:
  call void %run(ptr @part, ptr %data, i64 %blocks, i64 0)
  br label %end
serial:
  %block = phi i64 [0, %found], [%block_next, %serial_one]
  %more = icmp slt i64 %block, %blocks
  br i1 %more, label %serial_one, label %end
serial_one:
  call void @part(ptr %data, i64 %block)
  %block_next = add i64 %block, 1
  br label %serial
end:
  call void @release()
  ret void
}
"""

ENTRY = """
declare void @real_NAME(TYPES)

define void @NAME(DEFINED) {
  %many = alloca %many
  store %many {i64 1, i64 0, i64 0, i64 0}, ptr %many
WORK
  %small = icmp ule i64 %work, SERIAL
  br i1 %small, label %plain, label %blocks
plain:
  call void @real_NAME(CALL)
  ret void
blocks:
  call void @large(ptr @real_NAME, i64 SIZE, CALL, ptr %many)
  ret void
}

define void @NAME_many(DEFINED, i64 %items, i64 %by_a, i64 %by_b, i64 %by_c) {
  %many = alloca %many
  %many_1 = insertvalue %many undef, i64 %items, 0
  %many_2 = insertvalue %many %many_1, i64 %by_a, 1
  %many_3 = insertvalue %many %many_2, i64 %by_b, 2
  %many_4 = insertvalue %many %many_3, i64 %by_c, 3
  store %many %many_4, ptr %many
WORK
  %light = icmp ule i64 %work, SERIAL
  %all = mul i64 %work, %items
  %few = icmp ult i64 %all, TWO_BLOCKS
  %small = and i1 %light, %few
  br i1 %small, label %next, label %blocks
next:
  %item = phi i64 [0, %0], [%item_next, %one]
  %more = icmp slt i64 %item, %items
  br i1 %more, label %one, label %end
one:
PLACES
  call void @real_NAME(CALL_ITEM)
  %item_next = add i64 %item, 1
  br label %next
blocks:
  call void @large(ptr @real_NAME, i64 SIZE, CALL, ptr %many)
  br label %end
end:
  ret void
}
"""

WORK = """
  %m32 = load i32, ptr %m
  %n32 = load i32, ptr %n
  %k32 = load i32, ptr %k
  %wide_m = zext i32 %m32 to i64
  %wide_n = zext i32 %n32 to i64
  %wide_k = zext i32 %k32 to i64
  %mn = mul i64 %wide_m, %wide_n
  %work = mul i64 %mn, %wide_k
"""


def arguments(**changed: str) -> str:
    """The arguments of a call, some of them under another name."""
    return ", ".join(f"ptr %{changed.get(name, name)}" for name in ARGUMENTS)


def places(start: bool, size: str) -> str:
    """Where the operands of one product, or of a part of it, begin."""
    lines = []
    for name in "abc":
        lines.append(f"  %{name}_item = mul i64 %item, %by_{name}")
        if start:
            lines.append(f"  %{name}_start = mul i64 %start, %{name}_each")
            lines.append(f"  %{name}_sum = add i64 %{name}_item, %{name}_start")
        lines.append(f"  %{name}_bytes = mul i64 %{name}_{'sum' if start else 'item'}, {size}")
        lines.append(f"  %{name}_at = getelementptr i8, ptr %{name}, i64 %{name}_bytes")
    return "\n".join(lines)


def fields() -> list[tuple[str, str]]:
    """Name and type of what a block is told, the numbers of its extents left out."""
    pointers = [(name, "ptr") for name in (*ARGUMENTS, "many")]
    return [("real", "ptr"), ("size", "i64"), *pointers]


def field(number: int) -> str:
    return f"getelementptr %given, ptr %data, i32 0, i32 {number}"


def filled(text: str, words: Mapping[str, str | int]) -> str:
    for word in sorted(words, key=len, reverse=True):
        text = text.replace(word, str(words[word]))
    return text


def source(words: int, cell: int, parts: int) -> str:
    """The text of the module, for a state and a cell at these addresses."""
    loads, stores = [], []
    for number, (name, kind) in enumerate(fields()):
        loads += [f"  %at_{name} = {field(number)}", f"  %{name} = load {kind}, ptr %at_{name}"]
        stores += [f"  %to_{name} = {field(number)}", f"  store {kind} %{name}, ptr %to_{name}"]
    own = {name: f"{name}_at" for name in "abc"}
    common = {
        "DEFINED": arguments(),
        "TYPES": ", ".join(["ptr"] * len(ARGUMENTS)),
        "CALL_PART": arguments(**own, m="own_m", n="own_n"),
        "CALL_ITEM": arguments(**own),
        "CALL": arguments(),
        "GIVEN_TYPES": ", ".join(["ptr"] * len(ARGUMENTS)),
        "LOADS": "\n".join(loads),
        "STORES": "\n".join(stores),
        "WORDS": words,
        "WORK": WORK,
        "CELL": cell,
        "PARTS": parts,
        "ENOUGH": 4 * parts,
        "SERIAL": SERIAL,
        "LEAST": LEAST,
        "TWO_BLOCKS": 2 * LEAST,
        "EXTENT": EXTENT,
        "AMPLE": AMPLE,
        "MOST": MOST,
        "GROUPS_1": GROUPS - 1,
        "GROUPS": GROUPS,
    }
    text = filled(CODE, {**common, "PLACES": places(True, "%size")})
    for name, size in zip(NAMES, (4, 8), strict=True):
        entry = {"NAME": name, "SIZE": size, "PLACES": places(False, str(size))}
        text += filled(ENTRY, {**common, **entry})
    return text
