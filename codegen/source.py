"""The printer: a loop program as the text of a Python module (the only place that makes text).

In: a `loops.Module`, scheduled or not. Out: the text, with its imports computed from what it uses.

    For(i, n, (Accumulate("acc", None, "add", x_i * x_i, f64, comment="x*x"),))

    for i in range(n):
        acc += x[i] * x[i]    # x*x
"""

from __future__ import annotations

import builtins
import keyword
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import field

import numpy as np

from codegen import foreign, layout, library, scalar, vecmath
from codegen.constants import constant, dtype_name
from codegen.counters import unsigned
from codegen.distributions import DRAWS, NAMES
from codegen.errors import CodegenError
from codegen.expr import Call, Const, Expr, Load, Var
from codegen.foreign import Foreign
from codegen.layout import WIDTH
from codegen.lines import Line, aligned, called, docstring, row, wrapped
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
    Result,
    Return,
    Statement,
    Store,
    View,
    While,
)
from codegen.records import dataclass
from codegen.scalar import Imported
from codegen.traverse import names, statements

ERRORS = {name for name, value in vars(builtins).items() if isinstance(value, type)}
RUNNING = {
    "maximum": "running_max",
    "minimum": "running_min",
    "multiply": "multiply_reassoc",
}
"""Accumulations of floats that have a form whose order is free."""


@dataclass(frozen=True)
class Options:
    """How the text is made: `boundscheck` checks every index (slow, for debugging);
    `standalone` writes the functions that the module uses into it instead of importing them."""

    boundscheck: bool = False
    standalone: bool = False


