"""A slow path that does not stop vectorisation: `rare(fast, x, limit, slow)`.

    sin(x) = rare(polynomial(x), x, 2**42, sin_large)     # sin_large only where |x| >= 2**42

A branch in a loop body that calls a function keeps LLVM from vectorising the loop. So the choice
is hidden in a function of its own for which vector variants exist (the loop vectoriser finds them
by the attribute "vector-function-abi-variant"): a variant looks at all its lanes at once, returns
`fast` if none is beyond the limit, and calls a function that goes lane by lane otherwise.

Zeros, denormals, infinities and NaN are treated in the same way, by `ordinary(fast, x, low, high,
slow)`: a comparison or two (0.02 ns an element) instead of ten instructions (0.1 ns). They may be
many, so there the slow path is vectorised too, and costs about twice the fast one. Once loops are
vectorised, `inlined` puts these variants where they are called, if they are those of one function:
10 % of a power's time less than with calls. (Inlined, sines and tangents take 5 % more, so those
with a limit stay calls.)

    log(x) = ordinary_positive(polynomial(x), x, -1022, 1024, log_anywhere)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import RequireLiteralValue

from codegen.vecmath.conditions import Beyond, Condition, Outside, OutsideCount, OutsideEither
from codegen.vecmath.floating import FORMATS
from codegen.vecmath.primitives import instruction

# From which power of two to which normal numbers are.
NORMAL = {types.float64: (-1022, 1024), types.float32: (-126, 128)}


def vector_bits() -> tuple[int, ...]:
    """The lengths of the vectors that LLVM chooses for loops on this processor."""
    features = llvm.get_host_cpu_features()
    if features.get("avx512f"):
        return (512,) if llvm.get_host_cpu_name().startswith("znver") else (256, 512)
    return (256,) if features.get("avx") else (128,)


def lane_counts(bits: int) -> tuple[int, ...]:
    """Lanes of vectors of numbers of so many bits; float32 stands beside float64 too."""
    lengths = {length // width for length in vector_bits() for width in (bits, 64)}
    return tuple(sorted(lengths))


LANES = {ir.DoubleType(): lane_counts(64), ir.FloatType(): lane_counts(32)}
X86 = llvm.get_default_triple().startswith("x86_64")
PREFIX = "rare_"
VARIANT = re.compile(r"_\d+(_lanes)?$")
"""What the name of a variant has after that of its function."""
USED = "llvm.compiler.used"


def convention() -> str:
    """With Intel's half of the vector registers outlive the call (in C's none does, and a loop over
    sin and cos spends 40 % of its time on saving them).

    Not with AVX alone: LLVM clears the upper halves of registers before calls and returns
    (`vzeroupper`), those too that the convention keeps; of AVX-512 it keeps others than these.
    """
    features = llvm.get_host_cpu_features()
    safe = features.get("avx512f") or not features.get("avx")
    return "intel_ocl_bicc" if X86 and safe else ""


CONVENTION = convention()


def rare_plain(fast: Any, x: Any, limit: Any, slow: Callable[[Any], Any]) -> Any:
    return slow(x) if abs(x) >= limit else fast


def rare_pair_plain(
    fast: Any, key: Any, limit: Any, slow: Callable[[Any, Any], Any], x: Any, y: Any
) -> Any:
    return slow(x, y) if abs(key) >= limit else fast


def ordinary_plain(
    fast: Any, key: Any, low: Any, high: Any, slow: Callable[..., Any], *given: Any
) -> Any:
    return (
        fast
        if np.ldexp(1.0, int(low)) <= abs(key) < np.ldexp(1.0, int(high))
        else slow(*given or [key])
    )


def ordinary_positive_plain(
    fast: Any, key: Any, low: Any, high: Any, slow: Callable[..., Any], *given: Any
) -> Any:
    return (
        fast if np.ldexp(1.0, int(low)) <= key < np.ldexp(1.0, int(high)) else slow(*given or [key])
    )


def ordinary_power_plain(
    fast: Any, moved: Any, low: Any, high: Any, slow: Callable[..., Any], x: Any, y: Any
) -> Any:
    normal = np.finfo(type(x)).tiny <= x < np.inf
    count = np.float64(moved) - FORMATS[8 * x.itemsize][3]
    return fast if normal and low <= count < high else slow(x, y)


def pure(module: Any, prototype: Any, name: str, attributes: tuple[str, ...]) -> Any:
    """A function that LLVM does not take to touch memory."""
    function = ir.Function(module, prototype, name)
    function.linkage = "linkonce_odr"
    function.calling_convention = CONVENTION
    for attribute in ("nounwind", "readnone", "willreturn", *attributes):
        set.add(function.attributes, attribute)  # llvmlite's own list lacks the string attributes
    return function


def define_scalar(function: Any, condition: Condition, call_slow: Callable[..., Any]) -> None:
    """`slow(*arguments) if condition(key) else fast`."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, key, *arguments = function.args
    with builder.if_then(condition(builder, key, *arguments), likely=False):
        builder.ret(call_slow(builder, arguments or [key]))
    builder.ret(fast)


