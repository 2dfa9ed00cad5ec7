"""Loop programs: the statements, functions and modules that codegen compiles.

In: built by whoever lowers a graph (names and comments are theirs, kept to the printed text).
Out: data for `schedule` (loop program -> loop program) and `source` (loop program -> text).

The sum of squares of a vector, as it is built and as it is printed before scheduling:

    For(i, n, (Accumulate(acc, "add", Call("multiply", (x_i, x_i), f64)),))

    for i in range(n):
        acc = acc + x[i] * x[i]
"""

from __future__ import annotations

from dataclasses import field

import numpy as np

from codegen.expr import Expr, Var, integer
from codegen.foreign import Foreign
from codegen.records import dataclass

ZERO = integer(0)


@dataclass(frozen=True)
class Assign:
    """`target = value`: a scalar. A target assigned once per scope is a named value."""

    target: Var
    value: Expr
    comment: str = ""


@dataclass(frozen=True)
class Store:
    """`array[index] = value`."""

    array: str
    index: tuple[Expr, ...]
    value: Expr
    comment: str = ""


@dataclass(frozen=True)
class Accumulate:
    """`target = combine(target, value)`, combine one of add, multiply, maximum, minimum,
    logical_or, logical_and. The order of combination is the scheduler's: a sum may be split and
    vectorised.

    The target is a scalar (`index is None`, `target` its name), or the element `target[index]`.
    It was initialised (`Assign`, or `Alloc` with a fill) before the loops that it runs over.
    """

    target: str
    index: tuple[Expr, ...] | None
    combine: str
    value: Expr
    dtype: np.dtype
    comment: str = ""


@dataclass(frozen=True)
class For:
    """`for var in range(start, stop, step)`.

    `sequential` says that iterations depend on each other (a cumulative sum, a scan): such a loop
    is neither reordered, fused with another at its own level, collapsed nor run on several threads.
    `most`: an upper bound of the number of iterations, where one is known. `whole`: for some
    iterations of a loop from 0 on that are run apart from the others, the stop of that loop.
    """

    var: Var
    stop: Expr
    body: tuple[Statement, ...]
    start: Expr = ZERO
    step: int | Expr = 1
    sequential: bool = False
    comment: str = ""
    most: int | None = None
    whole: Expr | None = None


@dataclass(frozen=True)
class If:
    condition: Expr
    then: tuple[Statement, ...]
    orelse: tuple[Statement, ...] = ()
    comment: str = ""


@dataclass(frozen=True)
class While:
    condition: Expr
    body: tuple[Statement, ...]
    comment: str = ""


@dataclass(frozen=True)
class Alloc:
    """A new C-contiguous array; `fill` None leaves it uninitialised.

    `temporary` arrays never leave the function: the scheduler may shrink or drop them. What is in a
    `scratch` array does not outlive one iteration of the loops that use it.
    """

    array: str
    shape: tuple[Expr, ...]
    dtype: np.dtype
    fill: bool | int | float | None = None
    temporary: bool = True
    comment: str = ""
    scratch: bool = False


@dataclass(frozen=True)
class View:
    """`array = base.reshape(shape)`, or `base.transpose(axes)`, or `base[at]`: no copy; with none
    of them a second name for `base`.

    The base is C-contiguous for a reshape. Writes through either name are seen through the other.
    """

    array: str
    base: str
    shape: tuple[Expr, ...] | None = None
    axes: tuple[int, ...] | None = None
    at: tuple[Expr, ...] = ()
    comment: str = ""

    @property
    def plain(self) -> bool:
        return self.shape is None and self.axes is None and not self.at


@dataclass(frozen=True)
class LibraryCall:
    """`outs[0] = function(*args)` for a function of `codegen.library` that fills its outputs.

    `args` are array names or scalar expressions; `outs` arrays that were allocated before, which
    the function may read as well. `status`: the scalar that is set to what the function returns.
    """

    function: str
    args: tuple[str | Expr, ...]
    outs: tuple[str, ...]
    comment: str = ""
    status: Var | None = None


@dataclass(frozen=True)
class Result:
    """What a foreign function returns, by its promise: an array of that shape, or a scalar."""

    name: str
    dtype: np.dtype
    shape: tuple[Expr, ...] = ()
    fits: Var | None = None
    """For an array: the scalar that is set to whether it has the shape."""


