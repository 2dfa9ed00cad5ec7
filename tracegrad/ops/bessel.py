"""Bessel functions of real order and argument, with the scaled ones.

    jv(v, x)   =>   d_x = d_y * (jv(v - 1, x) - jv(v + 1, x)) / 2

Rules: DLMF 10.6.1 and 10.29.1. By the order there is no formula.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tracegrad.ops.constant import astype
from tracegrad.ops.elementwise import Elementwise
from tracegrad.ops.op import NUMPY, PUBLIC, as_operand, type_of
from tracegrad.ops.scipys import scipys

POSITIVE = ((0.3, 4.0),)
EVERYWHERE = ((-4.0, 4.0),)
OF_ORDER = ((0.2, 2.0), (0.5, 4.0))


def _of_order(name: str, rule: Any) -> Elementwise:
    """A row with the derivative `rule(f(v - 1, x), f(v + 1, x), x, y)`."""

    def slope(v: Any, x: Any, y: Any) -> Any:
        return rule(found(v - 1, x), found(v + 1, x), x, y)

    found = scipys(name, "v", slope, domain=OF_ORDER)
    return found


def _sign(x: Any) -> Any:
    return PUBLIC["sign"](x)


JV = _of_order("jv", lambda below, above, x, y: (below - above) / 2)
YV = _of_order("yv", lambda below, above, x, y: (below - above) / 2)
IV = _of_order("iv", lambda below, above, x, y: (below + above) / 2)
KV = _of_order("kv", lambda below, above, x, y: -(below + above) / 2)
JVE = _of_order("jve", lambda below, above, x, y: (below - above) / 2)
YVE = _of_order("yve", lambda below, above, x, y: (below - above) / 2)
IVE = _of_order("ive", lambda below, above, x, y: (below + above) / 2 - _sign(x) * y)
KVE = _of_order("kve", lambda below, above, x, y: y - (below + above) / 2)
PUBLIC["jn"] = JV

WHOLE = ((2.0, 2.0), (0.5, 4.0))
YN = scipys("yn", "n", lambda n, x, y: (YV(n - 1, x) - YV(n + 1, x)) / 2, domain=WHOLE)
KN = scipys("kn", "n", lambda n, x, y: -(KV(n - 1, x) + KV(n + 1, x)) / 2, domain=WHOLE)

J0 = scipys("j0", lambda x, y: -J1(x), domain=EVERYWHERE)
J1 = scipys("j1", lambda x, y: (J0(x) - JV(2, x)) / 2, domain=EVERYWHERE)
Y0 = scipys("y0", lambda x, y: -Y1(x), domain=POSITIVE)
Y1 = scipys("y1", lambda x, y: (Y0(x) - YV(2, x)) / 2, domain=POSITIVE)
I0 = scipys("i0", lambda x, y: I1(x), domain=EVERYWHERE)
I1 = scipys("i1", lambda x, y: (I0(x) + IV(2, x)) / 2, domain=EVERYWHERE)


def _i0_of_numpy(x: Any) -> Any:
    """As `np.i0`: of integers and bools in float64, where SciPy's takes float32 for small ones."""
    x = as_operand(x)
    return I0(x if type_of(x).is_float else astype(x, np.float64))


NUMPY[np.i0] = _i0_of_numpy
K0 = scipys("k0", lambda x, y: -K1(x), domain=POSITIVE)
K1 = scipys("k1", lambda x, y: -(K0(x) + KV(2, x)) / 2, domain=POSITIVE)
I0E = scipys("i0e", lambda x, y: I1E(x) - _sign(x) * y, domain=EVERYWHERE)
I1E = scipys("i1e", lambda x, y: (I0E(x) + IVE(2, x)) / 2 - _sign(x) * y, domain=EVERYWHERE)
K0E = scipys("k0e", lambda x, y: y - K1E(x), domain=POSITIVE)
K1E = scipys("k1e", lambda x, y: y - (K0E(x) + KVE(2, x)) / 2, domain=POSITIVE)
