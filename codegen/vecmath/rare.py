"""A slow path that does not stop vectorisation: `rare(fast, x, limit, slow)`.

    sin(x) = rare(polynomial(x), x, 2**42, sin_large)     # sin_large only where |x| >= 2**42

A branch in a loop body that calls a function keeps LLVM from vectorising the loop. So the choice
is hidden in a function of its own for which vector variants exist (the loop vectoriser finds them
by the attribute "vector-function-abi-variant"): a variant looks at all its lanes at once, returns
`fast` if none is beyond the limit, and goes lane by lane otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.errors import RequireLiteralValue

from codegen.vecmath.primitives import instruction

LANES = (2, 4, 8, 16)


def rare_plain(fast: Any, x: Any, limit: Any, slow: Callable[[Any], Any]) -> Any:
    return slow(x) if abs(x) >= limit else fast


def beyond(builder: Any, x: Any, limit: Any) -> Any:
    """LLVM code for `|x| >= limit`, false for NaN; x is a scalar or a vector."""
    kind = x.type
    suffix = f"v{kind.count}" if isinstance(kind, ir.VectorType) else ""
    element = kind.element if suffix else kind
    bits = 64 if element == ir.DoubleType() else 32
    prototype = ir.FunctionType(kind, [kind])
    name = f"llvm.fabs.{suffix}f{bits}"
    magnitude = builder.call(declared(builder.module, prototype, name), [x])
    bound = ir.Constant(kind, [limit] * kind.count if suffix else limit)
    return builder.fcmp_ordered(">=", magnitude, bound)


def declared(module: Any, prototype: Any, name: str) -> Any:
    return module.globals.get(name) or ir.Function(module, prototype, name)


def outlined(module: Any, prototype: Any, name: str, attributes: tuple[str, ...]) -> Any:
    """A function that LLVM neither inlines nor takes to touch memory."""
    function = ir.Function(module, prototype, name)
    function.linkage = "linkonce_odr"
    for attribute in ("noinline", "nounwind", "readnone", "willreturn", *attributes):
        set.add(function.attributes, attribute)  # llvmlite's own list lacks the string attributes
    return function


def define_scalar(function: Any, limit: float, call_slow: Callable[..., Any]) -> None:
    """`slow(x) if |x| >= limit else fast`."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, x = function.args
    with builder.if_then(beyond(builder, x, limit), likely=False):
        builder.ret(call_slow(builder, x))
    builder.ret(fast)


def define_vector(function: Any, limit: float, scalar_function: Any) -> None:
    """The same on all lanes: `fast` at once if no lane is beyond the limit."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, x = function.args
    count = x.type.count
    mask = builder.bitcast(beyond(builder, x, limit), ir.IntType(count))
    with builder.if_then(builder.icmp_unsigned("!=", mask, mask.type(0)), likely=False):
        result = fast
        for lane in range(count):
            at = ir.Constant(ir.IntType(32), lane)
            pair = [builder.extract_element(vector, at) for vector in (fast, x)]
            result = builder.insert_element(result, builder.call(scalar_function, pair), at)
        builder.ret(result)
    builder.ret(fast)


def keep(module: Any, functions: list[Any]) -> None:
    """List functions that only the loop vectoriser will call in `llvm.compiler.used`."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.ArrayType(pointer, len(functions))
    used = ir.GlobalVariable(module, kind, "llvm.compiler.used")
    used.linkage, used.section = "appending", "llvm.metadata"
    used.initializer = ir.Constant(kind, [function.bitcast(pointer) for function in functions])


def variants(module: Any, name: str, value: Any, limit: float, call_slow: Any) -> Any:
    """The scalar function `name` of this module, together with its vector variants."""
    names = {lanes: f"{name}_{lanes}" for lanes in LANES}
    mappings = ",".join(f"_ZGV_LLVM_N{lanes}vv_{name}({names[lanes]})" for lanes in LANES)
    attribute = f'"vector-function-abi-variant"="{mappings}"'
    function = outlined(module, ir.FunctionType(value, [value] * 2), name, (attribute,))
    define_scalar(function, limit, call_slow)
    vectors = []
    for lanes in LANES:
        wide = ir.VectorType(value, lanes)
        vectors.append(outlined(module, ir.FunctionType(wide, [wide] * 2), names[lanes], ()))
        define_vector(vectors[-1], limit, function)
    keep(module, vectors)
    return function


@instruction(rare_plain)
def rare(typing: Any, fast: Any, x: Any, limit: Any, slow: Any) -> Any:
    """`slow(x) if |x| >= limit else fast` without a branch in the loop; `limit` is a literal."""
    if not isinstance(limit, types.Literal):
        raise RequireLiteralValue("the limit of a slow path is a literal integer")
    if not (isinstance(x, types.Float) and fast == x and isinstance(slow, types.Dispatcher)):
        return None
    bound = float(limit.literal_value)
    dispatcher = slow.dispatcher
    dispatcher.compile((x,))
    compiled = dispatcher.overloads[(x,)]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        context.active_code_library.add_linking_library(compiled.library)

        def call_slow(inner: Any, value: Any) -> Any:
            return context.call_internal_no_propagate(inner, compiled.fndesc, x(x), [value])[1]

        name = f"rare_{dispatcher.__name__}"
        function = builder.module.globals.get(name)
        if function is None:
            function = variants(builder.module, name, args[0].type, bound, call_slow)
        return builder.call(function, args[:2])

    return x(fast, x, limit, slow), generate