def define_vector(function: Any, condition: Condition, lanes: Any) -> None:
    """The same on all lanes: `fast` at once if the condition holds for none, else `lanes`."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    fast, key, *arguments = function.args
    kind = ir.IntType(key.type.count)
    mask = builder.bitcast(condition(builder, key, *arguments), kind)
    with builder.if_then(builder.icmp_unsigned("!=", mask, kind(0)), likely=False):
        builder.ret(builder.call(lanes, function.args, cconv=CONVENTION or None))
    builder.ret(fast)


def define_lanes(function: Any, together: bool, call_lane: Callable[..., Any]) -> None:
    """A loop over the lanes of vectors."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    result = function.args[0].type
    slots = [cgutils.alloca_once(builder, result) for _ in function.args]
    for slot, vector in zip(slots, function.args, strict=True):
        builder.store(vector, slot)
    first = [builder.bitcast(slot, result.element.as_pointer()) for slot in slots]
    with each_lane(builder, result.count, together) as lane:
        places = [builder.gep(start, [lane]) for start in first]
        parts = [builder.load(place) for place in places]
        builder.store(call_lane(builder, parts), places[0])
    builder.ret(builder.load(slots[0]))


@contextmanager
def each_lane(builder: Any, count: int, together: bool) -> Iterator[Any]:
    """A loop over the lanes with the hint not to unroll it, so that it is vectorised, or, lane by
    lane, not to vectorise it: the function that it calls has this one for a vector variant."""
    index = ir.IntType(64)
    before, body = builder.block, builder.append_basic_block("lane")
    builder.branch(body)
    builder.position_at_end(body)
    lane: Any = builder.phi(index)
    lane.add_incoming(index(0), before)
    yield lane
    following = builder.add(lane, index(1))
    lane.add_incoming(following, builder.block)
    after = builder.append_basic_block("after")
    end = builder.icmp_unsigned("<", following, index(count))
    jump = builder.cbranch(end, body, after)
    module = builder.module
    name = "llvm.loop.unroll.disable" if together else "llvm.loop.vectorize.enable"
    value = [] if together else [ir.IntType(1)(0)]
    hint = module.add_metadata([ir.MetaDataString(module, name), *value])
    loop = module.add_metadata([hint, ir.Constant(index, len(module.metadata))])
    loop.operands = (loop, hint)
    jump.set_metadata("llvm.loop", loop)
    builder.position_at_end(after)


def keep(module: Any, functions: list[Any]) -> None:
    """List functions in `llvm.compiler.used`: those that only the loop vectoriser will call, and
    the one whose variants they are, which may not lose an argument that all calls have in common.
    """
    pointer = ir.IntType(8).as_pointer()
    listed: Any = [function.bitcast(pointer) for function in functions]
    used: Any = module.globals.get(USED)
    if used is None:
        used = ir.GlobalVariable(module, ir.ArrayType(pointer, 0), USED)
        used.linkage, used.section = "appending", "llvm.metadata"
    else:
        listed = [*used.initializer.constant, *listed]
    used.value_type = ir.ArrayType(pointer, len(listed))
    used.initializer = ir.Constant(used.value_type, listed)


def variants(
    module: Any, name: str, values: list[Any], condition: Condition, call_slow: Callable[..., Any]
) -> Any:
    """The scalar function `name` of this module, together with its vector variants."""
    names = {lanes: f"{name}_{lanes}" for lanes in LANES[values[0]]}
    shape = "v" * len(values)
    mappings = ",".join(f"_ZGV_LLVM_N{lanes}{shape}_{name}({names[lanes]})" for lanes in names)
    attribute = f'"vector-function-abi-variant"="{mappings}"'
    function = pure(module, ir.FunctionType(values[0], values), name, ("noinline", attribute))
    define_scalar(function, condition, call_slow)

    def call_lane(builder: Any, parts: list[Any]) -> Any:
        if condition.together:  # inlined, so that the loop over the lanes is vectorised
            return call_slow(builder, parts[2:] or parts[1:])
        return builder.call(function, parts, cconv=CONVENTION or None)

    vectors = []
    for lanes in names:
        wide = [ir.VectorType(value, lanes) for value in values]
        prototype = ir.FunctionType(wide[0], wide)
        slow = pure(module, prototype, f"{names[lanes]}_lanes", ("noinline", "cold"))
        define_lanes(slow, condition.together, call_lane)
        place = "alwaysinline" if condition.together else "noinline"
        vectors.append(pure(module, prototype, names[lanes], (place,)))
        define_vector(vectors[-1], condition, slow)
    keep(module, [function, *vectors])
    return function


def inlined(module: Any, builder: Any) -> None:
    """Put the variants of an optimised module (of `llvmlite.binding`) where loops call them, if
    they are of one function: among several, calls spare registers (the gradient of a chain of 15
    operations takes a sixth less time with them)."""
    names = (f.name for f in module.functions if f.name.startswith(PREFIX))
    if len({VARIANT.sub("", name) for name in names}) == 1:
        manager = llvm.create_new_module_pass_manager()
        manager.add_always_inliner_pass()
        manager.add_simplify_cfg_pass()
        manager.run(module, builder)


