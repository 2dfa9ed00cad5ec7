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
from llvmlite.binding import get_default_triple
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue

from codegen.vecmath.primitives import instruction

# Vectors of 128, 256 and 512 bits.
LANES = {ir.DoubleType(): (2, 4, 8), ir.FloatType(): (4, 8, 16)}
X86 = get_default_triple().startswith("x86_64")
CONVENTION = "intel_ocl_bicc" if X86 else ""
"""With it half of the vector registers outlive the call (in C's convention none does, and a loop
over sin and cos spends 40 % of its time on saving them)."""


def rare_plain(fast: Any, x: Any, limit: Any, slow: Callable[[Any], Any]) -> Any:
    return slow(x) if abs(x) >= limit else fast


def rare_pair_plain(
    fast: Any, key: Any, limit: Any, slow: Callable[[Any, Any], Any], x: Any, y: Any
) -> Any:
    return slow(x, y) if abs(key) >= limit else fast


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
    function.calling_convention = CONVENTION
    for attribute in ("noinline", "nounwind", "readnone", "willreturn", *attributes):
        set.add(function.attributes, attribute)  # llvmlite's own list lacks the string attributes
    return function


def define_scalar(function: Any, limit: float, call_slow: Callable[..., Any]) -> None:
    """`slow(*arguments) if |key| >= limit else fast`."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, key, *arguments = function.args
    with builder.if_then(beyond(builder, key, limit), likely=False):
        builder.ret(call_slow(builder, arguments or [key]))
    builder.ret(fast)


def define_vector(function: Any, limit: float, scalar_function: Any) -> None:
    """The same on all lanes: `fast` at once if no lane is beyond the limit, else lane by lane."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, key = function.args[:2]
    count = key.type.count
    lanes = [cgutils.alloca_once(builder, fast.type) for _ in function.args]
    mask = builder.bitcast(beyond(builder, key, limit), ir.IntType(count))
    with builder.if_then(builder.icmp_unsigned("!=", mask, ir.IntType(count)(0)), likely=False):
        for slot, vector in zip(lanes, function.args, strict=True):
            builder.store(vector, slot)
        first = [builder.bitcast(slot, fast.type.element.as_pointer()) for slot in lanes]
        with cgutils.for_range(builder, ir.IntType(64)(count)) as loop:
            places = [builder.gep(start, [loop.index]) for start in first]
            parts = [builder.load(place) for place in places]
            builder.store(builder.call(scalar_function, parts, cconv=CONVENTION or None), places[0])
        builder.ret(builder.load(lanes[0]))
    builder.ret(fast)


def keep(module: Any, functions: list[Any]) -> None:
    """List functions that only the loop vectoriser will call in `llvm.compiler.used`."""
    pointer = ir.IntType(8).as_pointer()
    kind = ir.ArrayType(pointer, len(functions))
    used: Any = ir.GlobalVariable(module, kind, "llvm.compiler.used")
    used.linkage, used.section = "appending", "llvm.metadata"
    used.initializer = ir.Constant(kind, [function.bitcast(pointer) for function in functions])


def variants(module: Any, name: str, values: list[Any], limit: float, call_slow: Any) -> Any:
    """The scalar function `name` of this module, together with its vector variants."""
    names = {lanes: f"{name}_{lanes}" for lanes in LANES[values[0]]}
    shape = "v" * len(values)
    mappings = ",".join(f"_ZGV_LLVM_N{lanes}{shape}_{name}({names[lanes]})" for lanes in names)
    attribute = f'"vector-function-abi-variant"="{mappings}"'
    function = outlined(module, ir.FunctionType(values[0], values), name, (attribute,))
    define_scalar(function, limit, call_slow)
    vectors = []
    for lanes in names:
        wide = [ir.VectorType(value, lanes) for value in values]
        vectors.append(outlined(module, ir.FunctionType(wide[0], wide), names[lanes], ()))
        define_vector(vectors[-1], limit, function)
    keep(module, vectors)
    return function


def hidden_choice(result: Any, limit: Any, slow: Any, arguments: tuple[Any, ...]) -> Any:
    """The LLVM code of `rare` for a slow path with these argument types."""
    if not isinstance(limit, types.Literal):
        raise RequireLiteralValue("the limit of a slow path is a literal integer")
    dispatcher = slow.dispatcher
    dispatcher.compile(arguments)
    compiled = dispatcher.overloads[arguments]

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        context.active_code_library.add_linking_library(compiled.library)

        def call_slow(inner: Any, values: Any) -> Any:
            call = context.call_internal_no_propagate
            return call(inner, compiled.fndesc, result(*arguments), values)[1]

        values = [args[0], args[1], *args[4:]]
        name = f"rare_{dispatcher.__name__}_{result}"
        function = builder.module.globals.get(name)
        if function is None:
            kinds = [value.type for value in values]
            bound = float(limit.literal_value)
            function = variants(builder.module, name, kinds, bound, call_slow)
        return builder.call(function, values, cconv=CONVENTION or None)

    return generate


@instruction(rare_plain)
def rare(typing: Any, fast: Any, x: Any, limit: Any, slow: Any) -> Any:
    """`slow(x) if |x| >= limit else fast` without a branch in the loop; `limit` is a literal."""
    if not (isinstance(x, types.Float) and fast == x and isinstance(slow, types.Dispatcher)):
        return None
    return x(fast, x, limit, slow), hidden_choice(x, limit, slow, (x,))


@instruction(rare_pair_plain)
def rare_pair(typing: Any, fast: Any, key: Any, limit: Any, slow: Any, x: Any, y: Any) -> Any:
    """`slow(x, y) if |key| >= limit else fast`, likewise."""
    if not (isinstance(x, types.Float) and fast == key == x == y):
        return None
    return x(fast, key, limit, slow, x, y), hidden_choice(x, limit, slow, (x, y))
