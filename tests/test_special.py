"""Special functions that SciPy's compiled code computes: its numbers, and derivatives refused.

Their derivatives are tested with all other rows, in test_ops_elementwise.py.
"""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special

import tracegrad as tg
from codegen import special
from codegen.costs import SCIPY
from tests import oracle
from tracegrad.ops import REGISTRY
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.special import POLYGAMMA
from tracegrad.ops.unknown import NoFormula

ROWS = [op for op in REGISTRY.values() if isinstance(op, Elementwise) and op.scalar in SCIPY]
VALUES = [np.nan, np.inf, -np.inf, 0.0, -0.0, 0.25, 0.5, 1.0, 2.0, -1.5, -2.0, 3.0, 10.25]
WHOLE = [-2, -1, 0, 1, 2, 3, 7]


def grid(dtype: np.dtype, arity: int) -> list[np.ndarray]:
    """All combinations of values at which functions go wrong."""
    values = np.array(WHOLE if dtype.kind in "iu" else VALUES, dtype)
    return [part.ravel() for part in np.meshgrid(*[values] * arity, indexing="ij")]


def sane(op: Elementwise, columns: list[np.ndarray]) -> Any:
    """Without infinite counts, of which SciPy makes some integer."""
    kept: Any = np.full(columns[0].shape, True)
    for column, kind in zip(columns, special.exported(op.scalar).arguments, strict=True):
        if kind in special.WHOLE:
            kept &= ~np.isinf(column)
    return kept


def takes(op: Elementwise, dtype: np.dtype) -> bool:
    try:
        op.numpy(*[np.ones(1, dtype)] * op.arity)
    except TypeError:
        return False
    return True


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "int8"])
@pytest.mark.parametrize("arity", [1, 2, 3, 4])
@pytest.mark.filterwarnings("ignore:.*non-integer arg n is deprecated")
@pytest.mark.filterwarnings("ignore:floating point number truncated to an integer")
def test_values(dtype: str, arity: int) -> None:
    """Compiled code computes in float64, also where SciPy's loops for float32 do not."""
    columns = grid(np.dtype(dtype), arity)
    ops = [op for op in ROWS if op.arity == arity and takes(op, columns[0].dtype)]
    assert ops
    masks = [sane(op, columns) for op in ops]
    given = [[column[mask] for column in columns] for mask in masks]
    program = tg.trace(lambda given: [op(*xs) for op, xs in zip(ops, given, strict=True)])
    failures = []
    for op, xs, got in zip(ops, given, program(given), strict=True):
        with np.errstate(all="ignore"):
            want, tensor = op.numpy(*xs), op(*map(tg.tensor, xs)).numpy()
            single = want.dtype == np.float32
            wide = op.numpy(*(x.astype(float) if single else x for x in xs)).astype(want.dtype)
        try:
            oracle.assert_exact(tensor, want, op.name)
            oracle.assert_type(got, want, op.name)
            oracle.assert_exact(got, wide, op.name, xs)
        except AssertionError as error:
            failures.append(str(error))
    assert not failures, "\n".join(failures)


def test_degrees_are_whole_numbers() -> None:
    n, x = np.arange(5), np.linspace(-1.2, 1.2, 5)
    names = ("eval_hermite", "eval_hermitenorm", "eval_legendre", "expn", "kn", "yn")

    def program(n: Any, x: Any) -> Any:
        return [getattr(scipy.special, name)(n, x) for name in names]

    with np.errstate(all="ignore"):
        want = program(n, x)
    for got, value in zip(tg.trace(program)(n, x), want, strict=True):
        np.testing.assert_array_equal(got, value)
    with pytest.raises(TypeError, match="eval_hermite"):
        tg.trace(lambda x: scipy.special.eval_hermite(x, x))(x)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("hyp1f1", (0.25, 0.5, np.array([np.inf, -np.inf, 1e15, -1e15, 2.0, np.nan]))),
        ("yn", (np.array([np.inf, -np.inf, 1e15, -1e15, 2.0, np.nan]), 1e15)),
    ],
)
@pytest.mark.filterwarnings("ignore:floating point number truncated to an integer")
def test_where_scipy_does_not_return(name: str, args: tuple[Any, ...], dtype: Any) -> None:
    given = [np.asarray(x, dtype) for x in args]
    function = getattr(tg, name)
    for found in (tg.trace(function)(*given), function(*map(tg.tensor, given)).numpy()):
        assert found.dtype == dtype
        np.testing.assert_array_equal(np.isnan(found), [True, True, True, True, False, True])


