"""Hamiltonian Monte Carlo entirely in compiled code: the sampler is `@numba.njit`, and so is the
gradient of the log density that it calls, made by `tg.njit_value_and_grad`.

    python examples/hmc.py --out hmc.png
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from matplotlib.figure import Figure
from numba import njit

import tracegrad as tg

WIDTH = 0.5


@tg.trace
def log_density(q):
    """A banana: x is standard normal, and y is normal around x**2 with deviation WIDTH."""
    x, y = q[0], q[1]
    return -0.5 * x**2 - 0.5 * ((y - x**2) / WIDTH) ** 2


value_and_grad = tg.njit_value_and_grad(log_density, np.zeros(2))


@njit
def sample(q, draws, step, steps, rng):
    """`draws` states of the chain of Duane, Kennedy, Pendleton and Roweth (1987); the share of
    proposals that were accepted."""
    chain = np.empty((draws, q.shape[0]))
    value, gradient = value_and_grad(q)
    accepted = 0
    for draw in range(draws):
        momentum = rng.normal(0.0, 1.0, q.shape[0])
        energy = 0.5 * np.sum(momentum**2) - value
        q_new, value_new, gradient_new = q.copy(), value, gradient
        for _ in range(steps):  # leapfrog
            momentum = momentum + 0.5 * step * gradient_new
            q_new = q_new + step * momentum
            value_new, gradient_new = value_and_grad(q_new)
            momentum = momentum + 0.5 * step * gradient_new
        energy_new = 0.5 * np.sum(momentum**2) - value_new
        if np.log(rng.random()) < energy - energy_new:
            q, value, gradient = q_new, value_new, gradient_new
            accepted += 1
        chain[draw] = q
    return chain, accepted / draws


def picture(chain: np.ndarray, out: str) -> None:
    """The samples over the density, and the first coordinate along the chain."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x, y = np.meshgrid(np.linspace(-3, 3, 200), np.linspace(-2, 9, 200))
    density = np.exp(tg.vmap(tg.vmap(log_density))(np.stack([x, y], axis=-1)))
    left.contour(x, y, density, levels=6, linewidths=0.8)
    left.plot(*chain[::20].T, ".", markersize=2)
    left.set(xlabel="x", ylabel="y", title="samples and density")
    right.plot(chain[:500, 0], linewidth=0.8)
    right.set(xlabel="draw", ylabel="x", title="the chain")
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="hmc.png")
    options = parser.parse_args()
    start = np.zeros(2)
    sample(start, 1, 0.15, 12, np.random.default_rng(0))  # compiles
    begin = time.perf_counter()
    chain, accepted = sample(start, 50_000, 0.15, 12, np.random.default_rng(1))
    seconds = time.perf_counter() - begin
    print(
        f"{12 * len(chain) / seconds / 1e6:.1f} million gradients a second, {accepted:.0%} accepted"
    )
    picture(chain, options.out)

    means, variances = chain.mean(axis=0), chain.var(axis=0)
    print("means", np.round(means, 2), "variances", np.round(variances, 2))
    # In truth 0 and 1, and 1 and 2 + WIDTH**2; correlated draws leave a few hundredths.
    assert np.allclose(means, [0, 1], atol=0.1)
    assert np.allclose(variances, [1, 2 + WIDTH**2], rtol=0.15)


if __name__ == "__main__":
    main()
