"""Lines of generated text: trailing comments in a column, long texts wrapped, docstrings.

In: lines with their comments beside them. Out: strings of at most `WIDTH` columns.

    v1 = x[i] + 1.0     # 3│ x + 1
    acc += v1 * v1      # 3│ np.sum((x + 1) ** 2)
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from codegen.layout import WIDTH
from codegen.records import dataclass


@dataclass
class Line:
    text: str
    comment: str = ""


def wrapped(text: str, indent: int) -> list[str]:
    """Lines of a comment or docstring; what stands in brackets (`f64[n, m]`) stays together."""
    glued = re.sub(r"\[[^\[\]]*\]", lambda found: found.group().replace(" ", "\0"), text)
    rows = textwrap.wrap(glued, WIDTH - indent, break_long_words=False) or [""]
    return [row.replace("\0", " ") for row in rows]


def aligned(lines: list[Line]) -> list[str]:
    """Trailing comments of one function stand in one column; a comment that does not fit there
    goes above its line."""
    commented = [line for line in lines if line.comment]
    ends = sorted(len(line.text) for line in commented)
    room = [end for end in ends if end <= WIDTH - 30]
    column = max(room, default=0) + 2
    return [text for line in lines for text in _placed(line, column)]


def _placed(line: Line, column: int) -> list[str]:
    if not line.comment:
        return [line.text]
    latest = WIDTH - 2 - len(line.comment)
    start = max(len(line.text) + 2, min(column, latest))
    if start <= latest:
        return [f"{line.text:<{start}}# {line.comment}"]
    pad = " " * (len(line.text) - len(line.text.lstrip()))
    return [*(f"{pad}# {part}" for part in wrapped(line.comment, len(pad) + 2)), line.text]


def docstring(doc: str) -> list[str]:
    if not doc:
        return []
    whole = doc.replace("\\", "\\\\").replace('"""', "'''").splitlines()
    body = [part for line in whole for part in wrapped(line, 8)]
    if len(body) == 1 and len(body[0]) <= WIDTH - 10:
        return [f'    """{body[0]}"""']
    return [f'    """{body[0]}', *(f"    {line}".rstrip() for line in body[1:]), '    """']


def row(parts: Sequence[str]) -> str:
    """A tuple of names."""
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def called(head: str, given: Sequence[str]) -> list[str]:
    """`head(given)`, in several lines if it is too long for one."""
    line = f"{head}({', '.join(given)})"
    if len(line) <= WIDTH:
        return [line]
    pad = " " * (len(head) - len(head.lstrip()))
    groups: list[str] = []
    for part in given:
        simple = part[0] not in '("'
        if simple and groups and groups[-1][0] not in '("':
            groups[-1] += f", {part}"
        else:
            groups.append(part)
    return [f"{head}(", *(text for part in groups for text in part_lines(part, pad)), f"{pad})"]


def part_lines(part: str, pad: str) -> list[str]:
    """Arguments and a comma, a long one in several lines (a string as strings side by side)."""
    pieces = textwrap.wrap(part, WIDTH - len(pad) - 8, break_long_words=False)
    if part.startswith('"'):
        last = len(pieces) - 1
        opened = ['"' + piece if number else piece for number, piece in enumerate(pieces)]
        pieces = [p if number == last else p + ' "' for number, p in enumerate(opened)]
    indents = [f"{pad}    ", *[f"{pad}    "] * (len(pieces) - 1)]
    lines = [f"{indent}{piece}" for indent, piece in zip(indents, pieces, strict=True)]
    return [*lines[:-1], f"{lines[-1]},"]
