"""A recurrent network (a GRU) that learns to go on with a sum of two sines.

    python examples/recurrent_net.py --steps 800 --out recurrent_net.png

The time steps are a `tg.scan`, so the compiled code has one loop forward and one backward. The
parameters are a dictionary of arrays, the optimiser is Adam, written out below.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from matplotlib.figure import Figure

import tracegrad as tg

HIDDEN, BATCH, LENGTH = 24, 32, 50


def sigmoid(x):
    return 0.5 * (1 + np.tanh(0.5 * x))


def cell(p, h, x):
    """The gated recurrent unit of Cho et al. (2014); `x` has one feature."""
    both = np.concatenate([h, x], axis=1)
    update = sigmoid(both @ p["update"] + p["update_bias"])
    reset = sigmoid(both @ p["reset"] + p["reset_bias"])
    new = np.tanh(np.concatenate([reset * h, x], axis=1) @ p["new"] + p["new_bias"])
    return (1 - update) * h + update * new


def readout(p, h):
    return h @ p["out"] + p["out_bias"]


@tg.trace
def loss(p, series):
    """Mean squared error of the prediction of each next value; `series`: (time, batch, 1)."""

    def step(h, pair):
        x, following = pair
        h = cell(p, h, x)
        return h, np.mean((readout(p, h) - following) ** 2)

    start = np.zeros((series.shape[1], HIDDEN))
    return np.mean(tg.scan(step, start, (series[:-1], series[1:]))[1])


@tg.trace
def go_on(p, seen, length):
    """What the network predicts after `seen`, each value fed back as the next input."""
    start = np.zeros((seen.shape[1], HIDDEN))
    h = tg.scan(lambda h, x: (cell(p, h, x), ()), start, seen)[0]

    def step(carry, _):
        h, x = carry
        h = cell(p, h, x)
        return (h, readout(p, h)), x

    return tg.scan(step, (h, readout(p, h)), None, length=length)[1]


def initial(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of variance 1 / inputs."""
    gates = {
        name: rng.normal(scale=(HIDDEN + 1) ** -0.5, size=(HIDDEN + 1, HIDDEN))
        for name in ("update", "reset", "new")
    }
    biases = {f"{name}_bias": np.zeros(HIDDEN) for name in gates}
    out = {"out": rng.normal(scale=HIDDEN**-0.5, size=(HIDDEN, 1)), "out_bias": np.zeros(1)}
    return {**gates, **biases, **out}


def waves(rng: np.random.Generator, count: int, length: int) -> np.ndarray:
    """Sums of two sines with random phases: (time, batch, 1)."""
    t = np.arange(length)[:, None]
    phases = rng.uniform(0, 2 * np.pi, (2, count))
    return (0.6 * np.sin(0.3 * t + phases[0]) + 0.4 * np.sin(0.5 * t + phases[1]))[..., None]


def adam(params, gradients, first, second, number, rate=0.01):
    """One step of Adam (Kingma and Ba, 2015), in place."""
    for name, g in gradients.items():
        first[name] = 0.9 * first[name] + 0.1 * g
        second[name] = 0.999 * second[name] + 0.001 * g**2
        size = np.sqrt(second[name] / (1 - 0.999**number)) + 1e-8
        params[name] = params[name] - rate * first[name] / (1 - 0.9**number) / size


def picture(losses, truth, predicted, out: str) -> None:
    """The loss curve, and what the network makes of a series after its first LENGTH values."""
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.semilogy(losses)
    left.set(xlabel="step", ylabel="mean squared error", title="training")
    right.plot(truth, label="series")
    right.plot(range(LENGTH, LENGTH + len(predicted)), predicted, "--", label="predicted")
    right.legend()
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--out", default="recurrent_net.png")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    params = initial(rng)
    first, second = ({name: np.zeros_like(p) for name, p in params.items()} for _ in range(2))

    losses, seconds = [], []
    for number in range(1, options.steps + 1):
        series = waves(rng, BATCH, LENGTH)
        start = time.perf_counter()
        value, gradients = loss.value_and_grad(params, series)
        seconds.append(time.perf_counter() - start)
        adam(params, gradients, first, second, number)
        losses.append(value)

    truth = waves(rng, 100, LENGTH + 25)
    predicted = go_on(params, truth[:LENGTH], 25)
    picture(losses, truth[:, 0, 0], predicted[:, 0, 0], options.out)
    error = np.sqrt(np.mean((predicted - truth[LENGTH:]) ** 2))
    print(f"first gradient (compiles) {seconds[0]:.2f} s")
    print(f"later gradients (median)  {1e3 * np.median(seconds):.2f} ms")
    print(f"mean squared error {losses[0]:.3f} -> {losses[-1]:.5f}; 25 values ahead: {error:.3f}")
    # The series has a root mean square of 0.51: predicting nothing would leave that.
    assert losses[-1] < losses[0] / 20
    assert error < 0.25


if __name__ == "__main__":
    main()