@pytest.mark.parametrize("x", [-1e9, -50.0, -1.0, -1e-9, 1e-9, 0.999, 1.0, 30.0, 700.0, np.inf])
def test_slope_of_exprel(x: float) -> None:
    with mpmath.workdps(60):
        z = mpmath.mpf(x)
        wanted = np.inf if x == np.inf else float((mpmath.exp(z) * (z - 1) + 1) / z**2)
    assert tg.grad(scipy.special.exprel)(x) == pytest.approx(wanted, rel=2e-14)


def test_shapes_and_layouts() -> None:
    function = tg.trace(lambda v, x: scipy.special.iv(v, x))
    x = np.linspace(0.1, 3.0, 24).reshape(4, 6)
    for name, array in oracle.layouts(x):
        oracle.assert_exact(function(0.5, array), scipy.special.iv(0.5, x), name)
    column = np.array([[0.5], [1.0], [2.0], [3.0]])
    oracle.assert_exact(function(column, x), scipy.special.iv(column, x))
    oracle.assert_exact(function(0.5, x[:0]), scipy.special.iv(0.5, x[:0]))
    mapped = tg.vmap(function, in_axes=(0, None))(column[:, 0], x)
    oracle.assert_exact(mapped, scipy.special.iv(column[:, :, None], x))
    assert function(0.5, np.float64(2.0)) == scipy.special.iv(0.5, 2.0)


EDGES = [
    ("jv", (0.0, 0.0), 0.0),
    ("jv", (1.0, 0.0), 0.5),
    ("j1", (0.0,), 0.5),
    ("i0", (0.0,), 0.0),
    ("i1e", (0.0,), 0.5),
    ("gammainc", (1.0, 0.0), 1.0),
    ("gammainc", (2.5, np.inf), 0.0),
    ("gammaincc", (0.5, 0.0), -np.inf),
    ("betainc", (2.0, 3.0, 0.0), 0.0),
    ("betainc", (1.0, 3.0, 0.0), 3.0),
    ("betainc", (2.0, 1.0, 1.0), 2.0),
    ("bdtr", (5.0, 5.0, 0.3), 0.0),
    ("exprel", (0.0,), 0.5),
    ("expn", (0, 2.0), -np.exp(-2.0) / 2 * 1.5),
    ("ellipk", (0.0,), np.pi / 8),
    ("ellipe", (0.0,), -np.pi / 8),
    ("ellipkm1", (1e-9,), -0.5e9),
    ("spence", (1.0,), -1.0),
    ("eval_legendre", (0, 0.3), 0.0),
    ("eval_legendre", (4, 1.0), 10.0),
    ("eval_hermite", (0, 0.3), 0.0),
]


@pytest.mark.parametrize(("name", "args", "wanted"), EDGES)
def test_derivatives_at_the_borders(name: str, args: tuple[Any, ...], wanted: float) -> None:
    *fixed, x = args
    (got,) = oracle.interpreted(tg.grad(lambda x: PUBLIC[name](*fixed, x)), np.float64(x))
    np.testing.assert_allclose(got, wanted, rtol=1e-7)


def no_formula() -> list[Any]:
    return [
        pytest.param(op, place, id=f"{op.name}-{partial.argument}")
        for op in (*ROWS, POLYGAMMA)
        for place, partial in enumerate(op.partials)
        if isinstance(partial, NoFormula)
    ]


