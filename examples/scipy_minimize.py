"""Compiled gradients for `scipy.optimize.minimize(jac=True)`: two functions, one line each.

`f.value_and_grad` has exactly the signature that SciPy asks for with `jac=True`.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize

import tracegrad as tg


@tg.trace
def rosenbrock(x):
    """The curved valley of H. H. Rosenbrock (1960); its minimum is 0 at (1, ..., 1)."""
    return np.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


@tg.trace
def logistic(w, features, labels, penalty=1e-3):
    """Mean negative log-likelihood of labels -1 and 1, with a quadratic penalty on the weights."""
    margins = labels * (features @ w)
    return np.mean(np.logaddexp(0, -margins)) + penalty * np.sum(w**2)


def main() -> None:
    start = np.linspace(-1.2, 1.2, 20)
    found = minimize(rosenbrock.value_and_grad, start, jac=True, method="L-BFGS-B")
    print(f"Rosenbrock in 20 dimensions: f = {found.fun:.1e} after {found.nfev} evaluations")
    assert np.allclose(found.x, 1, atol=1e-3)

    rng = np.random.default_rng(0)
    truth = np.array([2.0, -1.0, 0.5, 0.0])
    features = rng.normal(size=(5000, 4))
    labels = np.where(rng.random(5000) < 1 / (1 + np.exp(-features @ truth)), 1.0, -1.0)
    found = minimize(
        logistic.value_and_grad, np.zeros(4), args=(features, labels), jac=True, method="BFGS"
    )
    print(f"logistic regression: w = {np.round(found.x, 2)}, in truth {truth}")
    # At the minimum the gradient vanishes; the estimate scatters by about 2 / sqrt(5000) = 0.03.
    assert np.max(np.abs(logistic.grad(found.x, features, labels))) < 1e-4
    assert np.allclose(found.x, truth, atol=0.15)


if __name__ == "__main__":
    main()
