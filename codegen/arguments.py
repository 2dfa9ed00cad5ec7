"""The way from Python's arguments to compiled code: each array is looked at before it is taken.

numba's dispatchers look at the types of arguments, and the function behind takes them on trust. A
function that is loaded without a dispatcher (`native`) has to look itself. For an array parameter
of rank 2:

    type(x) is ndarray and x.ndim == 2 and x.flags.carray       else TypeError

(`carray`: contiguous in C's order, aligned, writable.) The dtype is the caller's to know.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.callwrapper import PyCallWrapper
from numba.core.pythonapi import NativeValue, PythonAPI

from codegen import arrays

BYTE, INT, WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)


class Arguments(PythonAPI):
    """Takes values from Python objects."""

    def to_native_value(self, typ: Any, obj: Any) -> Any:
        if not isinstance(typ, types.Array):
            return super().to_native_value(typ, obj)
        builder = self.builder
        kind = self.context.get_value_type(typ)
        value = cgutils.alloca_once_value(builder, ir.Constant(kind, None))
        failed = cgutils.alloca_once_value(builder, cgutils.true_bit)
        with builder.if_else(self.is_array(obj, typ.ndim), likely=True) as (then, otherwise):
            with then:
                native = super().to_native_value(typ, obj)
                builder.store(native.value, value)
                builder.store(native.is_error, failed)
            with otherwise:
                text = f"expected a contiguous, aligned, writable array of rank {typ.ndim}"
                self.err_set_string("PyExc_TypeError", text)
        return NativeValue(builder.load(value), builder.load(failed))

    def is_array(self, obj: Any, rank: int) -> Any:
        """Whether the object is an array as compiled code takes it."""
        builder = self.builder

        def at(offset: int, kind: Any) -> Any:
            place = builder.gep(builder.bitcast(obj, BYTE.as_pointer()), [WORD(offset)])
            return builder.load(builder.bitcast(place, kind.as_pointer()))

        name, known = arrays.register("type"), builder.module.globals
        array = known[name] if name in known else ir.GlobalVariable(builder.module, BYTE, name)
        wanted = INT(arrays.FLAGS_WANTED)
        conditions = (
            builder.icmp_unsigned("==", at(arrays.TYPE, WORD), builder.ptrtoint(array, WORD)),
            builder.icmp_unsigned("==", at(arrays.RANK, INT), INT(rank)),
            builder.icmp_unsigned("==", builder.and_(at(arrays.FLAGS, INT), wanted), wanted),
        )
        return builder.and_(conditions[0], builder.and_(*conditions[1:]))


class Wrapper(PyCallWrapper):
    """The function for Python around a compiled one."""

    def build_wrapper(self, api: Any, builder: Any, *parts: Any) -> None:
        super().build_wrapper(Arguments(self.context, builder), builder, *parts)


def wrap(lower: Any, release_gil: bool) -> None:
    """Add that function to the library of one that was lowered."""
    context, described = lower.context, lower.fndesc
    module = context.create_module("wrapper")
    kind = context.call_conv.get_function_type(described.restype, described.argtypes)
    function = ir.Function(module, kind, described.llvm_func_name)
    given = (described, lower.env, lower.call_helper, release_gil)
    Wrapper(context, module, function, *given).build()
    lower.library.add_ir_module(module)
