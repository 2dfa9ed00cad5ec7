"""What numba compiles at each use and our functions use everywhere, as single instructions.

In: the calls `np.empty(shape)`, `np.zeros(shape)`, `x.reshape(shape)`, `min(a, b)`, `max(a, b)` of
a function of `codegen`. Out: the same calls bound to intrinsics, which write their LLVM code in
place. For numba each is a Python function to be typed and compiled, in all 0.2 s of the first
compilation of a process. Sizes are not negative, but for the -1 of a reshape.
"""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir as llvm
from numba.core import cgutils, ir, types
from numba.core.compiler_machinery import FunctionPass, register_pass
from numba.core.typing.npydecl import parse_dtype
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import as_dtype

from codegen import memory

TOO_BIG = (
    "array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size."
)

TOO_LITTLE = "Allocation failed (probably too large)."


def extents(context: Any, builder: Any, shape: Any, value: Any) -> list[Any]:
    """The sizes of a shape, an integer or a tuple of integers, as machine words."""
    if isinstance(shape, types.Integer):
        return [context.cast(builder, value, shape, types.intp)]
    parts = cgutils.unpack_tuple(builder, value, len(shape))
    return [
        context.cast(builder, part, kind, types.intp)
        for part, kind in zip(parts, shape, strict=True)
    ]


def rank(shape: Any) -> int | None:
    """How many sizes there are, or None if it is no shape."""
    if isinstance(shape, types.Integer):
        return 1
    parts: Any = shape if isinstance(shape, types.BaseTuple) else (None,)
    return len(parts) if all(isinstance(part, types.Integer) for part in parts) else None


