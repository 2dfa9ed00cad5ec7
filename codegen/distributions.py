"""NumPy's distributions: which of its C functions draws from each, with which parameters.

A `LibraryCall("gamma", (shape, scale), ("rng", "out"))` prints as `gamma(shape, scale, rng, out)`:
`out` is filled element after element, each drawn with the parameters at its place.
"""

from __future__ import annotations

from codegen.records import dataclass

DRAWS = "codegen.library.draws"
"""The module with the functions; it needs numba."""
SYMBOL = "codegen_random_"
"""What the symbols of NumPy's functions begin with in compiled code."""
STATE_WORDS = 384
"""Words that any of NumPy's bit generators fits in: MT19937's state has 313, its pickle 368."""


@dataclass(frozen=True)
class Distribution:
    """`function(bitgen, *parameters)` of NumPy's C API gives one number; `whole` ones are int64,
    and so are the parameters of `counting` ones.
    """

    function: str
    parameters: int = 1
    whole: bool = False
    counting: bool = False


FILLS = {
    "random": "random_standard_uniform_fill",
    "standard_normal": "random_standard_normal_fill",
    "standard_exponential": "random_standard_exponential_fill",
    "standard_exponential_inv": "random_standard_exponential_inv_fill",
}
"""Functions that fill an array themselves; with `_f` behind the name, one of float32."""

DISTRIBUTIONS = {
    "beta": Distribution("random_beta", 2),
    "chisquare": Distribution("random_chisquare"),
    "f": Distribution("random_f", 2),
    "geometric": Distribution("random_geometric", 1, True),
    "gumbel": Distribution("random_gumbel", 2),
    "hypergeometric": Distribution("random_hypergeometric", 3, True, True),
    "laplace": Distribution("random_laplace", 2),
    "logistic": Distribution("random_logistic", 2),
    "lognormal": Distribution("random_lognormal", 2),
    "logseries": Distribution("random_logseries", 1, True),
    "negative_binomial": Distribution("random_negative_binomial", 2, True),
    "noncentral_chisquare": Distribution("random_noncentral_chisquare", 2),
    "noncentral_f": Distribution("random_noncentral_f", 3),
    "pareto": Distribution("random_pareto"),
    "poisson": Distribution("random_poisson", 1, True),
    "power": Distribution("random_power"),
    "rayleigh": Distribution("random_rayleigh"),
    "standard_cauchy": Distribution("random_standard_cauchy", 0),
    "standard_gamma": Distribution("random_standard_gamma"),
    "standard_t": Distribution("random_standard_t"),
    "triangular": Distribution("random_triangular", 3),
    "vonmises": Distribution("random_vonmises", 2),
    "wald": Distribution("random_wald", 2),
    "weibull": Distribution("random_weibull"),
    "zipf": Distribution("random_zipf", 1, True),
}

OTHERS = (
    "binomial",
    "dirichlet",
    "integers",
    "multinomial",
    "multivariate_hypergeometric",
    "multivariate_hypergeometric_count",
    "open_state",
    "permutation",
    "permuted",
    "sample",
    "save_state",
    "weighted_sample",
)
"""What is written out in `draws`."""

NAMES = frozenset({*FILLS, *DISTRIBUTIONS, *OTHERS})
