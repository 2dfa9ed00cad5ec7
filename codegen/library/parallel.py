"""Loops on several threads: `parallel(kernel, total, step, sums, arguments)`.

In: a compiled function of a range of iterations, the number of all of them, how many make a block.
Out: `kernel(block, start, stop, *arguments)` was called once for each block; what it returned, one
scalar or several, stands in the arrays `sums` at the number of the block.

Which thread runs a block is left to chance; what a block is, is not, so results do not depend on
the number of threads. `codegen.threads` has the threads; without any of them the caller runs all
blocks itself, as it does on a thread that Python does not know (another library's).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from codegen import threads
from codegen.library import blas

WORD, BYTE = ir.IntType(64), ir.IntType(8)
POINTER = BYTE.as_pointer()
TASK = ir.FunctionType(ir.VoidType(), [POINTER, WORD])
RUN = ir.FunctionType(ir.VoidType(), [TASK.as_pointer(), POINTER, WORD, WORD])


def plain_parallel(kernel: Any, total: int, step: int, sums: Any, arguments: Any) -> None:
    for block, start in enumerate(range(0, total, step)):
        found = kernel(block, start, min(start + step, total), *arguments)
        values = found if isinstance(found, tuple) else (found,)
        for array, value in zip(sums, values if sums else (), strict=True):
            array[block] = value


def typed_parallel(
    typing_context: Any, kernel: Any, total: Any, step: Any, sums: Any, arguments: Any
) -> Any:
    if not (
        isinstance(kernel, types.Dispatcher) and isinstance(arguments, types.Tuple | types.UniTuple)
    ):
        raise TypingError(f"parallel needs a compiled function and a tuple, not {kernel}")
    index = (types.int64, types.int64, types.int64)
    given: tuple[Any, ...] = tuple(arguments)  # the types of its parts
    called = kernel.get_call_type(typing_context, (*index, *given), {})
    signature = types.void(kernel, types.int64, types.int64, sums, arguments)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        launch = Launch(context, builder, kernel, called, signature.args)
        launch.build(*values[1:])
        return context.get_dummy_value()

    return signature, generate


class Launch:
    """The LLVM code of one launch: everything a block needs in a struct, a function of that struct
    and the number of a block, and the call that has it run for every block."""

    def __init__(self, context: Any, builder: Any, kernel: Any, called: Any, given: Any) -> None:
        self.context, self.builder, self.called = context, builder, called
        self.sums, self.arguments = given[3], given[4]
        self.compiled = kernel.dispatcher.get_compile_result(called)
        context.add_linking_libs([self.compiled.library])
        parts = [context.get_value_type(t) for t in (self.sums, self.arguments)]
        self.struct = ir.LiteralStructType([WORD, WORD, WORD, *parts])

    def build(self, total: Any, step: Any, sums: Any, arguments: Any) -> None:
        builder = self.builder
        data = cgutils.alloca_once(builder, self.struct)
        for number, value in enumerate((total, step, word(0), sums, arguments)):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, number))
        blocks = builder.sdiv(builder.add(total, builder.sub(step, word(1))), step)
        task, address = self.task(), builder.bitcast(data, POINTER)
        run = self.runner()
        with builder.if_else(run[0]) as (together, alone):
            with together:
                builder.call(run[1], [task, address, blocks, word(self.calls_blas())])
            with alone, cgutils.for_range(builder, blocks) as loop:
                builder.call(task, [address, loop.index])
        failed = builder.load(cgutils.gep_inbounds(builder, data, 0, 2))
        with builder.if_then(builder.icmp_signed("!=", failed, word(0)), likely=False):
            self.context.call_conv.return_user_exc(builder, MemoryError, ("in a parallel loop",))

    def calls_blas(self) -> bool:
        """Whether BLAS is called in the blocks: then by one thread each."""
        functions = self.compiled.library._final_module.functions
        return any(function.name.startswith(blas.SYMBOL) for function in functions)

    def runner(self) -> tuple[Any, Any]:
        """Whether there are threads to run blocks on, and the function that does."""
        builder, module = self.builder, self.builder.module
        cell_type = RUN.as_pointer()
        known = ir.FunctionType(POINTER, [])
        here = cgutils.get_or_insert_function(module, known, threads.register("python"))
        cell = cgutils.get_or_insert_function(module, known, threads.register("run"))
        run = builder.load(builder.bitcast(cell, cell_type.as_pointer()))
        ready = builder.and_(
            cgutils.is_not_null(builder, run), cgutils.is_not_null(builder, builder.call(here, []))
        )
        return ready, run

    def task(self) -> Any:
        """`void task(data, block)`: one block."""
        context, module = self.context, self.builder.module
        name = f"{self.compiled.fndesc.mangled_name}_block"
        function = module.globals.get(name)
        if function is not None:
            return function
        function = ir.Function(module, TASK, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        data = builder.bitcast(function.args[0], self.struct.as_pointer())
        total, step, _, sums, arguments = (
            builder.load(cgutils.gep_inbounds(builder, data, 0, number)) for number in range(5)
        )
        block = function.args[1]
        start = builder.mul(block, step)
        end = builder.add(start, step)
        stop = builder.select(builder.icmp_signed("<", end, total), end, total)
        values = [block, start, stop, *cgutils.unpack_tuple(builder, arguments)]
        kernel = context.declare_function(module, self.compiled.fndesc)
        status, found = context.call_conv.call_function(
            builder, kernel, self.called.return_type, self.called.args, values
        )
        with builder.if_else(status.is_error, likely=False) as (error, fine):
            with error:
                flag = cgutils.gep_inbounds(builder, data, 0, 2)
                builder.store_atomic(word(1), flag, "monotonic", 8)
            with fine:
                self.keep(builder, found, sums, block)
        builder.ret_void()
        return function

    def keep(self, builder: Any, found: Any, sums: Any, block: Any) -> None:
        values = [found]
        if isinstance(self.called.return_type, types.BaseTuple):
            values = cgutils.unpack_tuple(builder, found)
        for number, array_type in enumerate(self.sums.types):
            part = builder.extract_value(sums, number)
            array = self.context.make_array(array_type)(self.context, builder, part)
            place = builder.gep(array.data, [block])
            self.context.pack_value(builder, array_type.dtype, values[number], place)


def word(value: int | bool) -> ir.Constant:
    return ir.Constant(WORD, int(value))


parallel: Any = plain_parallel if vars(config)["DISABLE_JIT"] else intrinsic(typed_parallel)
