"""Where the coefficients come from: minimax polynomials by Remez' exchange algorithm in mpmath.

`python codegen/vecmath/derive.py NAME` prints the tuple NAME as it stands in the sources and the
largest error of the rounded polynomial. Not imported by the package (mpmath is a test extra).
The weight w turns the error of the polynomial p into the error of the function that uses it:
p minimises max |w(x) (p(x) - f(x))|. (E. Remez, C. R. Acad. Sci. Paris 199, 1934.)
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import mpmath as mp

Real = Callable[[mp.mpf], mp.mpf]


@dataclass(frozen=True)
class Polynomial:
    """What is approximated, where, by which degree, with which weight."""

    function: Real
    low: float
    high: float
    degree: int
    weight: Real


def remez(target: Polynomial, rounds: int = 12) -> tuple[list[mp.mpf], mp.mpf]:
    """Coefficients, constant term first, and the largest weighted error."""
    terms = target.degree + 1
    middle, radius = (target.low + target.high) / mp.mpf(2), (target.high - target.low) / mp.mpf(2)
    nodes = [middle - radius * mp.cos(mp.pi * k / terms) for k in range(terms + 1)]
    grid = [middle - radius * mp.cos(mp.pi * k / (40 * terms)) for k in range(40 * terms + 1)]
    values = [(x, target.function(x), target.weight(x)) for x in grid]
    coefficients: list[mp.mpf] = []
    worst = mp.mpf(0)
    for _ in range(rounds):
        rows = [[*(x**k for k in range(terms)), (-1) ** i / nonzero(target.weight(x))]
                for i, x in enumerate(nodes)]  # fmt: skip
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([target.function(x) for x in nodes]))
        coefficients = list(solution[:terms])
        errors = [(x, nonzero(w) * (value(coefficients, x) - f)) for x, f, w in values]
        nodes, worst = extrema(errors, terms + 1, nodes)
        if worst < abs(solution[terms]) * mp.mpf("1.01"):
            break
    return coefficients, worst


def value(coefficients: list[mp.mpf], x: mp.mpf) -> Any:
    """The polynomial at x."""
    return functools.reduce(lambda total, term: total * x + term, reversed(coefficients))


def nonzero(weight: mp.mpf) -> mp.mpf:
    return max(abs(weight), mp.mpf(10) ** -6)


def extrema(errors: list[Any], count: int, old: list[mp.mpf]) -> tuple:
    """The `count` alternating extrema of the error, and the largest magnitude."""
    peaks: list[tuple[mp.mpf, mp.mpf]] = []
    for x, error in errors:
        if peaks and (peaks[-1][1] > 0) == (error > 0):
            if abs(error) > abs(peaks[-1][1]):
                peaks[-1] = (x, error)
        else:
            peaks.append((x, error))
    while len(peaks) > count:
        peaks = peaks[1:] if abs(peaks[0][1]) < abs(peaks[-1][1]) else peaks[:-1]
    worst = max(abs(error) for _, error in errors)
    return ([x for x, _ in peaks] if len(peaks) == count else old), worst


def ratio(function: Real, at_zero: object) -> Real:
    """`function` with its removable singularity at 0 filled in."""
    return lambda x: function(x) if abs(x) > mp.mpf(10) ** -15 else mp.mpf(at_zero)


def main(name: str) -> None:
    target = POLYNOMIALS[name]
    coefficients, worst = remez(target)
    print(f"{name}: weighted error 2^{float(mp.log(worst, 2)):.2f}")
    print(f"{name} = (")
    for coefficient in reversed(coefficients):
        print(f"    {float(coefficient)!r},")
    print(")")


mp.mp.dps = 50
HALF_LN2 = float(mp.log(2) / 2) * 1.001

EXP_TAIL = ratio(lambda x: (mp.expm1(x) - x) / x**2, 0.5)
EXP2_TAIL = ratio(lambda x: mp.expm1(x * mp.log(2)) / x, mp.log(2))
ATANH_TAIL = ratio(lambda z: (2 * mp.atanh(mp.sqrt(z)) / mp.sqrt(z) - 2) / z, mp.mpf(2) / 3)
LOG1P_TAIL = ratio(lambda x: (mp.log1p(x) - x + x**2 / 2) / x**3, mp.mpf(1) / 3)
LOG2_OVER = ratio(lambda x: mp.log1p(x) / x / mp.log(2), 1 / mp.log(2))
LOG10_OVER = ratio(lambda x: mp.log1p(x) / x / mp.log(10), 1 / mp.log(10))
SIN_TAIL = ratio(lambda z: (mp.sin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(-1) / 6)
COS_TAIL = ratio(lambda z: (mp.cos(mp.sqrt(z)) - 1 + z / 2) / z**2, mp.mpf(1) / 24)
TAN_TAIL = ratio(lambda z: (mp.tan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(1) / 3)
ATAN_TAIL = ratio(lambda z: (mp.atan(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(-1) / 3)
ASIN_TAIL = ratio(lambda z: (mp.asin(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(1) / 6)

POW_TAIL = ratio(lambda z: (ATANH_TAIL(z) - mp.mpf(2) / 3) / z, mp.mpf(2) / 5)
SINH_TAIL = ratio(lambda z: (mp.sinh(mp.sqrt(z)) / mp.sqrt(z) - 1) / z, mp.mpf(1) / 6)
COSH_TAIL = ratio(lambda z: (mp.cosh(mp.sqrt(z)) - 1) / z, mp.mpf(1) / 2)
ERF_TAIL = ratio(lambda z: mp.erf(mp.sqrt(z)) / mp.sqrt(z) - 1, 2 / mp.sqrt(mp.pi) - 1)


def scaled_erfc(t: mp.mpf) -> mp.mpf:
    """(1 + 2 x) exp(x**2) erfc(x) - 1 at t = (x - K) / (x + K), x >= 0."""
    x = ERFC_CENTRE * (1 + t) / (1 - t)
    return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x) - 1


def stirling_rest(z: mp.mpf) -> mp.mpf:
    """(log Gamma(y) - (y - 1/2) log y + y - log(2 pi) / 2) y at y = z**(-1/2)."""
    if z < mp.mpf(10) ** -9:
        return mp.mpf(1) / 12 - z / 360
    y = 1 / mp.sqrt(z)
    main = (y - mp.mpf(1) / 2) * mp.log(y) - y + mp.log(2 * mp.pi) / 2
    return (mp.loggamma(y) - main) * y


def digamma_rest(z: mp.mpf) -> mp.mpf:
    """(log y - 1 / (2 y) - digamma(y)) y**2 at y = z**(-1/2)."""
    if z < mp.mpf(10) ** -9:
        return mp.mpf(1) / 12 - z / 120
    y = 1 / mp.sqrt(z)
    return (mp.log(y) - 1 / (2 * y) - mp.digamma(y)) * y * y


LGAMMA_NEAR_1 = ratio(lambda e: mp.loggamma(1 + e) / e, -mp.euler)
LGAMMA_NEAR_2 = ratio(lambda e: mp.loggamma(2 + e) / e, 1 - mp.euler)

DIGAMMA_ZERO = mp.findroot(mp.digamma, 1.4616)
DIGAMMA_NEAR = ratio(lambda e: mp.digamma(DIGAMMA_ZERO + e) / e, mp.psi(1, DIGAMMA_ZERO))

ERFC_CENTRE = mp.mpf(3)

POLYNOMIALS = {
    "EXP": Polynomial(EXP_TAIL, -HALF_LN2, HALF_LN2, 9, lambda x: x**2),
    "EXP_F32": Polynomial(EXP_TAIL, -HALF_LN2, HALF_LN2, 4, lambda x: x**2),
    "EXPM1": Polynomial(EXP_TAIL, -HALF_LN2, HALF_LN2, 10, lambda x: x),
    "EXPM1_F32": Polynomial(EXP_TAIL, -HALF_LN2, HALF_LN2, 5, lambda x: x),
    "EXP2": Polynomial(EXP2_TAIL, -0.5, 0.5, 10, lambda x: x),
    "EXP2_F32": Polynomial(EXP2_TAIL, -0.5, 0.5, 5, lambda x: x),
    "LOG": Polynomial(ATANH_TAIL, 0, 0.0296, 6, lambda z: z),
    "LOG_F32": Polynomial(LOG1P_TAIL, -0.2929, 0.4143, 7, lambda x: x**2),
    "LOG2_F32": Polynomial(LOG2_OVER, -0.2929, 0.4143, 8, lambda x: mp.log(2)),
    "LOG10_F32": Polynomial(LOG10_OVER, -0.2929, 0.4143, 8, lambda x: mp.log(10)),
    "ATANH": Polynomial(ATANH_TAIL, 0, 0.0420, 7, lambda z: z),
    "SIN": Polynomial(SIN_TAIL, 0, 0.6170, 5, lambda z: z),
    "SIN_F32": Polynomial(SIN_TAIL, 0, 0.6170, 2, lambda z: z),
    "COS": Polynomial(COS_TAIL, 0, 0.6170, 5, lambda z: z**2),
    "COS_F32": Polynomial(COS_TAIL, 0, 0.6170, 2, lambda z: z**2),
    "TAN_F32": Polynomial(TAN_TAIL, 0, 0.6170, 5, lambda z: z),
    "ATAN": Polynomial(ATAN_TAIL, 0, 0.1716, 10, lambda z: z),
    "ATAN_F32": Polynomial(ATAN_TAIL, 0, 1, 8, lambda z: z),
    "ASIN": Polynomial(ASIN_TAIL, 0, 0.25, 12, lambda z: z),
    "SINH": Polynomial(SINH_TAIL, 0, HALF_LN2**2, 4, lambda z: z),
    "COSH": Polynomial(COSH_TAIL, 0, HALF_LN2**2, 4, lambda z: z),
    "LOG_TAIL": Polynomial(POW_TAIL, 0, 0.0296, 6, lambda z: z**2),
    "POW": Polynomial(lambda z: POW_TAIL(z) / mp.log(2), 0, 0.0296, 6, lambda z: z**2),
    "POW_F32": Polynomial(lambda z: ATANH_TAIL(z) / mp.log(2), 0, 0.0296, 3, lambda z: z),
    "ATANH_F32": Polynomial(ATANH_TAIL, 0, 0.0420, 2, lambda z: z),
    "SINH_F32": Polynomial(SINH_TAIL, 0, HALF_LN2**2, 1, lambda z: z),
    "COSH_F32": Polynomial(COSH_TAIL, 0, HALF_LN2**2, 2, lambda z: z),
    "STIRLING": Polynomial(stirling_rest, 0, 1 / 64, 7, lambda z: mp.mpf(1) / 8),
    "DIGAMMA": Polynomial(digamma_rest, 0, 1 / 64, 7, lambda z: mp.mpf(1) / 64),
    "DIGAMMA_ROOT": Polynomial(DIGAMMA_NEAR, -0.3, 0.3, 16, lambda e: mp.mpf(1)),
    "LGAMMA_1": Polynomial(LGAMMA_NEAR_1, -0.1, 0.1, 13, lambda e: mp.mpf(2)),
    "LGAMMA_2": Polynomial(LGAMMA_NEAR_2, -0.1, 0.1, 11, lambda e: mp.mpf(2)),
    "ERF": Polynomial(ERF_TAIL, 0, 0.8, 11, lambda z: mp.mpf(1)),
    "ERF_F32": Polynomial(ERF_TAIL, 0, 0.8, 5, lambda z: mp.mpf(1)),
    "ERFC": Polynomial(scaled_erfc, -1, 0.8, 23, lambda t: mp.mpf(1)),
    "ERFC_F32": Polynomial(scaled_erfc, -1, 0.542, 10, lambda t: mp.mpf(1)),
    "ASIN_F32": Polynomial(ASIN_TAIL, 0, 0.25, 4, lambda z: z),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or POLYNOMIALS:
        main(name)
