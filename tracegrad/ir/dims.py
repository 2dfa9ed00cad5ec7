"""Sizes: integer polynomials of named symbols, and what tracing assumed about them.

In: the extents of the arguments, one symbol each. Out: canonical `Dim`s that types carry, and the
guards under which a traced program is valid.

`Dim` arithmetic folds: `n*m // m` is `n`, `(n + 1) - 1` is `n`; a constant result is a plain int.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field, replace
from functools import cached_property

from codegen.records import dataclass
from tracegrad.errors import TracegradError

Monomial = tuple["Atom", ...]


@dataclass(frozen=True)
class Quotient:
    """`numerator // denominator` where the division does not come out even."""

    numerator: Size
    denominator: Size

    def __str__(self) -> str:
        return f"({self.bare})"

    @property
    def bare(self) -> str:
        """`n*m//8`: without the parentheses that it needs as a factor."""
        product = isinstance(self.numerator, int) or len(self.numerator.terms) == 1
        top = str(self.numerator) if product else _factor(self.numerator)
        return f"{top}//{_factor(self.denominator)}"


Atom = str | Quotient


@dataclass(frozen=True)
class Dim:
    """A polynomial: sorted pairs of a monomial (sorted atoms) and its non-zero coefficient."""

    terms: tuple[tuple[Monomial, int], ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __add__(self, other: Size) -> Size:
        if isinstance(other, int) and not other:
            return self
        total = dict(self.terms)
        for monomial, factor in _terms(other):
            total[monomial] = total.get(monomial, 0) + factor
        return _dim(total)

    def __mul__(self, other: Size) -> Size:
        if isinstance(other, int):
            if other == 1:
                return self
            return _dim({monomial: factor * other for monomial, factor in self.terms})
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in _terms(other):
                monomial = tuple(sorted(left + right, key=_atom_order))
                total[monomial] = total.get(monomial, 0) + a * b
        return _dim(total)

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + (other * -1)

    def __rsub__(self, other: Size) -> Size:
        return -self + other

    def __floordiv__(self, other: Size) -> Size:
        return quotient(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return quotient(other, self)

    def __mod__(self, other: Size) -> Size:
        return self - other * quotient(self, other)

    def __rmod__(self, other: Size) -> Size:
        return other - self * quotient(other, self)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        return self._text

    __repr__ = __str__

    @cached_property
    def _text(self) -> str:
        match self.terms:
            case (((Quotient() as alone,), 1),):
                return alone.bare
        ordered = sorted(self.terms, key=lambda term: (not term[0], term[1] < 0, str(term[0])))
        text = ""
        for monomial, factor in ordered:
            sign = ("-" if factor < 0 else "") if not text else (" - " if factor < 0 else " + ")
            text += sign + _product_text(monomial, abs(factor))
        return text


Size = int | Dim


def symbol(name: str) -> Dim:
    return Dim((((name,), 1),))


def _atom_order(atom: Atom) -> tuple[int, str]:
    """`n*m`, not `m*n`: n and m are the first letters that extents get."""
    text = str(atom)
    return ("nm".find(text[0]) if text[0] in "nm" else 2, text)


def _product_text(monomial: Monomial, factor: int) -> str:
    numbers = [str(factor)] if factor != 1 or not monomial else []
    return "*".join(numbers + [str(atom) for atom in monomial])


def _factor(size: Size) -> str:
    text = str(size)
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def _terms(size: Size) -> tuple[tuple[Monomial, int], ...]:
    if isinstance(size, Dim):
        return size.terms
    return (((), size),) if size else ()


def _dim(total: Mapping[Monomial, int]) -> Size:
    kept = {monomial: factor for monomial, factor in total.items() if factor}
    if not kept.keys() - {()}:
        return kept.get((), 0)
    return Dim(tuple(sorted(kept.items(), key=lambda item: str(item[0]))))


def quotient(a: Size, b: Size) -> Size:
    """`a // b`, exact where the polynomial division leaves no remainder."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    exact = _exact_quotient(a, b)
    return symbol_of(Quotient(a, b)) if exact is None else exact


def symbol_of(atom: Atom) -> Dim:
    return Dim((((atom,), 1),))


