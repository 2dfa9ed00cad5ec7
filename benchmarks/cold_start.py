"""Seconds from process start to the first gradient, each implementation in processes of its own.

"cold" begins with an empty cache directory, "warm" with the one that the cold run left behind.

    python benchmarks/cold_start.py --rounds 5
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from surroundings import machine

TWO_LINES = "mean(2 * (x + 1) * (x + 1))"
JAX_CACHE = """
jax.config.update("jax_compilation_cache_dir", CACHE)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
"""
MLP_DATA = """
widths, parameters = (784, 256, 128, 10), []
for inputs, outputs in zip(widths, widths[1:]):
    parameters += [np.full((inputs, outputs), 0.01, np.float32), np.zeros(outputs, np.float32)]
x, targets = np.ones((32, 784), np.float32), np.eye(10, dtype=np.float32)[np.arange(32) % 10]
"""
LOGISTIC_DATA = """
x, w = np.cos(np.arange(20_000.0)).reshape(1_000, 20), np.full(20, 0.1)
labels = np.where(np.arange(1_000) % 2, 1.0, -1.0)
"""
PROGRAMS = {
    "import numpy alone": "import numpy as np",
    "import tracegrad alone": "import numpy as np, tracegrad",
    "tracegrad": f"""
import numpy as np, tracegrad as tg
value, gradient = tg.value_and_grad(lambda x: np.{TWO_LINES})(np.ones((2, 3)))
""",
    "numba by hand": """
import numba, numpy as np
@numba.njit(error_model="numpy", cache=True)
def value_and_grad(x):
    n, m = x.shape
    total, gradient = 0.0, np.empty_like(x)
    for i in range(n):
        for j in range(m):
            y = x[i, j] + 1.0
            total += 2.0 * y * y
            gradient[i, j] = 4.0 * y / (n * m)
    return total / (n * m), gradient
value, gradient = value_and_grad(np.ones((2, 3)))
""",
    "jax.jit": f"""
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
{JAX_CACHE}
f = jax.jit(jax.value_and_grad(lambda x: jnp.{TWO_LINES}))
value, gradient = jax.block_until_ready(f(np.ones((2, 3))))
""",
    "PyTorch eager": f"""
import torch
x = torch.ones((2, 3), dtype=torch.float64, requires_grad=True)
value = torch.{TWO_LINES}
value.backward()
""",
    "tracegrad, MLP": f"""
import numpy as np, tracegrad as tg
def loss(w1, b1, w2, b2, w3, b3, x, targets):
    hidden = np.maximum(x @ w1 + b1, 0)
    hidden = np.maximum(hidden @ w2 + b2, 0)
    return -np.mean(np.sum(targets * tg.log_softmax(hidden @ w3 + b3, axis=1), axis=1))
{MLP_DATA}
value, gradients = tg.value_and_grad(loss, argnums=(0, 1, 2, 3, 4, 5))(*parameters, x, targets)
""",
    "jax.jit, MLP": f"""
import jax, jax.numpy as jnp, numpy as np
{JAX_CACHE}
def loss(w1, b1, w2, b2, w3, b3, x, targets):
    hidden = jax.nn.relu(x @ w1 + b1)
    hidden = jax.nn.relu(hidden @ w2 + b2)
    return -jnp.mean(jnp.sum(targets * jax.nn.log_softmax(hidden @ w3 + b3, axis=1), axis=1))
{MLP_DATA}
f = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3, 4, 5)))
value, gradients = jax.block_until_ready(f(*parameters, x, targets))
""",
    "tracegrad, Hessian": f"""
import numpy as np, tracegrad as tg
def loss(w, x, labels):
    return np.mean(np.logaddexp(0, -labels * (x @ w)))
{LOGISTIC_DATA}
matrix = tg.hessian(loss)(w, x, labels)
""",
    "jax.jit, Hessian": f"""
import jax, jax.numpy as jnp, numpy as np
jax.config.update("jax_enable_x64", True)
{JAX_CACHE}
def loss(w, x, labels):
    return jnp.mean(jnp.logaddexp(0, -labels * (x @ w)))
{LOGISTIC_DATA}
matrix = jax.block_until_ready(jax.jit(jax.hessian(loss))(w, x, labels))
""",
}


def seconds(program: str, cache: Path) -> float:
    """From the start of a Python process to the end of `program`."""
    path = cache / "program.py"  # a file: numba keeps no cache for code from a string
    path.write_text(f"CACHE = {str(cache / 'jax')!r}\n{program}")
    environment = {
        **os.environ,
        "PYTHONDONTWRITEBYTECODE": "",  # installed packages are loaded from bytecode
        "PYTHONPYCACHEPREFIX": str(Path(tempfile.gettempdir(), "cold_start_bytecode")),
        "XDG_CACHE_HOME": str(cache),
        "NUMBA_CACHE_DIR": str(cache / "numba"),
        "JAX_PLATFORMS": "cpu",
    }
    start = time.perf_counter()
    subprocess.run([sys.executable, str(path)], check=True, env=environment)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write every round's seconds here")
    options = parser.parse_args()
    cold: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    warm: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for program in PROGRAMS.values():  # bytecode and disk pages: the same for everyone
        with tempfile.TemporaryDirectory() as folder:
            seconds(program, Path(folder))
    for _ in range(options.rounds):
        for name, program in PROGRAMS.items():
            with tempfile.TemporaryDirectory() as folder:
                cold[name].append(seconds(program, Path(folder)))
                warm[name].append(seconds(program, Path(folder)))
    print("  ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    print("### first gradient, seconds from process start\n")
    print("| implementation | cold, median | cold, fastest | warm, median | warm, fastest |")
    print("|---|---:|---:|---:|---:|")
    for name in PROGRAMS:
        figures = [f(t[name]) for t in (cold, warm) for f in (statistics.median, min)]
        print(f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |")
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "cold": cold, "warm": warm}))


if __name__ == "__main__":
    main()
