"""The way into compiled code: small Python functions, written for one version of a function.

In: the parameters of the user's function, the structure of a call's arguments, the compiled
program, the structure of its results. Out: a Python function that looks at types and structure,
allocates the results, runs the compiled code and packs what it gave. For `loss.value_and_grad`:

    def loss_value_and_grad(x, *, grad_out=None):
        if type(x) is not ndarray or x.dtype is not of_float64 and x.dtype != of_float64:
            return other(x)
        try:
            d_x = empty(x.shape) if x.size < 524288 else large(x.shape, of_float64)
            y = run(x, d_x)
        except (TypeError, ValueError):
            return other(x)
        return (float64(y), d_x)

Whatever such a function does not expect goes to `other`: the entry of another version, and at the
end of that chain the long road, which normalises the arguments and finds or traces a version, or
raises what is to be raised. The compiled code itself checks ranks, layout and guards; where several
versions take arguments of one structure ranks and guards are looked at before it is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature
from typing import Any

from codegen.records import dataclass
from tracegrad.filling import MISSED, filled
from tracegrad.ir.dims import symbols
from tracegrad.run import Run, Sizes, Writer, function_name, packed
from tracegrad.tree import Tree
from tracegrad.unpacking import Unpacking


class Absent:
    """The value of a parameter for which nothing was given."""

    def __repr__(self) -> str:
        return "<not given>"


ABSENT = Absent()


@dataclass
class Call:
    """The parameters of a function as the text of its `def`, and of a call with the same values."""

    signature: Signature
    out: str
    """A further parameter for arrays that take the results: `out`, `grad_out`, or none."""

    def parameters(self, absent: str) -> str:
        found, kinds = [], []
        for parameter in self.signature.parameters.values():
            self._separate(found, kinds, parameter.kind)
            star = {Parameter.VAR_POSITIONAL: "*", Parameter.VAR_KEYWORD: "**"}.get(
                parameter.kind, ""
            )
            default = "" if star or parameter.default is Parameter.empty else f"={absent}"
            found.append(f"{star}{parameter.name}{default}")
        if Parameter.POSITIONAL_ONLY in kinds and set(kinds) == {Parameter.POSITIONAL_ONLY}:
            found.append("/")
        if self.out and not {Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY} & set(kinds):
            found.append("*")
        return ", ".join([*found, *([f"{self.out}=None"] if self.out else [])])

    @staticmethod
    def _separate(found: list[str], kinds: list[Any], kind: Any) -> None:
        """`/` after the positional parameters, `*` before the keywords."""
        if kinds and kinds[-1] is Parameter.POSITIONAL_ONLY is not kind:
            found.append("/")
        named = {Parameter.VAR_POSITIONAL, Parameter.KEYWORD_ONLY}
        if kind is Parameter.KEYWORD_ONLY and not named & set(kinds):
            found.append("*")
        kinds.append(kind)

    @property
    def arguments(self) -> str:
        written = {
            Parameter.VAR_POSITIONAL: "*{0}",
            Parameter.VAR_KEYWORD: "**{0}",
            Parameter.KEYWORD_ONLY: "{0}={0}",
        }
        parameters = self.signature.parameters.values()
        found = [written.get(p.kind, "{0}").format(p.name) for p in parameters]
        named = [f"{self.out}={self.out}"] if self.out else []
        if found and found[-1].startswith("**"):
            return ", ".join([*found[:-1], *named, found[-1]])
        return ", ".join([*found, *named])


@dataclass(frozen=True)
class Entrance:
    """What the entries of one structure of arguments have in common."""

    name: str
    signature: Signature
    arguments: Sequence[tuple[str, Tree]]
    """The parameters for which something was given, with its structure."""
    out: str
    """The parameter for arrays that take the results."""
    place: Callable[..., Any]
    """What it says of the results as a whole."""


@dataclass
class Entry:
    """What the entry of one version is written from."""

    at: Entrance
    run: Run
    results: Tree
    version: Any

    @property
    def key(self) -> Any:
        """What tells entries of one function apart."""
        return id(self.version)

    def resembles(self, other: Entry) -> bool:
        """Whether only ranks and guards tell calls for this entry from those for `other`."""
        return type(self) is type(other) and self.at.arguments == other.at.arguments

    def function(
        self, other: Callable[..., Any], checked: bool, latest: Any = None
    ) -> Callable[..., Any]:
        """The entry. `other` takes calls that are not for this version; with `checked` ranks and
        guards are looked at first; a call sets the attribute `latest` of that object."""
        parameters = self.at.signature.parameters
        writer = Writer({*parameters, self.at.out})
        call = Call(self.at.signature, self.at.out)
        absent = writer.object("absent", ABSENT)
        miss = f"return {writer.object('other', other)}({call.arguments})"
        unpacking = Unpacking(writer, self.run.graph.inputs, miss)
        leaves = unpacking.all(self.at.arguments, parameters, absent)
        inputs = self.take(unpacking, leaves)
        sizes = Sizes(self.run.graph, inputs)
        if checked or not self.run.looks:
            self._check(unpacking, inputs, sizes)
        if self.at.out:
            self.into(unpacking, inputs)
        writer.add("try:")
        names = self.run.write(writer, inputs, 2, sizes)
        writer.add(f"except ({writer.type(TypeError)}, {writer.type(ValueError)}):")
        writer.add(miss, indent=2)
        if latest is not None:
            owner, version = writer.object("owner", latest), writer.object("version", self.version)
            writer.add(f"{owner}.latest = {version}")
        writer.add(f"return {self.give(writer, leaves, inputs, names)}")
        return writer.function(function_name(self.at.name), call.parameters(absent))

    def into(self, unpacking: Unpacking, inputs: Sequence[str]) -> None:
        """Calls with arrays for the results."""
        writer, out = unpacking.writer, self.at.out
        filling = writer.object("into", filled(self.version.into, self.at.place, out))
        found, missed = writer.unique("found"), writer.object("missed", MISSED)
        writer.add(f"if {out} is not None:")
        writer.add(f"{found} = {filling}({', '.join([out, *inputs])})", indent=2)
        writer.add(f"if {found} is not {missed}:", indent=2)
        writer.add(f"return {found}", indent=3)
        writer.add(unpacking.miss, indent=2)

    def take(self, unpacking: Unpacking, leaves: Sequence[str]) -> Sequence[str]:
        """Lines that look at the leaves; the names of the arrays and numbers in them."""
        nodes = self.run.graph.inputs
        wrong = [unpacking.wrong(name, node) for name, node in zip(leaves, nodes, strict=True)]
        if wrong:
            unpacking.refuse(*wrong)
        return leaves

    def give(
        self, writer: Writer, leaves: Sequence[str], inputs: Sequence[str], names: Sequence[str]
    ) -> str:
        """What is returned; `names` are those of the results."""
        return packed(writer, self.run.graph.outputs, names, self.results)

    def _check(self, unpacking: Unpacking, inputs: Sequence[str], sizes: Sizes) -> None:
        """Ranks, then the guards."""
        graph = self.run.graph
        for name, node in zip(inputs, graph.inputs, strict=True):
            if node.type.rank:
                unpacking.refuse(f"{name}.ndim != {node.type.rank}")
        conditions = [
            (f"{inputs[number]}.shape[{axis}] != {{}}", (size,))
            for number, axis, size in graph.entry_guards
        ] + [(f"not {{}} {g.relation} {{}}", (g.left, g.right)) for g in graph.guards]
        wanted = {s for _, found in conditions for size in found for s in symbols(size)}
        sizes.write(unpacking.writer, wanted, 1)
        for text, found in conditions:
            unpacking.refuse(text.format(*(f"({sizes.text(size)})" for size in found)))
