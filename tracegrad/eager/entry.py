"""Entries for tensors: the way of a traced function's tensors into its compiled forward.

In: a version, which of its leaves are tensors, and which of these require a gradient. Out: a Python
function as `tracegrad.entry` writes them:

    def loss(x):
        if type(x) is not Tensor or not grad_enabled():
            return other(x)
        x_node = x._node()
        if x_node is None:
            return other(x)
        x_data = x._data
        if x_data.dtype is not of_float64 and x_data.dtype != of_float64:
            return other(x)
        try:
            y = run(x_data)
        except (TypeError, ValueError):
            return other(x)
        (y,) = record((x,), (x_data,), (x_node,), (asarray(y, of_float64),))
        return y
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

from codegen.records import dataclass
from tracegrad.eager.core import Core
from tracegrad.eager.modes import is_grad_enabled
from tracegrad.entry import Entry
from tracegrad.ir.graph import Node
from tracegrad.run import Writer, as_arrays, structure
from tracegrad.unpacking import Unpacking


@dataclass
class TensorEntry(Entry):
    """The entry for one choice of leaves that are tensors, and of those that are recorded."""

    kind: type[Core]
    held: Sequence[bool]
    """The leaves that are tensors."""
    wanted: Sequence[bool]
    """Those that require a gradient; with none of them nothing is recorded."""
    record: Callable[..., Sequence[Core]]
    """Tensors of `(leaves, values, nodes, results)`."""
    nodes: list[str] = field(default_factory=list)

    @staticmethod
    def key_of(version: Any, kind: type, held: Sequence[bool], wanted: Sequence[bool]) -> Any:
        return (id(version), kind, tuple(held), tuple(wanted))

    @property
    def key(self) -> Any:
        return self.key_of(self.version, self.kind, self.held, self.wanted)

    def into(self, unpacking: Unpacking, inputs: Sequence[str]) -> None:
        """What tensors do with `out` is for the long road to say."""
        unpacking.refuse(f"{self.at.out} is not None")

    def take(self, unpacking: Unpacking, leaves: Sequence[str]) -> Sequence[str]:
        writer = unpacking.writer
        self.nodes = []
        self._look(unpacking, leaves)
        inputs, wrong = [], []
        for leaf, held, node in zip(leaves, self.held, self.run.graph.inputs, strict=True):
            if held:
                inputs.append(writer.unique(f"{leaf}_data"))
                element = "" if node.type.rank else "[()]"
                writer.add(f"{inputs[-1]} = {leaf}._data{element}")
                if not node.type.rank:
                    scalar = writer.type(node.type.dtype.type)
                    wrong.append(f"{unpacking.kind_of(inputs[-1])} is not {scalar}")
                    continue
            else:
                inputs.append(leaf)
            wrong.append(unpacking.wrong(inputs[-1], node))
        unpacking.refuse(*wrong)
        return inputs

    def _look(self, unpacking: Unpacking, leaves: Sequence[str]) -> None:
        """Tensors stand where they are expected, and the expected ones require a gradient."""
        writer = unpacking.writer
        tensors = [leaf for leaf, held in zip(leaves, self.held, strict=True) if held]
        kind = writer.type(self.kind)
        enabled = f"{writer.object('grad_enabled', is_grad_enabled)}()"
        missing = [f"{unpacking.kind_of(leaf)} is not {kind}" for leaf in tensors]
        if any(self.wanted):
            missing.append(f"not {enabled}")
        unpacking.refuse(" or ".join(missing))
        tests = []
        for leaf, held, wanted in zip(leaves, self.held, self.wanted, strict=True):
            if wanted:
                self.nodes.append(writer.unique(f"{leaf}_node"))
                writer.add(f"{self.nodes[-1]} = {leaf}._node()")
                tests.append(f"{self.nodes[-1]} is None")
            else:
                self.nodes.append("None")
                if held:
                    tests.append(f"{leaf}._node() is not None")
        test = " or ".join(tests)
        unpacking.refuse(test if any(self.wanted) else f"{enabled} and ({test})")

    def give(
        self, writer: Writer, leaves: Sequence[str], inputs: Sequence[str], names: Sequence[str]
    ) -> str:
        outputs: Sequence[Node] = self.run.graph.outputs
        record = writer.object("record", self.record)
        given = ", ".join(f"({', '.join(part)},)" for part in (leaves, inputs, self.nodes))
        found = f"({as_arrays(writer, outputs, names)})" if names else "()"
        count = self.results_count
        tensors = [writer.unique(f"{name}_tensor") for name in names[:count]]
        targets = f"({', '.join(tensors)},) = " if tensors else ""
        writer.add(f"{targets}{record}({given}, {found})")
        return structure(writer, self.results, iter(tensors))

    @property
    def results_count(self) -> int:
        return len(self.version.graph.outputs)
