"""The statements of a function as LLVM code.

In: a scheduled `loops.Function`, a builder at its entry, the arguments. Out: its body. A loop is

    top:   i = phi [start, i + step];  if i < stop: body, back to top; else end

Arrays that the function allocates hold one reference, which goes with the last statement of their
block that speaks of them, or to the caller.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.errors import NumbaError

from codegen.apart import Facts
from codegen.emit import arrays
from codegen.emit.arrays import EXACT, Array, word
from codegen.emit.calls import Calls
from codegen.emit.hints import hinted
from codegen.emit.kinds import array_type, scalar_type, view_type
from codegen.emit.names import Scope
from codegen.errors import CodegenError
from codegen.expr import INT, Call, Const, Expr, Var, extent
from codegen.library.products import item_size
from codegen.loops import (
    Accumulate,
    Alloc,
    Assign,
    Check,
    Comment,
    For,
    ForeignCall,
    Forward,
    If,
    KernelCall,
    Launch,
    LibraryCall,
    Return,
    Statement,
    Store,
    View,
    While,
)
from codegen.schedule.dependence import used
from codegen.source import RUNNING
from codegen.traverse import defined, statements


class Body(Calls):
    """A function being written."""

    def start(self, kinds: Sequence[Any], given: Mapping[str, Any], facts: Facts) -> None:
        """The arguments, by numba's names for their parts, and the sizes that are taken from
        them."""
        extents = {(name, axis): number for name, axis, number in facts.extents}
        outer = self.scopes[0]
        for parameter, kind in zip(self.function.parameters, kinds, strict=True):
            if not parameter.rank:
                model = self.context.data_model_manager[kind]
                value = model.from_argument(self.builder, given[f"arg.{parameter.name}"])
                self.assign(parameter.name, value, parameter.dtype)
                continue
            array = arrays.given(kind, parameter.name, given)
            shape = tuple(
                word(extents[parameter.name, axis]) if (parameter.name, axis) in extents else length
                for axis, length in enumerate(array.shape)
            )
            outer.arrays[parameter.name] = replace(array, shape=shape)
        for name, array in outer.arrays.items():
            for axis, length in enumerate(array.shape):
                outer.scalars[extent(name, axis).name] = length, INT
        for name, owner, axis in self.function.sizes:
            self.assign(name, outer.arrays[owner].shape[axis], INT)
        for parameter in self.function.parameters:
            if parameter.rank and parameter.shape is not None:
                self.promise(parameter.name, parameter.shape)

    def take(self, layouts: Sequence[Any], values: Sequence[Any], facts: Facts) -> None:
        """The arguments of a kernel: numbers, and the parts of arrays."""
        outer, parts = self.scopes[0], iter(values)
        known = {(name, axis): word(number) for name, axis, number in facts.extents}
        for parameter, layout in zip(self.function.parameters, layouts, strict=True):
            if layout is None:
                self.assign(parameter.name, next(parts), parameter.dtype)
                continue
            (kind, contiguous), data = layout, next(parts)
            if parameter.name in facts.apart:
                data.add_attribute("noalias")
            axes = range(kind.ndim)
            told = [next(parts) for _ in axes] if parameter.shape is None else [None for _ in axes]
            shape = tuple(known.get((parameter.name, axis), told[axis]) for axis in axes)
            strides = None if contiguous else tuple(next(parts) for _ in axes)
            null = ir.Constant(arrays.POINTER, None)
            outer.arrays[parameter.name] = Array(kind, data, shape, null, strides)
        for parameter in self.function.parameters:
            if parameter.rank and parameter.shape is not None:
                self.promise(parameter.name, parameter.shape)

    def promise(self, name: str, shape: tuple[Expr, ...]) -> None:
        """The extents of an argument by those of others: equal ones are seen to be equal."""
        array = self.scopes[0].arrays[name]
        known = tuple(
            found if isinstance(found, ir.Constant) else self.evaluated(length, INT)
            for found, length in zip(array.shape, shape, strict=True)
        )
        self.scopes[0].arrays[name] = replace(array, shape=known)

    def block(self, body: Sequence[Statement]) -> None:
        """The statements in a scope of their own."""
        last = last_mentions(body, self.roots)
        self.scopes.append(Scope())
        for number, statement in enumerate(body):
            self.statement(statement)
            if self.builder.block.is_terminated:
                break
            for name in [n for n in self.scopes[-1].owned if last.get(n, -1) <= number]:
                self.release(self.scopes[-1].owned.pop(name))
        self.scopes.pop()

    def finish(self) -> None:
        """The end of the function: nobody gets there, or nothing is returned."""
        if self.builder.block.is_terminated:
            return
        if any(isinstance(s, Return) and s.values for s in statements(self.function.body)):
            self.builder.unreachable()
        else:
            self.leave(())

    def statement(self, statement: Statement) -> None:
        try:
            self.write(statement)
        except NumbaError as error:
            refused = CodegenError(str(error))
            refused.comment = getattr(statement, "comment", "")
            raise refused from error
        except CodegenError as error:
            error.comment = error.comment or getattr(statement, "comment", "")
            raise

    def write(self, statement: Statement) -> None:
        match statement:
            case Assign(target, value):
                self.assign(target.name, self.evaluated(value, target.dtype), target.dtype)
            case Store(array, index, value):
                dtype = self.dtype(array)
                found = self.evaluated(value, dtype)
                self.store(found, dtype, self.element(array, index))
            case Accumulate():
                self.accumulate(statement)
            case For():
                self.loop(statement)
            case While(condition, body):
                self.repeat(condition, body)
            case If():
                self.branch(statement)
            case Alloc():
                self.allocate(statement)
            case View():
                self.scopes[-1].arrays[statement.array] = self.view(statement)
            case LibraryCall():
                self.library_call(statement)
            case ForeignCall():
                self.foreign_call(statement)
            case Launch():
                self.launch(statement)
            case KernelCall():
                self.kernel_call(statement)
            case Forward():
                self.forward(statement)
            case Check():
                self.check(statement)
            case Return(values):
                self.leave(values)
            case Comment():
                pass

    def accumulate(self, statement: Accumulate) -> None:
        combine = RUNNING.get(statement.combine) if statement.dtype.kind == "f" else None
        function, dtype = combine or statement.combine, statement.dtype
        if statement.index is None:
            call = Call(function, (Var(statement.target, dtype), statement.value), dtype)
            self.assign(statement.target, self.evaluated(call, dtype), dtype)
            return
        address = self.element(statement.target, statement.index)
        with self.bound(OLD, self.load(address, dtype), dtype):
            call = Call(function, (Var(OLD, dtype), statement.value), dtype)
            self.store(self.evaluated(call, dtype), dtype, address)

    def loop(self, loop: For) -> None:
        builder, dtype = self.builder, loop.var.dtype
        start, stop = self.evaluated(loop.start, dtype), self.evaluated(loop.stop, dtype)
        given = loop.step if not isinstance(loop.step, int) else Const(loop.step, dtype)
        step = self.evaluated(given, dtype)
        before = builder.block
        top, inside, end = (builder.append_basic_block(name) for name in ("top", "body", "end"))
        builder.branch(top)
        builder.position_at_end(top)
        here = builder.phi(start.type)
        here.add_incoming(start, before)
        builder.cbranch(self.goes_on(here, stop, step, loop.step), inside, end)
        builder.position_at_end(inside)
        self.scopes.append(Scope())
        self.assign(loop.var.name, here, dtype)
        self.block(loop.body)
        self.scopes.pop()
        if not builder.block.is_terminated:
            here.add_incoming(builder.add(here, step, flags=EXACT), builder.block)
            back = builder.branch(top)
            hinted(builder.module, back, loop)
        builder.position_at_end(end)

    def goes_on(self, here: Any, stop: Any, step: Any, known: int | Expr) -> Any:
        below = self.builder.icmp_signed("<", here, stop)
        if isinstance(known, int) and known > 0:
            return below
        above = self.builder.icmp_signed(">", here, stop)
        if isinstance(known, int):
            return above
        rising = self.builder.icmp_signed(">", step, ir.Constant(step.type, 0))
        return self.builder.select(rising, below, above)

    def repeat(self, condition: Expr, body: Sequence[Statement]) -> None:
        builder = self.builder
        top, inside, end = (builder.append_basic_block(name) for name in ("while", "body", "end"))
        builder.branch(top)
        builder.position_at_end(top)
        builder.cbranch(self.condition(condition), inside, end)
        builder.position_at_end(inside)
        self.block(body)
        if not builder.block.is_terminated:
            builder.branch(top)
        builder.position_at_end(end)

    def branch(self, branch: If) -> None:
        condition = self.condition(branch.condition)
        if not branch.orelse:
            with self.builder.if_then(condition):
                self.block(branch.then)
            return
        with self.builder.if_else(condition) as (then, orelse):
            with then:
                self.block(branch.then)
            with orelse:
                self.block(branch.orelse)

    def check(self, check: Check) -> None:
        error = getattr(np.linalg, check.error.rpartition(".")[2], None)
        error = error or getattr(builtins, check.error)
        wrong = self.builder.not_(self.condition(check.condition))
        with self.builder.if_then(wrong, likely=False):
            self.release_all()
            self.context.call_conv.return_user_exc(
                self.builder, error, (check.message,), func_name=self.function.name
            )

    def leave(self, values: Sequence[str | Expr]) -> None:
        """Return; a result that is the memory of an array of ours takes its reference along."""
        found, kept = [], []
        for value in values:
            if not isinstance(value, str):
                found.append((scalar_type(value.dtype), self.evaluated(value)))
                continue
            array = self.array(value)
            owner = self.owner(array)
            if owner is not None and owner not in kept:
                kept.append(owner)
            else:
                arrays.count(self.builder, "incref", array.meminfo)
            whole = arrays.structure(self.context, self.builder, array)
            found.append((array.kind, whole))
        self.release_all(kept)
        self.give_back(found)

    def allocate(self, alloc: Alloc) -> None:
        context, builder = self.context, self.builder
        kind = array_type(alloc.dtype, len(alloc.shape))
        shape = self.shape(alloc.shape)
        size = self.byte_count(shape, item_size(kind.dtype))
        array = arrays.allocated(context, builder, kind, shape, size, self.fail)
        scope = self.scopes[-1]
        scope.arrays[alloc.array] = scope.owned[alloc.array] = array
        if alloc.fill is None:
            return
        if alloc.fill == 0 and not np.signbit(alloc.fill):
            address = builder.bitcast(array.data, arrays.POINTER)
            cgutils.memset(builder, address, size, 0)
            return
        value = self.evaluated(Const(alloc.fill, alloc.dtype))
        items = reduce(lambda a, b: builder.mul(a, b, flags=EXACT), array.shape, word(1))
        with cgutils.for_range(builder, items) as loop:
            self.store(value, alloc.dtype, builder.gep(array.data, [loop.index], inbounds=True))

    def view(self, view: View) -> Array:
        base = self.array(view.base)
        kind = view_type(base.kind, view)
        if view.shape is not None:
            return Array(kind, base.data, self.shape(view.shape), base.meminfo)
        if view.axes is not None:
            steps = arrays.strides(self.builder, base)
            turned = tuple(steps[axis] for axis in view.axes)
            shape = tuple(base.shape[axis] for axis in view.axes)
            return Array(kind, base.data, shape, base.meminfo, turned)
        if not view.at:
            return base
        at = self.shape(view.at)
        data = arrays.address(self.context, self.builder, base, at)
        steps = base.strides and base.strides[len(at) :]
        return Array(kind, data, base.shape[len(at) :], base.meminfo, steps)


OLD = "(old)"
"""A name that no variable has."""


def last_mentions(body: Sequence[Statement], roots: Mapping[str, str]) -> dict[str, int]:
    """For each array the number of the last statement of a block that speaks of its memory."""
    found: dict[str, int] = {}
    for number, statement in enumerate(body):
        for part in statements((statement,)):
            for name in used(part) | defined(part):
                found[roots.get(name, name)] = number
    return found