@dataclass
class Printer:
    """The state of printing one module: which functions it imports, and under which names."""

    taken: frozenset[str]
    imported: dict[Imported, str] = field(default_factory=dict)
    given: dict[Foreign, str] = field(default_factory=dict)
    standalone: bool = False

    def resolve(self, function: Imported) -> str:
        if function not in self.imported:
            name = function.name
            while name in self.taken or name in self.imported.values():
                name += "_"
            self.imported[function] = name
        return self.imported[function]

    def block(self, body: Iterable[Statement], indent: int) -> list[Line]:
        return [line for statement in body for line in self.statement(statement, indent)]

    def suite(self, body: tuple[Statement, ...], indent: int) -> list[Line]:
        """An indented block, which Python wants to have at least one statement."""
        inside = self.block(body, indent + 4)
        only_comments = all(isinstance(statement, Comment) for statement in body)
        return [*inside, Line(" " * (indent + 4) + "pass")] if only_comments else inside

    def write(self, expr: Expr) -> str:
        return layout.write(scalar.legal(expr), self.resolve)

    def lines(self, prefix: str, expr: Expr, suffix: str, indent: int, comment: str) -> list[Line]:
        texts = layout.lines(prefix, scalar.legal(expr), suffix, indent, self.resolve)
        return [Line(texts[0], comment), *(Line(text) for text in texts[1:])]

    def statement(self, statement: Statement, indent: int) -> list[Line]:
        pad = " " * indent
        match statement:
            case Assign(target, value, comment):
                value = scalar.converted(value, target.dtype)
                return self.lines(f"{target.name} = ", value, "", indent, comment)
            case Store(array, index, value, comment):
                target = layout.element(array, _legal(index), self.resolve)
                return self.lines(f"{target} = ", value, "", indent, comment)
            case Accumulate():
                return self.accumulate(statement, indent)
            case For():
                return self.loop(statement, indent)
            case If():
                return self.branch(statement, indent, "if ")
            case While(condition, body, comment):
                head = self.lines("while ", scalar.truth(condition), ":", indent, comment)
                return [*head, *self.suite(body, indent)]
            case Alloc(comment=comment):
                return [Line(f"{pad}{statement.array} = {self.allocation(statement)}", comment)]
            case View(comment=comment):
                return [Line(f"{pad}{statement.array} = {self.view(statement)}", comment)]
            case LibraryCall(function, args, outs, comment, status):
                name = self.resolve(library_function(function))
                parts = [arg if isinstance(arg, str) else self.write(arg) for arg in args]
                target = f"{status.name} = " if status is not None else ""
                return [Line(f"{pad}{target}{name}({', '.join([*parts, *outs])})", comment)]
            case Launch():
                return self.launch(statement, indent)
            case KernelCall(kernel, args, comment):
                given = [arg if isinstance(arg, str) else self.write(arg) for arg in args]
                first, *rest = called(f"{pad}{kernel}", given)
                return [Line(first, comment), *map(Line, rest)]
            case Forward():
                return self.forward(statement, indent)
            case ForeignCall():
                return list(self.foreign_call(statement, pad))
            case Check(condition, error, message, comment):
                test = self.lines("if ", _negated(condition), ":", indent, comment)
                return [*test, Line(f"{pad}    raise {error}({_quoted(message)})")]
            case Return(values, comment):
                parts = [value if isinstance(value, str) else self.write(value) for value in values]
                return [Line(f"{pad}return {', '.join(parts)}".rstrip(), comment)]
            case Comment(text):
                return [Line(f"{pad}# {line}") for line in wrapped(text, indent + 2)]

    def foreign_call(self, call: ForeignCall, pad: str) -> Iterator[Line]:
        """The call, and each result taken over: as memory of its own, as a number of its dtype."""
        arrays = [arg for arg in call.args if isinstance(arg, str)]
        protect = call.function.readonly and not self.standalone
        args = [
            self.write(arg) if not isinstance(arg, str) else self.readonly(arg, protect)
            for arg in call.args
        ]
        text = f"{self.given[call.function]}({', '.join([*args, *call.outs])})"
        if not call.results:
            yield Line(f"{pad}{text}", call.comment)
            return
        if call.bundle:
            yield Line(f"{pad}{call.bundle} = {text}", call.comment)
        for number, result in enumerate(call.results):
            value = f"{call.bundle}[{number}]" if call.bundle else text
            yield from self.taken_over(result, value, arrays, pad, call.comment)
            arrays = [*arrays, result.name] if result.shape else arrays

    def readonly(self, array: str, protect: bool) -> str:
        return f"{self.resolve(library_function('readonly'))}({array})" if protect else array

    def taken_over(
        self, result: Result, value: str, others: list[str], pad: str, comment: str
    ) -> Iterator[Line]:
        name = dtype_name(result.dtype)
        if result.fits is None:
            convert = "received_number"
            made = f"{name}({value})"
            if not self.standalone:
                made = f"{self.resolve(library_function(convert))}({value}, {name})"
            yield Line(f"{pad}{result.name} = {made}", comment)
            return
        shape = self.shape(result.shape)
        shape = f"({shape},)" if len(result.shape) == 1 else shape
        if self.standalone:
            yield Line(f"{pad}{result.name} = np.copy({value})", comment)
            yield Line(f"{pad}{result.fits.name} = {result.name}.shape == {shape}")
            return
        function = self.resolve(library_function("received"))
        rest = f"({others[0]},)" if len(others) == 1 else f"({', '.join(others)})"
        made = f"{function}({value}, {name}, {shape}, {rest})"
        yield Line(f"{pad}{result.name}, {result.fits.name} = {made}", comment)

    def accumulate(self, statement: Accumulate, indent: int) -> list[Line]:
        """`acc += value` where the update is an infix operation on the target, else in full."""
        index = None if statement.index is None else _legal(statement.index)
        name = statement.target
        old: Expr = Var(name, statement.dtype)
        if index is not None:
            old = Load(name, index, statement.dtype)
            name = layout.element(name, index, self.resolve)
        combine = RUNNING.get(statement.combine) if statement.dtype.kind == "f" else None
        call = Call(combine or statement.combine, (old, statement.value), statement.dtype)
        value = scalar.legal(call)
        prefix, indent_, comment = f"{name} = ", indent, statement.comment
        match value:
            case Call(function, (first, second)) if first == old:
                match scalar.form(function, scalar.computed_in(value)):
                    case scalar.Infix(symbol):
                        return self.lines(f"{name} {symbol}= ", second, "", indent_, comment)
        return self.lines(prefix, value, "", indent_, comment)

    def loop(self, loop: For, indent: int) -> list[Line]:
        bounds = [loop.start, loop.stop]
        if loop.step != 1:
            step = loop.step
            bounds.append(Const(step, loop.var.dtype) if isinstance(step, int) else step)
        elif loop.start == Const(0, loop.var.dtype):
            bounds = [loop.stop]
        limits = ", ".join(self.write(bound) for bound in bounds)
        head = f"{' ' * indent}for {loop.var.name} in range({limits}):"
        return [Line(head, loop.comment), *self.suite(loop.body, indent)]

    def launch(self, launch: Launch, indent: int) -> list[Line]:
        """`parallel(kernel, total, step, (sums,), (arguments,))`; on its own numba's `prange`."""
        if self.standalone:
            return list(self.prange(launch, " " * indent))
        name = self.resolve(Imported("codegen.library", "parallel"))
        parts = [arg if isinstance(arg, str) else self.write(arg) for arg in launch.args]
        given = [launch.kernel, self.write(launch.total), self.write(launch.step)]
        given += [row(launch.sums), row(parts)]
        return [
            Line(text, launch.comment if not number else "")
            for number, text in enumerate(called(f"{' ' * indent}{name}", given))
        ]

    def prange(self, launch: Launch, pad: str) -> Iterator[Line]:
        """A loop over blocks; where there is but one, starting threads is not worth it."""
        parts = [arg if isinstance(arg, str) else self.write(arg) for arg in launch.args]
        blocks, step, total = map(self.write, (launch.blocks, launch.step, launch.total))
        at = f"{launch.block.name}_at"
        while at in self.taken:
            at += "_"

        def one(indent: str, block: str, start: str, stop: str) -> Iterator[Line]:
            targets = ", ".join(f"{array}[{block}]" for array in launch.sums)
            head = f"{indent}{targets} = " if targets else indent
            yield from map(Line, called(f"{head}{launch.kernel}", [block, start, stop, *parts]))

        yield Line(f"{pad}if {blocks} == 1:", launch.comment)
        yield from one(f"{pad}    ", "0", "0", total)
        yield Line(f"{pad}else:")
        yield Line(f"{pad}    for {at} in prange({blocks}):")
        stop = f"min(({at} + 1) * {step}, {total})"
        yield from one(f"{pad}        ", at, f"{at} * {step}", stop)

    def forward(self, forward: Forward, indent: int) -> list[Line]:
        """`return call_version(threaded, types, arguments)`, if that version can be had."""
        version = "threads_version" if forward.threads else "single_version"
        found, call = (
            self.resolve(Imported("codegen.library", name)) for name in (version, "call_version")
        )
        threads = "several threads" if forward.threads else "one thread"
        pad, address = " " * indent, forward.name
        test = self.lines("if ", forward.condition, ":", indent, "")
        given = [address, _quoted(returned(forward.returns)), row(forward.args)]
        return [
            *test,
            Line(f"{pad}    {address} = {found}()", f"where loops run on {threads}"),
            Line(f"{pad}    if {address}:"),
            *map(Line, called(f"{pad}        return {call}", given)),
        ]

    def branch(self, branch: If, indent: int, word: str) -> list[Line]:
        head = self.lines(word, scalar.truth(branch.condition), ":", indent, branch.comment)
        then = [*head, *self.suite(branch.then, indent)]
        match branch.orelse:
            case ():
                return then
            case (If() as nested,):
                return [*then, *self.branch(nested, indent, "elif ")]
        return [*then, Line(" " * indent + "else:"), *self.suite(branch.orelse, indent)]

    def allocation(self, alloc: Alloc) -> str:
        shape = self.shape(alloc.shape)
        kind = "" if alloc.dtype == np.float64 else f", {dtype_name(alloc.dtype)}"
        if alloc.fill is None:
            return f"np.empty({shape}{kind})"
        if alloc.fill == 0 and not np.signbit(alloc.fill):
            return f"np.zeros({shape}{kind})"
        return f"np.full({shape}, {layout.literal(alloc.fill, alloc.dtype)}{kind})"

    def view(self, view: View) -> str:
        if view.shape is not None:
            return f"{view.base}.reshape({self.shape(view.shape)})"
        if view.at:
            return f"{view.base}[{', '.join(self.write(part) for part in view.at)}]"
        if view.plain:
            return view.base
        if view.axes == (1, 0):
            return f"{view.base}.T"
        return f"{view.base}.transpose({view.axes})"

    def shape(self, shape: tuple[Expr, ...]) -> str:
        parts = ", ".join(self.write(extent) for extent in shape)
        return parts if len(shape) == 1 else f"({parts})"