@pytest.mark.parametrize(("op", "place"), no_formula())
@pytest.mark.filterwarnings("ignore:non-integer arg n is deprecated")
def test_a_derivative_without_a_formula(op: Elementwise, place: int) -> None:
    """It is refused where it is computed, not where another one is."""
    domains = [op.domain[min(k, len(op.domain) - 1)] for k in range(op.arity)]
    args = [
        np.float64(low) if k == place or low < high else int(low)
        for k, (low, high) in enumerate(domains)
    ]
    with pytest.raises(tg.NotDifferentiableError, match=f"special.{op.name} with respect to"):
        oracle.interpreted(tg.grad(lambda *xs: op(*xs), argnums=place), *args)


def test_a_refused_derivative_names_the_expression() -> None:
    x = np.linspace(0.5, 2.0, 4)

    def total(v: Any, x: Any) -> Any:
        return np.sum(scipy.special.jv(v, x) * v)

    with pytest.raises(tg.NotDifferentiableError, match=r"respect to v has no formula") as raised:
        tg.grad(total)(0.5, x)
    assert "test_special.py" in str(raised.value)
    assert "scipy.special.jv(v, x)" in str(raised.value)
    tg.testing.check_grads(lambda x: total(0.5, x), (x,), order=2)
    np.testing.assert_allclose(
        tg.grad(lambda v: total(tg.stop_gradient(v), x) + v)(0.5),
        1.0,
    )


def test_tensors_are_refused_when_they_go_backward() -> None:
    x = tg.tensor(np.linspace(0.5, 2.0, 4), requires_grad=True)
    y = scipy.special.gammainc(tg.tensor(2.0), x).sum()
    (first,) = tg.autograd.grad(y, [x], create_graph=True)
    (second,) = tg.autograd.grad(first.sum(), [x])
    want = np.exp(-x.detach().numpy()) * (1 - x.detach().numpy())
    np.testing.assert_allclose(second.numpy(), want, rtol=1e-12)
    a = tg.tensor(2.0, requires_grad=True)
    traced = tg.trace(lambda a, x: np.sum(scipy.special.gammainc(a, x)))
    for y in (scipy.special.gammainc(a, x).sum(), traced(a, x)):
        np.testing.assert_allclose(
            y.item(), np.sum(scipy.special.gammainc(2.0, x.detach().numpy()))
        )
        with pytest.raises(tg.NotDifferentiableError, match="respect to a"):
            y.backward()


def test_counts_have_the_derivative_zero() -> None:
    x = np.array([1.5, 2.5])
    np.testing.assert_array_equal(tg.grad(lambda k: np.sum(scipy.special.pdtr(k, 1.2)))(x), 0.0)


PROGRAM = """
import numpy as np, scipy.special, sys, tracegrad as tg
f = tg.trace(lambda x: np.sum(scipy.special.kv(0.5, x) + scipy.special.eval_hermite(3, x)))
print(f(np.linspace(0.5, 2.0, 3)), "numba" in sys.modules)
"""


def test_compiled_code_from_disk(tmp_path: Any) -> None:
    """SciPy's functions are found again in another process."""

    def run() -> list[bytes]:
        environment = {
            "XDG_CACHE_HOME": str(tmp_path),
            "PATH": "",
            "PYTHONPATH": ":".join(sys.path),
        }
        return subprocess.run(
            [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, check=True
        ).stdout.split()

    first, second = run(), run()
    assert first[0] == second[0]
    assert (first[1], second[1]) == (b"True", b"False")


def test_export_is_refused(tmp_path: Any) -> None:
    function = tg.trace(lambda x: np.sum(scipy.special.j0(x)))
    with pytest.raises(tg.UnsupportedError, match=r"cannot be exported: it calls scipy\.special\."):
        function.export(tmp_path / "bessel.py", np.ones(3))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int8, np.bool_])
def test_i0_of_numpy(dtype: Any) -> None:
    x = np.array([0, 1, 3]).astype(dtype)
    found, wanted = tg.trace(lambda x: np.i0(x))(x), np.i0(x)
    assert found.dtype == wanted.dtype
    np.testing.assert_allclose(found, wanted, rtol=4 * np.finfo(wanted.dtype).eps)
    np.testing.assert_array_equal(np.i0(tg.tensor(x)).numpy(), found)
