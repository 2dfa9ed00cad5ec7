"""The function that Python calls: it looks at each argument, takes its parts, and lets go of it.

numba's dispatchers look at the types of arguments, and the function behind takes them on trust. A
function that is loaded without a dispatcher (`native`) has to look itself. For an array parameter
of rank 2:

    type(x) is ndarray and x.ndim == 2 and x.flags.carray       else TypeError

(`carray`: contiguous in C's order, aligned, writable.) The dtype is the caller's to know.

    failed = unbox(object, array, itemsize)      for each array
    failed?  let go of all arrays, return NULL
    status, result = function(...)               without the interpreter's lock
    let go of all arrays; return the result as an object, or raise

numba's wrapper has a way out for each argument and takes each array apart three times: of 20 arrays
1,150 instructions without looking at them, and here 600.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.callwrapper import PyCallWrapper

from codegen import arrays
from codegen.library.products import item_size

BYTE, INT, WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)
POINTER = BYTE.as_pointer()
MEMINFO, ITEMSIZE = 0, 3
"""Fields of numba's structure of an array."""
REFUSED = "can't unbox array from PyObject into native value.  The object maybe of a different type"
"""numba's words."""


def wrap(lower: Any, release_gil: bool) -> None:
    """Add that function to the library of one that was lowered."""
    context, described = lower.context, lower.fndesc
    module = context.create_module("wrapper")
    kind = context.call_conv.get_function_type(described.restype, described.argtypes)
    function = ir.Function(module, kind, described.llvm_func_name)
    given = (described, lower.env, lower.call_helper, release_gil)
    Wrapper(context, module, function, *given).build()
    lower.library.add_ir_module(module)


class Wrapper(PyCallWrapper):
    """The function for Python around a compiled one."""

    def build_wrapper(self, api: Any, builder: Any, closure: Any, args: Any, kws: Any) -> None:
        given, null = self.fndesc.argtypes, api.get_null_object()
        objects, count = [api.alloca_obj() for _ in given], len(given)
        parsed = api.unpack_tuple(args, self.fndesc.qualname, count, count, *objects)
        with builder.if_then(cgutils.is_null(builder, parsed), likely=False):
            builder.ret(null)
        environment = self.get_env(api, builder)
        refused = builder.append_basic_block("refused")
        places = {n: self.place(builder, k) for n, k in enumerate(given) if is_array(k)}
        values = []
        for number, kind in enumerate(given):
            found = builder.load(objects[number])
            if number in places:
                values.append(self.array(builder, found, kind, places[number], refused))
            else:
                native = api.to_native_value(kind, found)
                self.check(builder, native.is_error, refused)
                values.append(native.value)
        with builder.goto_block(refused):
            self.let_go(builder, places.values())
            builder.ret(null)
        state = api.save_thread() if self.release_gil else None
        convention, result = self.context.call_conv, self.fndesc.restype
        status, value = convention.call_function(
            builder, self.func, result, given, values, attrs=("noinline",)
        )
        if state is not None:
            api.restore_thread(state)
        self.let_go(builder, places.values())
        with builder.if_then(status.is_ok, likely=True):
            with builder.if_then(status.is_none):
                api.return_none()
            builder.ret(api.from_native_return(result, value, environment))
        convention.raise_error(builder, api, status)
        builder.ret(null)

    def place(self, builder: Any, kind: types.Type) -> Any:
        """Memory for numba's structure of an array, which holds none yet."""
        found = cgutils.alloca_once(builder, self.context.get_value_type(kind))
        meminfo = cgutils.gep_inbounds(builder, found, 0, MEMINFO)
        builder.store(ir.Constant(POINTER, None), meminfo)
        return found

    def array(self, builder: Any, found: Any, kind: Any, place: Any, refused: Any) -> Any:
        given = [found, builder.bitcast(place, POINTER), WORD(item_size(kind.dtype))]
        self.check(builder, builder.call(self.unbox(kind.ndim), given), refused)
        return builder.load(place)

    def check(self, builder: Any, failed: Any, refused: Any) -> None:
        following = builder.append_basic_block("following")
        builder.cbranch(failed, refused, following).set_weights([1, 99])
        builder.position_at_end(following)

    def let_go(self, builder: Any, places: Any) -> None:
        kind = ir.FunctionType(ir.VoidType(), [POINTER])
        function = cgutils.get_or_insert_function(self.module, kind, "NRT_decref")
        for place in places:
            meminfo = builder.load(cgutils.gep_inbounds(builder, place, 0, MEMINFO))
            builder.call(function, [meminfo])

    def unbox(self, rank: int) -> Any:
        """`failed unbox(object, array, itemsize)`, with the exception set: one for all arrays of a
        rank."""
        kind = ir.FunctionType(ir.IntType(1), [POINTER, POINTER, WORD])
        function = cgutils.get_or_insert_function(self.module, kind, f"codegen_unbox_{rank}")
        if not function.is_declaration:
            return function
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block())
        api = self.context.get_python_api(builder)
        found, place, itemsize = function.args
        with builder.if_then(builder.not_(self.fits(builder, found, rank)), likely=False):
            text = f"expected a contiguous, aligned, writable array of rank {rank}"
            api.err_set_string("PyExc_TypeError", text)
            builder.ret(cgutils.true_bit)
        error = api.nrt_adapt_ndarray_from_python(found, place)
        head = ir.LiteralStructType([POINTER, POINTER, WORD, WORD])
        array = builder.bitcast(place, head.as_pointer())
        size = builder.load(cgutils.gep_inbounds(builder, array, 0, ITEMSIZE))
        failed = builder.or_(
            builder.icmp_signed("!=", error, ir.Constant(error.type, 0)),
            builder.icmp_unsigned("!=", size, itemsize),
        )
        with builder.if_then(failed, likely=False):
            api.err_set_string("PyExc_TypeError", REFUSED)
        builder.ret(failed)
        return function

    def fits(self, builder: Any, found: Any, rank: int) -> Any:
        """Whether the object is an array as compiled code takes it."""

        def at(offset: int, kind: Any) -> Any:
            place = builder.gep(builder.bitcast(found, POINTER), [WORD(offset)])
            return builder.load(builder.bitcast(place, kind.as_pointer()))

        name, known = arrays.register("type"), self.module.globals
        array = known[name] if name in known else ir.GlobalVariable(self.module, BYTE, name)
        wanted = INT(arrays.FLAGS_WANTED)
        conditions = (
            builder.icmp_unsigned("==", at(arrays.TYPE, WORD), builder.ptrtoint(array, WORD)),
            builder.icmp_unsigned("==", at(arrays.RANK, INT), INT(rank)),
            builder.icmp_unsigned("==", builder.and_(at(arrays.FLAGS, INT), wanted), wanted),
        )
        return builder.and_(conditions[0], builder.and_(*conditions[1:]))


def is_array(kind: types.Type) -> bool:
    return isinstance(kind, types.Array)
