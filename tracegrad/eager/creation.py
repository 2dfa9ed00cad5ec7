"""Tensors from data and random numbers: `tg.tensor`, `as_tensor`, `from_numpy`, `rand`, `randn`.

The functions that traced code also has (`zeros`, `arange`, ...) are in `tracegrad.ops.creation`;
outside of a trace they make tensors through `tensor`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.eager.node import user_site
from tracegrad.eager.tensor import Tensor, array_of
from tracegrad.ops.op import public


@public()
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`: numbers, nested lists, arrays; plain floats are float64.

    Raises RuntimeError where `requires_grad` is asked of integers: write floats.

    >>> tensor([[1, 2], [3, 4]], dtype=float)
    tensor([[1., 2.],
            [3., 4.]])
    """
    return _made(array_of(data, dtype, copy=True), requires_grad)


@public()
def as_tensor(data: Any, dtype: Any = None) -> Tensor:
    """`data` as a tensor, sharing its memory if it is an array of that dtype; a tensor as it is."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(dtype)
    return _made(array_of(data, dtype, copy=False), False)


@public()
def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: writes into either are seen in both.

    Writes through NumPy are not counted, so a backward cannot notice them.
    """
    if not isinstance(array, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(array).__name__}); use tg.tensor(...)")
    return _made(array_of(array, None, copy=False), False)


@public()
def rand(
    *size: Any, generator: Any = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Uniform random numbers in [0, 1); `generator` is a `numpy.random.Generator` or a seed."""
    source = np.random.default_rng(generator)
    return _made(np.asarray(source.random(_shape(size)), dtype), requires_grad)


@public()
def randn(
    *size: Any, generator: Any = None, dtype: Any = None, requires_grad: bool = False
) -> Tensor:
    """Random numbers of the standard normal distribution; `generator` as for `rand`."""
    source = np.random.default_rng(generator)
    return _made(np.asarray(source.standard_normal(_shape(size)), dtype), requires_grad)


def _shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """Sizes as separate arguments or as one tuple."""
    return tuple(size[0]) if len(size) == 1 and isinstance(size[0], tuple | list) else size


def _made(array: np.ndarray, requires_grad: bool) -> Tensor:
    made = Tensor.of(array)
    made._origin = user_site()
    return made.requires_grad_() if requires_grad else made
