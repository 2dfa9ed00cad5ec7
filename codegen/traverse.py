"""Walking and rebuilding loop programs: what a statement contains, reads, writes and defines.

In: statements of `codegen.loops`. Out: their parts, or the same statements over changed parts.
For `out[i] = x[i] + s`: reads {x, s, i}, writes {out}, contains one expression beside its index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from codegen.expr import Expr, Load, Var, children, remembered, rewrite
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    Comment,
    For,
    ForeignCall,
    Forward,
    Function,
    If,
    KernelCall,
    Launch,
    LibraryCall,
    Module,
    Return,
    Statement,
    Store,
    View,
    While,
)

Body = tuple[Statement, ...]


def expressions(statement: Statement) -> tuple[Expr, ...]:
    """The expressions that stand in the statement itself, not in the blocks inside it."""
    match statement:
        case Assign(value=value):
            return (value,)
        case Store(index=index, value=value):
            return (*index, value)
        case Accumulate(index=index, value=value):
            return (*(index or ()), value)
        case For(start=start, stop=stop, step=step):
            return (start, stop) if isinstance(step, int) else (start, stop, step)
        case If(condition) | While(condition) | Check(condition) | Forward(condition):
            return (condition,)
        case Launch(total=total, step=step, args=values):
            return (total, step, *(value for value in values if not isinstance(value, str)))
        case Alloc(shape=shape):
            return shape
        case View(shape=shape, at=at):
            return (*(shape or ()), *at)
        case LibraryCall(args=values) | KernelCall(args=values) | Return(values):
            return tuple(value for value in values if not isinstance(value, str))
        case ForeignCall(args=args, results=results):
            given = tuple(arg for arg in args if not isinstance(arg, str))
            return (*given, *(extent for result in results for extent in result.shape))
        case Comment():
            return ()


def blocks(statement: Statement) -> tuple[Body, ...]:
    match statement:
        case For(body=body) | While(body=body):
            return (body,)
        case If(then=then, orelse=orelse):
            return (then, orelse)
    return ()


def statements(body: Iterable[Statement]) -> Iterator[Statement]:
    """Every statement, those inside blocks too, outer ones first."""
    for statement in body:
        yield statement
        for block in blocks(statement):
            yield from statements(block)


def with_blocks(statement: Statement, parts: tuple[Body, ...]) -> Statement:
    match statement:
        case For() | While():
            return replace(statement, body=parts[0])
        case If():
            return replace(statement, then=parts[0], orelse=parts[1])
    return statement


def map_blocks(statement: Statement, change: Callable[[Body], Body]) -> Statement:
    """The statement with `change` applied to each block directly inside it."""
    inside = blocks(statement)
    return with_blocks(statement, tuple(change(block) for block in inside)) if inside else statement


def map_expressions(statement: Statement, rule: Callable[[Expr], Expr]) -> Statement:
    """The statement with its own expressions rewritten bottom-up by `rule`."""

    def apply(expr: Expr) -> Expr:
        return rewrite(expr, rule)

    def each(parts: tuple[Expr, ...]) -> tuple[Expr, ...]:
        return tuple(apply(part) for part in parts)

    match statement:
        case Assign(value=value):
            return replace(statement, value=apply(value))
        case Store(index=index, value=value):
            return replace(statement, index=each(index), value=apply(value))
        case Accumulate(index=index, value=value):
            changed = None if index is None else each(index)
            return replace(statement, index=changed, value=apply(value))
        case For(start=start, stop=stop, step=step):
            step = step if isinstance(step, int) else apply(step)
            return replace(statement, start=apply(start), stop=apply(stop), step=step)
        case If(condition) | While(condition) | Check(condition):
            return replace(statement, condition=apply(condition))
        case Alloc(shape=shape):
            return replace(statement, shape=each(shape))
        case View(shape=shape, at=at):
            return replace(statement, shape=None if shape is None else each(shape), at=each(at))
        case LibraryCall(args=args):
            return replace(
                statement, args=tuple(a if isinstance(a, str) else apply(a) for a in args)
            )
        case ForeignCall(args=args, results=results):
            return replace(
                statement,
                args=tuple(a if isinstance(a, str) else apply(a) for a in args),
                results=tuple(replace(result, shape=each(result.shape)) for result in results),
            )
        case Return(values):
            return replace(
                statement, values=tuple(v if isinstance(v, str) else apply(v) for v in values)
            )
    return statement


def deep_map(body: Body, rule: Callable[[Expr], Expr]) -> Body:
    """`map_expressions` on every statement of a body, at every depth."""
    return tuple(
        map_blocks(map_expressions(statement, rule), lambda block: deep_map(block, rule))
        for statement in body
    )


def substitute(body: Body, values: dict[str, Expr]) -> Body:
    """Scalar variables replaced by expressions, wherever they are read."""
    return deep_map(body, lambda e: values.get(e.name, e) if isinstance(e, Var) else e)


def renamed(body: Body, new: dict[str, str]) -> Body:
    """Scalars and arrays under new names, where they are defined as well as where they are used."""
    return tuple(_renamed_statement(statement, new) for statement in body) if new else body


def renamed_expr(expr: Expr, new: dict[str, str]) -> Expr:
    return rewrite(expr, lambda part: _renamed_part(part, new))


def _renamed_part(part: Expr, new: dict[str, str]) -> Expr:
    match part:
        case Var(name) if name in new:
            return replace(part, name=new[name])
        case Load(array) if array in new:
            return replace(part, array=new[array])
    return part


def _renamed_statement(statement: Statement, new: dict[str, str]) -> Statement:
    def of(name: str) -> str:
        return new.get(name, name)

    statement = map_blocks(statement, lambda block: renamed(block, new))
    statement = map_expressions(statement, lambda part: _renamed_part(part, new))
    match statement:
        case Assign(target) if target.name in new:
            return replace(statement, target=replace(target, name=of(target.name)))
        case Store(array) | Alloc(array):
            return replace(statement, array=of(array))
        case Accumulate(target):
            return replace(statement, target=of(target))
        case For(var) if var.name in new:
            return replace(statement, var=replace(var, name=of(var.name)))
        case View(array, base):
            return replace(statement, array=of(array), base=of(base))
        case LibraryCall(args=args, outs=outs):
            args = tuple(of(arg) if isinstance(arg, str) else arg for arg in args)
            outs = tuple(of(out) for out in outs)
            status = statement.status
            if status is not None:
                status = replace(status, name=of(status.name))
            return replace(statement, args=args, outs=outs, status=status)
        case ForeignCall():
            return _renamed_call(statement, of)
        case Return(values):
            values = tuple(of(value) if isinstance(value, str) else value for value in values)
            return replace(statement, values=values)
    return statement


def _renamed_call(call: ForeignCall, of: Callable[[str], str]) -> ForeignCall:
    results = tuple(
        replace(r, name=of(r.name), fits=r.fits and replace(r.fits, name=of(r.fits.name)))
        for r in call.results
    )
    args = tuple(of(arg) if isinstance(arg, str) else arg for arg in call.args)
    outs = tuple(of(out) for out in call.outs)
    return replace(call, args=args, outs=outs, results=results, bundle=of(call.bundle))


@remembered
def variables(expr: Expr) -> frozenset[str]:
    own = (expr.name,) if isinstance(expr, Var) else ()
    return frozenset(own).union(*map(variables, children(expr)))


@remembered
def loads(expr: Expr) -> tuple[Load, ...]:
    """The different loads in it, outer ones first."""
    own = (expr,) if isinstance(expr, Load) else ()
    inner = (load for child in children(expr) for load in loads(child))
    return tuple(dict.fromkeys((*own, *inner)))


@remembered
def arrays(expr: Expr) -> frozenset[str]:
    return frozenset(load.array for load in loads(expr))


def defined(statement: Statement) -> set[str]:
    """The names to which the statement itself gives a value (scalars, arrays, loop variables)."""
    match statement:
        case Assign(target=target):
            return {target.name}
        case Accumulate(target=target, index=None):
            return {target}
        case LibraryCall(status=Var(name)):
            return {name}
        case ForeignCall(results=results, bundle=bundle):
            made = {result.name for result in results}
            fits = {result.fits.name for result in results if result.fits is not None}
            return made | fits | ({bundle} if bundle else set())
        case For(var=var):
            return {var.name}
        case Alloc(array=array) | View(array=array):
            return {array}
    return set()


def names(module: Module) -> frozenset[str]:
    """Every name that a module's text will contain."""
    found = {name for name, _ in module.constants}
    for function in module.functions:
        found |= {function.name} | function_names(function)
    return frozenset(found)


def function_names(function: Function) -> set[str]:
    found = {parameter.name for parameter in function.parameters}
    found |= {name for name, _, _ in function.sizes}
    for statement in statements(function.body):
        found |= defined(statement)
    return found
