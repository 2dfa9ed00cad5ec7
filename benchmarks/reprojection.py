"""Jacobians of 30,000 reprojection residuals (ADBench's bundle adjustment): 2 by 14 each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from by_hand import kernel
from peers import JAX
from runner import BY_HAND, OURS, Entry, Workload, main

import tracegrad as tg

OBSERVATIONS = 30_000


def residual(namespace: Any) -> Any:
    """The residual of one observation, with the functions of NumPy or JAX (Rodrigues' formula,
    two coefficients of radial distortion, focal length, principal point)."""
    np = namespace

    def cross(a: Any, b: Any) -> Any:
        x, y, z = a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]
        return np.stack([x, y, z])

    def one(camera: Any, point: Any, weight: Any, seen: Any) -> Any:
        rotation, offset = camera[:3], point - camera[3:6]
        angle = np.sqrt(np.sum(rotation**2))
        axis, c, s = rotation / angle, np.cos(angle), np.sin(angle)
        turned = offset * c + cross(axis, offset) * s + axis * (np.dot(axis, offset) * (1 - c))
        p = turned[:2] / turned[2]
        square = np.sum(p * p)
        distorted = p * (1 + camera[9] * square + camera[10] * square * square)
        return weight * (distorted * camera[6] + camera[7:9] - seen)

    return one


@kernel
def by_hand(cameras, points, weights, seen):
    n = cameras.shape[0]
    d_camera, d_point = np.empty((n, 2, 11)), np.empty((n, 2, 3))
    for i in range(n):
        c = cameras[i]
        angle = np.sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2])
        co, si, per = np.cos(angle), np.sin(angle), 1 / angle
        v0, v1, v2 = c[0] * per, c[1] * per, c[2] * per
        x0, x1, x2 = points[i, 0] - c[3], points[i, 1] - c[4], points[i, 2] - c[5]
        d, one = v0 * x0 + v1 * x1 + v2 * x2, 1 - co
        k0, k1, k2 = v1 * x2 - v2 * x1, v2 * x0 - v0 * x2, v0 * x1 - v1 * x0
        z = 1 / (x2 * co + k2 * si + v2 * d * one)
        a, b = (x0 * co + k0 * si + v0 * d * one) * z, (x1 * co + k1 * si + v1 * d * one) * z
        q = a * a + b * b
        scale, slope = 1 + q * (c[9] + c[10] * q), c[9] + 2 * c[10] * q
        w = weights[i]
        f = w * c[6]
        for e in range(2):
            g0 = scale + 2 * a * a * slope if e == 0 else 2 * a * b * slope
            g1 = 2 * a * b * slope if e == 0 else scale + 2 * b * b * slope
            s0, s1 = f * g0 * z, f * g1 * z
            s2 = -(s0 * a + s1 * b)
            sv = s0 * v0 + s1 * v1 + s2 * v2
            e0 = s0 * co + si * (s1 * v2 - s2 * v1) + sv * one * v0
            e1 = s1 * co + si * (s2 * v0 - s0 * v2) + sv * one * v1
            e2 = s2 * co + si * (s0 * v1 - s1 * v0) + sv * one * v2
            h0 = si * (s2 * x1 - s1 * x2) + one * (s0 * d + sv * x0)
            h1 = si * (s0 * x2 - s2 * x0) + one * (s1 * d + sv * x1)
            h2 = si * (s1 * x0 - s0 * x1) + one * (s2 * d + sv * x2)
            turn = si * (d * sv - s0 * x0 - s1 * x1 - s2 * x2) + co * (s0 * k0 + s1 * k1 + s2 * k2)
            along = h0 * v0 + h1 * v1 + h2 * v2
            d_camera[i, e, 0] = (h0 - along * v0) * per + turn * v0
            d_camera[i, e, 1] = (h1 - along * v1) * per + turn * v1
            d_camera[i, e, 2] = (h2 - along * v2) * per + turn * v2
            d_camera[i, e, 3], d_camera[i, e, 4], d_camera[i, e, 5] = -e0, -e1, -e2
            d_point[i, e, 0], d_point[i, e, 1], d_point[i, e, 2] = e0, e1, e2
            part = a if e == 0 else b
            d_camera[i, e, 6] = w * part * scale
            d_camera[i, e, 7], d_camera[i, e, 8] = w * (1 - e), w * e
            d_camera[i, e, 9], d_camera[i, e, 10] = f * part * q, f * part * q * q
    return d_camera, d_point


def workloads() -> Iterator[Workload]:
    rng = np.random.default_rng(0)
    cameras = rng.normal(size=(OBSERVATIONS, 11)) * 0.1
    cameras[:, 5] -= 5
    cameras[:, 6] += 500
    points, seen = rng.normal(size=(OBSERVATIONS, 3)), rng.normal(size=(OBSERVATIONS, 2))
    weights = rng.uniform(0.5, 1, size=OBSERVATIONS)
    ours = tg.vmap(tg.jacobian(residual(np), argnums=(0, 1)))
    theirs = jax.jit(jax.vmap(jax.jacrev(residual(jnp), argnums=(0, 1))))
    yield Workload(
        f"{OBSERVATIONS:,} residuals",
        (cameras, points, weights, seen),
        by_hand,
        (
            Entry("tracegrad", OURS, ours),
            Entry("JAX", JAX, theirs),
            Entry("numba by hand", BY_HAND, by_hand),
        ),
        tolerance=1e-11,
    )


if __name__ == "__main__":
    main(workloads())
