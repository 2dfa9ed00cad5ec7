"""Calls of functions that are no part of the program: the library's, the user's, other versions.

In: `LibraryCall`, `ForeignCall`, `Forward`. Out: calls that numba types and links in, their
arguments as numba's values, what they return under its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numba import types
from numba.core import cgutils

from codegen import library
from codegen.emit import arrays
from codegen.emit.kernels import Kernels
from codegen.emit.kinds import array_type, scalar_type, tuple_type
from codegen.emit.typed import imported
from codegen.errors import CodegenError
from codegen.expr import BOOL, Expr
from codegen.foreign import Foreign
from codegen.library import products
from codegen.library.results import received, received_number
from codegen.loops import ForeignCall, Forward, LibraryCall
from codegen.source import library_function, returned


class Calls(Kernels):
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
