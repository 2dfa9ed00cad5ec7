"""C functions: a traced function, or its gradient, behind a C function pointer.

    integrand = tg.cfunc(lambda x, a: np.exp(-a * x * x), "double(double, void*)", 0.0, np.ones(1))
    scipy.integrate.quad(integrand.low_level_callable(np.array([2.0])), -1, 1)

In: a function, the C signature, example arguments. Out: an object with `address`, `ctypes`,
`low_level_callable(user_data)`. An error cannot be raised through C: the results are NaN then.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.errors import NumbaError

from codegen.records import dataclass
from codegen.wrapper import wrapper
from tracegrad.autodiff.derived import name_of
from tracegrad.errors import UnsupportedError
from tracegrad.ir.types import ArrayType
from tracegrad.later import Later
from tracegrad.leaves import leaves_of
from tracegrad.njit import embedded
from tracegrad.ops.op import type_of
from tracegrad.transforms import as_function, value_and_grad

scipy = Later("scipy")

ARRAY = types.CPointer(types.float64)


@dataclass(frozen=True)
class Form:
    """A C signature: its numba type, the parameters' names, how values stand in them, the text
    of its body.

    `point`: "number" (one double), "array" (a length and a pointer). `data` is whether a pointer
    to further values is passed.
    """

    signature: Any
    parameters: str
    point: str
    data: bool
    body: str


RETURN = """\
    result = np.nan
    try:
        result = np.float64({call})
    except Exception:
        result = np.nan
    return result
"""
FILTER = """\
    good = 1
    try:
        out = numba.carray(f, (1,))
        out[0] = {call}
    except Exception:
        good = 0
    return good
"""
VECTOR = """\
    out = numba.carray(f, ({size},))
    try:
        out[:] = {call}
    except Exception:
        out[:] = np.nan
"""
PAIR = """\
    out = numba.carray(f, (1,))
    slope = numba.carray(g, (n,))
    try:
        out[0], slope[:] = {call}
    except Exception:
        out[0] = np.nan
        slope[:] = np.nan
"""

FORMS: dict[str, Form] = {
    "double(double)": Form(types.float64(types.float64), "x", "number", False, RETURN),
    "double(double, void*)": Form(
        types.float64(types.float64, types.voidptr), "x, data", "number", True, RETURN
    ),
    "double(int, double*)": Form(types.float64(types.intc, ARRAY), "n, p", "array", False, RETURN),
    "double(int, double*, void*)": Form(
        types.float64(types.intc, ARRAY, types.voidptr), "n, p, data", "array", True, RETURN
    ),
    "int(double*, intptr_t, double*, void*)": Form(
        types.intc(ARRAY, types.intp, ARRAY, types.voidptr), "p, n, f, data", "array", True, FILTER
    ),
    "void(int, double*, double*)": Form(
        types.void(types.intc, ARRAY, ARRAY), "n, p, f", "array", False, VECTOR
    ),
    "void(int, double*, double*, double*)": Form(
        types.void(types.intc, ARRAY, ARRAY, ARRAY), "n, p, f, g", "array", False, PAIR
    ),
}
"""What `cfunc` can make, as C writes it without the parameters' names."""


class CFunction:
    """A C function. It has to be kept alive as long as anybody may call its address."""

    def __init__(self, name: str, signature: str, compiled: Any) -> None:
        self.name, self.signature = name, signature
        self._compiled = compiled

    @property
    def address(self) -> int:
        """Where the machine code lies: for Fortran and C libraries."""
        return self._compiled.address

    @property
    def ctypes(self) -> Any:
        """The function as `ctypes` knows it, callable from Python too."""
        return self._compiled.ctypes

    def low_level_callable(self, user_data: np.ndarray | None = None) -> Any:
        """A `scipy.LowLevelCallable`; `user_data`, an array of float64, is what the function takes
        after its point. Later changes of that array are seen.
        """
        if user_data is None:
            return scipy.LowLevelCallable(self.ctypes)
        if not isinstance(user_data, np.ndarray) or user_data.dtype != np.float64:
            raise TypeError("user_data is to be an array of float64")
        if not user_data.flags.c_contiguous:
            raise ValueError("user_data is to be C-contiguous: its memory is handed over")
        pointer = ctypes.c_void_p(user_data.ctypes.data)
        pointer.array = user_data  # type: ignore[attr-defined]  # kept alive with the pointer
        return scipy.LowLevelCallable(self.ctypes, pointer)

    def __repr__(self) -> str:
        head, _, rest = self.signature.partition("(")
        return f"<C function {head} {self.name}({rest}>"


