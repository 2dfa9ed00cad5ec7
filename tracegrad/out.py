"""Results into arrays of the caller's: what `f(x, out=y)` checks, and where each result goes.

In: what was given as `out`, normalised arguments. Out: the results, in the arrays given; `None`
stands for a result that is to be a new array:

    loss.value_and_grad(x, out=(None, g))      ->      (value, g)

The compiled code writes straight into an array that is C-contiguous and shares no memory with an
argument; into others its result is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.blocks import empty
from tracegrad.ir.dims import symbols
from tracegrad.ir.interpret import fits
from tracegrad.run import Run, Sizes, Writer
from tracegrad.tree import Branch, Leaf, Static, Tree, unflatten


@dataclass(frozen=True)
class Into:
    """Runs a program with results in given arrays."""

    name: str
    run: Run
    tree: Tree
    """The structure of the results."""

    @cached_property
    def shapes(self) -> Callable[..., tuple[tuple[int, ...] | None, ...]]:
        """`shapes(*leaves)`: those of the results; None where data decides."""
        writer, graph = Writer(), self.run.graph
        inputs = [writer.unique(node.name) for node in graph.inputs]
        sizes = Sizes(graph, inputs)
        known = [
            {letter for size in node.type.shape for letter in symbols(size)}
            for node in graph.outputs
        ]
        certain = [letters <= set(graph.sizes) for letters in known]
        sizes.write(
            writer,
            {x for found, sure in zip(known, certain, strict=True) if sure for x in found},
            1,
        )
        texts = [
            f"({''.join(f'{sizes.text(size)}, ' for size in node.type.shape)})" if sure else "None"
            for node, sure in zip(graph.outputs, certain, strict=True)
        ]
        writer.add(f"return ({''.join(f'{text}, ' for text in texts)})")
        return writer.function("shapes", ", ".join(inputs))

    def takes(self, *values: Any) -> bool:
        """Whether the program can be run on these leaves as they are."""
        graph = self.run.graph
        for value, node in zip(values, graph.inputs, strict=True):
            if type(value) is np.ndarray and not (
                value.ndim == node.type.rank and value.flags.carray and value.dtype.isnative
            ):
                return False
        return not (graph.guards or graph.entry_guards) or fits(graph, values)

    def __call__(self, out: Any, *values: Any) -> Any:
        """The results for arguments that the program takes, in the arrays `out`."""
        outputs, shapes = self.run.graph.outputs, self.shapes(*values)
        targets = list(self._targets(self.tree, out, "out"))
        self._check(targets, shapes)
        places = [self._place(array, values) for _, array in targets]
        given = [
            empty(shapes[number], outputs[number].type.dtype)  # type: ignore[arg-type]
            if places[number] is None
            else places[number]
            for number in self.run.given
        ]
        found = self.run.function(*values, *given)
        others = [number for number in range(len(outputs)) if number not in self.run.given]
        results: dict[int, Any] = dict(zip(self.run.given, given, strict=True))
        results |= dict(zip(others, (found,) if len(others) == 1 else found or (), strict=True))
        return unflatten(self.tree, self._delivered(targets, results))

    def _delivered(
        self, targets: Sequence[tuple[str, np.ndarray | None]], results: dict[int, Any]
    ) -> Iterator[Any]:
        for number, (_, target) in enumerate(targets):
            result, type = results[number], self.run.graph.outputs[number].type
            if target is None:
                yield result if type.rank else type.dtype.type(result)
            else:
                if result is not target:
                    target[...] = result
                yield target

    def _targets(self, tree: Tree, out: Any, name: str) -> Iterator[tuple[str, np.ndarray | None]]:
        """For each result its array in `out`, called `name`, or None."""
        match tree:
            case Leaf():
                if isinstance(out, tuple) and len(out) == 1:
                    (out,) = out
                if out is not None and not isinstance(out, np.ndarray):
                    raise TypeError(
                        f"{self.name}: {name} is a {type(out).__name__}: give a NumPy array, or "
                        "None for a new one"
                    )
                yield name, out
            case Branch(_, keys, children):
                for key, child in zip(keys, children, strict=True):
                    part = None if out is None else self._part(out, tree, key, name)
                    yield from self._targets(child, part, f"{name}[{key!r}]")
            case Static():
                return

    def _part(self, out: Any, tree: Branch, key: Any, name: str) -> Any:
        kind, keys = tree.kind, tree.keys
        if issubclass(kind, dict):
            if isinstance(out, dict) and out.keys() == set(keys):
                return out[key]
        elif issubclass(kind, tuple | list):
            if isinstance(out, tuple | list) and len(out) == len(keys):
                return out[keys.index(key)]
        elif isinstance(out, kind):
            return getattr(out, key)
        raise TypeError(
            f"{self.name}: {name} must be a {kind.__name__} of {', '.join(map(str, keys))}, as the "
            f"result is, with None for what is to be new; it is a {type(out).__name__}"
        )

    def _check(
        self, targets: Sequence[tuple[str, np.ndarray | None]], shapes: Sequence[Any]
    ) -> None:
        """Raise TypeError or ValueError for an array that cannot hold its result."""
        seen: list[tuple[str, np.ndarray]] = []
        outputs = self.run.graph.outputs
        for (name, array), node, shape in zip(targets, outputs, shapes, strict=True):
            if array is None:
                continue
            if array.dtype != node.type.dtype:
                raise TypeError(
                    f"{self.name}: {name} has dtype {array.dtype}, the result {node.type.dtype}"
                )
            if shape is not None and array.shape != shape:
                raise ValueError(f"{self.name}: {name} has shape {array.shape}, the result {shape}")
            if not array.flags.writeable:
                raise ValueError(f"{self.name}: {name} is read-only")
            for other, earlier in seen:
                if np.shares_memory(array, earlier):
                    raise ValueError(f"{self.name}: {name} and {other} share memory")
            seen.append((name, array))

    def _place(self, array: np.ndarray | None, values: Sequence[Any]) -> np.ndarray | None:
        """The array itself if compiled code may write into it while it reads the arguments."""
        if array is None or not array.ndim or type(array) is not np.ndarray:
            return None
        if not array.flags.carray or not array.dtype.isnative:
            return None
        apart = not any(
            isinstance(value, np.ndarray) and np.may_share_memory(array, value) for value in values
        )
        return array if apart else None


def whole(out: Any) -> Any:
    """What `out=` says of the results: all of it."""
    return out


def of_gradient(grad_out: Any) -> Any:
    """What `grad_out=` says of `(value, gradient)`."""
    return None if grad_out is None else (None, grad_out)


def of_gradient_and_aux(out: Any) -> Any:
    """What `out=` says of `(gradient, aux)`."""
    return None if out is None else (out, None)
