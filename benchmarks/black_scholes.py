"""European calls by Black and Scholes, the sum of their prices and all first-order greeks.

Five arrays in, five gradients out: delta, its counterpart by the strike, theta, rho and vega.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import autograd.numpy as anp
import autograd.scipy.special as asp
import jax
import jax.numpy as jnp
import numpy as np
import torch
from by_hand import hand_entry, kernel, vector_math
from peers import autograd_entry, compiled_torch_entry, jax_entry, our_entry, torch_entry
from remote import pytensor_entry
from runner import NUMPY, Entry, Workload, generator, main
from scipy.special import erf

SIZES = (1_000, 1_000_000)
WANTED = tuple(range(5))
ROOT_HALF = math.sqrt(0.5)


def program(xp: Any, erf: Any) -> Any:
    """The same program in any library with NumPy's names."""

    def normal(z: Any) -> Any:
        return 0.5 * (1 + erf(z * ROOT_HALF))

    def loss(spot: Any, strike: Any, years: Any, rate: Any, vol: Any) -> Any:
        spread = vol * xp.sqrt(years)
        d1 = (xp.log(spot / strike) + (rate + 0.5 * vol * vol) * years) / spread
        discount = xp.exp(-rate * years)
        return xp.sum(spot * normal(d1) - strike * discount * normal(d1 - spread))

    return loss


def by_numpy(spot: Any, strike: Any, years: Any, rate: Any, vol: Any) -> Any:
    root = np.sqrt(years)
    spread = vol * root
    d1 = (np.log(spot / strike) + (rate + 0.5 * vol * vol) * years) / spread
    n1, n2 = (0.5 * (1 + erf(d * ROOT_HALF)) for d in (d1, d1 - spread))
    density = np.exp(-0.5 * d1 * d1) / math.sqrt(2 * math.pi)
    discount = np.exp(-rate * years)
    paid = strike * discount * n2
    theta = 0.5 * spot * density * vol / root + rate * paid
    value = np.sum(spot * n1 - paid)
    return value, n1, -discount * n2, theta, years * paid, spot * density * root


def by_hand(dtype: Any) -> Any:
    exp, log, erf = vector_math(dtype, "exp", "log", "erf")
    half, one, zero = (dtype(v) for v in (0.5, 1, 0))
    root_half, scale = dtype(ROOT_HALF), dtype(1 / math.sqrt(2 * math.pi))

    @kernel
    def prices(spot, strike, years, rate, vol):
        d_spot, d_strike = np.empty_like(spot), np.empty_like(spot)
        d_years, d_rate, d_vol = np.empty_like(spot), np.empty_like(spot), np.empty_like(spot)
        total = zero
        for i in range(spot.size):
            s, k, t, r, v = spot[i], strike[i], years[i], rate[i], vol[i]
            root = np.sqrt(t)
            spread = v * root
            d1 = (log(s / k) + (r + half * v * v) * t) / spread
            n1 = half * (one + erf(d1 * root_half))
            n2 = half * (one + erf((d1 - spread) * root_half))
            discount = exp(-r * t)
            paid = k * discount * n2
            vega = s * scale * exp(-half * d1 * d1)
            total += s * n1 - paid
            d_spot[i] = n1
            d_strike[i] = -discount * n2
            d_years[i] = vega * v * half / root + r * paid
            d_rate[i] = t * paid
            d_vol[i] = vega * root
        return total, d_spot, d_strike, d_years, d_rate, d_vol

    return prices


def workloads() -> Iterator[Workload]:
    ranges = ((50, 150), (50, 150), (0.1, 2), (0.01, 0.1), (0.1, 0.5))
    for dtype in (np.float64, np.float32):
        for n in SIZES:
            rng = generator()
            yield Workload(
                f"Black-Scholes n={n} {np.dtype(dtype)}",
                tuple(rng.uniform(*limits, n).astype(dtype) for limits in ranges),
                by_numpy,
                (
                    our_entry(program(np, erf), WANTED),
                    hand_entry(by_hand(dtype)),
                    Entry("NumPy by hand", NUMPY, by_numpy),
                    jax_entry(program(jnp, jax.scipy.special.erf), WANTED),
                    torch_entry(program(torch, torch.erf), WANTED),
                    compiled_torch_entry(program(torch, torch.erf), WANTED),
                    pytensor_entry("black_scholes", WANTED),
                    autograd_entry(program(anp, asp.erf), WANTED),
                ),
            )


if __name__ == "__main__":
    main(workloads())
