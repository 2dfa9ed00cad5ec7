"""Sizes as index expressions: `n*m - 1` of the graph becomes the arithmetic of generated code."""

from __future__ import annotations

from codegen import expr as ex
from codegen.expr import Expr, Var
from tracegrad.ir.dims import Dim, Quotient, Size


def extent(size: Size) -> Expr:
    """A size as an integer expression over the sizes that the function knows on entry."""
    if not isinstance(size, Dim):
        return ex.integer(size)
    total: Expr = ex.integer(0)
    for monomial, factor in sorted(size.terms, key=lambda term: (term[1] < 0, not term[0])):
        product: Expr = ex.integer(abs(factor))
        for atom in monomial:
            product = ex.multiply(product, _atom(atom))
        total = ex.add(total, product) if factor > 0 else ex.subtract(total, product)
    return total


def _atom(atom: str | Quotient) -> Expr:
    if isinstance(atom, str):
        return Var(atom)
    return ex.floor_divide(extent(atom.numerator), extent(atom.denominator))
