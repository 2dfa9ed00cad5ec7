"""Orthogonal polynomials at a point: of Legendre, Chebyshev, Jacobi, Gegenbauer, Hermite, Laguerre.

    eval_chebyt(n, x)   =>   d_x = d_y * n * eval_chebyu(n - 1, x)

Rules: DLMF 18.9.15-28. By the degree and the other parameters there is no formula.
"""

from __future__ import annotations

from typing import Any

from tracegrad.ops.elementwise import Masked
from tracegrad.ops.op import PUBLIC
from tracegrad.ops.scipys import scipys

DEGREE, INSIDE = (3.0, 3.0), (-0.9, 0.9)
SHAPE = (0.5, 2.0)


def _below(n: Any) -> Any:
    """One degree less; 0 stays, where the derivative is zero by its factor."""
    return PUBLIC["maximum"](n - 1, 0)


JACOBI = scipys(
    "eval_jacobi",
    *("n", "alpha", "beta"),
    lambda n, a, b, x, y: Masked(n != 0, (n + a + b + 1) / 2 * JACOBI(_below(n), a + 1, b + 1, x)),
    domain=(DEGREE, SHAPE, SHAPE, INSIDE),
)
LEGENDRE = scipys(
    "eval_legendre",
    "n",
    lambda n, x, y: Masked(n != 0, (n + 1) / 2 * JACOBI(_below(n), 1, 1, x)),
    domain=(DEGREE, INSIDE),
)
GEGENBAUER = scipys(
    "eval_gegenbauer",
    *("n", "alpha"),
    lambda n, a, x, y: Masked(n != 0, 2 * a * GEGENBAUER(_below(n), a + 1, x)),
    domain=(DEGREE, SHAPE, INSIDE),
)
CHEBYT = scipys(
    "eval_chebyt", "n", lambda n, x, y: n * CHEBYU(_below(n), x), domain=(DEGREE, INSIDE)
)
CHEBYU = scipys(
    "eval_chebyu",
    "n",
    lambda n, x, y: Masked(n != 0, 2 * GEGENBAUER(_below(n), 2, x)),
    domain=(DEGREE, INSIDE),
)
HERMITE = scipys(
    "eval_hermite", None, lambda n, x, y: 2 * n * HERMITE(_below(n), x), domain=(DEGREE, INSIDE)
)
HERMITENORM = scipys(
    "eval_hermitenorm", None, lambda n, x, y: n * HERMITENORM(_below(n), x), domain=(DEGREE, INSIDE)
)
GENLAGUERRE = scipys(
    "eval_genlaguerre",
    *("n", "alpha"),
    lambda n, a, x, y: Masked(n != 0, -GENLAGUERRE(_below(n), a + 1, x)),
    domain=(DEGREE, SHAPE, INSIDE),
)
LAGUERRE = scipys(
    "eval_laguerre",
    "n",
    lambda n, x, y: Masked(n != 0, -GENLAGUERRE(_below(n), 1, x)),
    domain=(DEGREE, INSIDE),
)
