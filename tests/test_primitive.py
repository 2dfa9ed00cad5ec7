"""Compiled functions of the user's own as operations: values, rules, promises, transformations."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numba
import numpy as np
import pytest

import tracegrad as tg
from codegen.foreign import dependencies


@numba.njit
def step(x, h):
    y = np.empty_like(x)
    for i in range(x.shape[0]):
        y[i] = x[i] + h * x[i] * x[i]
    return y


@numba.njit
def weighted(w, x):
    total = 0.0
    for i in range(x.shape[0]):
        total += w[i] * x[i] ** 3
    return total


@numba.njit
def both(x):
    return x * x, np.sum(x)


@numba.njit
def running(x, out):
    total = 0.0
    for i in range(x.shape[0]):
        total += x[i]
        out[i] = total


def step_vjp(ct, out, x, h):
    return ct * (1 + 2 * h * x), np.sum(ct * x * x)


def step_jvp(tangents, out, x, h):
    t_x, t_h = tangents
    return t_x * (1 + 2 * h * x) + t_h * x * x


X = np.array([0.5, -1.0, 2.0, 0.25])


def plain_step(x, h):
    return x + h * x * x


@pytest.mark.parametrize("rules", [{"vjp": step_vjp}, {"jvp": step_jvp}], ids=["vjp", "jvp"])
def test_one_rule_serves_both_modes_and_second_order(rules):
    euler = tg.primitive(step, **rules)

    def f(x, h):
        return np.sum(euler(np.sin(x), h) ** 2)

    def reference(x, h):
        return np.sum(plain_step(np.sin(x), h) ** 2)

    np.testing.assert_allclose(tg.trace(f)(X, 0.3), reference(X, 0.3), rtol=1e-14)
    for d, plain_d in (
        (tg.grad(f, argnums=(0, 1)), tg.grad(reference, argnums=(0, 1))),
        (tg.jacfwd(f), tg.jacfwd(reference)),
        (tg.hessian(f), tg.hessian(reference)),
    ):
        for a, b in zip(d(X, 0.3), plain_d(X, 0.3), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_the_generated_module_calls_the_dispatcher():
    euler = tg.primitive(step)
    source = tg.trace(lambda x: euler(x, 0.5)).source(X)
    assert "step(readonly(x), 0.5)" in source


def test_what_a_dump_says_of_it():
    f = tg.trace(lambda x, h: np.sum(tg.primitive(step, vjp=step_vjp)(x, h) ** 2))
    dump = f.dump(X, 0.5)
    (line,) = (line for line in dump.splitlines() if "step(x, h)" in line and "=" in line)
    assert "k0 library" in line
    value, _ = dump.function()(X, 0.5)
    np.testing.assert_allclose(value, f(X, 0.5), rtol=1e-14)
    assert "k0: step (library); reads x; writes" in str(f.explain(X, 0.5))


def test_inside_loops_and_vmap():
    euler = tg.primitive(step, vjp=step_vjp)

    @tg.trace
    def integrate(x, h):
        return tg.fori_loop(0, 5, lambda i, x: euler(x, h), x)

    expected = X
    for _ in range(5):
        expected = plain_step(expected, 0.1)
    np.testing.assert_allclose(integrate(X, 0.1), expected, rtol=1e-14)
    jacobian = tg.jacrev(integrate)(X, 0.1)
    d = 1e-6
    for i in range(len(X)):
        e = d * np.eye(len(X))[i]
        column = (integrate(X + e, 0.1) - integrate(X - e, 0.1)) / (2 * d)
        np.testing.assert_allclose(jacobian[:, i], column, atol=1e-7)
    rows = np.stack([X, 2 * X, -X])
    np.testing.assert_allclose(
        tg.vmap(lambda x: euler(x, 0.1))(rows), plain_step(rows, 0.1), rtol=1e-14
    )
    gradients = tg.vmap(tg.grad(lambda x: np.sum(euler(x, 0.1))))(rows)
    np.testing.assert_allclose(gradients, 1 + 0.2 * rows, rtol=1e-14)


def test_in_a_branch_and_a_while_loop():
    euler = tg.primitive(step)

    @tg.trace
    def f(x, n):
        x = tg.cond(np.sum(x) > 0, lambda: euler(x, 0.1), lambda: x)
        return tg.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, euler(s[1], 0.1)), (0, x))[1]

    expected = plain_step(plain_step(plain_step(X, 0.1), 0.1), 0.1)
    np.testing.assert_allclose(f(X, 2.0), expected, rtol=1e-14)


def test_scalar_result_by_signature():
    energy = tg.primitive(
        weighted, vjp=lambda ct, out, w, x: (ct * x**3, ct * 3 * w * x**2), shape="(n),(n)->()"
    )
    w = np.arange(4.0)
    value, gradient = tg.value_and_grad(lambda x: energy(w, x))(X)
    np.testing.assert_allclose(value, np.sum(w * X**3))
    np.testing.assert_allclose(gradient, 3 * w * X**2)
    assert isinstance(energy(w, X), float)
    with pytest.raises(tg.ShapeError, match=r"in shape=.* n is 4, but an axis of argument 1 has 3"):
        tg.trace(energy)(w, X[:3])


def test_several_results():
    pair = tg.primitive(
        both, vjp=lambda cts, out, x: 2 * x * cts[0] + cts[1], shape=(0, tg.ShapeDtype(()))
    )

    def f(x):
        squares, total = pair(x)
        return np.sum(squares) * total

    np.testing.assert_allclose(tg.trace(f)(X), np.sum(X * X) * np.sum(X))
    expected = 2 * X * np.sum(X) + np.sum(X * X)
    np.testing.assert_allclose(tg.grad(f)(X), expected)
    np.testing.assert_allclose(tg.jacfwd(f)(X), expected)
    only_one = tg.grad(lambda x: pair(x)[1] ** 2)(X)
    np.testing.assert_allclose(only_one, np.full(4, 2 * np.sum(X)))


def test_a_function_that_fills_its_last_arguments():
    cumulated = tg.primitive(running, fills=True, vjp=lambda ct, out, x: np.cumsum(ct[::-1])[::-1])
    assert np.array_equal(cumulated(X), np.cumsum(X))
    f = tg.trace(lambda x: cumulated(2 * x) * x)
    np.testing.assert_allclose(f(X), np.cumsum(2 * X) * X)
    np.testing.assert_allclose(f.dump(X, which="primal").function()(X), f(X))
    np.testing.assert_allclose(tg.grad(lambda x: cumulated(x)[-1])(X), np.ones(4))


@pytest.mark.parametrize("shape", [0, "(n)->(n)", (0,), lambda x: x])
def test_a_function_that_fills_is_called_and_traced_without_its_results(shape):
    cumulated = tg.primitive(
        running, fills=True, shape=shape, vjp=lambda ct, out, x: np.cumsum(ct[::-1])[::-1]
    )
    rows = np.stack([X, 2 * X])
    assert np.array_equal(tg.trace(cumulated)(X), np.cumsum(X))
    np.testing.assert_allclose(tg.vmap(cumulated)(rows), np.cumsum(rows, 1))
    np.testing.assert_allclose(tg.jacrev(cumulated)(X), np.tri(4))
    if not callable(shape):  # then nobody knows how many of its parameters are results
        assert np.array_equal(cumulated(x=X), np.cumsum(X))
        with pytest.raises(TypeError, match=r"running\(\) got an unexpected .* 'wrong'"):
            cumulated(X, wrong=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_eager_tensors(dtype):
    euler = tg.primitive(step, vjp=step_vjp)
    x = tg.tensor(X.astype(dtype), requires_grad=True)
    y = euler(x, dtype(0.5)).sum()
    y.backward()
    assert x.grad.numpy().dtype == dtype
    np.testing.assert_allclose(x.grad.numpy(), 1 + X, rtol=1e-6)


def test_rules_that_are_primitives():
    @numba.njit
    def cube(x):
        return x**3

    @numba.njit
    def cube_vjp(ct, out, x):
        return ct * 3 * x * x

    pulled = tg.primitive(
        cube_vjp, vjp=lambda c, out, ct, y, x: (c * 3 * x * x, None, c * ct * 6 * x)
    )
    cubed = tg.primitive(cube, vjp=pulled)
    np.testing.assert_allclose(tg.grad(lambda x: np.sum(cubed(x)))(X), 3 * X * X)
    second = tg.grad(lambda x: np.sum(tg.grad(lambda x: np.sum(cubed(x)))(x)))(X)
    np.testing.assert_allclose(second, 6 * X)


def test_without_a_rule():
    euler = tg.primitive(step)
    assert np.array_equal(tg.trace(euler)(X, 0.1), step(X, 0.1))
    with pytest.raises(tg.NotDifferentiableError, match="step is a primitive without derivative"):
        tg.grad(lambda x: np.sum(euler(x, 0.1)))(X)
    euler.defvjp(step_vjp)
    np.testing.assert_allclose(tg.grad(lambda x: np.sum(euler(x, 0.1)))(X), 1 + 0.2 * X)


@pytest.mark.parametrize(
    ("body", "shape", "message"),
    [
        ("return x[1:].copy()", 0, "f returned an array of another shape than f64"),
        ("return x.astype(np.float32)", 0, "f returns array.float32.*an array of float64 with 1"),
        ("return x[0]", 0, "f returns float64, but an array of float64 with 1 axis was promised"),
        ("return x", "(n)->()", "but a number of float64 was promised"),
        ("return x, x", 0, "f returns UniTuple"),
        ("return x", (0, 0), "2 results were promised"),
        ("x[0] = 1.0\n    return x", 0, "must not write into its arguments"),
        ("return undefined(x)", 0, "undefined"),
    ],
)
def test_promises_are_held_against_what_is_returned(body, shape, message):
    space = {"np": np}
    exec(f"def f(x):\n    {body}", space)
    f = tg.primitive(numba.njit(space["f"]), shape=shape)
    with pytest.raises((tg.CompileError, ValueError), match=message) as caught:
        tg.trace(lambda x: f(2 * x))(X)
    assert "defect of tracegrad" not in str(caught.value)


def test_eager_calls_are_held_to_the_promise_too():
    @numba.njit
    def shorter(x):
        return x[1:]

    with pytest.raises(ValueError, match="shorter returned an array of another shape"):
        tg.primitive(shorter)(X)
    with pytest.raises(TypeError, match="promises f32"):
        tg.primitive(shorter, shape=tg.ShapeDtype((3,), np.float32))(X)


def test_a_result_that_is_an_argument_is_copied():
    @numba.njit
    def same(x):
        return x

    @numba.njit
    def turned(x):
        return x[::-1]

    @numba.njit
    def twice(x):
        return x + 1, x

    first, back = tg.primitive(same), tg.primitive(turned)
    pair = tg.primitive(twice, shape=(0, 0))

    @tg.trace
    def f(x):
        y = first(x)
        y[0] = 7.0
        z = back(x)
        z[1] = 9.0
        p, q = pair(x)
        q[0] = 5.0
        return x + 0, y, z, p, q

    given = X.copy()
    x, y, z, p, q = f(given)
    assert np.array_equal(given, X) and np.array_equal(x, X)
    assert np.array_equal(y, [7, -1, 2, 0.25]) and np.array_equal(z, [0.25, 9, -1, 0.5])
    assert np.array_equal(p, X + 1) and np.array_equal(q, [5, -1, 2, 0.25])
    results = tg.trace(lambda x: first(x))(given)
    assert not np.shares_memory(results, given)


def test_an_explicit_signature():
    @numba.njit("float64[::1](float64[::1])")
    def doubled(x):
        return 2 * x

    assert np.array_equal(tg.trace(tg.primitive(doubled))(X), 2 * X)


def test_errors_of_the_function_reach_the_caller():
    @numba.njit
    def picky(x):
        if x[0] < 0:
            raise ValueError("negative")
        return x

    f = tg.trace(tg.primitive(picky))
    assert np.array_equal(f(X), X)
    with pytest.raises(ValueError, match="negative"):
        f(-X)


def test_wrong_uses():
    with pytest.raises(TypeError, match="compiled with @numba"):
        tg.primitive(3)
    with pytest.raises(ValueError, match="shape=2, but it was called with 2 arguments"):
        tg.primitive(step, shape=2)(X, 0.1)
    with pytest.raises(ValueError, match="is not of the form"):
        tg.primitive(step, shape="n->n")(X, 0.1)
    with pytest.raises(ValueError, match="no sum or product"):
        tg.primitive(step, shape="(n),()->(m)")(X, 0.1)
    with pytest.raises(TypeError, match="give the number of an argument"):
        tg.primitive(step, shape=None)(X, 0.1)
    with pytest.raises(tg.UnsupportedError, match="step: str is not an array"):
        tg.trace(tg.primitive(step))(X, "a")
    bad = tg.primitive(step, vjp=lambda ct, out, x, h: ct)
    with pytest.raises(tg.TraceError, match="must return a tuple of 2 cotangents"):
        tg.grad(lambda x: np.sum(bad(x, 0.1)))(X)
    with pytest.raises(TypeError, match=r"step\(\) missing a required argument: 'h'"):
        bad(X)


def test_derivatives_of_another_shape_are_refused():
    """They were broadcast, or summed, to the shape of the argument: wrong numbers."""
    narrow = tg.primitive(step, vjp=lambda ct, out, x, h: (np.sum(ct * x), None))
    with pytest.raises(
        tg.NotDifferentiableError, match=r"vjp rule of step returns f64 for arg.* 0"
    ):
        tg.grad(lambda x: np.sum(narrow(x, 0.1)))(X)
    wide = tg.primitive(step, vjp=lambda ct, out, x, h: (None, ct * x))
    with pytest.raises(tg.NotDifferentiableError, match=r"f64\[4\] for argument 1, which is f64$"):
        tg.grad(lambda h: np.sum(wide(X, h)))(0.1)
    flat = tg.primitive(step, jvp=lambda tangents, out, x, h: np.sum(tangents[0]))
    for derivative in (lambda: tg.jvp(flat, (X, 0.1), (X, 0.0)), lambda: tg.jacrev(flat)(X, 0.1)):
        with pytest.raises(tg.NotDifferentiableError, match="jvp rule of step returns f64 for the"):
            derivative()


def test_check_grads_names_the_function_of_a_wrong_rule():
    wrong = tg.primitive(step, vjp=lambda ct, out, x, h: (ct, None))
    with pytest.raises(AssertionError, match="disagrees most, on its own inputs, is step, f64"):
        tg.testing.check_grads(lambda x: np.sum(wrong(2 * x, 0.1)), (X,), order=1, modes=("rev",))


def test_sizes_of_results():
    @numba.njit
    def outer(a, b):
        return a.reshape(-1, 1) * b

    product = tg.primitive(outer, shape="(n),(m)->(n,m)")
    assert np.array_equal(tg.trace(product)(X, X[:3]), np.outer(X, X[:3]))

    @numba.njit
    def differences(x):
        return x[1:] - x[:-1]

    for shape in ("(n)->(n-1)", lambda x: tg.ShapeDtype((x.shape[0] - 1,), x.dtype)):
        diff = tg.trace(tg.primitive(differences, shape=shape))
        assert np.array_equal(diff(X), np.diff(X))
        assert np.array_equal(diff(X[:3]), np.diff(X[:3]))
        assert len(diff.versions) == 1


def test_export_writes_the_function(tmp_path):
    euler = tg.primitive(step, vjp=step_vjp)

    @tg.trace
    def f(x, h):
        return np.sum(euler(x, h) ** 2)

    path = tmp_path / "exported.py"
    f.export(path, X, 0.1)
    spec = importlib.util.spec_from_file_location("exported", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    value, gradient = module.f_value_and_grad(X, 0.1)
    np.testing.assert_allclose(value, f(X, 0.1))
    np.testing.assert_allclose(gradient, f.grad(X, 0.1))
    assert "tracegrad" not in path.read_text().split("import", 1)[1].split("@njit")[0]


def test_what_cannot_be_exported_is_said(tmp_path):
    space = {"np": np}
    exec("def f(x):\n    return 2 * x", space)
    f = tg.primitive(numba.njit(space["f"]))
    with pytest.raises(tg.UnsupportedError, match=r"cannot contain f: .* is not"):
        tg.trace(lambda x: f(x)).export(tmp_path / "exported.py", X)


PROGRAM = """
import numpy as np, numba, tracegrad as tg
FACTOR = {factor}
@numba.njit
def helper(x):
    return x * {inner}
