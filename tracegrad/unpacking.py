"""Lines of a written function that take arguments apart: `tracegrad.entry` says what they are for.

if type(params) is not dict or (*params,) != keys:
    return other(params, x)
params_w, params_b = params.values()
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from inspect import Parameter
from typing import Any

import numpy as np

from codegen.records import dataclass
from tracegrad.ir.graph import Node
from tracegrad.run import Writer, constant
from tracegrad.tree import Branch, Leaf, Static, Tree


@dataclass
class Unpacking:
    """Lines that take arguments apart, and send away what has another structure."""

    writer: Writer
    inputs: Sequence[Node]
    miss: str
    names: list[str] = field(default_factory=list)
    """Of the leaves found so far."""

    def all(
        self,
        arguments: Sequence[tuple[str, Tree]],
        parameters: Mapping[str, Parameter],
        absent: str,
    ) -> list[str]:
        given = dict(arguments)
        for name, parameter in parameters.items():
            if name not in given:
                several = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
                self.refuse(name if several else f"{name} is not {absent}")
        for parameter, tree in arguments:
            self.take(parameter, tree)
        return self.names

    def refuse(self, *conditions: str) -> None:
        """Send the call on if one of these holds."""
        first, *others = conditions
        if others:
            self.writer.add("if (", f"    {first}", *(f"    or {text}" for text in others), "):")
        else:
            self.writer.add(f"if {first}:")
        self.writer.add(self.miss, indent=2)

    def wrong(self, name: str, node: Node) -> str:
        """Compiled code does not look at the byte order, so the dtype is looked at here."""
        if not node.type.rank:
            kind = float if node.type.weak else node.type.dtype.type
            return f"{self.kind_of(name)} is not {self.writer.type(kind)}"
        dtype = self.writer.object(f"of_{node.type.dtype.name}", node.type.dtype)
        wrong = f"{name}.dtype is not {dtype} and {name}.dtype != {dtype}"
        return f"{self.kind_of(name)} is not {self.writer.type(np.ndarray)} or {wrong}"

    def kind_of(self, name: str) -> str:
        """`type(x)`, by another name where an argument is called `type`."""
        return f"{self.writer.object('type', type)}({name})"

    def take(self, name: str, tree: Tree) -> None:
        """The value called `name` has the structure `tree`."""
        match tree:
            case Leaf():
                self.leaf(name)
            case Static(value):
                self.static(name, value)
            case Branch():
                self.branch(name, tree)

    def leaf(self, name: str) -> None:
        node = self.inputs[len(self.names)]
        if not node.type.rank and not node.type.weak:
            array = self.writer.type(np.ndarray)
            self.writer.add(f"{name} = {name}[()] if {self.kind_of(name)} is {array} else {name}")
        self.names.append(name)

    def static(self, name: str, value: Any) -> None:
        if value is None or value is True or value is False:
            self.refuse(f"{name} is not {value}")
        else:
            kind, fixed = self.writer.type(type(value)), constant(self.writer, value)
            self.refuse(f"{self.kind_of(name)} is not {kind} or {name} != {fixed}")

    def branch(self, name: str, tree: Branch) -> None:
        kind = self.writer.type(tree.kind)
        parts = [self.writer.unique(re.sub(r"\W", "_", f"{name}_{key}")) for key in tree.keys]
        if issubclass(tree.kind, dict):
            keys = self.writer.object("keys", tree.keys)
            self.refuse(f"{self.kind_of(name)} is not {kind} or (*{name},) != {keys}")
            source = f"{name}.values()"
        elif issubclass(tree.kind, tuple | list):
            length = self.writer.object("len", len)
            self.refuse(f"{self.kind_of(name)} is not {kind} or {length}({name}) != {len(parts)}")
            source = name
        else:
            self.refuse(f"{self.kind_of(name)} is not {kind}")
            source = ", ".join(f"{name}.{key}" for key in tree.keys)
            source += "," if len(parts) == 1 else ""
        if parts:
            comma = "," if len(parts) == 1 else ""
            self.writer.add(f"{', '.join(parts)}{comma} = {source}")
        for part, child in zip(parts, tree.children, strict=True):
            self.take(part, child)
