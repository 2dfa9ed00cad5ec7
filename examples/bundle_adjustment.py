"""Bundle adjustment: cameras and points from what the cameras saw, with a sparse Jacobian.

Run: python examples/bundle_adjustment.py [picture.png]
"""

import sys
import time

import numpy as np
from matplotlib.figure import Figure
from scipy.optimize import least_squares

import tracegrad as tg

CAMERAS, POINTS = 12, 150


def seen(camera, point):
    """Where a camera (rotation vector, centre, focal length) sees a point, in its picture."""
    rotation, offset = camera[:3], point - camera[3:6]
    angle = np.sqrt(np.sum(rotation**2))
    axis = rotation / angle
    turned = (
        offset * np.cos(angle)
        + np.cross(axis, offset) * np.sin(angle)
        + axis * np.dot(axis, offset) * (1 - np.cos(angle))
    )
    return camera[6] * turned[:2] / turned[2]


@tg.trace
def residuals(parameters, which_camera, which_point, observed):
    """How far every observed point lies from where it should be."""
    cameras = parameters[: 7 * CAMERAS].reshape(CAMERAS, 7)
    points = parameters[7 * CAMERAS :].reshape(POINTS, 3)
    expected = tg.vmap(seen)(cameras[which_camera], points[which_point])
    return (expected - observed).ravel()


def scene(rng):
    """Cameras on an arc around a cloud of points; each sees two thirds of them, with some noise."""
    points = rng.normal(size=(POINTS, 3))
    turns = np.linspace(-0.6, 0.6, CAMERAS)
    centres = np.stack([8 * np.sin(turns), 0.1 * turns, -8 * np.cos(turns)], axis=1)
    rotations = np.stack([0.02 + 0 * turns, turns, 0.01 + 0 * turns], axis=1)
    cameras = np.concatenate([rotations, centres, np.full((CAMERAS, 1), 500.0)], axis=1)
    which_camera, which_point = np.nonzero(rng.random((CAMERAS, POINTS)) < 2 / 3)
    exact = tg.vmap(seen)(cameras[which_camera], points[which_point])
    observed = exact + rng.normal(scale=0.3, size=exact.shape)
    return np.concatenate([cameras.ravel(), points.ravel()]), (which_camera, which_point, observed)


def main(picture=None):
    rng = np.random.default_rng(0)
    truth, data = scene(rng)
    start = truth + rng.normal(scale=0.02, size=truth.shape)
    jacobian = tg.sparse_jacobian(residuals)
    matrix = jacobian(start, *data)
    colours = len(jacobian.plan(start, *data).seeds[0])
    rows, columns = matrix.shape
    print(f"Jacobian {rows} x {columns}, {matrix.nnz} entries, by {colours} products with it")
    begun = time.perf_counter()
    found = least_squares(residuals, start, jacobian, x_scale="jac", args=data, method="trf")
    before, after = (np.sqrt(np.mean(residuals(x, *data) ** 2)) for x in (start, found.x))
    print(f"{found.nfev} steps in {time.perf_counter() - begun:.2f} s")
    print(f"root mean square error {before:.2f} -> {after:.3f} pixels; noise 0.3")
    assert after < 0.3, "what is left is the noise"
    if picture:
        draw(picture, start, found.x, data)


def draw(path, start, found, data):
    figure = Figure(figsize=(9, 4))
    left, right = figure.subplots(1, 2)
    for x, label in ((start, "at the start"), (found, "adjusted")):
        left.plot(*residuals(x, *data).reshape(-1, 2).T, ".", markersize=2, label=label)
    left.set(title="residuals in pixels", aspect="equal")
    left.legend()
    right.spy(tg.sparse_jacobian(residuals).pattern(found, *data), markersize=0.2, aspect="auto")
    right.set_title("the Jacobian's pattern")
    figure.savefig(path)


if __name__ == "__main__":
    main(*sys.argv[1:2])
