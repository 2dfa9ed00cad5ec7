"""Calls of functions that are no part of the program: the library's, the user's, kernels.

In: `LibraryCall`, `ForeignCall`, `Launch`, `Forward`. Out: calls that numba types and links in,
their arguments as numba's values, what they return under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils

from codegen import library
from codegen.emit import arrays
from codegen.emit.arrays import Array
from codegen.emit.kinds import array_type, scalar_type, tuple_type
from codegen.emit.names import Names
from codegen.emit.typed import imported
from codegen.errors import CodegenError
from codegen.expr import BOOL, INT, Expr
from codegen.foreign import Foreign
from codegen.library import products
from codegen.library.parallel import Launch as Launching
from codegen.library.parallel import Packed, is_plain
from codegen.library.results import received, received_number
from codegen.loops import ForeignCall, Forward, KernelCall, Launch, LibraryCall, Parameter
from codegen.source import library_function, returned


def measures(array: Array, parameter: Parameter) -> tuple[Any, ...]:
    """What a kernel has to be told of an array beside where it lies."""
    shape = array.shape if parameter.shape is None else ()
    return (*shape, *(array.strides or ()))


class Calls(Names):
    """The part of writing a function that is about others."""

    def argument(self, value: str | Expr) -> tuple[Any, Any]:
        if isinstance(value, str) and value in self.numbers:
            found, dtype = self.variable(value)
            return scalar_type(dtype), found
        if isinstance(value, str):
            array = self.array(value)
            return array.kind, arrays.structure(self.context, self.builder, array)
        return scalar_type(value.dtype), self.evaluated(value)

    def tuple_of(self, values: Sequence[str | Expr]) -> tuple[Any, Any]:
        parts = [self.argument(value) for value in values]
        kind = tuple_type([kind for kind, _ in parts])
        return kind, self.context.make_tuple(self.builder, kind, [value for _, value in parts])

    def library_call(self, statement: LibraryCall) -> None:
        if statement.function in products.WRITTEN:
            self.product(statement)
            return
        function = imported(library_function(statement.function))
        arguments = [self.argument(value) for value in (*statement.args, *statement.outs)]
        found = self.called(function, arguments)
        if statement.status is not None:
            name, dtype = statement.status.name, statement.status.dtype
            self.assign(name, self.as_dtype(found, dtype), dtype)

    def product(self, statement: LibraryCall) -> None:
        """A matrix product, from the parts of its arrays."""
        found = [self.array(str(name)) for name in (*statement.args, *statement.outs)]
        dtype = products.checked(*(array.kind for array in found))
        operands = (
            products.Operand(array.shape, arrays.steps(self.builder, array), array.data)
            for array in found
        )
        products.WRITTEN[statement.function](self.builder, dtype, *operands)

    def launch(self, launch: Launch) -> None:
        typing = self.context.typing_context
        kernel = typing.resolve_value_type(self.space[launch.kernel])
        total, step = (self.evaluated(part, INT) for part in (launch.total, launch.step))
        sums, given = (
            [self.packed(part) for part in parts] for parts in (launch.sums, launch.args)
        )
        kinds = (types.int64, types.int64, types.int64, *(value.kind for value in given))
        called = kernel.get_call_type(typing, kinds, {})
        Launching(self.context, self.builder, kernel, called).build(total, step, sums, given)

    def kernel_call(self, call: KernelCall) -> None:
        """A call of a function of the same LLVM module, which is written at the first call: of an
        array it gets the address and what else is not known there."""
        program = self.space[call.kernel].py_func.program
        given: list[tuple[Any, Any]] = []
        layouts: list[tuple[types.Array, bool] | None] = []
        for parameter, value in zip(program.function.parameters, call.args, strict=True):
            if not isinstance(value, str):
                given.append((scalar_type(parameter.dtype), self.evaluated(value, parameter.dtype)))
                layouts.append(None)
                continue
            array = self.array(value)
            given.append((types.CPointer(array.kind.dtype), array.data))
            given += [(types.int64, part) for part in measures(array, parameter)]
            layouts.append((array.kind, array.strides is None))
        kinds, values = [kind for kind, _ in given], [value for _, value in given]
        key = call.kernel, tuple(layouts)
        if key not in self.kernels:
            self.kernels[key] = self.kernel(program, layouts, kinds)
        convention, builder = self.context.call_conv, self.builder
        status, _ = convention.call_function(builder, self.kernels[key], types.none, kinds, values)
        with builder.if_then(status.is_error, likely=False):
            convention.return_status_propagate(builder, status)

    def kernel(self, program: Any, layouts: Sequence[Any], kinds: Sequence[types.Type]) -> Any:
        """The LLVM function of a kernel for arrays of these layouts."""
        context, module, written = self.context, self.builder.module, program.function
        convention = context.call_conv
        name = module.get_unique_name(f"{self.builder.function.name}.{written.name}")
        function = ir.Function(module, convention.get_function_type(types.none, kinds), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        body: Any = type(self)(context, builder, written, self.space)
        body.take(layouts, convention.decode_arguments(builder, kinds, function), program.facts)
        body.block(written.body)
        body.finish()
        return function

    def packed(self, value: str | Expr) -> Packed:
        if isinstance(value, str) and value not in self.numbers:
            array = self.array(value)
            if is_plain(array.kind):
                return Packed(array.kind, (array.data, *array.shape))
        kind, found = self.argument(value)
        return Packed(kind, (found,))

    def forward(self, forward: Forward) -> None:
        """Where the condition holds: on to the other version, if it can be had."""
        builder = self.builder
        with builder.if_then(self.condition(forward.condition)):
            address = self.called(library.threads_version, [])
            with builder.if_then(cgutils.is_not_null(builder, address[1])):
                name = types.literal(returned(forward.returns))
                text = (name, self.context.get_dummy_value())
                given = [address, text, self.tuple_of(forward.args)]
                kind, value = self.called(library.call_version, given)
                self.release_all()
                result = self.context.get_return_value(builder, kind, value)
                self.context.call_conv.return_value(builder, result)

    def foreign_call(self, statement: ForeignCall) -> None:
        """The call, and each result taken over: as memory of its own, as a number of its dtype."""
        given = self.foreign_arguments(statement.function, statement)
        kind, value = self.called(statement.function.function, given)
        if not statement.results:
            return
        parts = [(kind, value)]
        if statement.bundle:
            kinds = getattr(kind, "types", ())
            if len(kinds) != len(statement.results):
                raise CodegenError(f"{statement.function.name} returns {kind}")
            values = cgutils.unpack_tuple(self.builder, value, len(kinds))
            parts = list(zip(kinds, values, strict=True))
        others = [a for a in statement.args if isinstance(a, str)]
        for result, part in zip(statement.results, parts, strict=True):
            dtype = types.NumberClass(scalar_type(result.dtype))
            named = dtype, self.context.get_dummy_value()
            if result.fits is None:
                found = self.called(received_number, [part, named])
                self.assign(result.name, self.as_dtype(found, result.dtype), result.dtype)
                continue
            arguments = [part, named, self.tuple_of(result.shape), self.tuple_of(others)]
            _, both = self.called(received, arguments)
            array = self.builder.extract_value(both, 0)
            self.context.nrt.decref(self.builder, *part)
            kept = array_type(result.dtype, len(result.shape))
            scope = self.scopes[-1]
            taken = arrays.received(self.context, self.builder, kept, array)
            scope.arrays[result.name] = scope.owned[result.name] = taken
            self.assign(result.fits.name, self.builder.extract_value(both, 1), BOOL)
            others.append(result.name)

    def foreign_arguments(self, function: Foreign, call: ForeignCall) -> list[tuple[Any, Any]]:
        found = [self.argument(value) for value in call.args]
        if function.readonly:
            found = [
                (kind.copy(readonly=True) if isinstance(kind, types.Array) else kind, value)
                for kind, value in found
            ]
        return [*found, *map(self.argument, call.outs)]

    def give_back(self, values: list[tuple[Any, Any]]) -> None:
        if not values:
            kind, value = types.none, self.context.get_dummy_value()
        elif len(values) == 1:
            kind, value = values[0]
        else:
            kind = tuple_type([kind for kind, _ in values])
            value = self.context.make_tuple(self.builder, kind, [value for _, value in values])
        result = self.context.get_return_value(self.builder, kind, value)
        self.context.call_conv.return_value(self.builder, result)