def cfunc(fun: Callable[..., Any], signature: str, *args: Any) -> CFunction:
    """`fun` as a C function of that signature, compiled for arguments like `args`.

    * `double(double)`, `double(double, void*)`: `fun(x)`, `fun(x, data)`.
    * `double(int, double*)`, `double(int, double*, void*)`: `fun(x)` of an array, or `fun(x0, x1,
      ...)` of as many numbers as are passed; with `data` as the last argument. These four are what
      `scipy.integrate.quad` and `nquad` take.
    * `int(double*, intptr_t, double*, void*)`: for `scipy.ndimage.generic_filter`; 0 is an error.
    * `void(int n, double* x, double* f)`: a function of an array that returns an array.
    * `void(int n, double* x, double* f, double* g)`: value and gradient of a function of an array.

    `data` is an array of float64 of the shape in `args`. For a derivative, `cfunc(tg.grad(fun),
    ...)`. Nothing can be raised through C: where `fun` raises, or is called with a number of values
    that it does not take, results are NaN. Raises ValueError for another signature,
    TypeError for one that is not text, UnsupportedError for arguments that do not go with it.

    >>> import numpy as np, tracegrad as tg
    >>> tg.cfunc(lambda x: np.sin(x) ** 2, "double(double)", 0.0).ctypes(0.0)
    0.0
    """
    if not isinstance(signature, str):
        raise TypeError(
            f"cfunc takes the C signature as text after the function, then example arguments: "
            f'cfunc(f, "double(double)", 0.0); got {type(signature).__name__}'
        )
    key = re.sub(r"\s*([(),*])\s*", r"\1", re.sub(r"\b(n|x|f|g|data|user_data)\b", "", signature))
    known = {form.replace(", ", ","): form for form in FORMS}
    if key.strip() not in known:
        raise ValueError(f"signature {signature!r}: choose one of {', '.join(FORMS)}")
    name, form = name_of(fun), FORMS[known[key.strip()]]
    types_ = [type_of(leaf) for leaf in leaves_of(args)[0]]
    if form.data and len(args) < 2:
        form = without_data(form)
    points = types_[:-1] if form.data else types_
    check_arguments(name, form, points, types_, args)
    function = as_function(fun) if form.body is not PAIR else value_and_grad(fun)
    run = embedded(function, [as_double(arg) for arg in args])
    text = c_text(name, form, points, types_)
    plain = wrapper(name, text, {"run": run, "numba": numba})
    try:
        compiled = numba.cfunc(form.signature)(plain)
    except NumbaError as error:
        raise UnsupportedError(
            f"{name} cannot be a C function {known[key.strip()]}: what it returns does not go with "
            f"that ({str(error).strip().splitlines()[-1]})"
        ) from error
    return CFunction(name, known[key.strip()], compiled)


def without_data(form: Form) -> Form:
    """The same for a function that does not look at the data."""
    return Form(form.signature, form.parameters, form.point, False, form.body)


def as_double(arg: Any) -> Any:
    """An example argument as C passes it."""
    return np.asarray(arg, np.float64) if np.ndim(arg) else float(arg)


def check_arguments(
    name: str, form: Form, points: Sequence[ArrayType], all_: Sequence[ArrayType], args: Any
) -> None:
    """Raises UnsupportedError unless the arguments can be passed in this form."""
    if len(all_) != len(args) or any(type.dtype.kind not in "fi" for type in all_):
        raise UnsupportedError(f"{name}: a C function takes numbers and arrays of numbers")
    ranks = [type.rank for type in points]
    if form.point == "number" and ranks != [0]:
        raise UnsupportedError(f"{name}: this signature is for a function of one number")
    vectors = form.body in (VECTOR, PAIR)
    if form.point == "array" and not (ranks == [1] or (ranks and not any(ranks) and not vectors)):
        raise UnsupportedError(
            f"{name}: this signature is for a function of one array"
            + ("" if vectors else ", or of numbers alone")
        )


def c_text(name: str, form: Form, points: Sequence[ArrayType], all_: Sequence[ArrayType]) -> str:
    """The Python text of the C function."""
    lines = [f"def {name}({form.parameters}):"]
    given = ["x"]
    if form.point == "array" and points[0].rank:
        lines.append("    x = numba.carray(p, (n,))")
    elif form.point == "array":
        given = [f"x[{number}]" for number in range(len(points))]
        lines.append(f"    x = numba.carray(p, ({len(points)},))")
        lines.append(f"    if n != {len(points)}:")
        lines.append("        return 0" if form.body is FILTER else "        return np.nan")
    if form.data:
        shape = all_[-1].shape
        lines.append(f"    user = numba.carray(data, {shape or (1,)}, np.float64)")
        given.append("user" if shape else "user[0]")
    body = form.body.format(call=f"run({', '.join(given)})", size="n")
    return "\n".join(lines) + "\n" + body
