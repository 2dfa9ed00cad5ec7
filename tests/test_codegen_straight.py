"""Straight-line functions written in place: the numbers that numba computes of their text."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from numba import njit
from numba.core import config
from numba.extending import intrinsic

from codegen import parts, straight, vecmath

pytestmark = pytest.mark.skipif(vars(config)["DISABLE_JIT"], reason="needs compiled code")

NUMBERS = [0.0, -0.0, 1.0, -1.0, 0.3, -2.7, 1e-310, 1e-30, 40.5, 709.0, -745.5, 1e17, 1e300]
SPECIAL = [np.inf, -np.inf, np.nan]
FEW = (
    "exp_f64",
    "sigmoid_f32",
    "tanh_f64",
    "log_f64",
    "log1p_f32",
    "sin_f64",
    "tan_f32",
    "arctan2_f64",
    "power_f32",
    "hypot_f64",
    "cbrt_f64",
    "erf_f32",
    "gammaln_f64",
    "logaddexp_f64",
    "remainder_f64",
    "sign_float",
    "nextafter_float",
    "floor_divide_f32",
    "maximum_float",
    "ndtri_f64",
    "logit_f32",
    "sinh_f64",
)


def dtype_of(name: str) -> type:
    return np.float32 if name.endswith("_f32") else np.float64


def arguments(name: str, count: int) -> list[np.ndarray]:
    values = np.array(NUMBERS + SPECIAL)
    with np.errstate(over="ignore", under="ignore"):
        values = values.astype(dtype_of(name))
    grids = np.meshgrid(*[values] * count, indexing="ij")
    return [grid.ravel() for grid in grids]


def loop(function: Any, count: int) -> Any:
    """A loop that calls the function on the elements of its first arguments."""
    names = ", ".join(f"x{k}" for k in range(count))
    items = ", ".join(f"x{k}[i]" for k in range(count))
    text = f"def run({names}, out):\n    for i in range(len(out)):\n"
    text += f"        out[i] = function({items})\n"
    space: dict[str, Any] = {"function": function}
    exec(text, space)
    return njit(error_model="numpy")(space["run"])


def in_place(function: Any, count: int) -> Any:
    """The function as an intrinsic that has its text written where it is called."""

    def definition(typing: Any, *given: Any) -> Any:
        twin = parts.part(function)
        twin.compile(given)
        result = twin.overloads[given].signature.return_type

        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            found = twin.in_place(context, builder, list(zip(given, values, strict=True)))
            assert found is not None and found[0] == result
            return found[1]

        return result(*given), generate

    names = ", ".join(f"x{k}" for k in range(count))
    space: dict[str, Any] = {"definition": definition}
    exec(f"def same(typing, {names}):\n    return definition(typing, {names})", space)
    return intrinsic(space["same"])


@pytest.mark.parametrize("name", FEW)
def test_the_numbers_are_those_of_the_text(name: str) -> None:
    function = getattr(vecmath, name)
    assert straight.body(function.py_func) is not None
    count = len(inspect.signature(function.py_func).parameters)
    given = arguments(name, count)
    out = np.empty(given[0].size, given[0].dtype)
    loop(function, count)(*given, out)
    expected = out.copy()
    loop(in_place(function, count), count)(*given, out)
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(expected))
