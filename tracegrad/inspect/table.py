"""Statements with comments in aligned columns: type | where the value lives | the user's line.

In: rows. Out: lines:

    v1 = x + 1.0     # f64[n, m]  ┌ k0 register    3│ x + 1
    v4 = np.sum(v1)  # f64        └    sum         3│ np.mean(x + 1)
"""

from __future__ import annotations

from collections.abc import Sequence

from codegen.records import dataclass

WIDTH = 132
"""Columns up to which a line may go before the user's text is cut short."""
NO_BREAK = "\N{NO-BREAK SPACE}"
"""A space at which no line is broken; printed as a plain one."""
CODE_WIDTH = 48
"""Statements longer than this push their own comment to the right, not everybody's."""


@dataclass(frozen=True)
class Row:
    """One statement; its first line carries the comment, or that on which its block begins."""

    code: tuple[str, ...]
    type: str
    kernel: str = ""
    """`k0`, or empty outside of kernels."""
    where: str = ""
    line: str = ""
    """`3`, or `other.py:3`."""
    text: str = ""
    note: str = ""
    block: bool = False

    @property
    def head(self) -> int:
        """The number of the line that carries the comment."""
        return next((n for n, line in enumerate(self.code) if line[-1:] == ":"), 0) * self.block


def table(rows: Sequence[Row]) -> list[str]:
    brackets = _brackets(rows)
    codes = [len(row.code[row.head]) for row in rows]
    width = max((length for length in codes if length <= CODE_WIDTH), default=max(codes, default=0))
    columns = [
        _width(row.type for row in rows),
        _width(brackets),
        _width(row.where for row in rows),
        _width(row.line for row in rows),
    ]
    lines: list[str] = []
    repeated = ("", "")
    for row, bracket in zip(rows, brackets, strict=True):
        text = "″" if row.text and (row.line, row.text) == repeated else row.text
        repeated = (row.line, row.text)
        head = f"{row.code[row.head]:<{width}}  # {row.type:<{columns[0]}}"
        middle = f"  {bracket:<{columns[1]}}{row.where:<{columns[2]}}" if columns[2] else ""
        lines.extend(row.code[: row.head])
        lines.append(_cut(f"{head}{middle}", _origin(row, columns[3], text), row.note))
        lines.extend(row.code[row.head + 1 :])
    return lines


def _width(texts: Sequence[str] | object) -> int:
    return max((len(text) for text in texts), default=0)  # type: ignore[union-attr]


def _origin(row: Row, width: int, text: str) -> str:
    return f"    {row.line:>{width}}│ {text}" if row.line else ""


def _cut(head: str, origin: str, note: str) -> str:
    note = f"   ({note})" if note else ""
    room = max(WIDTH - len(head) - len(note), 24)
    if len(origin) > room:
        origin = origin[: room - 1] + "…"
    return f"{head}{origin}{note}".rstrip()


def _brackets(rows: Sequence[Row]) -> list[str]:
    """`┌ k0 `, `│    `, `└    ` along the rows of one kernel, `─ k0 ` for a single one."""
    if not any(row.kernel for row in rows):
        return [""] * len(rows)
    width = max(len(row.kernel) for row in rows)
    found: list[str] = []
    for at, row in enumerate(rows):
        before = at > 0 and rows[at - 1].kernel == row.kernel
        after = at + 1 < len(rows) and rows[at + 1].kernel == row.kernel
        match bool(row.kernel), before, after:
            case False, _, _:
                found.append(" " * (width + 3))
            case _, False, _:
                found.append(f"{'┌' if after else '─'} {row.kernel:<{width}} ")
            case _, True, True:
                found.append(f"│ {'':<{width}} ")
            case _:
                found.append(f"└ {'':<{width}} ")
    return found