@numba.njit
def f(x):
    return helper(x) * FACTOR
g = tg.trace(tg.primitive(f))
value = g.compiled(np.ones(2)).primal(np.ones(2))[0]
print(value, "hit" if "disk cache: hit" in str(g.explain()) else "miss")
"""


def run(tmp_path, factor=2.0, inner=3.0):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.format(factor=factor, inner=inner))
    root = str(Path(__file__).parents[1])
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": root}
    found = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=env, check=True
    )
    return found.stdout.split()


def test_a_changed_function_never_runs_stale_code(tmp_path):
    assert run(tmp_path) == ["6.0", "miss"]
    assert run(tmp_path) == ["6.0", "hit"]
    assert run(tmp_path, inner=5.0) == ["10.0", "miss"]  # another body of a callee
    assert run(tmp_path, factor=4.0) == ["12.0", "miss"]  # another global


def test_dependencies_see_code_constants_globals_and_closures():
    def make(number, text):
        space = {"numba": numba, "np": np, "scale": number}
        exec(f"@numba.njit\ndef f(x):\n    return {text}", space)
        return dependencies(space["f"])

    one = make(1.0, "x * scale")
    assert one.digest == make(1.0, "x * scale").digest
    assert one.digest != make(2.0, "x * scale").digest
    assert one.digest != make(1.0, "x + scale").digest
    assert make(1.0, "x * 2").digest != make(1.0, "x * 3").digest
    assert not one.opaque and one.certain
    assert make(np.arange(3), "x + scale[0]").digest != make(np.arange(1, 4), "x + scale[0]").digest
    assert make(object(), "x + scale").opaque


def test_dependencies_see_modules_of_modules():
    outer, inner = ModuleType("outer"), ModuleType("inner")
    outer.inner, inner.outer = inner, outer  # type: ignore[attr-defined]

    def scaled(x):
        return outer.inner.factor * x  # type: ignore[attr-defined]

    digests = set()
    for inner.factor in (1.0, 2.0):  # type: ignore[attr-defined]
        digests.add(dependencies(numba.njit(scaled)).digest)
    assert len(digests) == 2


def test_what_was_compiled_before_with_globals_is_not_kept():
    space = {"numba": numba, "scale": 2.0}
    exec("@numba.njit\ndef f(x):\n    return x * scale", space)
    assert dependencies(space["f"]).certain
    space["f"](1.0)
    assert not dependencies(space["f"]).certain
    step(X, 0.1)
    assert dependencies(step).certain  # it reads no globals but NumPy
