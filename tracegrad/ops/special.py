"""Special functions of `scipy.special` as table rows; references load scipy when they are needed.

    y = erf(x)   =>   d_x = d_y * 2 / sqrt(pi) * exp(-x**2)

As scipy's own loops they compute in float32 if every operand is float32 (of some functions also
small integers: those whose float32 loop stands first), else in float64.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from codegen.costs import FUNCTIONS
from tracegrad.ir.op import Array
from tracegrad.ops.arithmetic import CBRT, SQRT
from tracegrad.ops.elementwise import Elementwise, Masked, Partial, row
from tracegrad.ops.exponential import EXP, EXPM1, LOG, LOG1P
from tracegrad.ops.op import as_operand, public, sample
from tracegrad.ops.scipy import SciPy
from tracegrad.ops.selection import where
from tracegrad.ops.unknown import NoFormula

ERF_SLOPE = 2 / math.sqrt(math.pi)
NORMAL_DENSITY = 1 / math.sqrt(2 * math.pi)
POSITIVE = ((0.2, 4.0),)
PROBABILITY = ((0.05, 0.95),)


def _scipy_dtypes(*operands: Any) -> tuple[np.dtype, ...]:
    single = all(operand == np.dtype(np.float32) for operand in operands)
    dtype = np.dtype(np.float32 if single else np.float64)
    return (dtype,) * (len(operands) + 1)


def _single_first(*operands: Any) -> tuple[np.dtype, ...]:
    dtypes = [operand for operand in operands if isinstance(operand, np.dtype)]
    single = all(np.can_cast(dtype, np.float32) for dtype in dtypes)
    weak_float = any(operand is float for operand in operands)
    if weak_float and np.dtype(np.float32) not in dtypes:  # integers and a Python float
        single = False
    return (np.dtype(np.float32 if single else np.float64),) * (len(operands) + 1)


def _row(name: str, *partials: Partial | None, **more: Any) -> Elementwise:
    """A row whose reference is `scipy.special.<name>`, computed by code of our own."""
    arity = len(partials)
    text = f"scipy.special.{name}"
    weight = None if more.get("scalar", name) in FUNCTIONS else 20
    more = {"weight": weight, "like": _scipy_dtypes, **more}
    return row(name, SciPy(name), partials, arity=arity, text=text, **more)


ERF = _row("erf", lambda x, y: ERF_SLOPE * EXP(-x * x))
ERFC = _row("erfc", lambda x, y: -ERF_SLOPE * EXP(-x * x))
ERFINV = _row(
    "erfinv", lambda x, y: EXP(y * y) / ERF_SLOPE, domain=((-0.95, 0.95),), like=_single_first
)
ERFCINV = _row(
    "erfcinv", lambda x, y: -EXP(y * y) / ERF_SLOPE, domain=((0.05, 1.95),), like=_single_first
)
NDTR = _row("ndtr", lambda x, y: NORMAL_DENSITY * EXP(-0.5 * x * x))
NDTRI = _row(
    "ndtri", lambda x, y: EXP(0.5 * y * y) / NORMAL_DENSITY, domain=PROBABILITY, like=_single_first
)
LOG_NDTR = _row("log_ndtr", lambda x, y: NORMAL_DENSITY * EXP(-0.5 * x * x - y))

EXPIT = _row("expit", lambda x, y: y * (1 - y), scalar="sigmoid", also=("sigmoid",))
LOGIT = _row("logit", lambda x, y: 1 / (x * (1 - x)), weight=12, domain=PROBABILITY)

GAMMALN = _row("gammaln", lambda x, y: PSI(x), domain=POSITIVE)
GAMMA = _row("gamma", lambda x, y: y * PSI(x), domain=POSITIVE)
PSI = _row(
    "psi",
    lambda x, y: POLYGAMMA(1, x),
    scalar="digamma",
    domain=POSITIVE,
    also=("digamma",),
)
POLYGAMMA = _row(
    "polygamma",
    NoFormula("scipy.special.polygamma", "n"),
    lambda n, x, y: POLYGAMMA(n + 1, x),
    weight=60,
    domain=((1.0, 1.0), (0.2, 4.0)),
)


@public(SciPy("loggamma"))
def loggamma(x: Any) -> Array:
    """The logarithm of the gamma function, NaN for negative `x` (see `gammaln`)."""
    return where(x < 0, np.nan, GAMMALN(x))


XLOGY = _row(
    "xlogy",
    lambda x, y, out: Masked((x != 0) | (y > 0), LOG(y)),
    lambda x, y, out: x / y,
    weight=10,
    domain=POSITIVE,
)
XLOG1PY = _row(
    "xlog1py",
    lambda x, y, out: Masked((x != 0) | (y > -1), LOG1P(y)),
    lambda x, y, out: x / (1 + y),
    weight=12,
    domain=((-2.0, 2.0), (-0.5, 4.0)),
)
ENTR = _row("entr", lambda x, y: -LOG(x) - 1, weight=10, domain=POSITIVE, like=_single_first)
REL_ENTR = _row(
    "rel_entr",
    lambda x, y, out: LOG(x / y) + 1,
    lambda x, y, out: -x / y,
    domain=POSITIVE,
    like=_single_first,
)
KL_DIV = _row(
    "kl_div",
    lambda x, y, out: LOG(x / y),
    lambda x, y, out: 1 - x / y,
    domain=POSITIVE,
    like=_single_first,
)

for _name, _row_of_numpy in (("expm1", EXPM1), ("log1p", LOG1P), ("cbrt", CBRT)):
    public(SciPy(_name), name=_name)(_row_of_numpy)


def _lifted(*values: Any) -> list[Any]:
    return [as_operand(value) for value in values]


@public(SciPy("betaln"))
def betaln(a: Any, b: Any) -> Array:
    """The logarithm of the beta function."""
    a, b = _lifted(a, b)
    return GAMMALN(a) + GAMMALN(b) - GAMMALN(a + b)


@public(SciPy("beta"))
def beta(a: Any, b: Any) -> Array:
    """The beta function of positive `a` and `b`."""
    return EXP(betaln(a, b))


@public(SciPy("poch"))
def poch(z: Any, m: Any) -> Array:
    """`gamma(z + m) / gamma(z)` for positive `z` and `z + m`."""
    z, m = _lifted(z, m)
    return EXP(GAMMALN(z + m) - GAMMALN(z))


@public(SciPy("binom"))
def binom(x: Any, y: Any) -> Array:
    """The binomial coefficient of real `x > -1` and `-1 < y < x + 1`."""
    x, y = _lifted(x, y)
    return EXP(-betaln(1 + x - y, 1 + y)) / (x + 1)


@public(SciPy("rgamma"))
def rgamma(x: Any) -> Array:
    """`1 / gamma(x)`."""
    return 1 / GAMMA(x)


@public(SciPy("multigammaln"))
def multigammaln(a: Any, d: int) -> Array:
    """The logarithm of the gamma function of `d` dimensions, for `a > (d - 1) / 2`."""
    (a,) = _lifted(a)
    parts = [GAMMALN(a - j / 2) for j in range(d)]
    return sum(parts, d * (d - 1) / 4 * math.log(math.pi))


@public(SciPy("boxcox"))
def boxcox(x: Any, lmbda: Any) -> Array:
    """`(x**lmbda - 1) / lmbda`, its limit `log(x)` where `lmbda` is 0."""
    x, lmbda = _lifted(x, lmbda)
    if isinstance(lmbda, int | float):  # a number that takes the dtype of `x`
        return EXPM1(lmbda * LOG(x)) / lmbda if lmbda else LOG(x)
    zero = lmbda == 0
    safe = where(zero, 1, lmbda)
    return where(zero, LOG(x), EXPM1(safe * LOG(x)) / safe)


@public(SciPy("huber"))
def huber(delta: Any, r: Any) -> Array:
    """`r**2 / 2`, straight on from where `abs(r)` exceeds `delta >= 0`."""
    delta, r = _lifted(delta, r)
    size = abs(r)
    return where(size <= delta, 0.5 * r * r, delta * (size - 0.5 * delta))


@public(SciPy("pseudo_huber"))
def pseudo_huber(delta: Any, r: Any) -> Array:
    """`delta**2 * (sqrt(1 + (r / delta)**2) - 1)`, without cancellation."""
    delta, r = _lifted(delta, r)
    return r * r / (1 + SQRT(1 + (r / delta) ** 2))


sample(lambda x, y: (betaln(x, y), beta(x, y)), (3,), (3,), domain=(0.3, 3.0))
sample(lambda x, y: (poch(x, y), rgamma(x)), (3,), (3,), domain=(0.3, 3.0))
sample(lambda x: (binom(x + 3, x), boxcox(x, 0.5)), (3,), domain=(0.3, 3.0))
sample(
    lambda x: (boxcox(x, 0.0), boxcox(x, x - 1), multigammaln(x + 2, 3)), (3,), domain=(0.3, 3.0)
)
# Both pieces, away from where they meet: the second derivative jumps there.
sample(lambda x: (huber(9.0, x), huber(0.001, x), pseudo_huber(0.7, x)), (3, 2))
