"""Kernels, the functions of loops, as functions of their caller's LLVM module.

In: `KernelCall`, a nest that is called in place; `Launch`, one whose blocks threads may run. Out:
the call and, once for all calls with arrays of the same layouts, the function. Of an array it gets
the address and what else is not known there:

    define internal i32 @f_nest(ptr %result, ptr %error, ptr noalias %v1, i64 %n, ptr %b)

So a program is one module, which is written, parsed and optimised once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from llvmlite.ir.instructions import CallInstr, Ret
from numba import types
from numba.core import cgutils

from codegen.emit.arrays import Array
from codegen.emit.kinds import return_type, scalar_type
from codegen.emit.names import Names
from codegen.expr import INT, Expr
from codegen.library.launching import Kernel, Packed, is_blas
from codegen.library.launching import Launch as Launching
from codegen.loops import KernelCall, Launch, Parameter

Layout = tuple[types.Array, bool] | None
"""Of an array its type and whether it is C-contiguous."""
LAUNCHED = 3
"""The parameters that a launch gives by itself: block, start, stop."""


def measures(array: Array, parameter: Parameter) -> tuple[Any, ...]:
    """What a kernel has to be told of an array beside where it lies."""
    shape = array.shape if parameter.shape is None else ()
    return (*shape, *(array.strides or ()))


class Kernels(Names):
    """The part of writing a function that is about its kernels."""

    def launch(self, launch: Launch) -> None:
        total, step = (self.evaluated(part, INT) for part in (launch.total, launch.step))
        kernel, values = self.kernel(launch.kernel, launch.args, LAUNCHED)
        given = zip(kernel.given[LAUNCHED:], values, strict=True)
        arguments = [Packed(kind, (value,)) for kind, value in given]
        arrays = map(self.array, launch.sums)
        sums = [Packed(array.kind, (array.data,)) for array in arrays]
        Launching(self.context, self.builder, kernel).build(total, step, sums, arguments)

    def kernel_call(self, call: KernelCall) -> None:
        """It returns nothing, and says what failed, if anything can, where we would."""
        kernel, values = self.kernel(call.kernel, call.args)
        builder, function = self.builder, kernel.function
        parts = self.context.get_arg_packer(kernel.given).as_arguments(builder, values)
        if self.nothing is None:
            self.nothing = cgutils.alloca_once(builder, function.args[0].type.pointee)
        code = builder.call(function, [self.nothing, builder.function.args[1], *parts])
        if can_fail(function):
            with builder.if_then(cgutils.is_not_null(builder, code), likely=False):
                builder.ret(code)

    def kernel(
        self, name: str, args: Sequence[str | Expr], launched: int = 0
    ) -> tuple[Kernel, list[Any]]:
        """The function of a kernel, written at the first call, and the values that it is given.
        The first `launched` parameters, integers, are not among `args`."""
        program = self.space[name].py_func.program
        kinds: list[types.Type] = [types.int64] * launched
        layouts: list[Layout] = [None] * launched
        values: list[Any] = []
        for parameter, given in zip(program.function.parameters[launched:], args, strict=True):
            if not isinstance(given, str):
                kinds.append(scalar_type(parameter.dtype))
                values.append(self.evaluated(given, parameter.dtype))
                layouts.append(None)
                continue
            array = self.array(given)
            told = measures(array, parameter)
            kinds += [types.CPointer(array.kind.dtype), *(types.int64 for _ in told)]
            values += [array.data, *told]
            layouts.append((array.kind, array.strides is None))
        key = name, tuple(layouts)
        if key not in self.kernels:
            self.kernels[key] = self.written(program, layouts, kinds)
        return self.kernels[key], values

    def written(self, program: Any, layouts: Sequence[Layout], kinds: list[types.Type]) -> Kernel:
        """A kernel for arrays of these layouts. It stays a function, for what LLVM is told of
        arrays it is told of parameters."""
        context, module, written = self.context, self.builder.module, program.function
        convention = context.call_conv
        returned = return_type(written, [layout and layout[0] for layout in layouts])
        name = module.get_unique_name(f"{self.builder.function.name}.{written.name}")
        function = ir.Function(module, convention.get_function_type(returned, kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        convention.decorate_function(function, [str(n) for n, _ in enumerate(kinds)], kinds)
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        body: Any = type(self)(context, builder, written, self.space)
        body.kernels = self.kernels
        body.take(layouts, convention.decode_arguments(builder, kinds, function), program.facts)
        body.block(written.body)
        body.finish()
        blas = calls_blas(function, context.active_code_library)
        return Kernel(function, tuple(kinds), returned, blas)


def can_fail(function: Any) -> bool:
    """Whether it returns anything but the code for success, which is 0."""
    ends = (block.terminator for block in function.blocks if isinstance(block.terminator, Ret))
    return any(not isinstance(c, ir.Constant) or c.constant for end in ends for c in end.operands)


def calls_blas(function: Any, library: Any) -> bool:
    """Whether BLAS is called in a function of the library that is written, or in one that it calls,
    which may be linked in."""
    found, left = set(), [function]
    while left:
        called = left.pop()
        if called.name in found:
            continue
        found.add(called.name)
        code = (i for block in called.blocks for i in block.instructions)
        callees = (i.callee for i in code if isinstance(i, CallInstr))
        left += [callee for callee in callees if isinstance(callee, ir.Function)]
    if any(map(is_blas, found)):
        return True
    linked = (other._final_module.functions for other in library._linking_libraries)
    return any(
        any(f.name in found and not f.is_declaration for f in functions)
        and any(is_blas(f.name) for f in functions)
        for functions in map(list, linked)
    )
