"""How LLVM makes machine code of our modules, where that differs from what numba asks for.

Loops are made without LLVM's strength reduction (its pass LSR), which weighs for every loop in how
many ways its addresses could be counted. It took 40 % of the time for machine code, and where it
was left out the code of 53 programs ran in 0.96 to 0.99 of the time with it: an x86 instruction
takes a base, an index times 8 and a constant as the address, so there is little to count.

Nor are instructions ordered once more after registers are given out (its post-RA scheduler): the
processor does that by itself, and in blocks of many loads and stores it took up to a quarter of the
time of a compilation. The code of 26 programs ran in 0.97 to 1.04 of the time with it, 1.00 in the
mean.

    with quickly():
        engine.finalize_object()

The settings are the process's. They only count while machine code is made, which numba's compiler
lock lets one thread do at a time; they stand as LLVM has them before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import binding as llvm

X86 = llvm.get_process_triple().startswith("x86_64")
KNOWN = (20, 21, 22)
"""The LLVM versions that are known to have the options: one that has not would end the process."""
OPTIONS = ("disable-lsr", "disable-post-ra")
QUICK = X86 and llvm.llvm_version_info[0] in KNOWN


@contextmanager
def quickly() -> Iterator[None]:
    """Machine code that is made in here is made without these passes."""
    if not QUICK:
        yield
        return
    for option in OPTIONS:
        llvm.set_option("codegen", f"-{option}")
    try:
        yield
    finally:
        for option in OPTIONS:
            llvm.set_option("codegen", f"-{option}=false")
