"""The libraries that we compare with: how each holds arrays, and value and gradient in each.

jax_entry(loss, wanted=(0,))       # loss written with jax.numpy  ->  value, gradient
torch_entry(loss, wanted=(0, 1))   # loss written with torch      ->  value, two gradients
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import autograd
import jax
import numpy as np
import torch
from runner import NUMPY, OURS, Entry, Library

import tracegrad as tg

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")

JAX = Library("JAX", native=jax.numpy.asarray, wait=jax.block_until_ready)


def from_numpy(value: Any) -> Any:
    return torch.from_numpy(value) if isinstance(value, np.ndarray) else value


def to_numpy(value: Any) -> Any:
    return value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value)


TORCH = Library("PyTorch", native=from_numpy, back=to_numpy)


def flat_jax(function: Callable[..., Any], wanted: Sequence[int]) -> Callable[..., Any]:
    """`(value, *gradients)` with respect to the arguments numbered `wanted`, compiled."""
    both = jax.value_and_grad(function, argnums=tuple(wanted))

    def flat(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return value, *gradients

    return jax.jit(flat)


def flat_torch(function: Callable[..., Any], wanted: Sequence[int]) -> Callable[..., Any]:
    """`(value, *gradients)` by autograd; the arguments become leaves at the first call."""

    def flat(*arguments: Any) -> Any:
        leaves = [arguments[k] for k in wanted]
        for leaf in leaves:
            if not leaf.requires_grad:
                leaf.requires_grad_()
        value = function(*arguments)
        return value.detach(), *torch.autograd.grad(value, leaves)

    return flat


def our_entry(function: Callable[..., Any], wanted: Sequence[int] = (0,)) -> Entry:
    """`tg.value_and_grad` of a plain NumPy function."""
    both = tg.value_and_grad(function, argnums=tuple(wanted))
    if len(wanted) == 1:
        return Entry("tracegrad", OURS, tg.value_and_grad(function, argnums=wanted[0]))

    def flat(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return value, *gradients

    return Entry("tracegrad", OURS, flat)


def jax_entry(function: Callable[..., Any], wanted: Sequence[int] = (0,)) -> Entry:
    return Entry("jax.jit", JAX, flat_jax(function, wanted))


def torch_entry(function: Callable[..., Any], wanted: Sequence[int] = (0,)) -> Entry:
    return Entry("PyTorch eager", TORCH, flat_torch(function, wanted))


def autograd_entry(function: Callable[..., Any], wanted: Sequence[int] = (0,)) -> Entry:
    """HIPS autograd: NumPy wrapped by `autograd.numpy`, a tape in Python."""
    both = autograd.value_and_grad(function, argnum=tuple(wanted))

    def flat(*arguments: Any) -> Any:
        value, gradients = both(*arguments)
        return value, *gradients

    return Entry("HIPS autograd", NUMPY, flat)


def compiled_torch_entry(function: Callable[..., Any], wanted: Sequence[int] = (0,)) -> Entry:
    """torch.compile; its first call takes tens of seconds and needs a C++ compiler."""
    compiled = torch.compile(function)
    return Entry("torch.compile", TORCH, flat_torch(compiled, wanted), optional=True)
