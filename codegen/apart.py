"""What LLVM is told about memory: which arrays lie apart from all others.

In: the address of new memory. Out: the same with the attribute `noalias`, and an end of that before
the memory is given back, for another array may get it. Without it every loop
over several arrays compares where they lie before, and one over many of them is not vectorised at
all: a step of an LSTM, which keeps seven arrays for its backward, takes half the time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from codegen.records import dataclass

OWN = "codegen_own_memory"
"""The function by which LLVM is told that memory is new."""


@dataclass(frozen=True)
class Facts:
    """What is known of the arrays that a kernel is given."""

    apart: tuple[str, ...]
    """Those whose memory none of the others shows."""
    extents: tuple[tuple[str, int, int], ...]
    """Extents that are numbers: `(parameter, axis, extent)`."""


def own(builder: Any, memory: Any) -> Any:
    """The address of new memory as a value that LLVM takes for one that nothing else points to.

    What LLVM goes by is the attribute of a called function's result; the empty assembly keeps it
    from seeing that the function does nothing.
    """
    kind = ir.FunctionType(memory.type, [memory.type])
    function = cgutils.get_or_insert_function(builder.module, kind, OWN)
    if function.is_declaration:
        function.linkage = "linkonce_odr"
        function.attributes.add("noinline")
        function.return_value.add_attribute("noalias")
        inside = ir.IRBuilder(function.append_basic_block())
        inside.ret(inside.asm(kind, "", "=r,0", [function.args[0]], side_effect=False))
    return builder.call(function, [memory])


def let_go(builder: Any, memory: Any) -> None:
    """Before memory of ours is given back: all reads and writes of it come before, as LLVM sees it.

    The next array may get the same memory, under an address that LLVM takes for another one. By
    the empty assembly somebody else sees this address, and may do with the memory what he likes.
    """
    pointer = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [pointer])
    builder.asm(kind, "", "r,~{memory}", [builder.bitcast(memory, pointer)], side_effect=True)
