"""Integer and boolean functions, for every width and signedness, with NumPy's rules.

Results have the type of the arguments and wrap around; dividing by zero gives 0:

    floor_divide_int(int8(-128), int8(-1)) = int8(-128)      remainder_int(7, 0) = 0
"""

from __future__ import annotations

from typing import Any

from codegen.vecmath.primitives import bit_width, cast_like, scalar


@scalar
def floor_divide_int(a: Any, b: Any) -> Any:
    """Rounds towards minus infinity. Division by -1 is a negation, which cannot trap."""
    zero, one = cast_like(0, a), cast_like(1, a)
    negates = (b < zero) & (cast_like(b + one, a) == zero)
    quotient = a // (one if (b == zero) | negates else b)
    return zero if b == zero else cast_like(-a if negates else quotient, a)


@scalar
def remainder_int(a: Any, b: Any) -> Any:
    """The remainder with the sign of `b`."""
    return cast_like(a - floor_divide_int(a, b) * b, a) if b != 0 else cast_like(0, a)


@scalar
def fmod_int(a: Any, b: Any) -> Any:
    """The remainder with the sign of `a` (C's `%`)."""
    zero = cast_like(0, a)
    rest = remainder_int(a, b)
    return cast_like(rest - b, a) if (rest != zero) & ((a < zero) != (b < zero)) else rest


@scalar
def power_int(base: Any, exponent: Any) -> Any:
    """By squaring; a negative exponent (an error in NumPy) gives the truncated 0, 1 or -1."""
    zero, one = cast_like(0, base), cast_like(1, base)
    odd = (exponent & one) != zero
    if exponent < zero:
        unit = (base == one) | (cast_like(base + one, base) == zero)
        return (base if odd else one) if unit else zero
    result, square, left = one, base, exponent
    while left != zero:
        if (left & one) != zero:
            result = cast_like(result * square, base)
        square = cast_like(square * square, base)
        left = cast_like(left >> one, base)
    return result


@scalar
def maximum_int(a: Any, b: Any) -> Any:
    return a if a > b else b


@scalar
def minimum_int(a: Any, b: Any) -> Any:
    return a if a < b else b


@scalar
def sign_int(x: Any) -> Any:
    zero = cast_like(0, x)
    return cast_like(1, x) if x > zero else (cast_like(-1, x) if x < zero else zero)


@scalar
def abs_int(x: Any) -> Any:
    zero = cast_like(0, x)
    return cast_like(zero - x, x) if x < zero else x


@scalar
def square_int(x: Any) -> Any:
    return cast_like(x * x, x)


@scalar
def reciprocal_int(x: Any) -> Any:
    """1, -1 or the truncated 0."""
    return floor_divide_int(cast_like(1, x), x) if (x == 1) | (x == -1) else cast_like(0, x)


@scalar
def left_shift_int(a: Any, b: Any) -> Any:
    """Shifting by the width or more (or by a negative count) leaves 0."""
    inside = (b >= cast_like(0, b)) & (b < cast_like(bit_width(b), b))
    return cast_like(a << (b if inside else cast_like(0, b)), a) if inside else cast_like(0, a)


@scalar
def right_shift_int(a: Any, b: Any) -> Any:
    """Shifting by the width or more (or by a negative count) leaves the sign: 0 or -1."""
    inside = (b >= cast_like(0, b)) & (b < cast_like(bit_width(b), b))
    shifted = cast_like(a >> (b if inside else cast_like(0, b)), a)
    return shifted if inside else cast_like(-1 if a < cast_like(0, a) else 0, a)


@scalar
def gcd_int(a: Any, b: Any) -> Any:
    """Euclid's algorithm on magnitudes."""
    zero = cast_like(0, a)
    x, y = abs_int(a), abs_int(b)
    while y != zero:
        x, y = y, fmod_int(x, y)
    return abs_int(x)


@scalar
def lcm_int(a: Any, b: Any) -> Any:
    divisor = gcd_int(a, b)
    return cast_like(floor_divide_int(abs_int(a), divisor) * abs_int(b), a)


@scalar
def maximum_bool(a: Any, b: Any) -> Any:
    return a | b


@scalar
def minimum_bool(a: Any, b: Any) -> Any:
    return a & b


@scalar
def logical_or_bool(a: Any, b: Any) -> Any:
    return a | b


@scalar
def logical_and_bool(a: Any, b: Any) -> Any:
    return a & b


@scalar
def logical_xor_bool(a: Any, b: Any) -> Any:
    return a != b


@scalar
def logical_not_bool(a: Any) -> Any:
    return not a
