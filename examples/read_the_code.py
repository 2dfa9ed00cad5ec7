"""Look at everything that tracegrad made of a function: the IR, the source, the reasons.

The exported module at the end needs NumPy and numba only: send it to someone without tracegrad.
"""

from __future__ import annotations

import runpy
import tempfile
from pathlib import Path

import numpy as np

import tracegrad as tg


@tg.trace
def loss(x, w):
    """The mean square of a layer's output."""
    hidden = np.tanh(x @ w)
    return np.mean(hidden * hidden)


def main() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(5, 3)), rng.normal(size=(3, 4))

    print(loss.dump(x, w))  # the traced program: valid Python over NumPy
    print(loss.dump(x, w, which="backward"))  # its gradient, an ordinary program too
    print(loss.source(x, w))  # what numba compiles
    print(loss.explain(x, w))  # passes, kernels, what is kept for the backward and why

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loss_grad.py"
        loss.export(path, x, w)
        module = runpy.run_path(str(path))
        print(sorted(name for name in module if name.startswith("loss")))
        value, gradient = module["loss_value_and_grad"](x, w)
    expected_value, expected = loss.value_and_grad(x, w)
    assert np.isclose(value, expected_value, rtol=1e-14)
    np.testing.assert_allclose(gradient, expected, rtol=1e-13)


if __name__ == "__main__":
    main()
