"""An ordinary differential equation fitted to data: the gradient goes through the solver.

    python examples/fitted_ode.py --out fitted_ode.png

The equations of Lotka and Volterra, solved by the classical Runge-Kutta method in a `tg.scan`: one
real loop in the compiled code, forward and backward, however many steps it takes.
"""

from __future__ import annotations

import argparse

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import minimize

import tracegrad as tg

TRUTH = np.array([1.1, 0.4, 0.4, 0.1])
START = np.array([10.0, 5.0])
STEP, STEPS, EVERY = 0.05, 400, 20


def change(state, rates):
    """Prey grow and are eaten, predators eat and starve."""
    prey, predators = state[0], state[1]
    return np.stack(
        [
            rates[0] * prey - rates[1] * prey * predators,
            rates[3] * prey * predators - rates[2] * predators,
        ]
    )


def solve(rates, start):
    """The states at all steps."""

    def step(state, _):
        k1 = change(state, rates)
        k2 = change(state + 0.5 * STEP * k1, rates)
        k3 = change(state + 0.5 * STEP * k2, rates)
        k4 = change(state + STEP * k3, rates)
        state = state + STEP / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return state, state

    return tg.scan(step, start, None, length=STEPS)[1]


@tg.trace
def misfit(log_params, observed):
    """Mean squared error of the logarithms; the parameters are logarithms of rates and start."""
    params = np.exp(log_params)
    states = solve(params[:4], params[4:])[EVERY - 1 :: EVERY]
    return np.mean((np.log(states) - np.log(observed)) ** 2)


def picture(observed, before, after, out: str) -> None:
    """The data and the solutions with the parameters before and after the fit."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    time = STEP * np.arange(1, STEPS + 1)
    for axes, column, title in zip(
        figure.subplots(1, 2), (0, 1), ("prey", "predators"), strict=True
    ):
        axes.plot(time, before[:, column], ":", label="before")
        axes.plot(time, after[:, column], label="fitted")
        axes.plot(time[EVERY - 1 :: EVERY], observed[:, column], "k.", label="data")
        axes.set(xlabel="time", title=title)
        axes.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="fitted_ode.png")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    run = tg.trace(solve)
    observed = run(TRUTH, START)[EVERY - 1 :: EVERY] * np.exp(0.02 * rng.normal(size=(20, 2)))

    first = np.log(np.concatenate([TRUTH * [0.9, 1.1, 1.1, 0.9], observed[0]]))
    found = minimize(
        misfit.value_and_grad, first, args=(observed,), jac=True, method="BFGS", tol=1e-8
    )
    fitted = np.exp(found.x)
    print(
        f"{found.nfev} solutions with gradients: rates {np.round(fitted[:4], 3)}, in truth {TRUTH}"
    )
    before, after = (run(p[:4], p[4:]) for p in (np.exp(first), fitted))
    picture(observed, before, after, options.out)

    # 40 values with 2 % of noise determine four rates to about a percent.
    assert np.allclose(fitted[:4], TRUTH, rtol=0.05)
    assert found.fun < 2 * 0.02**2


if __name__ == "__main__":
    main()
