"""How LLVM makes machine code of our modules, where that differs from what numba asks for.

Loops are made without LLVM's strength reduction (its pass LSR), which weighs for every loop in how
many ways its addresses could be counted. It took 40 % of the time for machine code, and where it
was left out the code of 53 programs ran in 0.96 to 0.99 of the time with it: an x86 instruction
takes a base, an index times 8 and a constant as the address, so there is little to count.

    with quickly():
        engine.finalize_object()

The setting is the process's. It only counts while machine code is made, which numba's compiler lock
lets one thread do at a time; it stands as LLVM has it before and after.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from llvmlite import binding as llvm

X86 = llvm.get_process_triple().startswith("x86_64")
KNOWN = (20, 21, 22)
"""The LLVM versions that are known to have the option: one that has not would end the process."""
QUICK = X86 and llvm.llvm_version_info[0] in KNOWN


@contextmanager
def quickly() -> Iterator[None]:
    """Machine code that is made in here is made without strength reduction of loops."""
    if not QUICK:
        yield
        return
    llvm.set_option("codegen", "-disable-lsr")
    try:
        yield
    finally:
        llvm.set_option("codegen", "-disable-lsr=false")
