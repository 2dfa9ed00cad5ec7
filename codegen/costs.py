"""What scalar operations cost, in one table: from it follow the weights of operations, by which
values are kept or computed again, and the sizes from which several threads pay (`schedule.worth`).

Measured on Zen 4, float64, vectorised, in a loop that does more; float32 takes half of it.
`benchmarks/cost_table.py` measures them again and prints both.

    flops("exp")  ->  9          an exponential costs as much as nine additions
"""

from __future__ import annotations

SIMPLE, MOVED, DIVIDED, LIBRARY = 0.07, 0.1, 0.3, 350.0
"""Nanoseconds of an addition, of an element loaded or stored, of a division or root, of a call.

An addition is counted with its share of what a loop does besides; a long chain of them that does
nothing else takes 0.01 to 0.02 each.
"""

FEW = {"first_largest": 5.0, "first_smallest": 5.0}
"""Nanoseconds of calls that take less: those written in place, on a few numbers."""

FUNCTIONS = {
    "divide": DIVIDED,
    "sqrt": DIVIDED,
    "remainder": 0.5,
    "floor_divide": 1.0,
    "fmod": 0.2,
    "exp": 0.6,
    "expm1": 0.55,
    "exp2": 0.4,
    "log": 0.5,
    "log1p": 0.8,
    "log2": 0.5,
    "log10": 0.55,
    "sigmoid": 0.9,
    "softplus": 1.5,
    "logaddexp": 1.6,
    "logaddexp2": 1.5,
    "tanh": 0.9,
    "sinh": 0.75,
    "cosh": 0.65,
    "sin": 0.7,
    "cos": 0.7,
    "tan": 1.2,
    "arcsin": 0.65,
    "arccos": 0.75,
    "arctan": 1.0,
    "arcsinh": 2.2,
    "arccosh": 1.3,
    "arctanh": 1.2,
    "arctan2": 1.4,
    "hypot": 0.4,
    "cbrt": 0.65,
    "power": 2.4,
    "erf": 3.1,
    "erfc": 3.0,
    "gammaln": 9.3,
    "gamma": 10.4,
    "digamma": 4.7,
}
"""Nanoseconds an element in a vectorised loop, of what costs more than an addition."""

SCIPY = {
    name: nanoseconds
    for nanoseconds, names in (
        (
            20,
            "exprel dawsn ellipkm1 ellipe cosm1 eval_legendre eval_chebyt "
            "eval_chebyu eval_hermite eval_hermitenorm eval_laguerre "
            "eval_genlaguerre eval_gegenbauer",
        ),
        (
            45,
            "j0 j1 y0 y1 i0e i1e k0e k1e erfcx erfi ellipk spence ndtri_exp eval_jacobi",
        ),
        (
            120,
            "i0 i1 k0 k1 yn gammainc gammaincc chdtr chdtrc gdtr gdtrc pdtr pdtrc "
            "wrightomega owens_t",
        ),
        (
            350,
            "iv kve kn betainc stdtr bdtr bdtrc nbdtr nbdtrc expi exp1 expn hyp0f1 hyp1f1 hyp2f1",
        ),
        (700, "kv jve ive gammaincinv gammainccinv stdtrit chdtri fdtr fdtrc pdtri"),
        (1700, "jv yv yve fdtri bdtri nbdtri"),
        (5000, "betaincc betaincinv betainccinv hyperu"),
    )
    for name in names.split()
}
"""Nanoseconds of functions of `scipy.special` that are SciPy's own compiled code,
to a factor of two."""

OF_WHOLE = "_whole"
"""What the name ends with of such a function on integers, where there are two: `eval_legendre`
computes polynomials of whole degrees by their recurrence."""

REACH = {"hyp1f1": (2, 1e6), "yn": (0, 2.0**31)}
"""An argument of a function, by its place, and its largest magnitude for which SciPy is sure to
return: beyond, its series takes hours. The result there is NaN."""
FUNCTIONS |= SCIPY | {name + OF_WHOLE: nanoseconds for name, nanoseconds in SCIPY.items()}


def flops(function: str) -> int:
    """What a function costs in additions: the weight of an operation that applies it."""
    return max(1, round(FUNCTIONS.get(function, SIMPLE) / SIMPLE))
