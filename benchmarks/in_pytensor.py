"""PyTensor as a peer, in a process of its own: it wants an older numba than ours.

The programs, and the loop that answers the runner: what `remote.py` asks comes in by the standard
input, pickled, and the answer goes out by the standard output.

    ("start", (program, arguments, wanted))   ->  (value and gradients, seconds of the first call)
    ("memory", None)                          ->  peak bytes of one call
    ("timed", repeat)                         ->  seconds per call
    ("other", arguments)                      ->  (value and gradients, seconds) for other arguments
"""

from __future__ import annotations

import math
import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytensor
import pytensor.gradient
import pytensor.tensor as pt
from pytensor.tensor.special import log_softmax, softmax
from runner import peak_memory, timed

EPS = 1e-5


def two_lines(x: Any) -> Any:
    return pt.mean(2 * (x + 1) * (x + 1))


def rosenbrock(x: Any) -> Any:
    return pt.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def logistic(w: Any, x: Any, labels: Any) -> Any:
    return pt.mean(pt.softplus(-labels * (x @ w)))


def chain(x: Any) -> Any:
    a = pt.tanh(x) + pt.exp(-x * x)
    b = pt.sin(3 * x) * a + pt.log1p(a * a)
    return pt.sum(pt.sqrt(b * b + 1) / (1 + pt.exp(-x)))


def black_scholes(spot: Any, strike: Any, years: Any, rate: Any, vol: Any) -> Any:
    def normal(z: Any) -> Any:
        return 0.5 * (1 + pt.erf(z * math.sqrt(0.5)))

    spread = vol * pt.sqrt(years)
    d1 = (pt.log(spot / strike) + (rate + 0.5 * vol * vol) * years) / spread
    discount = pt.exp(-rate * years)
    return pt.sum(spot * normal(d1) - strike * discount * normal(d1 - spread))


def layer_norm(x: Any, gain: Any, bias: Any, w: Any, targets: Any) -> Any:
    centred = x - pt.mean(x, axis=1, keepdims=True)
    scale = pt.sqrt(pt.mean(centred * centred, axis=1, keepdims=True) + EPS)
    scores = (centred / scale * gain + bias) @ w
    return -pt.mean(pt.sum(targets * log_softmax(scores, axis=1), axis=1))


def mlp(w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, x: Any, targets: Any) -> Any:
    hidden = pt.maximum(x @ w1 + b1, 0)
    hidden = pt.maximum(hidden @ w2 + b2, 0)
    return -pt.mean(pt.sum(targets * log_softmax(hidden @ w3 + b3, axis=1), axis=1))


def attention(wq: Any, wk: Any, wv: Any, x: Any, target: Any) -> Any:
    q, k, v = x @ wq, x @ wk, x @ wv
    scores = q @ k.T / pt.sqrt(q.shape[1].astype(x.dtype))
    return pt.mean((softmax(scores, axis=1) @ v - target) ** 2)


def mlp_product(*arguments: Any) -> Any:
    parameters, data, vector = arguments[:6], arguments[6:8], arguments[8:]
    value = mlp(*parameters, *data)
    return pytensor.gradient.hessian_vector_product(value, list(parameters), list(vector))


def logistic_hessian(w: Any, x: Any, labels: Any) -> Any:
    return [pytensor.gradient.hessian(logistic(w, x, labels), w)]


RESULTS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (mlp_product, logistic_hessian)}
"""Programs that say their results themselves."""
LOSSES: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (two_lines, rosenbrock, logistic, chain, black_scholes, layer_norm, mlp, attention)
}


def compiled(name: str, arguments: Sequence[np.ndarray], wanted: Sequence[int]) -> Any:
    """A function for arrays of these types, as fast as PyTensor calls it: the results, those of a
    loss with its gradients."""
    symbols = [pt.tensor(dtype=a.dtype, shape=(None,) * a.ndim) for a in arguments]
    if name in RESULTS:
        results = RESULTS[name](*symbols)
    else:
        value = LOSSES[name](*symbols)
        results = [value, *pytensor.grad(value, [symbols[k] for k in wanted])]
    return pytensor.function(
        [pytensor.In(symbol, borrow=True) for symbol in symbols],
        [pytensor.Out(result, borrow=True) for result in results],
        mode="NUMBA",
        trust_input=True,
    )


def main() -> None:
    source = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    call: Any = None
    function: Any = None
    while True:
        try:
            asked, payload = pickle.load(source)
        except EOFError:
            return
        match asked:
            case "start":
                name, arguments, wanted = payload
                start = time.perf_counter()
                function = compiled(name, arguments, wanted)
                results = function(*arguments)
                answer: Any = (results, time.perf_counter() - start)

                def call(function: Any = function, arguments: Any = arguments) -> Any:
                    return function(*arguments)
            case "other":
                start = time.perf_counter()
                results = function(*payload)
                answer = results, time.perf_counter() - start
            case "memory":
                answer = peak_memory(call)
            case _:
                answer = timed(call, payload)
        pickle.dump(answer, answers, protocol=5)
        answers.flush()


if __name__ == "__main__":
    main()
