"""Products against NumPy: shapes, dtypes, layouts, einsum's notation, orders, copies, errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import tracegrad as tg
from tests import oracle
from tracegrad.function import Function
from tracegrad.passes.simplify import simplify

RNG = np.random.default_rng(5)
ROUNDINGS = 64
"""Sums of at most 60 terms of unit size, in another order."""

SHAPES = [
    ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((2, 1), (1, 4)),
    ((1, 3), (3, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 2)), ((2, 3), (3, 0)), ((0,), (0,)),
    ((0,), (0, 2)), ((3,), (2, 3, 4)), ((2, 5, 3), (3,)), ((2, 5, 3), (3, 4)), ((2, 3), (4, 3, 2)),
    ((5, 1, 2, 3), (4, 3, 2)), ((0, 2, 3), (0, 3, 2)), ((1, 2, 3), (4, 3, 2)),
]  # fmt: skip


def drawn(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    return oracle.draw(RNG, shape, np.dtype(dtype), (-2, 2))


def assert_as_numpy(program: Callable[..., Any], *args: Any) -> None:
    (got,) = oracle.interpreted(program, *args)
    oracle.assert_similar(got, program(*args), ROUNDINGS, str([np.shape(x) for x in args]))


def test_shapes_compiled() -> None:
    """Every combination of ranks, units and zeros, in one compiled program for each dtype."""

    def program(pairs: Any) -> Any:
        return [a @ b for a, b in pairs]

    for dtype in (np.float64, np.float32, np.int32, np.bool_):
        pairs = [(drawn(left, dtype), drawn(right, dtype)) for left, right in SHAPES]
        if dtype is not np.float64:
            pairs = pairs[1:5] + pairs[13:15]
        for got, want in zip(oracle.compiled(program, pairs), program(pairs), strict=True):
            oracle.assert_similar(got, want, ROUNDINGS)


@pytest.mark.parametrize(("left", "right"), SHAPES)
def test_derivatives_of_every_shape(left: Any, right: Any) -> None:
    """`<ct, jvp> = <vjp, t>`, and the pullback by NumPy's einsum."""
    a, b, t_a, t_b = drawn(left), drawn(right), drawn(left), drawn(right)
    ct = drawn(np.shape(a @ b))

    def both(a: Any, b: Any, t_a: Any, t_b: Any, ct: Any) -> Any:
        _, tangent = tg.jvp(np.matmul, (a, b), (t_a, t_b))
        return tangent, *tg.vjp(np.matmul, a, b)[1](ct)

    tangent, d_a, d_b = oracle.interpreted(both, a, b, t_a, t_b, ct)
    oracle.assert_similar(tangent, t_a @ b + a @ t_b, ROUNDINGS)
    assert d_a.shape == a.shape
    assert d_b.shape == b.shape
    np.testing.assert_allclose(np.sum(ct * tangent), np.sum(d_a * t_a) + np.sum(d_b * t_b))


@pytest.mark.parametrize("dtypes", [("f4", "f8"), ("i8", "f4"), ("i4", "i8"), ("b1", "f8")])
def test_mixed_dtypes(dtypes: Any) -> None:
    a, b = drawn((2, 3), dtypes[0]), drawn((3, 2), dtypes[1])
    for program in (
        np.matmul, np.dot, lambda a, b: np.inner(a, b.T), lambda a, b: np.einsum("ij,jk", a, b),
        lambda a, b: np.tensordot(a, b, 1), np.kron, lambda a, b: np.vecdot(a, b.T),
        lambda a, b: np.outer(a, b), lambda a, b: np.vdot(a, b),
    ):  # fmt: skip
        assert_as_numpy(program, a, b)
    assert_as_numpy(lambda a: np.array([1, 2]) @ a, a)
    assert_as_numpy(lambda a: a @ [1, 2, 3], a)


def ops_of(program: Callable[..., Any], *args: Any) -> list[str]:
    version, _ = Function(program).version_for(args, {})
    return [node.op.name for node in simplify(version.graph).nodes if node.op.name != "input"]


def test_transposes_are_not_copied() -> None:
    """A matrix product and its gradients read their operands as they lie."""
    a, b = drawn((3, 2)), drawn((4, 3))
    assert ops_of(lambda a, b: a.T @ b.T, a, b) == ["matmul"]
    assert ops_of(lambda a, b: a.T @ b[0], a, b) == ["slice", "dot"]
    stacks = drawn((2, 3, 4)), drawn((2, 5, 4))
    assert ops_of(lambda a, b: np.einsum("bij,bkj->bik", a, b), *stacks) == ["matmul"]
    pulled = ops_of(
        lambda a, b, ct: tg.vjp(lambda a, b: a.T @ b.T, a, b)[1](ct), a, b, np.eye(2, 4)
    )
    assert set(pulled) <= {"copy", "matmul"}
    (got,) = oracle.compiled(lambda a, b: a.T @ b.T, a, b)
    oracle.assert_similar(got, a.T @ b.T, ROUNDINGS)


