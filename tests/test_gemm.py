"""Matrix products in blocks: the same bits for every number of threads, BLAS left as it was."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import tracegrad as tg
from codegen import gemm, pool, threads
from codegen.gemmcode import NAMES

RANDOM = np.random.default_rng(11)
GEMM = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)
MANY = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13, *[ctypes.c_int64] * 4)


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = tg.get_num_threads()
    yield
    tg.set_num_threads(before)


@tg.trace
def product(a: Any, b: Any) -> Any:
    return a @ b


@tg.trace
def flipped(a: Any, b: Any) -> Any:
    """Operands that BLAS reads as they lie: transposed, a part, every row."""
    return (b.T @ a.T[:, 3:]).T


def normal(*shape: int, dtype: str = "f8") -> np.ndarray:
    return RANDOM.normal(size=shape).astype(dtype)


def assert_same_for_all_threads(f: Callable[..., Any], *given: np.ndarray) -> np.ndarray:
    found = []
    for count in (2, 1, 3):
        tg.set_num_threads(count)
        found.append(f(*given))
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    return found[0]


SIZES = [(128, 784, 256), (700, 300, 90), (90, 300, 700), (2055, 33, 129), (401, 403, 405)]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("size", SIZES)
def test_a_product_does_not_depend_on_the_number_of_threads(
    size: tuple[int, int, int], dtype: str
) -> None:
    rows, terms, columns = size
    a, b = normal(rows, terms, dtype=dtype), normal(terms, columns, dtype=dtype)
    unit = 2 * terms * np.finfo(dtype).eps
    bound = unit * (np.abs(a).astype("f8") @ np.abs(b).astype("f8"))
    right = a.astype("f8") @ b.astype("f8")
    found = assert_same_for_all_threads(product, a, b)
    assert (np.abs(found - right) <= bound).all()
    found = assert_same_for_all_threads(flipped, a, b)
    assert (np.abs(found - right[3:]) <= bound[3:]).all()


@pytest.mark.parametrize("size", [(3, 150, 160, 170), (40, 64, 64, 64), (900, 12, 13, 14)])
def test_many_products(size: tuple[int, int, int, int]) -> None:
    items, rows, terms, columns = size
    a, b = normal(items, rows, terms), normal(items, terms, columns)
    found = assert_same_for_all_threads(product, a, b)
    np.testing.assert_allclose(found, np.matmul(a, b), rtol=0, atol=1e-12)
    found = assert_same_for_all_threads(tg.trace(lambda a, b: a[::-1] @ b[0]), a, b)
    np.testing.assert_allclose(found, a[::-1] @ b[0], rtol=0, atol=1e-12)


def test_gradients_of_a_network() -> None:
    def loss(w: Any, v: Any, x: Any) -> Any:
        return np.mean(np.tanh(np.tanh(x @ w) @ v) ** 2)

    given = normal(300, 200), normal(200, 80), normal(250, 300)
    f = tg.trace(loss)

    def flat(*given: np.ndarray) -> np.ndarray:
        gradients = tg.grad(loss, argnums=(0, 1, 2))(*given)
        return np.concatenate([f(*given).reshape(1), *(g.ravel() for g in gradients)])

    assert_same_for_all_threads(flat, *given)


def scipy_count() -> int:
    get, _ = threads.scipy_blas()
    if not get:
        pytest.skip("SciPy's BLAS has no number of threads here")
    return ctypes.CFUNCTYPE(ctypes.c_int)(get)()


def test_many_python_threads_leave_blas_as_it_was() -> None:
    a, b = normal(200, 300), normal(300, 150)
    tg.set_num_threads(2)
    right = product(a, b)
    assert scipy_count() == 2
    wrong: list[int] = []

    def work() -> None:
        for _ in range(30):
            if (product(a, b) != right).any():
                wrong.append(1)

    many = [threading.Thread(target=work) for _ in range(4)]
    for thread in many:
        thread.start()
    for count in (1, 3, 2):
        tg.set_num_threads(count)
    for thread in many:
        thread.join()
    assert not wrong and scipy_count() == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_multiplies_on() -> None:
    a, b = normal(200, 300), normal(300, 150)
    tg.set_num_threads(2)
    right = product(a, b)
    child = os.fork()
    if not child:
        same = (product(a, b) == right).all() and scipy_count() == 2
        os._exit(0 if same else 1)
    assert os.waitpid(child, 0)[1] == 0 and (product(a, b) == right).all()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux places threads so")
def test_helpers_leave_the_cpu_of_their_caller() -> None:
    tg.set_num_threads(2)
    product(normal(300, 300), normal(300, 300))
    allowed = os.sched_getaffinity(0)
    helper = next(t for t in threading.enumerate() if t.name == "codegen-0")
    left = allowed - os.sched_getaffinity(helper.native_id or 0)
    assert len(left) == (1 if len(allowed) > 1 else 0)


def test_sets_of_cpus() -> None:
    bits = pool.cpu_bits({0, 1, 63, 64, 5000})
    assert bits[:2] == [3 - (1 << 63), 1] and not any(bits[2:])


class Recorded:
    """`gemm.Blas` over functions that only write down how they are called."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cpus: int) -> None:
        monkeypatch.setattr(os, "cpu_count", lambda: cpus)
        self.calls: list[tuple[int, ...]] = []
        self.counts: list[int] = []
        self.count = 5
        self.kept = (
            GEMM(self.gemm),
            ctypes.CFUNCTYPE(ctypes.c_int)(lambda: self.count),
            ctypes.CFUNCTYPE(None, ctypes.c_int)(self.set),
        )
        real, get, put = (ctypes.cast(f, ctypes.c_void_p).value or 0 for f in self.kept)
        self.cell = ctypes.c_void_p()
        both: dict[str, int] = dict.fromkeys(NAMES, real)
        self.blas = gemm.Blas(ctypes.addressof(self.cell), both, (get, put))

    def set(self, count: int) -> None:
        self.counts.append(count)
        self.count = count

    def gemm(self, *given: int) -> None:
        """Extents, and where the operands begin, in bytes."""
        sizes = [ctypes.c_int32.from_address(given[number]).value for number in (2, 3, 4)]
        self.calls.append((*sizes, given[6] or 0, given[8] or 0, given[11] or 0))

    def product(self, m: int, n: int, k: int, letters: bytes, items: int = 0) -> None:
        """Of a, b, c at the addresses 0, 1 << 40, 1 << 41, with 10, 20 and 30 more elements from
        one column to the next than needed."""
        ta, tb = (ctypes.c_char(letter) for letter in letters)
        leads = ((m, k)[letters[0] == ord("T")] + 10, (k, n)[letters[1] == ord("T")] + 20, m + 30)
        one = ctypes.c_double(1)
        m_, n_, k_, *lead = (ctypes.c_int32(v) for v in (m, n, k, *leads))
        by = ctypes.addressof
        places = (0, 1 << 40, 1 << 41)
        given = [*map(by, (ta, tb, m_, n_, k_, one)), places[0], by(lead[0]), places[1]]
        given += [by(lead[1]), by(one), places[2], by(lead[2])]
        name = "dgemm_many" if items else "dgemm"
        if items:
            MANY(self.blas.functions[name])(*given, items, 7, 8, 9)
        else:
            GEMM(self.blas.functions[name])(*given)