def hidden_choice(
    result: Any, condition: Condition, slow: Any, arguments: tuple[Any, ...], first: int
) -> Any:
    """The LLVM code of `rare` for a slow path with these argument types; its arguments, where they
    are others than the second one, begin at `first`."""
    dispatcher = slow.dispatcher

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def call_slow(inner: Any, values: Any) -> Any:
            return slow_path(context, inner, dispatcher, arguments, values)

        values = [args[0], args[1], *args[first:]]
        name = f"{PREFIX}{dispatcher.__name__}_{result}"
        function = builder.module.globals.get(name)
        if function is None:
            kinds = [value.type for value in values]
            function = variants(builder.module, name, kinds, condition, call_slow)
        return builder.call(function, values, cconv=CONVENTION or None)

    return generate


def slow_path(
    context: Any, builder: Any, dispatcher: Any, kinds: tuple[Any, ...], values: Any
) -> Any:
    """LLVM code for a slow path: in place, if its dispatcher can do that, or a call."""
    if hasattr(dispatcher, "in_place"):
        typed = tuple(zip(kinds, values, strict=True))
        if found := dispatcher.in_place(context, builder, typed):
            return found[1]
    dispatcher.compile(kinds)
    compiled = dispatcher.overloads[kinds]
    context.active_code_library.add_linking_library(compiled.library)
    call = context.call_internal_no_propagate
    return call(builder, compiled.fndesc, compiled.signature, values)[1]


def literals(*bounds: Any) -> list[int]:
    if not all(isinstance(bound, types.Literal) for bound in bounds):
        raise RequireLiteralValue("the limits of a slow path are literal integers")
    return [bound.literal_value for bound in bounds]


@instruction(rare_plain)
def rare(typing: Any, fast: Any, x: Any, limit: Any, slow: Any) -> Any:
    """`slow(x) if |x| >= limit else fast` without a branch in the loop; `limit` is a literal."""
    if not (isinstance(x, types.Float) and fast == x and isinstance(slow, types.Dispatcher)):
        return None
    condition = Beyond(*map(float, literals(limit)))
    return x(fast, x, limit, slow), hidden_choice(x, condition, slow, (x,), 4)


@instruction(rare_pair_plain)
def rare_pair(typing: Any, fast: Any, key: Any, limit: Any, slow: Any, x: Any, y: Any) -> Any:
    """`slow(x, y) if |key| >= limit else fast`, likewise."""
    if not (isinstance(x, types.Float) and fast == key == x == y):
        return None
    condition = Beyond(*map(float, literals(limit)))
    return x(fast, key, limit, slow, x, y), hidden_choice(x, condition, slow, (x, y), 4)


def outside(
    magnitude: bool, fast: Any, key: Any, low: Any, high: Any, slow: Any, *given: Any
) -> Any:
    """Signature and code of a choice by the range of the key."""
    floats = {fast, key, *given}
    if not (
        floats == {key} and isinstance(key, types.Float) and isinstance(slow, types.Dispatcher)
    ):
        return None
    bounds = literals(low, high)
    condition = Outside(bounds[0], bounds[1], magnitude)
    code = hidden_choice(key, condition, slow, given or (key,), 5)
    return key(fast, key, low, high, slow, *given), code


@instruction(ordinary_plain)
def ordinary(typing: Any, fast: Any, x: Any, low: Any, high: Any, slow: Any) -> Any:
    """`fast if 2**low <= |x| < 2**high else slow(x)`.

    `slow` is right everywhere and has the bits of `fast` in that range; `low`, `high` are literals.
    """
    return outside(True, fast, x, low, high, slow)


@instruction(ordinary_positive_plain)
def ordinary_positive(typing: Any, fast: Any, x: Any, low: Any, high: Any, slow: Any) -> Any:
    """`fast if 2**low <= x < 2**high else slow(x)`, likewise."""
    return outside(False, fast, x, low, high, slow)


@instruction(ordinary_positive_plain)
def ordinary_at(typing: Any, fast: Any, key: Any, low: Any, high: Any, slow: Any, x: Any) -> Any:
    """`fast if 2**low <= key < 2**high else slow(x)`, likewise."""
    return outside(False, fast, key, low, high, slow, x)


@instruction(ordinary_plain)
def ordinary_pair(
    typing: Any, fast: Any, key: Any, low: Any, high: Any, slow: Any, x: Any, y: Any
) -> Any:
    """`fast if 2**low <= |key| < 2**high else slow(x, y)`, likewise."""
    return outside(True, fast, key, low, high, slow, x, y)


@instruction(ordinary_power_plain)
def ordinary_power(
    typing: Any, fast: Any, moved: Any, low: Any, high: Any, slow: Any, x: Any, y: Any
) -> Any:
    """`fast if low <= n < high and x is normal and positive else slow(x, y)`, likewise, for
    `moved = WHOLE + n`."""
    if not (isinstance(x, types.Float) and fast == moved == x == y):
        return None
    condition = OutsideEither(OutsideCount(*literals(low, high)), Outside(*NORMAL[x]))
    code = hidden_choice(x, condition, slow, (x, y), 5)
    return x(fast, moved, low, high, slow, x, y), code
