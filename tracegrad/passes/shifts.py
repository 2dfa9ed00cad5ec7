"""What softmax and its kin subtract for safety, the largest element, has the derivative zero.

    z = x - max(x);  e = exp(z);  p = e / sum(e)

    d_z = (ct - sum(ct * p)) * p;  d_x = d_z + [x == max(x)] / count * -sum(d_z)    ->    d_x = d_z

In the reverse mode the largest element gets `-sum(d_z)`, which is zero but for rounding. That is
seen by formal algebra: expressions in sums, products and quotients are multiplied out to
polynomials whose letters are elements of arrays, `ct[i, j]`, and sums of products of them, so that
`sum_j ct[i,j] * e[i,j] / s[i]` is `(sum_j ct[i,j] * e[i,j]) / (sum_j e[i,j])`, however it was
written. What comes out as nothing is dropped, and with it a pass over the row, or over the whole
matrix where its largest element was subtracted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Set
from dataclasses import field

from codegen.records import dataclass
from tracegrad.ir.dims import Size
from tracegrad.ir.graph import Builder, Node
from tracegrad.ops.arithmetic import ADD, DIVIDE, MULTIPLY, NEGATIVE, SUBTRACT
from tracegrad.ops.comparison import EQUAL
from tracegrad.ops.constant import ASTYPE, CONSTANT, SIZE
from tracegrad.ops.reduction import BROADCAST_TO, SUM
from tracegrad.ops.shape import RESHAPE
from tracegrad.passes.shares import is_reciprocal

Label = Hashable
"""An axis: one of the result's, counted from its end, or one that is summed over."""
Factor = tuple
"""`("element", serial, labels)` or `("sum", label, product)`."""
Product = frozenset[tuple[Factor, int]]
"""Factors with their powers."""
Polynomial = dict[Product, float]
"""Products with their coefficients."""

ONE: Product = frozenset()
MOST_TERMS, MOST_NODES = 24, 100
DEPTHS = (2, 4, 7, 12)
"""How far it is looked into operands: first a little, which is enough for most."""
OPENED = (SUM, BROADCAST_TO, RESHAPE, DIVIDE)
"""What is looked through at no cost."""


class TooLarge(Exception):
    """The polynomial has more terms than are worth looking at."""


def without_shift(builder: Builder, node: Node) -> Node | None:
    """`a + 0 / count * attained -> a`: a largest element whose cotangent vanishes."""
    for other, share in (node.inputs, node.inputs[::-1]):
        if other.type != node.type or share.op is not MULTIPLY:
            continue
        for spread, attained in (share.inputs, share.inputs[::-1]):
            if attained.op is ASTYPE and attained.inputs[0].op is EQUAL:
                cotangent = _of_largest(spread, attained)
                if cotangent and vanishes(cotangent):
                    return other
    return None


def _of_largest(spread: Node, attained: Node) -> Node | None:
    """`c` of `c * (1 / sum(attained))`, as the derivative of a largest element spreads it."""
    while spread.op in (BROADCAST_TO, RESHAPE):
        (spread,) = spread.inputs
    if spread.op is not MULTIPLY:
        return None
    for cotangent, part in (spread.inputs, spread.inputs[::-1]):
        count = part.inputs[1] if is_reciprocal(part) else part
        if count.op is SUM and count.inputs[0] is attained:
            return cotangent
    return None


def vanishes(node: Node) -> bool:
    """Whether the value is zero whatever the numbers are, but for rounding."""
    labels = tuple(range(-node.type.rank, 0))
    for depth in DEPTHS:
        letters = below(node, depth)
        for step in (1, -1):
            algebra = Algebra(letters, step)
            try:
                if not algebra.polynomial(node, labels):
                    return True
            except TooLarge:
                return False
            if not algebra.several:
                break
    return False


def below(node: Node, depth: int) -> Set[Node]:
    """What is not looked into: behind so many sums and products on the shortest way.

    With `x = a + b`, `x - mean(x)` has a sum of zero for any `x`: nothing is gained from `a`, `b`,
    and what they are made of.
    """
    level, inside = {node}, {node}
    last = set[Node]()
    for _ in range(depth + 1):
        level = _opened(level, inside)
        counted = {top for top in level if top.op in (ADD, SUBTRACT, MULTIPLY, NEGATIVE)}
        behind = {operand for top in counted for operand in top.inputs} - inside
        inside |= behind
        last, level = level, behind
    return last


def _opened(level: Set[Node], inside: set[Node]) -> set[Node]:
    """The nodes of a level, and in the place of those that are looked through what is behind."""
    found, stack = set[Node](), list(level)
    while stack:
        top = stack.pop()
        if top.op in OPENED:
            new = [operand for operand in top.inputs if operand not in inside]
            inside.update(new)
            stack += new
        else:
            found.add(top)
    return found