def returned(types: Sequence[tuple[np.dtype, int]]) -> str:
    """The types of results: `float64, float64[2]` for a number and a matrix."""
    return ", ".join(f"{dtype.name}[{rank}]" if rank else dtype.name for dtype, rank in types)


def library_function(name: str) -> Imported:
    if name in NAMES:
        return Imported(DRAWS, name)
    if name not in library.STANDALONE:
        raise LookupError(f"codegen.library has no function {name!r}")
    return Imported("codegen.library", name)


def _legal(index: tuple[Expr, ...]) -> tuple[Expr, ...]:
    return tuple(scalar.legal(part) for part in index)


def _quoted(text: str) -> str:
    return '"' + repr(text)[1:-1].replace('"', '\\"').replace("\\'", "'") + '"'


def _negated(condition: Expr) -> Expr:
    """`not condition`; of two integers the opposite comparison (with NaN there is none)."""
    opposite = {"equal": "not_equal", "less": "greater_equal", "less_equal": "greater"}
    opposite |= {value: key for key, value in opposite.items()}
    match condition:
        case Call(function, (a, b)) if function in opposite and a.dtype.kind == b.dtype.kind == "i":
            return Call(opposite[function], (a, b), condition.dtype)
    return Call("logical_not", (condition,), condition.dtype)


