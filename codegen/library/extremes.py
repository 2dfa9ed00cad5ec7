"""The largest and the smallest of many numbers, NaN if there is one, as NumPy has it.

In: what was found so far and one more number. Out: the larger (smaller) of the two. LLVM's
`maximum` may be taken in any order, so that loops over it are vectorised: 100,000 numbers in 15 us
where comparisons, which have to keep to the order, take 109 (NumPy: 12). Of 0.0 and -0.0 either may
be found (`nsz`), as in NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import config
from numba.extending import intrinsic


def typed(operation: str) -> Callable[..., Any]:
    """The typing function of an intrinsic that is one of LLVM's on two floats of one type."""

    def typing(typing_context: Any, found: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
            kind = values[0].type
            binary = ir.FunctionType(kind, [kind, kind])
            function = builder.module.declare_intrinsic(operation, [kind], binary)
            return builder.call(function, values, fastmath=("nsz",))

        return found(found, found), generate

    return typing


def interpreted(operation: Any) -> Callable[..., Any]:
    return lambda found, value: operation(found, value)


INTERPRETED = vars(config)["DISABLE_JIT"]
running_max: Any = interpreted(np.maximum) if INTERPRETED else intrinsic(typed("llvm.maximum"))
running_min: Any = interpreted(np.minimum) if INTERPRETED else intrinsic(typed("llvm.minimum"))
