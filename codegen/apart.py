"""What LLVM is told about memory: which arrays lie apart from all others.

In: the address of new memory; the parameters of a kernel that its caller allocated one by one. Out:
the same with the attribute `noalias`. Without it every loop over several arrays first compares
where they lie, and one over many of them is not vectorised at all: a step of an LSTM, which keeps
seven arrays for its backward, takes half the time.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower

from codegen.interleave import InterleavingLower, Lowering

OWN = "codegen_own_memory"
"""The function by which LLVM is told that memory is new."""
DATA = "arg.{}.4"
"""What numba calls the address of the elements of an argument."""


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
    """Lowering of a kernel, whose Python function names the parameters in its attribute `apart`."""

    def setup_function(self, fndesc: Any) -> None:
        super().setup_function(fndesc)
        names = {DATA.format(name) for name in getattr(self.func_ir.func_id.func, "apart", ())}
        for argument in self.function.args:
            if argument.name in names:
                argument.add_attribute("noalias")


@register_pass(mutates_CFG=True, analysis_only=False)
class KernelLowering(Lowering):
    _name = "codegen_kernel_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return KernelLower
