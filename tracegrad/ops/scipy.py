"""References that load scipy at their first use: `SciPy("erf")` is `scipy.special.erf`.

Importing scipy takes longer than importing tracegrad, and few programs need it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from codegen.costs import REACH
from codegen.records import dataclass
from tracegrad.ops.op import NUMPY


@dataclass(frozen=True)
class SciPy:
    """A function of `scipy.special` by name; equal names are equal functions."""

    name: str

    def __call__(self, *args: Any) -> Any:
        return self.function(*args) if self.name not in REACH else self._in_reach(*args)

    def _in_reach(self, *args: Any) -> Any:
        """NaN where SciPy would not return."""
        place, most = REACH[self.name]
        one = args[place]
        good = np.abs(np.asarray(one, np.float64)) <= most
        if np.all(good):
            return self.function(*args)
        given = [*args]
        if isinstance(one, (bool, int, float)):
            given[place] = type(one)(0)  # its dtype still yields to the others'
        else:
            given[place] = np.where(good, one, np.asarray(one).dtype.type(0))
        found = self.function(*given)
        return np.where(good, found, found.dtype.type(np.nan))[()]

    @property
    def function(self) -> Any:
        return getattr(import_module("scipy.special"), self.name)

    def loop_dtypes(self, *operands: Any) -> tuple[np.dtype, ...]:
        """The dtypes of the loop that a ufunc would run: operands, then the result."""
        given = [np.dtype(bool) if kind is bool else kind for kind in operands]
        return self.function.resolve_dtypes((*given, None))


def meaning(ufunc: np.ufunc) -> Callable[..., Any] | None:
    """Our function for a ufunc of NumPy or of `scipy.special`; None if there is none."""
    name = ufunc.__name__
    if ufunc not in NUMPY and ufunc is getattr(sys.modules.get("scipy.special"), name, None):
        return NUMPY.get(SciPy(name))
    return NUMPY.get(ufunc)


def spelling(ufunc: np.ufunc) -> str:
    """How a program writes it."""
    name = ufunc.__name__
    return f"np.{name}" if getattr(np, name, None) is ufunc else f"scipy.special.{name}"
