"""Loops on several threads: `parallel(kernel, total, step, sums, arguments)`.

In: a compiled function of a range of iterations, the number of all of them, how many make a block.
Out: `kernel(block, start, stop, *arguments)` was called once for each block; what it returned, one
scalar or several, stands in the arrays `sums` at the number of the block.

Which thread runs a block is left to chance; what a block is, is not, so results do not depend on
the number of threads. `codegen.threads` has the threads; without any of them the caller runs all
blocks itself, as it does on a thread that Python does not know (another library's).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from codegen import blas, threads
from codegen.records import dataclass
from codegen.shortcuts import fill_in

WORD, BYTE = ir.IntType(64), ir.IntType(8)
POINTER = BYTE.as_pointer()
Layout = list[tuple[Any, list[int]]]
"""For each value its type and which fields of a struct are its parts."""
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
        _, total, step, *tuples = values
        kinds = tuple(sums), given
        found = (
            [packed(context, builder, *pair) for pair in zip(k, v, strict=True)]
            for k, v in zip(kinds, (cgutils.unpack_tuple(builder, t) for t in tuples), strict=True)
        )
        Launch(context, builder, linked(context, builder, kernel, called)).build(
            total, step, *found
        )
        return context.get_dummy_value()

    return signature, generate


@dataclass(frozen=True)
class Packed:
    """A value by the parts from which it is made again in a block: of a C-contiguous array the
    address of its elements and its extents."""

    kind: types.Type
    parts: tuple[Any, ...]


def is_plain(kind: types.Type) -> bool:
    return isinstance(kind, types.Array) and kind.layout == "C"


def packed(context: Any, builder: Any, kind: types.Type, value: Any) -> Packed:
    """A value of numba's."""
    if not is_plain(kind):
        return Packed(kind, (value,))
    array = context.make_array(kind)(context, builder, value)
    return Packed(kind, (array.data, *cgutils.unpack_tuple(builder, array.shape)))


def unpacked(context: Any, builder: Any, kind: Any, parts: Sequence[Any]) -> Any:
    """The value of numba's; an array of a block owns no memory."""
    if not is_plain(kind):
        return parts[0]
    array = context.make_array(kind)(context, builder)
    data, *sizes = parts
    itemsize = word(as_dtype(kind.dtype).itemsize)
    return fill_in(context, builder, array, sizes, data=data, itemsize=itemsize, meminfo=None)


@dataclass(frozen=True)
class Kernel:
    """The LLVM function of a range of iterations, by what it takes and returns as numba's types;
    `calls_blas`: whether BLAS is called in the blocks, then by one thread each."""

    function: Any
    given: tuple[types.Type, ...]
    returned: Any
    calls_blas: bool


def linked(context: Any, builder: Any, kernel: Any, called: Any) -> Kernel:
    """The kernel that is a dispatcher, linked into the code that is written."""
    compiled = kernel.dispatcher.get_compile_result(called)
    context.add_linking_libs([compiled.library])
    function = context.declare_function(builder.module, compiled.fndesc)
    blas_called = any(is_blas(f.name) for f in compiled.library._final_module.functions)
    return Kernel(function, called.args, called.return_type, blas_called)


def is_blas(name: str) -> bool:
    return name.startswith(blas.SYMBOL)