def _sizes(function: Function) -> Iterator[str]:
    """`n, m = x.shape` where every axis of a parameter is named, `n = x.shape[0]` otherwise."""
    ranks = {parameter.name: parameter.rank for parameter in function.parameters}
    for parameter in dict.fromkeys(parameter for _, parameter, _ in function.sizes):
        named = {axis: name for name, owner, axis in function.sizes if owner == parameter}
        if ranks[parameter] > 1 and sorted(named) == list(range(ranks[parameter])):
            yield f"    {', '.join(named[axis] for axis in sorted(named))} = {parameter}.shape"
        else:
            yield from (f"    {name} = {parameter}.shape[{axis}]" for axis, name in named.items())


def _function(function: Function, printer: Printer, options: Options) -> list[str]:
    function = unsigned(function) if options.standalone else function
    settings = 'error_model="numpy", nogil=True' + ", boundscheck=True" * options.boundscheck
    launches = any(isinstance(s, Launch) for s in statements(function.body))
    settings += ", parallel=True" * (launches and options.standalone)
    parameters = [parameter.name for parameter in function.parameters]
    head = f"def {function.name}({', '.join(parameters)}):"
    if len(head) > WIDTH:
        rows = textwrap.wrap(", ".join(parameters) + ",", WIDTH - 4)
        head = "\n".join([f"def {function.name}(", *(f"    {row}" for row in rows), "):"])
    body = aligned(printer.block(function.body, 4))
    return [f"@njit({settings})", head, *docstring(function.doc), *_sizes(function), *body]


