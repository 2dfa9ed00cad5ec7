"""What LLVM is told about memory: which arrays lie apart from all others, and how long rows are.

In: the address of new memory; the arrays that a kernel is given. Out: the same with the attribute
`noalias`, and assumptions on extents. Without the first every loop over several arrays compares
where they lie before, and one over many of them is not vectorised at all: a step of an LSTM, which
keeps seven arrays for its backward, takes half the time. Without the second points in space are
loaded number by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower

from codegen.interleave import InterleavingLower, Lowering

OWN = "codegen_own_memory"
"""The function by which LLVM is told that memory is new."""
DATA, EXTENT = "arg.{}.4", "arg.{}.5.{}"
"""What numba calls the address of the elements of an argument, and the extent of one axis."""


ASSUME = ir.FunctionType(ir.VoidType(), [ir.IntType(1)])


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


class KernelLower(InterleavingLower):
    """Lowering of a kernel, whose Python function has what is known in its attribute `facts`."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        arguments = {argument.name: argument for argument in self.function.args}
        facts: Facts = self.func_ir.func_id.func.facts
        for name in facts.apart:
            arguments[DATA.format(name)].add_attribute("noalias")
        for name, axis, extent in facts.extents:
            self.assume(arguments[EXTENT.format(name, axis)], extent)

    def assume(self, value: Any, number: int) -> None:
        """Have LLVM take the value for that number."""
        builder: Any = self.builder
        same = builder.icmp_signed("==", value, ir.Constant(value.type, number))
        builder.call(builder.module.declare_intrinsic("llvm.assume", (), ASSUME), [same])


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(Lowering):
    _name = "codegen_kernel_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return KernelLower