class Launch:
    """The LLVM code of one launch: everything a block needs in a struct, a function of that struct
    and the number of a block, and the call that has it run for every block."""

    def __init__(self, context: Any, builder: Any, kernel: Kernel) -> None:
        self.context, self.builder, self.kernel = context, builder, kernel

    def build(
        self, total: Any, step: Any, sums: Sequence[Packed], arguments: Sequence[Packed]
    ) -> None:
        builder = self.builder
        parts = [part for value in (*sums, *arguments) for part in value.parts]
        kept = [total, step, word(0), *{id(part): part for part in parts}.values()]
        places = {id(part): number for number, part in enumerate(kept)}
        struct = ir.LiteralStructType([value.type for value in kept])
        data = cgutils.alloca_once(builder, struct)
        for number, value in enumerate(kept):
            builder.store(value, cgutils.gep_inbounds(builder, data, 0, number))
        layout = [
            [(value.kind, [places[id(part)] for part in value.parts]) for value in values]
            for values in (sums, arguments)
        ]
        task, address = self.task(struct, *layout), builder.bitcast(data, POINTER)
        builder.call(self.runner(), [task, address, total, step, word(self.kernel.calls_blas)])
        failed = builder.load(cgutils.gep_inbounds(builder, data, 0, 2))
        with builder.if_then(builder.icmp_signed("!=", failed, word(0)), likely=False):
            self.context.call_conv.return_user_exc(builder, MemoryError, ("in a parallel loop",))

    def runner(self) -> Any:
        """The function of the module that runs a task for each block: on threads, if there are any
        and this one is known to Python."""
        module, name = self.builder.module, "codegen_launch"
        kind = ir.FunctionType(ir.VoidType(), [TASK.as_pointer(), POINTER, WORD, WORD, WORD])
        function = cgutils.get_or_insert_function(module, kind, name)
        if not function.is_declaration:
            return function
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        task, data, total, step, blas = function.args
        blocks = builder.sdiv(builder.add(total, builder.sub(step, word(1))), step)
        known = ir.FunctionType(POINTER, [])
        here = cgutils.get_or_insert_function(module, known, threads.register("python"))
        cell = cgutils.get_or_insert_function(module, known, threads.register("run"))
        run = builder.load(builder.bitcast(cell, RUN.as_pointer().as_pointer()))
        ready = builder.and_(
            cgutils.is_not_null(builder, run), cgutils.is_not_null(builder, builder.call(here, []))
        )
        with builder.if_else(ready) as (together, alone):
            with together:
                builder.call(run, [task, data, blocks, blas])
            with alone, cgutils.for_range(builder, blocks) as loop:
                builder.call(task, [data, loop.index])
        builder.ret_void()
        return function

    def task(self, struct: Any, sums: Layout, arguments: Layout) -> Any:
        """`void task(data, block)`: one block."""
        context, module = self.context, self.builder.module
        name = module.get_unique_name(f"{self.kernel.function.name}_block")
        function = ir.Function(module, TASK, name)
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block())
        data = builder.bitcast(function.args[0], struct.as_pointer())

        def loaded(number: int) -> Any:
            return builder.load(cgutils.gep_inbounds(builder, data, 0, number))

        total, step, block = loaded(0), loaded(1), function.args[1]
        start = builder.mul(block, step)
        end = builder.add(start, step)
        stop = builder.select(builder.icmp_signed("<", end, total), end, total)
        given = [
            unpacked(context, builder, kind, list(map(loaded, places)))
            for kind, places in arguments
        ]
        values = [block, start, stop, *given]
        kernel = self.kernel
        status, found = context.call_conv.call_function(
            builder, kernel.function, kernel.returned, kernel.given, values
        )
        with builder.if_else(status.is_error, likely=False) as (error, fine):
            with error:
                flag = cgutils.gep_inbounds(builder, data, 0, 2)
                builder.store_atomic(word(1), flag, "monotonic", 8)
            with fine:
                self.keep(builder, found, [loaded(places[0]) for _, places in sums], block)
        builder.ret_void()
        return function

    def keep(self, builder: Any, found: Any, sums: Sequence[Any], block: Any) -> None:
        kinds, values = (self.kernel.returned,), [found]
        if isinstance(self.kernel.returned, types.BaseTuple):
            kinds, values = tuple(kinds[0]), cgutils.unpack_tuple(builder, found)
        for kind, value, data in zip(kinds, values, sums, strict=False):
            self.context.pack_value(builder, kind, value, builder.gep(data, [block]))


def word(value: int | bool) -> ir.Constant:
    return ir.Constant(WORD, int(value))


parallel: Any = plain_parallel if vars(config)["DISABLE_JIT"] else intrinsic(typed_parallel)