def _imports(printer: Printer, text: str, options: Options) -> list[str]:
    lines = ["from base64 import b64decode", ""] if "b64decode(" in text else []
    lines += ["import numpy as np"] if "np." in text or options.standalone else []
    lines += ["from numba import njit" + ", prange" * ("prange(" in text)]
    if options.standalone:
        return lines
    by_module: dict[str, list[str]] = {}
    for function, name in printer.imported.items():
        alias = "" if name == function.name else f" as {name}"
        by_module.setdefault(function.module, []).append(function.name + alias)
    froms = [_from(module, sorted(by_module[module])) for module in sorted(by_module)]
    return [*lines, *([""] if froms else []), *(line for lines in froms for line in lines)]


def _from(module: str, parts: list[str]) -> list[str]:
    line = f"from {module} import {', '.join(parts)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"    {part}," for part in parts), ")"]


def _inlined(printer: Printer) -> list[str]:
    """The text of the imported functions and of all they call, for a stand-alone module."""
    used = list(printer.imported)
    if drawn := [function.name for function in used if function.module == DRAWS]:
        raise CodegenError(
            f"it draws random numbers ({', '.join(drawn)}) with functions of NumPy's that a module "
            "without tracegrad cannot reach: draw them outside, and pass them as arguments"
        )
    ours = [function.name for function in used if function.module == "codegen.library"]
    math = [function.name for function in used if function.module != "codegen.library"]
    texts = [library.standalone_source(ours)] if ours else []
    texts += [vecmath.standalone_source(math)] if math else []
    renamed = [f"{n} = {f.name}" for f, n in printer.imported.items() if n != f.name]
    texts += [_foreign_source(function, name) for function, name in printer.given.items()]
    blocks = [line for text in texts for line in ["", "", *text.strip().splitlines()]]
    return [*blocks, *(["", *renamed] if renamed else [])]


def _mentioned(given: dict[Foreign, str]) -> list[str]:
    """What the names of foreign functions stand for."""
    return ["", *(f"# {name}: {f.place}" for f, name in given.items())] if given else []


def _foreign_source(function: Foreign, name: str) -> str:
    """The text of a foreign function. Raises CodegenError where it is not to be had."""
    try:
        text = foreign.source(function.function)
    except LookupError as error:
        raise CodegenError(
            f"a stand-alone module cannot contain {function.name}: {error}; write it as a "
            "def that uses numpy, math, numba, numbers and functions like it"
        ) from None
    own = function.python.__name__
    return text if own == name else f"{text}\n\n\n{name} = {own}"


def foreign_names(module: Module) -> dict[Foreign, str]:
    """The name of each foreign function in the module's text."""
    taken = set(names(module)) | {"np", "njit", *ERRORS, *library.STANDALONE}
    found: dict[Foreign, str] = {}
    for function in module.functions:
        for statement in statements(function.body):
            if isinstance(statement, ForeignCall) and statement.function not in found:
                name = statement.function.name
                while name in taken or keyword.iskeyword(name):
                    name += "_"
                taken.add(name)
                found[statement.function] = name
    return found


def _checked_names(module: Module) -> frozenset[str]:
    """All names of the module. Raises CodegenError for one that would hide Python's or ours."""
    taken = names(module)
    hidden = {"np", "njit", "range", "prange", "min", "max", "abs", "b64decode", *ERRORS} - {"type"}
    for name in taken:
        if not name.isidentifier() or keyword.iskeyword(name) or name in hidden:
            raise CodegenError(f"{name!r} cannot be used as a name in a generated module")
    return taken


def print_module(module: Module, options: Options = Options()) -> str:
    """The text of `module`: comments, imports, constants, functions."""
    taken = _checked_names(module)
    given = foreign_names(module)
    printer = Printer(taken | set(given.values()), {}, given, options.standalone)
    functions = [_function(function, printer, options) for function in module.functions]
    constants = [line for name, value in module.constants for line in constant(name, value)]
    body = [*constants]
    for function in functions:
        body += ["", "", *function]
    header = [f"# {line}".rstrip() for line in module.header]
    imports = _imports(printer, "\n".join(body), options)
    inlined = _inlined(printer) if options.standalone else _mentioned(given)
    separator = [""] if header else []
    start = [*header, *separator, *imports, *inlined, *([""] if constants else [])]
    return "\n".join([*start, *body]) + "\n"
