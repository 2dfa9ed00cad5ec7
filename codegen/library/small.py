"""Factorisations and triangular systems of few unknowns, without a library: functions in LLVM.

LAPACK takes 60 to 100 ns to begin with, which is most of the time of a 3 by 3 system. Each of these
functions is made once in a module; the steps are those of `factorisations`, on rows as they lie.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from codegen.library.products import INT, word

MOST = 16
"""Unknowns up to which these take the place of LAPACK (a system of 3 takes 0.35 of its time, of 8
and of 16 half)."""
MOST_DEFINITE = 12
"""The same for Cholesky's factorisation (0.3 of the time at 2, 0.7 at 8, 1 at 12)."""
BOOL, WORD, VOID = ir.IntType(1), word(0).type, ir.VoidType()


def factor(module: Any, kind: Any) -> Any:
    """`factor(m, pivots, n)`: the matrix becomes L and U, row k and pivots[k] having swapped."""
    return _made(module, f"codegen_factor_{kind}", (kind.as_pointer(), INT.as_pointer()), _factor)


def substitute(module: Any, kind: Any) -> Any:
    """`substitute(m, x, columns, onwards, flip, unit, n)`: solves for the columns of `x`.

    `onwards`: from the first unknown to the last, for a lower triangle or an upper one transposed
    (`flip`); `unit`: ones on the diagonal.
    """
    pointer = kind.as_pointer()
    parameters = (pointer, pointer, WORD, BOOL, BOOL, BOOL)
    return _made(module, f"codegen_substitute_{kind}", parameters, _substitute)


def cholesky(module: Any, kind: Any) -> Any:
    """`cholesky(m, n)`: the lower triangle becomes L with `L @ L.T`; false if not definite."""
    parameters = (kind.as_pointer(),)
    return _made(module, f"codegen_cholesky_{kind}", parameters, _cholesky, BOOL)


def _made(
    module: Any,
    name: str,
    parameters: tuple[Any, ...],
    write: Callable[..., None],
    result: Any = VOID,
) -> Any:
    function = cgutils.get_or_insert_function(
        module, ir.FunctionType(result, (*parameters, WORD)), name
    )
    if function.is_declaration:
        function.linkage = "internal"
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        write(builder, *function.args)
        if result == VOID:
            builder.ret_void()
    return function


@contextmanager
def _counting(builder: Any, start: Any, stop: Any) -> Iterator[Any]:
    with cgutils.for_range_slice(builder, start, stop, word(1)) as (index, _):
        yield index


def _factor(builder: Any, m: Any, pivots: Any, n: Any) -> None:
    kind = m.type.pointee
    magnitude = builder.module.declare_intrinsic("llvm.fabs", [kind])
    best, at = builder.alloca(kind), builder.alloca(WORD)

    def element(i: Any, j: Any) -> Any:
        return builder.gep(m, [builder.add(builder.mul(i, n), j)])

    with _counting(builder, word(0), n) as k:
        after = builder.add(k, word(1))
        builder.store(builder.call(magnitude, [builder.load(element(k, k))]), best)
        builder.store(k, at)
        with _counting(builder, after, n) as i:
            size = builder.call(magnitude, [builder.load(element(i, k))])
            with builder.if_then(builder.fcmp_ordered(">", size, builder.load(best))):
                builder.store(size, best)
                builder.store(i, at)
        chosen = builder.load(at)
        builder.store(builder.trunc(chosen, INT), builder.gep(pivots, [k]))
        other = builder.icmp_signed("!=", chosen, k)
        with builder.if_then(other), _counting(builder, word(0), n) as j:
            here, there = element(k, j), element(chosen, j)
            value = builder.load(here)
            builder.store(builder.load(there), here)
            builder.store(value, there)
        pivot = builder.load(element(k, k))
        regular = builder.fcmp_unordered("!=", pivot, ir.Constant(kind, 0.0))
        with builder.if_then(regular), _counting(builder, after, n) as i:
            factor = builder.fdiv(builder.load(element(i, k)), pivot)
            builder.store(factor, element(i, k))
            with _counting(builder, after, n) as j:
                less = builder.fmul(factor, builder.load(element(k, j)))
                builder.store(builder.fsub(builder.load(element(i, j)), less), element(i, j))


def _substitute(
    builder: Any, m: Any, x: Any, columns: Any, onwards: Any, flip: Any, unit: Any, n: Any
) -> None:
    def row(i: Any) -> Any:
        return builder.gep(x, [builder.mul(i, columns)])

    last = builder.sub(n, word(1))
    down, across = builder.select(flip, word(1), n), builder.select(flip, n, word(1))
    with _counting(builder, word(0), n) as step:
        i = builder.select(onwards, step, builder.sub(last, step))
        known = row(i)
        with builder.if_then(builder.not_(unit)):
            pivot = builder.load(builder.gep(m, [builder.mul(i, builder.add(n, word(1)))]))
            with _counting(builder, word(0), columns) as c:
                place = builder.gep(known, [c])
                builder.store(builder.fdiv(builder.load(place), pivot), place)
        start = builder.select(onwards, builder.add(i, word(1)), word(0))
        with _counting(builder, start, builder.select(onwards, n, i)) as j:
            offset = builder.add(builder.mul(j, down), builder.mul(i, across))
            factor, changed = builder.load(builder.gep(m, [offset])), row(j)
            with _counting(builder, word(0), columns) as c:
                place = builder.gep(changed, [c])
                less = builder.fmul(factor, builder.load(builder.gep(known, [c])))
                builder.store(builder.fsub(builder.load(place), less), place)


def _cholesky(builder: Any, m: Any, n: Any) -> None:
    kind = m.type.pointee
    root = builder.module.declare_intrinsic("llvm.sqrt", [kind])
    rest = builder.alloca(kind)

    def element(i: Any, j: Any) -> Any:
        return builder.gep(m, [builder.add(builder.mul(i, n), j)])

    def remainder(i: Any, j: Any) -> Any:
        """What the products of the columns before `j` leave of an element."""
        builder.store(builder.load(element(i, j)), rest)
        with _counting(builder, word(0), j) as p:
            product = builder.fmul(builder.load(element(i, p)), builder.load(element(j, p)))
            builder.store(builder.fsub(builder.load(rest), product), rest)
        return builder.load(rest)

    with _counting(builder, word(0), n) as i:
        with _counting(builder, word(0), i) as j:
            value = builder.fdiv(remainder(i, j), builder.load(element(j, j)))
            builder.store(value, element(i, j))
        square = remainder(i, i)
        with builder.if_then(builder.fcmp_ordered("<=", square, ir.Constant(kind, 0.0))):
            builder.ret(ir.Constant(BOOL, 0))
        builder.store(builder.call(root, [square]), element(i, i))
    builder.ret(ir.Constant(BOOL, 1))