@dataclass
class Algebra:
    """Multiplies out; sums over several axes are taken one by one, in the order of `step`."""

    letters: Set[Node]
    step: int
    known: dict[tuple[Node, tuple[Label, ...]], Polynomial] = field(default_factory=dict)
    labels: int = 0
    several: bool = False
    """Whether there was a sum over several axes."""

    def polynomial(self, node: Node, labels: tuple[Label, ...]) -> Polynomial:
        """The element of `node` at these labels."""
        found = self.known.get((node, labels))
        if found is None:
            found = self.known[node, labels] = self._polynomial(node, labels)
        if len(found) > MOST_TERMS or len(self.known) > MOST_NODES:
            raise TooLarge
        return found

    def _polynomial(self, node: Node, labels: tuple[Label, ...]) -> Polynomial:
        op, parts = node.op, [(x, labels[len(labels) - x.type.rank :]) for x in node.inputs]
        if node in self.letters:
            return letter(node, labels)
        if op is CONSTANT and not node.type.rank:
            value = float(node.attributes["value"].array)
            return {ONE: value} if value else {}
        if op is SIZE:
            return extent(node.attributes["size"])
        if op in (ADD, SUBTRACT, MULTIPLY):
            left, right = (self.polynomial(*part) for part in parts)
            if op is MULTIPLY:
                return product(left, right)
            return total(left, right, 1.0 if op is ADD else -1.0)
        if op is NEGATIVE:
            return total({}, self.polynomial(*parts[0]), -1.0)
        if op is DIVIDE:
            below = inverse(self.polynomial(*parts[1]))
            return product(self.polynomial(*parts[0]), below) if below else letter(node, labels)
        if op is BROADCAST_TO:
            return self.polynomial(*parts[0])
        if op is RESHAPE:
            moved = _without_units(node, labels)
            return letter(node, labels) if moved is None else self.polynomial(*moved)
        if op is SUM:
            return self._sum(node, labels)
        return letter(node, labels)

    def _sum(self, node: Node, labels: tuple[Label, ...]) -> Polynomial:
        operand, axes = node.inputs[0], node.attributes["axis"]
        self.several |= len(axes) > 1
        kept = iter(labels)
        inner = tuple(
            self._fresh() if axis in axes else next(kept) for axis in range(operand.type.rank)
        )
        found = self.polynomial(operand, inner)
        for axis in axes[:: self.step]:
            found = summed(found, inner[axis], operand.type.shape[axis])
        return found

    def _fresh(self) -> Label:
        self.labels += 1
        return "own", self.labels


def letter(node: Node, labels: tuple[Label, ...]) -> Polynomial:
    """An element that is not looked into; along an axis of extent 1 there is but one."""
    at = tuple(0 if n == 1 else label for n, label in zip(node.type.shape, labels, strict=True))
    return {frozenset({(("element", node.serial, at), 1)}): 1.0}


def total(left: Polynomial, right: Polynomial, factor: float) -> Polynomial:
    found = dict(left)
    for term, number in right.items():
        found[term] = found.get(term, 0.0) + factor * number
    return {term: number for term, number in found.items() if number}


def product(left: Polynomial, right: Polynomial) -> Polynomial:
    found: Polynomial = {}
    for a, x in left.items():
        for b, y in right.items():
            found = total(found, {times(a, b): x * y}, 1.0)
    return found


def times(a: Product, b: Product) -> Product:
    powers = dict(a)
    for factor, power in b:
        powers[factor] = powers.get(factor, 0) + power
    return frozenset((factor, power) for factor, power in powers.items() if power)


def inverse(below: Polynomial) -> Polynomial | None:
    """One over it, if it is one product."""
    if len(below) != 1:
        return None
    ((term, number),) = below.items()
    return {frozenset((factor, -power) for factor, power in term): 1.0 / number}


def extent(size: Size) -> Polynomial:
    """An extent as a number."""
    if isinstance(size, int):
        return {ONE: float(size)} if size else {}
    return {
        frozenset((("extent", str(atom)), count) for atom, count in Counter(term).items()): float(n)
        for term, n in size.terms
    }


def summed(inside: Polynomial, label: Label, size: Size) -> Polynomial:
    """The sum over a label: what does not depend on it stands before each sum."""
    found: Polynomial = {}
    for term, number in inside.items():
        depends = frozenset(part for part in term if label in set(_labels(part[0])))
        one = {frozenset({(_sum_of(depends, label), 1)}): 1.0} if depends else extent(size)
        found = total(found, product({term - depends: number}, one), 1.0)
    return found


def _sum_of(term: Product, label: Label) -> Factor:
    """The letter that stands for a sum; its label is called by how deep sums are nested in it."""
    new = "summed", 1 + max(_depth(factor) for factor, _ in term)
    return "sum", new, frozenset((_renamed(factor, label, new), power) for factor, power in term)


def _labels(factor: Factor) -> Iterator[Label]:
    kind, _, *inside = factor
    if kind == "element":
        yield from inside[0]
    elif kind == "sum":
        for part, _ in inside[0]:
            yield from _labels(part)


def _depth(factor: Factor) -> int:
    return factor[1][1] if factor[0] == "sum" else 0


def _renamed(factor: Factor, old: Label, new: Label) -> Factor:
    if factor[0] == "element":
        _, serial, labels = factor
        return "element", serial, tuple(new if label == old else label for label in labels)
    if factor[0] == "sum":
        _, own, term = factor
        return "sum", own, frozenset((_renamed(part, old, new), power) for part, power in term)
    return factor


def _without_units(node: Node, labels: tuple[Label, ...]) -> tuple[Node, tuple[Label, ...]] | None:
    """The operand and its labels, where a reshape only adds or drops axes of extent 1."""
    (operand,) = node.inputs
    long = [(n, label) for n, label in zip(node.type.shape, labels, strict=True) if n != 1]
    if [n for n, _ in long] != [n for n in operand.type.shape if n != 1]:
        return None
    own = iter(label for _, label in long)
    return operand, tuple(0 if n == 1 else next(own) for n in operand.type.shape)