@dataclass(frozen=True)
class ForeignCall:
    """`results = function(*args, *outs)` for a compiled function of the user's.

    Arrays among the results become C-contiguous memory of their own, copied where they were not;
    `outs` are arrays allocated before that the function fills. Several results come as a tuple,
    which is called `bundle` in the text. `types`: dtype and rank of each of `args` and `outs`.
    """

    function: Foreign
    args: tuple[str | Expr, ...]
    types: tuple[tuple[np.dtype, int], ...]
    results: tuple[Result, ...]
    outs: tuple[str, ...] = ()
    bundle: str = ""
    comment: str = ""


@dataclass(frozen=True)
class Launch:
    """`kernel(block, start, stop, *args)` for `blocks` blocks of `step` iterations out of `total`,
    on several threads; what it returns goes to the element `block` of the arrays `sums`.
    """

    kernel: str
    total: Expr
    step: Expr
    blocks: Expr
    block: Var
    sums: tuple[str, ...]
    args: tuple[str | Expr, ...]
    comment: str = ""


@dataclass(frozen=True)
class KernelCall:
    """`kernel(*args)`: a loop nest that the function runs for other arrays too."""

    kernel: str
    args: tuple[str | Expr, ...]
    comment: str = ""


@dataclass(frozen=True)
class Forward:
    """Where `condition` holds the whole call goes to the other version of the function: the one
    with `threads`, or the one without."""

    condition: Expr
    threads: bool
    name: str
    """Of the variable that holds its address."""
    returns: tuple[tuple[np.dtype, int], ...]
    """Type and rank of each result."""
    args: tuple[str, ...]


@dataclass(frozen=True)
class Check:
    """Raise `error(message)` unless `condition` holds.

    `error` is a class of Python's builtins, or one of NumPy's: `np.linalg.LinAlgError`. Arrays that
    are alive at that point are released: the exception starts in the function that owns them.
    """

    condition: Expr
    error: str
    message: str
    comment: str = ""


@dataclass(frozen=True)
class Return:
    """Return arrays (by name) and scalars, one alone or several as a tuple."""

    values: tuple[str | Expr, ...]
    comment: str = ""


@dataclass(frozen=True)
class Comment:
    """A line of its own."""

    text: str


Statement = (
    Assign
    | Store
    | Accumulate
    | For
    | If
    | While
    | Alloc
    | View
    | LibraryCall
    | ForeignCall
    | Launch
    | KernelCall
    | Forward
    | Check
    | Return
    | Comment
)


@dataclass(frozen=True)
class Parameter:
    """An argument: a C-contiguous array of that rank, or, with rank 0, a scalar.

    `shape`: its extents as expressions of the sizes, if the caller has made sure of them; without
    it only the extents that `Function.sizes` takes from this parameter are known. The caller of a
    `donated` array will not look at it again: its memory may be written to and returned. `result`
    numbers the result for which the caller gives this array (see `Function.into`).
    """

    name: str
    dtype: np.dtype
    rank: int
    shape: tuple[Expr, ...] | None = None
    donated: bool = False
    result: int | None = None


@dataclass(frozen=True)
class Function:
    """A function; `into` asks that its result arrays be parameters, where that is possible."""

    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]
    doc: str = ""
    sizes: tuple[tuple[str, str, int], ...] = field(default=())
    """Set on entry: `(name, parameter, axis)` prints as `name = parameter.shape[axis]`."""
    into: bool = False
    kernel: bool = False
    """Whether it is a loop of other functions of the module, which alone call it: some iterations
    of a parallel one, or a nest that they run for several arrays."""
    apart: tuple[str, ...] = ()
    """The parameters of a kernel whose memory none of its other parameters shows."""
    extents: tuple[tuple[str, int, int], ...] = ()
    """What is known of those of a kernel: `(parameter, axis, extent)`."""


@dataclass(frozen=True)
class Module:
    functions: tuple[Function, ...]
    header: tuple[str, ...] = ()
    """Comment lines above the imports."""
    constants: tuple[tuple[str, np.ndarray], ...] = ()
    """Module-level read-only arrays that the functions load from."""
