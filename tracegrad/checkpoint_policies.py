"""Policies for `checkpoint`: which values of a function may be kept for its backward.

    tg.checkpoint(f, policy=tg.checkpoint_policies.dots_saveable)      # products, nothing else
    tg.checkpoint(f, policy=lambda value: value.op == "exp")           # one's own

A policy is a function of a `Value` that returns whether it may be kept. The names are JAX's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.dims import Size


@dataclass(frozen=True)
class Value:
    """What a policy is told about a value."""

    op: str
    """The operation that computes it: `"matmul"`, `"tanh"`, `"sum"`."""
    name: str
    """From `tg.checkpoint_name`, or that of the variable it is assigned to; else empty."""
    shape: tuple[Size, ...]
    dtype: np.dtype
    stacked: bool = False
    """Whether it is a product of two stacks of matrices."""


Policy = Callable[[Value], bool]

PRODUCTS = ("matmul", "dot")


def nothing_saveable(value: Value) -> bool:
    """Everything is computed again: what `checkpoint` does without a policy."""
    return False


def everything_saveable(value: Value) -> bool:
    """Whatever the backward needs may be kept."""
    return True


def dots_saveable(value: Value) -> bool:
    """Matrix products may be kept: they cost most to compute again."""
    return value.op in PRODUCTS


def dots_with_no_batch_dims_saveable(value: Value) -> bool:
    """Products of single matrices may be kept, of stacks of rows with one matrix too; products of
    two stacks of matrices, as of attention, are computed again."""
    return value.op in PRODUCTS and not value.stacked


checkpoint_dots = dots_saveable
checkpoint_dots_with_no_batch_dims = dots_with_no_batch_dims_saveable


def save_only_these_names(*names: str) -> Policy:
    """The values of these names may be kept."""
    return lambda value: value.name in names


def save_anything_except_these_names(*names: str) -> Policy:
    """Everything but the values of these names may be kept."""
    return lambda value: value.name not in names


def save_any_names_but_these(*names: str) -> Policy:
    """Values that have a name, other than these names, may be kept."""
    return lambda value: bool(value.name) and value.name not in names


def save_from_both_policies(first: Policy, second: Policy) -> Policy:
    """What either policy would keep may be kept."""
    return lambda value: bool(first(value) or second(value))


def as_policy(policy: Any) -> Policy:
    """The policy that an argument means; TypeError for what is none."""
    if policy is None:
        return nothing_saveable
    if callable(policy):
        return lambda value: bool(policy(value))
    raise TypeError(
        f"checkpoint: policy={policy!r} is not a function; take one of tg.checkpoint_policies, "
        "or give a function of a value that returns a bool"
    )


__all__ = [
    "Value",
    "checkpoint_dots",
    "checkpoint_dots_with_no_batch_dims",
    "dots_saveable",
    "dots_with_no_batch_dims_saveable",
    "everything_saveable",
    "nothing_saveable",
    "save_any_names_but_these",
    "save_anything_except_these_names",
    "save_from_both_policies",
    "save_only_these_names",
]