def _exact_quotient(a: Size, b: Size) -> Size | None:
    """Polynomial long division by the largest term of `b`; None if a remainder is left."""
    if b == 0:
        return None
    (lead, lead_factor), result = max(_terms(b), key=_term_order), 0
    for _ in range(len(_terms(a)) * len(_terms(b)) + 1):
        if a == 0:
            return result
        monomial, factor = max(_terms(a), key=_term_order)
        rest = _without(monomial, lead)
        if rest is None or factor % lead_factor:
            return None
        part = _dim({rest: factor // lead_factor})
        result, a = part + result, a - part * b
    return None


def _term_order(term: tuple[Monomial, int]) -> tuple[int, list[str]]:
    return len(term[0]), [str(atom) for atom in term[0]]


def _without(monomial: Monomial, part: Monomial) -> Monomial | None:
    left = list(monomial)
    for atom in part:
        if atom not in left:
            return None
        left.remove(atom)
    return tuple(left)


def product(sizes: tuple[Size, ...]) -> Size:
    result: Size = 1
    for size in sizes:
        result = size * result
    return result


def symbols(size: Size) -> Iterator[str]:
    """The names in `size`, repeated as they occur."""
    for monomial, _ in _terms(size):
        for atom in monomial:
            if isinstance(atom, str):
                yield atom
            else:
                yield from symbols(atom.numerator)
                yield from symbols(atom.denominator)


def substitute(size: Size, known: Mapping[str, Size]) -> Size:
    if isinstance(size, int) or not any(name in known for name in symbols(size)):
        return size
    result: Size = 0
    for monomial, factor in size.terms:
        value: Size = factor
        for atom in monomial:
            value = value * _substitute_atom(atom, known)
        result = value + result
    return result


def _substitute_atom(atom: Atom, known: Mapping[str, Size]) -> Size:
    if isinstance(atom, str):
        return known.get(atom, symbol(atom))
    return quotient(substitute(atom.numerator, known), substitute(atom.denominator, known))


def evaluate(size: Size, values: Mapping[str, int]) -> int:
    result = substitute(size, values)
    assert isinstance(result, int), f"no value for a symbol of {size}"
    return result


_RELATIONS = {
    "==": lambda difference: difference == 0,
    "!=": lambda difference: difference != 0,
    "<": lambda difference: difference < 0,
    "<=": lambda difference: difference <= 0,
}
_NEGATED = {"==": "!=", "!=": "==", "<": ">=", "<=": ">"}


@dataclass(frozen=True)
class Guard:
    """`left relation right`: what a version takes for granted, checked on entry."""

    left: Size
    relation: str
    right: Size
    where: str = field(default="", compare=False)
    """The user's expression that needs it, for a check when the sizes are known."""

    def __str__(self) -> str:
        return f"{self.left} {self.relation} {self.right}"

    @property
    def is_certain(self) -> bool:
        """Whether it holds without a check, between numbers: `0 < 50`."""
        difference = self.left - self.right
        return isinstance(difference, int) and _RELATIONS[self.relation](difference)

    @property
    def symbols(self) -> set[str]:
        return {*symbols(self.left), *symbols(self.right)}

    def holds_for(self, values: Mapping[str, int]) -> bool:
        """Whether it holds for these values of its symbols."""
        return _RELATIONS[self.relation](evaluate(self.left - self.right, values))

    def substitute(self, known: Mapping[str, Size]) -> Guard:
        left, right = substitute(self.left, known), substitute(self.right, known)
        return replace(self, left=left, right=right)


class DataDecides(TracegradError, ValueError):
    """A question about a size that only data can answer."""

    def __init__(self, a: Size, relation: str, b: Size) -> None:
        what = f"whether {a} {relation} {b}" if relation in _RELATIONS else f"the number {a}"
        super().__init__(
            f"{what} is needed while tracing, but data decides on that size, as in x[mask] or "
            "np.nonzero: use it as a number of the program (s / y.size); make arrays of that size "
            "by np.zeros_like(y), tg.ones(y.size), tg.arange(y.size); or keep the size of x, "
            "np.where(mask, x, 0)"
        )


@dataclass
class Assumptions:
    """What one trace knows: the extents it was called with, and what it concluded from them."""

    hints: dict[str, int]
    guards: list[Guard] = field(default_factory=list)
    known: dict[str, Size] = field(default_factory=dict)
    resolved: dict[Dim, Size] = field(default_factory=dict)
    """What `resolve` makes of sizes, until more is known."""
    decided: dict[tuple[Size, str, Size], bool] = field(default_factory=dict)
    """The answers given so far: they stay what they are."""
    most: dict[str, Size] = field(default_factory=dict)
    """Upper bounds of symbols that the program computes, where they are known."""
    checks: list[Guard] = field(default_factory=list)
    """What is taken for granted of these symbols, and checked when their values are known."""
    place: Callable[[], str] = str
    """The user's expression that asks."""

    def scoped(self) -> Assumptions:
        """The same for a body, whose checks hold in there alone."""
        return replace(self, checks=list(self.checks))

    def resolve(self, size: Size) -> Size:
        if not self.known or isinstance(size, int):
            return size
        found = self.resolved.get(size)
        if found is None:
            found = self.resolved[size] = substitute(size, self.known)
        return found

    def knows(self, a: Size, relation: str, b: Size) -> bool | None:
        """What `decide` says; None where only data can tell."""
        if not (self.is_computed(a) or self.is_computed(b)):
            return self.decide(a, relation, b)
        difference = self.resolve(a - b)
        if self.is_computed(difference) and self._implied(difference, relation) is None:
            return None
        return self.decide(a, relation, b)

    def require(self, a: Size, relation: str, b: Size) -> bool:
        """What `decide` says; where only data can tell it is taken for granted, and checked when
        the sizes are known.
        """
        known = self.knows(a, relation, b)
        if known is None:
            self.checks.append(Guard(a, relation, b, self.place()))
        return known is not False

    def decide(self, a: Size, relation: str, b: Size) -> bool:
        """Whether `a relation b`; a question that the symbols leave open becomes a guard."""
        question = (a, relation, b)
        if question not in self.decided:
            self.decided[question] = self._decide(a, relation, b)
        return self.decided[question]

    def _decide(self, a: Size, relation: str, b: Size) -> bool:
        difference = self.resolve(a - b)
        implied = self._implied(difference, relation)
        if implied is not None:
            return implied
        if self.is_computed(difference):
            raise DataDecides(a, relation, b)
        holds = _RELATIONS[relation](evaluate(difference, self.hints))
        self._assume(self.resolve(a), relation if holds else _NEGATED[relation], self.resolve(b))
        return holds

    def is_computed(self, size: Size) -> bool:
        """Whether data decides on it: not all of its symbols are extents of this call."""
        hints = self.hints  # what is concluded of extents of this call are extents of it
        return any(name not in hints for name in symbols(size)) and any(
            name not in hints for name in symbols(self.resolve(size))
        )

    def known_at_most(self, a: Size, b: Size) -> bool:
        """Whether `a <= b` follows from what is assumed already."""
        return self._bounded(self.resolve(a - b))

    def _implied(self, difference: Size, relation: str) -> bool | None:
        """What is known about `difference relation 0`; None if nothing."""
        if relation == "!=":
            equal = self._implied(difference, "==")
            return None if equal is None else not equal
        if relation == "<":
            return self._implied(difference + 1, "<=")
        below, above = self._bounded(difference + 1), self._bounded(1 - difference)
        if relation == "<=":
            return True if self._bounded(difference) else False if above else None
        if isinstance(difference, int):
            return difference == 0
        if below or above:
            return False
        for guard in (*self.guards, *self.checks):
            if guard.relation in ("==", "!="):
                known = self.resolve(guard.left - guard.right)
                if difference in (known, -known):
                    return guard.relation == "=="
        return True if self._bounded(difference) and self._bounded(-difference) else None

    def _bounded(self, size: Size) -> bool:
        """Whether `size <= 0` follows from the signs, or from these and one guard."""
        return never_positive(size) or any(
            never_positive(size - known)
            for guard in (*self.guards, *self.checks, *self._largest())
            for known in self._upper(guard)
        )

    def _largest(self) -> Iterator[Guard]:
        """What is known of computed sizes."""
        return (Guard(symbol(name), "<=", most) for name, most in self.most.items())

    def _upper(self, guard: Guard) -> tuple[Size, ...]:
        """Differences that are `<= 0` by the guard."""
        known = self.resolve(guard.left - guard.right)
        match guard.relation:
            case "<=":
                return (known,)
            case "<":
                return (known + 1,)
            case "==":
                return known, -known
        return ()

    def pin(self, size: Size) -> int:
        """The number that `size` has in this trace; from now on it is a constant."""
        if self.is_computed(size):
            raise DataDecides(size, "is a number", 0)
        value = evaluate(self.resolve(size), self.hints)
        self.decide(size, "==", value)
        return value

    def _assume(self, a: Size, relation: str, b: Size) -> None:
        if relation == "==" and self._learn(a - b):
            return
        if relation in (">=", ">"):
            a, b, relation = b, a, {">=": "<=", ">": "<"}[relation]
        guard = Guard(a, relation, b)
        self.guards[:] = [old for old in self.guards if not self._follows(old, guard)] + [guard]

    def _follows(self, old: Guard, new: Guard) -> bool:
        """Whether an inequality needs no check beside another one."""
        weak, strong = self._upper(old), self._upper(new)
        return bool(weak) and any(all(never_positive(w - s) for w in weak) for s in strong)

    def _learn(self, difference: Size) -> bool:
        """From `difference == 0` express one symbol by the others, the one named last."""
        single = [m[0] for m, f in _terms(difference) if len(m) == 1 and abs(f) == 1]
        free = [
            atom
            for atom in single
            if isinstance(atom, str) and list(symbols(difference)).count(atom) == 1
        ]
        if not free:
            return False
        name = max(free, key=list(self.hints).index)
        factor = dict(_terms(difference))[(name,)]
        value = symbol(name) - difference * factor
        self.known.update({k: substitute(v, {name: value}) for k, v in self.known.items()})
        self.known[name] = value
        self.resolved.clear()
        return True


def never_positive(size: Size) -> bool:
    """Whether `size <= 0` for all extents, as far as the signs of the coefficients show it."""
    if isinstance(size, int):
        return size <= 0
    return _all_negative(_largest(size, False)) or _all_negative(_largest(size, True))


def _all_negative(size: Size) -> bool:
    return all(factor < 0 and all(map(_is_extent, monomial)) for monomial, factor in _terms(size))


def _is_extent(atom: Atom) -> bool:
    """Whether an atom is surely not negative: a symbol, or a quotient of such."""
    return isinstance(atom, str) or all(
        factor > 0 and all(map(_is_extent, monomial))
        for part in (atom.numerator, atom.denominator)
        for monomial, factor in _terms(part)
    )


def _largest(size: Size, linear: bool) -> Size:
    """A polynomial without quotients `a//k` that is at least a positive multiple of `size`.

    `(a - k + 1)/k <= a//k <= a/k`; with `linear=False` a quotient to subtract is 0 at the least.
    """
    for monomial, factor in _terms(size):
        for atom in monomial:
            if isinstance(atom, Quotient) and isinstance(atom.denominator, int):
                if factor < 0 and not linear and _is_extent(atom):
                    continue
                divisor = atom.denominator
                if divisor <= 0:
                    continue
                bound = atom.numerator if factor > 0 else atom.numerator - divisor + 1
                rest = _dim({_without(monomial, (atom,)) or (): 1})
                without = size - _dim({monomial: factor})
                return _largest(without * divisor + rest * bound * factor, linear)
    return size


_current: ContextVar[Assumptions | None] = ContextVar("assumptions", default=None)


@contextmanager
def assuming(assumptions: Assumptions) -> Iterator[Assumptions]:
    token = _current.set(assumptions)
    try:
        yield assumptions
    finally:
        _current.reset(token)


def holds(a: Size, relation: str, b: Size) -> bool:
    """Whether `a relation b`: known, or assumed by the current trace (which then has a guard)."""
    assumptions = _current.get()
    if assumptions is not None:
        return assumptions.decide(a, relation, b)
    return bool(Assumptions({})._implied(a - b, relation))


def of_data(size: Size) -> bool:
    """Whether data decides on a size."""
    assumptions = _current.get()
    if assumptions is None or isinstance(size, int):
        return False
    return assumptions.is_computed(size)


def knows(a: Size, relation: str, b: Size) -> bool | None:
    """As `holds`; None where only data can tell."""
    assumptions = _current.get() or Assumptions({})
    return assumptions.knows(a, relation, b)


def required(a: Size, relation: str, b: Size) -> bool:
    """As `holds`, of what has to hold: where only data can tell, compiled code checks it and raises
    ValueError.
    """
    assumptions = _current.get() or Assumptions({})
    return assumptions.require(a, relation, b)


def same(a: Size, b: Size) -> bool:
    """Whether two extents are known to be equal: a question, which demands nothing. Where only data
    can tell they are not.
    """
    return a is b or a == b or bool(knows(a, "==", b))


def must_be_same(a: Size, b: Size) -> bool:
    """Whether two extents are equal, as they have to be: a demand. Where only data can tell,
    compiled code checks it and raises ValueError.
    """
    return a is b or a == b or required(a, "==", b)


def fixed(size: Size) -> int:
    """The number that a size is in the current trace, which is then valid for this number only."""
    return size if isinstance(size, int) else (_current.get() or Assumptions({})).pin(size)


def in_figures(size: Size) -> Size:
    """The number that a size is in the current trace, for messages."""
    assumptions = _current.get()
    if assumptions is None or isinstance(size, int):
        return size
    resolved = assumptions.resolve(size)
    known = all(name in assumptions.hints for name in symbols(resolved))
    return evaluate(resolved, assumptions.hints) if known else size
