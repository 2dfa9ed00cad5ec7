"""Where loop programs enter numba's compiler: in place of bytecode, type inference, lowering.

In: a dispatcher whose Python function has its `loops.Function` in the attribute `program`. Out: the
result of a compilation as numba makes it, by its own last pass.
"""

from __future__ import annotations

from typing import Any

from numba.core import ir
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.lowering import BaseLower
from numba.core.target_extension import target_override
from numba.core.typed_passes import BaseNativeLowering

from codegen import arguments
from codegen.apart import Facts
from codegen.emit.arrays import DATA, PART
from codegen.emit.kinds import return_type
from codegen.emit.statements import Body
from codegen.loops import Function
from codegen.records import dataclass
from codegen.target import NAME


@dataclass(frozen=True)
class Program:
    """A function, and what is known of the arrays that it is given."""

    function: Function
    facts: Facts


@register_pass(mutates_CFG=False, analysis_only=False)
class Typed(FunctionPass):
    """Say what type inference would find."""

    _name = "codegen_typed"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        python = state.func_id.func
        function = python.program.function
        names = [parameter.name for parameter in function.parameters]
        place = ir.Loc(python.__code__.co_filename, python.__code__.co_firstlineno)
        blocks = {0: ir.Block(ir.Scope(None, place), place)}  # one at least
        state.func_ir = ir.FunctionIR(blocks, False, state.func_id, place, {}, len(names), names)
        given = zip(names, state.args, strict=True)
        state.typemap = {f"arg.{name}": kind for name, kind in given}
        state.calltypes = {}
        state.return_type = return_type(function, state.args)
        return True


class Lower(BaseLower):
    """The LLVM function of a loop program."""

    def lower_normal_function(self, fndesc: Any) -> None:
        python = self.func_ir.func_id.func
        program: Program = python.program
        self.setup_function(fndesc)
        given = {argument.name: argument for argument in self.function.args}
        for name in program.facts.apart:
            given[PART.format(name, DATA)].add_attribute("noalias")
        body = Body(self.context, self.builder, program.function, python.__globals__)
        with target_override(NAME):  # in which numba looks functions up
            body.start(fndesc.argtypes, given, program.facts)
            body.block(program.function.body)
        body.finish()

    def create_cpython_wrapper(self, release_gil: bool = False) -> None:
        """The function that Python calls: it looks at its arguments."""
        arguments.wrap(self, release_gil)


@register_pass(mutates_CFG=True, analysis_only=False)
class Lowering(BaseNativeLowering):
    """Write the LLVM code."""

    _name = "codegen_lowering_of_programs"

    @property
    def lowering_class(self) -> type[BaseLower]:
        return Lower