def fill_in(context: Any, builder: Any, array: Any, sizes: Sequence[Any], **parts: Any) -> Any:
    """The structure of a C-contiguous array of these sizes."""
    strides = [parts["itemsize"]]
    for size in reversed(sizes[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    word = context.get_value_type(types.intp)
    populate_array(
        array,
        shape=cgutils.pack_array(builder, sizes, ty=word),
        strides=cgutils.pack_array(builder, strides[: len(sizes)], ty=word),
        **parts,
    )
    return array._getvalue()


Leave = Callable[[Any, type[Exception], str], None]
"""Where a condition holds, leave the function with an error."""


def leaving(context: Any, builder: Any) -> Leave:
    def leave(condition: Any, error: type[Exception], message: str) -> None:
        with builder.if_then(condition, likely=False):
            context.call_conv.return_user_exc(builder, error, (message,))

    return leave


def byte_count(builder: Any, sizes: Sequence[Any], itemsize: Any, leave: Leave) -> Any:
    """The product; ValueError, as from NumPy, if it does not fit a machine word."""
    total, overflow = itemsize, llvm.Constant(llvm.IntType(1), 0)
    for size in sizes:
        product = builder.smul_with_overflow(total, size)
        total = builder.extract_value(product, 0)
        overflow = builder.or_(overflow, builder.extract_value(product, 1))
    leave(overflow, ValueError, TOO_BIG)
    return total


def block(builder: Any, size: Any, alignment: int, leave: Leave) -> Any:
    """Memory for so many bytes under a reference count; MemoryError if there is none."""
    kind = llvm.FunctionType(cgutils.voidptr_t, [size.type, llvm.IntType(32)])
    function = cgutils.get_or_insert_function(builder.module, kind, memory.register("new"))
    function.return_value.add_attribute("noalias")
    found = builder.call(function, [size, llvm.Constant(llvm.IntType(32), alignment)])
    leave(cgutils.is_null(builder, found), MemoryError, TOO_LITTLE)
    return found


def allocation(shape: types.Type, dtype: types.Type, zeroed: bool) -> Any:
    """Type and code of a new array."""
    if rank(shape) is None:
        return None
    result = types.Array(dtype, rank(shape), "C")

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        sizes = extents(context, builder, shape, args[0])
        element = context.get_data_type(dtype)
        itemsize = context.get_constant(types.intp, as_dtype(dtype).itemsize)
        leave = leaving(context, builder)
        size = byte_count(builder, sizes, itemsize, leave)
        meminfo = block(builder, size, context.get_preferred_array_alignment(dtype), leave)
        data = context.nrt.meminfo_data(builder, meminfo)
        if zeroed:
            cgutils.memset(builder, data, size, 0)
        pointer = builder.bitcast(data, element.as_pointer())
        array = make_array(result)(context, builder)
        parts = {"data": pointer, "itemsize": itemsize, "meminfo": meminfo}
        return fill_in(context, builder, array, sizes, **parts)

    return result, generate


def allocating(zeroed: bool) -> tuple[Any, Any]:
    """The intrinsics for `(shape)` and `(shape, dtype)`."""

    @intrinsic
    def of_float64(typing: Any, shape: types.Type) -> Any:
        found = allocation(shape, types.float64, zeroed)
        return found and (found[0](shape), found[1])

    @intrinsic
    def of_dtype(typing: Any, shape: types.Type, dtype: types.Type) -> Any:
        element = parse_dtype(dtype)
        found = element and allocation(shape, element, zeroed)
        return found and (found[0](shape, dtype), found[1])

    return of_float64, of_dtype


def completed(builder: Any, sizes: Sequence[Any], items: Any) -> list[Any]:
    """The sizes, with what is missing in the place of -1."""
    zero, one = (llvm.Constant(items.type, number) for number in (0, 1))
    open_ = [builder.icmp_signed("<", size, zero) for size in sizes]
    given = one
    for size, missing in zip(sizes, open_, strict=True):
        given = builder.mul(given, builder.select(missing, one, size))
    empty = builder.icmp_signed("==", given, zero)
    rest = builder.sdiv(items, builder.select(empty, one, given))
    pairs = zip(sizes, open_, strict=True)
    return [builder.select(missing, rest, size) for size, missing in pairs]


@intrinsic
def reshaped(typing: Any, array: types.Type, shape: types.Type) -> Any:
    """`array.reshape(shape)` of a C-contiguous array whose size fits: the same memory."""
    if not (isinstance(array, types.Array) and array.layout == "C" and rank(shape) is not None):
        return None
    result = array.copy(ndim=rank(shape))

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        base = make_array(array)(context, builder, args[0])
        view = make_array(result)(context, builder)
        sizes = completed(builder, extents(context, builder, shape, args[1]), base.nitems)
        parts = {name: getattr(base, name) for name in ("data", "itemsize", "meminfo", "parent")}
        value = fill_in(context, builder, view, sizes, **parts)
        context.nrt.incref(builder, result, value)
        return value

    return result(array, shape), generate


def choosing(comparison: str) -> Any:
    """The intrinsic for the second of two numbers if it compares so to the first, else the first.

    For floats that is numba's rule too: where one is NaN the first is taken.
    """

    @intrinsic
    def choose(typing: Any, a: types.Type, b: types.Type) -> Any:
        common: Any = typing.unify_pairs(a, b)
        if not isinstance(common, types.Integer | types.Float):
            return None

        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            kinds = zip(args, (a, b), strict=True)
            x, y = (context.cast(builder, value, kind, common) for value, kind in kinds)
            if isinstance(common, types.Float):
                compare = builder.fcmp_ordered
            else:
                compare = builder.icmp_signed if common.signed else builder.icmp_unsigned  # type: ignore[attr-defined]
            return builder.select(compare(comparison, y, x), y, x)

        return common(a, b), generate

    return choose


EMPTY, ZEROS = allocating(False), allocating(True)
FUNCTIONS: dict[tuple[Any, int], Any] = {
    (np.empty, 1): EMPTY[0],
    (np.empty, 2): EMPTY[1],
    (np.zeros, 1): ZEROS[0],
    (np.zeros, 2): ZEROS[1],
    (builtins.min, 2): choosing("<"),
    (builtins.max, 2): choosing(">"),
}
"""By function and number of arguments."""


@register_pass(mutates_CFG=False, analysis_only=False)
class Shortcuts(FunctionPass):
    """Bind the calls to the intrinsics."""

    _name = "codegen_shortcuts"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        for block in state.func_ir.blocks.values():
            block.body = _bound(block.body, state.func_ir)
        return True


def _bound(body: Sequence[Any], function: Any) -> list[Any]:
    """The statements of a block with its calls bound anew."""
    made: dict[str, Any] = {}
    result: list[Any] = []
    for statement in body:
        match statement:
            case ir.Assign(value=ir.Expr(op="call") as call, target=target):
                result += _call(statement, call, made, function)
                made.pop(target.name, None)
                continue
            case ir.Assign(value=value, target=target):
                made[target.name] = value
        result.append(statement)
    return result


def _call(statement: Any, call: Any, made: dict[str, Any], function: Any) -> list[Any]:
    """The call as it is, or of an intrinsic that is assigned to a variable of its own first."""
    found = made.get(call.func.name)
    match found:
        case ir.Expr(op="getattr", attr="reshape", value=array):
            chosen, arguments = reshaped, [array, *call.args]
            if len(call.args) != 1:
                return [statement]
        case _:
            chosen = FUNCTIONS.get((_constant(found, made), len(call.args)))
            arguments = call.args
    if chosen is None or call.kws:
        return [statement]
    name = ir.Var(statement.target.scope, f"{call.func.name}.shortcut", call.loc)
    binding = ir.Assign(ir.Global(chosen.__name__, chosen, call.loc), name, call.loc)
    value = ir.Expr.call(name, arguments, (), call.loc)
    function._definitions[name.name] = [binding.value]
    function._definitions[statement.target.name] = [
        value if definition is call else definition
        for definition in function._definitions[statement.target.name]
    ]
    return [binding, ir.Assign(value, statement.target, statement.loc)]


def _constant(found: Any, made: dict[str, Any]) -> Callable[..., Any] | None:
    """The function that an expression names: a global, or an attribute of the module `np`."""
    match found:
        case ir.Global(value=value) | ir.FreeVar(value=value):
            return value if value in (builtins.min, builtins.max) else None
        case ir.Expr(op="getattr", attr=attribute, value=base):
            match made.get(base.name):
                case ir.Global(value=value) if value is np:
                    return getattr(np, attribute)
    return None