NOTATIONS: list[tuple[str, tuple[tuple[int, ...], ...]]] = [
    ("ij,jk->ik", ((2, 3), (3, 4))), ("ij,jk", ((2, 3), (3, 4))), ("ji,kj", ((3, 2), (4, 3))),
    ("ba,ca->bc", ((2, 3), (4, 3))), ("i,i", ((3,), (3,))), ("i,i->i", ((3,), (3,))),
    ("i,j->ji", ((3,), (2,))), (",ij->ji", ((), (2, 3))), ("ii", ((3, 3),)), ("ii->i", ((3, 3),)),
    ("iji->ji", ((3, 2, 3),)), ("iii->", ((3, 3, 3),)), ("ij->", ((2, 3),)), ("ba", ((2, 3),)),
    ("ij->ji", ((2, 3),)), ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))), ("bi,bi->b", ((4, 3), (4, 3))),
    ("bhqd,bhkd->bhqk", ((2, 2, 3, 4), (2, 2, 5, 4))), ("bij,bj->bi", ((2, 3, 4), (2, 4))),
    ("...ij,...jk->...ik", ((2, 1, 3, 4), (5, 4, 2))), ("i...->...", ((3, 2),)),
    ("...,...", ((2, 3), (3,))), ("...i,...i", ((2, 3), (3,))),
    ("i...,j...->...ij", ((2, 4), (3, 4))),
    ("ij,ij->j", ((1, 3), (2, 3))), ("ij,jk->ik", ((2, 1), (3, 4))), ("a,a->a", ((1,), (1,))),
    ("ij,jk,kl->il", ((2, 3), (3, 4), (4, 2))), ("i,ij,j", ((2,), (2, 3), (3,))),
    ("ijk,jil->kl", ((2, 3, 4), (3, 2, 5))), ("ab,bc,cd,de", ((2, 2), (2, 3), (3, 2), (2, 2))),
    ("ij,ik,il->jkl", ((2, 3), (2, 4), (2, 5))), ("ij,jk->ik", ((0, 3), (3, 2))),
    ("ij,jk", ((2, 0), (0, 2))),
    ("ijk->kij", ((2, 3, 4),)), ("abcd,cdef->abef", ((2, 2, 3, 2), (3, 2, 2, 2))),
]  # fmt: skip


@pytest.mark.parametrize(("notation", "shapes"), NOTATIONS)
def test_einsum(notation: str, shapes: Any) -> None:
    """Values, and the pullback against the rule `d_a = einsum` of the others with the cotangent."""
    args = [drawn(shape) for shape in shapes]
    assert_as_numpy(lambda *args: np.einsum(notation, *args), *args)
    ct = drawn(np.shape(np.einsum(notation, *args)))
    tangents = [drawn(shape) for shape in shapes]

    def both(args: Any, tangents: Any, ct: Any) -> Any:
        def program(*args: Any) -> Any:
            return np.einsum(notation, *args)

        return tg.jvp(program, args, tangents)[1], tg.vjp(program, *args)[1](ct)

    tangent, *cts = oracle.interpreted(both, tuple(args), tuple(tangents), ct)
    wanted = sum(np.einsum(notation, *args[:i], t, *args[i + 1 :]) for i, t in enumerate(tangents))
    oracle.assert_similar(tangent, wanted, ROUNDINGS)
    pulled = sum(np.sum(d * t) for d, t in zip(cts, tangents, strict=True))
    np.testing.assert_allclose(pulled, np.sum(ct * tangent), rtol=1e-12, atol=1e-12)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_einsum(data: Any) -> None:
    """Random subscripts over labels of fixed extents; sums of small integers are exact."""
    sizes = {"a": 2, "b": 3, "c": 1, "d": 4}
    label = st.text("abcd", max_size=3)
    inputs = data.draw(st.lists(label, min_size=1, max_size=3))
    present = sorted(set("".join(inputs)))
    output = "".join(data.draw(st.permutations(present)))[: data.draw(st.integers(0, 3))]
    assume(any(inputs))
    args = [np.round(drawn(tuple(sizes[letter] for letter in part))) for part in inputs]
    notation = ",".join(inputs) + data.draw(st.sampled_from(["", f"->{output}"]))
    assert_as_numpy(lambda *args: np.einsum(notation, *args), *args)


