"""Train a two-layer network on the handwritten digits that scikit-learn bundles.

    python examples/digits.py --epochs 30 --seed 0 --out digits.png

The loss is a plain NumPy function; `@tg.trace` compiles it and its gradient once for all batch
sizes. The optimiser (gradient descent with momentum) is six lines, below.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from matplotlib.figure import Figure
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import tracegrad as tg

HIDDEN, CLASSES = 96, 10
BATCH, RATE, MOMENTUM = 32, 0.1, 0.9
COLUMNS = 12


@tg.trace
def scores(params, images):
    hidden = np.maximum(images @ params["w1"] + params["b1"], 0)
    return hidden @ params["w2"] + params["b2"]


@tg.trace
def loss(params, images, targets):
    """The mean cross-entropy; a row of `targets` is 1 at the right class and 0 elsewhere."""
    log_probabilities = tg.log_softmax(scores(params, images), axis=1)
    return -np.mean(np.sum(targets * log_probabilities, axis=1))


def initial(pixels: int, rng: np.random.Generator) -> dict[str, tg.Tensor]:
    """Weights of variance 2 / inputs, which keeps the scale of the signal (He et al., 2015)."""
    values = {
        "w1": rng.normal(scale=(2 / pixels) ** 0.5, size=(pixels, HIDDEN)),
        "b1": np.zeros(HIDDEN),
        "w2": rng.normal(scale=(2 / HIDDEN) ** 0.5, size=(HIDDEN, CLASSES)),
        "b2": np.zeros(CLASSES),
    }
    return {name: tg.tensor(value, requires_grad=True) for name, value in values.items()}


def batches(count: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """The numbers 0 .. count-1 in random order, a batch at a time; the last one may be smaller."""
    order = rng.permutation(count)
    return (order[start : start + BATCH] for start in range(0, count, BATCH))


def train(params, velocity, images, targets, rng: np.random.Generator) -> float:
    """One epoch; the mean loss of its batches."""
    losses = []
    for batch in batches(len(images), rng):
        value = loss(params, images[batch], targets[batch])
        value.backward()
        with tg.no_grad():
            for name, param in params.items():
                velocity[name] = MOMENTUM * velocity[name] - RATE * param.grad
                param += velocity[name]
                param.grad = None
        losses.append(value.item())
    return float(np.mean(losses))


def picture(losses: list[float], images: np.ndarray, titles: list[str], out: str) -> None:
    """The loss curve, and below it the digits that were taken for others."""
    figure = Figure(figsize=(8, 6), layout="constrained")
    curve, gallery = figure.subfigures(2, 1, height_ratios=(2, 1))
    axes = curve.subplots()
    axes.semilogy(range(1, len(losses) + 1), losses, marker=".")
    axes.set(xlabel="epoch", ylabel="mean cross-entropy", title="training loss")
    rows = max(1, -(-len(images) // COLUMNS))
    for axes in gallery.subplots(rows, COLUMNS).flat:
        axes.set_axis_off()
    for axes, image, title in zip(gallery.axes, images, titles, strict=False):
        axes.imshow(image.reshape(8, 8), cmap="gray_r")
        axes.set_title(title, fontsize=7)
    figure.savefig(out, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="digits.png")
    options = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images / 16, labels, test_size=0.25, random_state=options.seed, stratify=labels
    )
    targets = np.eye(CLASSES)[train_y]
    rng = np.random.default_rng(options.seed)
    params = initial(train_x.shape[1], rng)
    velocity = {name: np.zeros(param.shape) for name, param in params.items()}

    losses, seconds = [], []
    progress = tqdm(range(options.epochs), unit="epoch")
    for _ in progress:
        start = time.perf_counter()
        losses.append(train(params, velocity, train_x, targets, rng))
        seconds.append(time.perf_counter() - start)
        progress.set_postfix(loss=f"{losses[-1]:.4f}")

    with tg.no_grad():
        predicted = scores(params, test_x).numpy().argmax(axis=1)
    wrong = np.flatnonzero(predicted != test_y)
    accuracy = 1 - len(wrong) / len(test_y)
    titles = [f"{test_y[k]}, not {predicted[k]}" for k in wrong]
    picture(losses, test_x[wrong], titles, options.out)

    print(loss.dump())
    print(f"first epoch (compiles)  {seconds[0]:.3f} s")
    print(f"later epochs (median)   {np.median(seconds[1:]):.4f} s")
    print(f"test accuracy           {accuracy:.2%}: {len(wrong)} of {len(test_y)} wrong")
    print(f"picture                 {options.out}")
    print(f"generated source        {loss.source().path}")
    assert accuracy >= 0.97, f"test accuracy {accuracy:.2%} is below 97 %"


if __name__ == "__main__":
    main()
