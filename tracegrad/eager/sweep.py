"""One backward pass on arrays: what `backward` does where the gradients need no graph themselves.

In: nodes of an eager graph and the cotangents of their values, as arrays. Out: the cotangents of
the nodes asked for. Each node's rule runs as a function of arrays (`rule`); where there is none, on
tensors (`walk`). Saved arrays are dropped as soon as they were used, unless the graph is retained.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from tracegrad.eager.core import Core
from tracegrad.eager.modes import recording_gradients
from tracegrad.eager.node import Differentiable, Recorded, Site
from tracegrad.eager.walk import Walk, accumulate, check, freed, run_hooks
from tracegrad.ops.project import PROJECT

Parts = Sequence[Any]
"""One cotangent for each operand of a node; None where none is wanted."""


def behind(roots: Iterable[Differentiable]) -> set[Differentiable]:
    """The nodes that gradients of `roots` go on to, these included."""
    seen: set[Differentiable] = set()
    stack: list[Any] = list(roots)
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [x for x, want in zip(node.inputs, node.wanted, strict=True) if want]
    return seen


class Sweep:
    """A backward pass; `kind` is the class of tensors that hooks see."""

    def __init__(self, kind: type[Core], retain: bool, site: Site | None) -> None:
        self.kind, self.retain, self.site = kind, retain, site
        self.found: dict[Any, Any] = {}
        """Cotangents; of a node with several results those that there are, by number."""
        self.fresh: set[Any] = set()
        """The nodes whose cotangent is an array that nobody else sees."""

    def run(
        self,
        roots: Sequence[Differentiable],
        cts: Sequence[np.ndarray],
        nodes: Collection[Differentiable],
        wrt: Sequence[Differentiable],
    ) -> list[Core | None]:
        """The cotangents of `wrt` from those of `roots`; gradients pass through `nodes` only."""
        for root, ct in zip(roots, cts, strict=True):
            if root in nodes:
                self.add(root, ct, False)
        kept, found = set(wrt), self.found
        inner = [node for node in nodes if isinstance(node, Recorded)]
        inner.sort(key=_serial, reverse=True)
        for node in inner:
            ct = found.get(node)
            if ct is None:
                continue
            if node.hooks is not None or node.retained is not None:
                ct = self._shown(node, ct)
            if node not in kept:
                del found[node]
            if node.op is PROJECT:
                self._project(node, ct)
                continue
            parts, fresh = self._pulled(node, ct)
            for operand, part, own in zip(node.inputs, parts, fresh, strict=True):
                if part is not None and operand in nodes:
                    self.add(operand, part, own)
        return [self._tensor(node) for node in wrt]

    def add(self, node: Any, ct: Any, own: bool) -> None:
        """Add to the cotangent of a node; `own` says that nobody else sees the array."""
        found = self.found
        before = found.get(node)
        if before is None:
            found[node] = ct
            if own:
                self.fresh.add(node)
        elif node in self.fresh:
            np.add(before, ct, out=before)
        else:
            found[node] = np.asarray(before + ct)
            self.fresh.add(node)

    def _pulled(self, node: Recorded, ct: Any) -> tuple[Parts, Sequence[bool]]:
        saved, rule = node.saved, node.rule
        if saved is None:
            raise RuntimeError(freed(node))
        pull = None if rule is None else rule.pull or rule.ready()
        if rule is None or pull is None:
            return self._by_tensors(node, ct)
        for number, value in enumerate(saved):
            if value is not None and value.overwritten:
                check(node, node.places[number], value)
        if node.consumable and not self.retain:
            node.free(self.site)
        return pull(ct, saved), rule.fresh

    def _by_tensors(self, node: Recorded, ct: Any) -> tuple[Parts, Sequence[bool]]:
        """By the node's rule as it stands."""
        kind, count = self.kind, len(getattr(node.type, "parts", ()))
        if count:
            given: Any = [kind.of(ct[n]) if n in ct else None for n in range(count)]
        else:
            given = kind.of(ct)
        found = Walk(kind, self.retain, False, self.site).pulled(node, given)
        parts = [None if part is None else part._data for part in found]
        return parts, [part is not None and part._fresh for part in found]

    def _shown(self, node: Recorded, ct: Any) -> Any:
        """The cotangent after hooks saw it, and a tensor that keeps its gradient."""
        tensor = self.kind.of(ct)
        with recording_gradients(False):
            if node.hooks:
                tensor = run_hooks(node.hooks, tensor)
        keeper = node.retained() if node.retained is not None else None
        if keeper is not None:
            accumulate(keeper, tensor, False)
        self.fresh.discard(node)
        self.found[node] = tensor._data
        return tensor._data

    def _project(self, node: Recorded, ct: Any) -> None:
        """A projection hands its cotangent to its place among the several results."""
        parts = self.found.setdefault(node.inputs[0], {})
        index = node.attributes["index"]
        parts[index] = np.asarray(parts[index] + ct) if index in parts else ct

    def _tensor(self, node: Differentiable) -> Core | None:
        ct = self.found.get(node)
        if ct is None:
            return None
        tensor = self.kind.of(ct)
        tensor._fresh = node in self.fresh
        return tensor


def leading_to(
    nodes: Collection[Differentiable], wrt: Sequence[Differentiable]
) -> set[Differentiable]:
    """Those of `nodes` that gradients pass through on their way to `wrt`, these included."""
    found = {node for node in wrt if node in nodes}
    for node in sorted(nodes, key=_serial):
        if any(x in found for x, want in zip(node.inputs, node.wanted, strict=True) if want):
            found.add(node)
    return found


def _serial(node: Differentiable) -> int:
    return node.serial