def test_einsum_with_lists_of_labels() -> None:
    a, b = drawn((2, 3)), drawn((3, 4))
    assert_as_numpy(lambda a, b: np.einsum(a, [0, 1], b, [1, 2]), a, b)
    mixed: Any = [Ellipsis, 1], [1, 2], [2, Ellipsis]
    assert_as_numpy(lambda a, b: np.einsum(a, mixed[0], b, mixed[1], mixed[2]), a, b)


def test_einsum_contracts_the_cheap_pair_first() -> None:
    """A matrix times a matrix times a vector: two products with a vector."""
    a, b, v = drawn((30, 30)), drawn((30, 30)), drawn((30,))
    assert ops_of(lambda a, b, v: np.einsum("ij,jk,k->i", a, b, v), a, b, v) == ["dot", "dot"]
    ops = ops_of(lambda a, v: np.linalg.multi_dot([a, a, v.reshape(-1, 1)]), a, v)
    assert ops.count("matmul") == 2


def test_other_products() -> None:
    vecdot: Any = np.vecdot
    a, b, c, v = drawn((2, 3, 4)), drawn((5, 4, 3)), drawn((4, 3)), drawn((3,))
    programs: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (lambda a, b: np.tensordot(a, b, axes=([1, 2], [2, 1])), (a, b)),
        (lambda a, b: np.tensordot(a, b, axes=(2, 1)), (a, b)),
        (lambda a, b: np.tensordot(a, b, axes=([-1], [0])), (a, c)),
        (lambda a, b: np.tensordot(a, b, axes=0), (a, v)),
        (np.dot, (a, b.swapaxes(1, 2).copy().swapaxes(1, 2))),
        (np.dot, (2.5, v)), (np.inner, (c, v)), (np.inner, (a.swapaxes(1, 2), c)),
        (np.matvec, (c, v)), (np.matvec, (b, drawn((5, 3)))), (np.vecmat, (v, drawn((2, 3, 4)))),
        (lambda x, y: vecdot(x, y, axis=0), (c, drawn((4, 1)))),
        (np.kron, (c, v)), (np.kron, (a, c)), (np.cross, (c, v)),
        (lambda x, y: np.cross(x, y, axis=0), (c.T[:, :2], c.T[:, 2:])),
        (lambda x, y: np.linalg.multi_dot([y, x.T, x, y]), (c, v)),
    ]  # fmt: skip
    for program, args in programs:
        assert_as_numpy(program, *args)


def test_one_version_for_all_sizes() -> None:
    f = tg.trace(lambda x, w, b: np.sum(np.tanh(x @ w + b)))
    gradient = tg.grad(f, argnums=1)
    for n, m, p in ((3, 4, 5), (1, 4, 2), (7, 1, 1), (0, 2, 3), (3, 0, 2)):
        x, w, b = drawn((n, m)), drawn((m, p)), drawn((p,))
        np.testing.assert_allclose(f(x, w, b), np.sum(np.tanh(x @ w + b)))
        np.testing.assert_allclose(gradient(x, w, b), x.T @ (1 - np.tanh(x @ w + b) ** 2))
    assert len(f.versions) == len(gradient.versions) == 1


def test_errors() -> None:
    a, b = np.ones((2, 5)), np.ones((4, 3))
    cases: list[tuple[Callable[..., Any], type[Exception], str]] = [
        (
            lambda a, b: a @ b,
            ValueError,
            r"cannot multiply f64\[2, 5\] @ f64\[4, 3\]: axis 1 of the left",
        ),
        (lambda a, b: a @ b[0], ValueError, r"cannot multiply f64\[2, 5\] @ f64\[3\]"),
        (lambda a, b: a @ 2.0, ValueError, "enough dimensions"),
        (lambda a, b: np.einsum("ij,jk", a, b), ValueError, "'j' is 5 in one operand and 4 in"),
        (lambda a, b: np.einsum("ij,jk", a), ValueError, "2 operands in the subscripts, 1 given"),
        (lambda a, b: np.einsum("i->i", a), ValueError, "1 subscripts, its operand has 2 axes"),
        (lambda a, b: np.einsum("ij->k", a), ValueError, "'k' is in no operand"),
        (lambda a, b: np.einsum("ij->ii", a), ValueError, "twice in the result"),
        (lambda a, b: np.einsum("ii", a), ValueError, "different extents"),
        (lambda a, b: np.tensordot(a, b, 1), ValueError, "shape-mismatch for sum"),
        (lambda a, b: np.tensordot(a, b, 3), IndexError, "there are not so many"),
        (lambda a, b: np.vecdot(a, b), ValueError, "the summed axes have 5 and 3 elements"),
        (lambda a, b: np.cross(a, b), ValueError, "3-dimensional vectors"),
    ]
    for program, error, words in cases:
        with pytest.raises(error):
            program(a, b)
        with pytest.raises(error, match=words):
            tg.trace(program)(a, b)
