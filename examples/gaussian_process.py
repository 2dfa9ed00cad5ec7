"""A Gaussian process: its hyperparameters by maximum marginal likelihood, with SciPy's optimiser.

    python examples/gaussian_process.py --out gaussian_process.png

See C. E. Rasmussen and C. K. I. Williams (2006), "Gaussian Processes for Machine Learning",
chapters 2 and 5. The gradient goes through the Cholesky factor; nothing is derived by hand.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

import tracegrad as tg

NOISE = 0.15


def covariance(a, b, log_params):
    """`amplitude**2 * exp(-(a - b)**2 / (2 length**2))` for all pairs."""
    amplitude, length = np.exp(log_params[0]), np.exp(log_params[1])
    return amplitude**2 * np.exp(-0.5 * ((a[:, None] - b[None, :]) / length) ** 2)


@tg.trace
def negative_log_likelihood(log_params, x, y):
    """`-log p(y | x)`; the parameters are logarithms of amplitude, length and noise."""
    noise = np.exp(2 * log_params[2]) + 1e-9
    factor = np.linalg.cholesky(covariance(x, x, log_params) + noise * np.eye(len(x)))
    white = np.linalg.solve(factor, y)
    return (
        0.5 * np.sum(white**2) + np.sum(np.log(np.diag(factor))) + 0.5 * len(x) * np.log(2 * np.pi)
    )


@tg.trace
def predict(log_params, x, y, new):
    """Mean and variance of the function at `new`."""
    noise = np.exp(2 * log_params[2]) + 1e-9
    gram = covariance(x, x, log_params) + noise * np.eye(len(x))
    across = covariance(x, new, log_params)
    weights = np.linalg.solve(gram, across)
    return weights.T @ y, np.exp(2 * log_params[0]) - np.sum(across * weights, axis=0)


def function(x):
    return np.sin(3 * x) + 0.5 * x


def picture(x, y, new, mean, deviation, out: str) -> None:
    """Data, truth, and the prediction with two deviations to each side."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(new, mean - 2 * deviation, mean + 2 * deviation, alpha=0.3, label="95 %")
    axes.plot(new, mean, label="prediction")
    axes.plot(new, function(new), "--", linewidth=0.8, label="truth")
    axes.plot(x, y, ".", color="black", markersize=4, label="data")
    axes.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gaussian_process.png")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-2, 2, 80))
    y = function(x) + NOISE * rng.normal(size=80)

    found = minimize(
        negative_log_likelihood.value_and_grad, np.zeros(3), args=(x, y), jac=True, method="BFGS"
    )
    amplitude, length, noise = np.exp(found.x)
    print(f"after {found.nfev} evaluations:")
    print(f"amplitude {amplitude:.2f}, length {length:.2f}, noise {noise:.3f}")
    new = np.linspace(-2, 2, 200)
    mean, variance = predict(found.x, x, y, new)
    picture(x, y, new, mean, np.sqrt(variance), options.out)

    error = np.sqrt(np.mean((mean - function(new)) ** 2))
    print(f"root mean square error {error:.3f}")
    # 80 noisy values: the noise is known to about 1 / sqrt(2 * 80) of itself.
    assert abs(noise / NOISE - 1) < 0.25
    assert error < 0.08
    assert np.max(np.abs(negative_log_likelihood.grad(found.x, x, y))) < 1e-3


if __name__ == "__main__":
    main()