def test_rows_of_the_result_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, 3)
    recorded.product(100, 1000, 200, b"NN")
    starts = [0, 256, 512, 768]
    assert [call[1] for call in recorded.calls] == [256, 256, 256, 232]
    assert [call[0] for call in recorded.calls] == [100] * 4
    assert [call[3] for call in recorded.calls] == [0] * 4
    assert [call[4] - (1 << 40) for call in recorded.calls] == [8 * s * 220 for s in starts]
    assert [call[5] - (1 << 41) for call in recorded.calls] == [8 * s * 130 for s in starts]
    assert recorded.counts == [1, 5]


def test_columns_of_a_transposed_operand(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, 2)
    recorded.product(400, 150, 200, b"TT")
    assert [call[0] for call in recorded.calls] == [208, 192]
    assert [call[3] for call in recorded.calls] == [0, 8 * 208 * 210]
    assert [call[4] - (1 << 40) for call in recorded.calls] == [0, 0]
    assert [call[5] - (1 << 41) for call in recorded.calls] == [0, 8 * 208]
    recorded.calls.clear()
    recorded.product(150, 400, 200, b"NT")
    assert [call[4] - (1 << 40) for call in recorded.calls] == [0, 8 * 208]


def test_small_products_go_to_blas_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, 2)
    recorded.product(64, 64, 64, b"NN")
    assert recorded.calls == [(64, 64, 64, 0, 1 << 40, 1 << 41)] and not recorded.counts
    recorded.product(65, 65, 65, b"NN")
    assert len(recorded.calls) == 2 and recorded.counts == [1, 5]


def test_many_products_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, 2)
    recorded.product(4, 5, 6, b"NN", items=3)
    assert [call[3] for call in recorded.calls] == [0, 56, 112]
    assert [call[4] - (1 << 40) for call in recorded.calls] == [0, 64, 128]
    assert [call[5] - (1 << 41) for call in recorded.calls] == [0, 72, 144]
    recorded.calls.clear()
    recorded.product(200, 150, 100, b"NN", items=2)
    assert [call[0] for call in recorded.calls] == [112, 88, 112, 88]
    assert [call[5] - (1 << 41) for call in recorded.calls] == [0, 8 * 112, 72, 72 + 8 * 112]


def test_blas_gets_its_threads_when_nobody_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = Recorded(monkeypatch, 2)
    limit, release = (ctypes.CFUNCTYPE(None)(place) for place in recorded.blas.limit)
    limit()
    limit()
    recorded.blas.use(7)
    assert recorded.counts == [1]
    release()
    assert recorded.counts == [1]
    release()
    assert recorded.counts == [1, 7]
    limit()
    recorded.blas.forget()
    assert recorded.count == 7
    recorded.blas.use(3)
    assert recorded.count == 3
