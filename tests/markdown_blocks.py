"""Run the Python blocks of a Markdown page and compare what they print with what the page shows.

    ```python              runs; the blocks of a page share one namespace
    print(loss(x))
    ```
    <!-- output -->        the next block shows what the block above printed, or the error it raised
    ```text
    12.0
    ```

`...` in a shown output stands for anything. A page's blocks count as one file, so that line numbers
are those of a script made of the blocks one below the other.

    python tests/markdown_blocks.py README.md docs/*.md      # write the real outputs into the pages
"""

from __future__ import annotations

import contextlib
import doctest
import io
import linecache
import re
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```\n", re.MULTILINE | re.DOTALL)
OUTPUT = "<!-- output -->\n"
SCRIPT = "example.py"
"""What the script made of a page's blocks is called in dumps and errors."""
CHECKER = doctest.OutputChecker()
NOISE = re.compile(
    r"/\S*\.cache/tracegrad/\S+"
    r"|(?<![\w.])\d+\.\d+(?= m?s\b)"
    r"|(?<=operations after trace )(?s:.+?)(?=\n\n|\n +kernels)"
)
"""What differs from run to run: paths of generated files, times. Written into pages as `...`."""


@dataclass(frozen=True)
class Block:
    """One fenced block: where its text stands in the page, and the same of the output it shows."""

    code: str
    line: int
    output: tuple[int, int] | None


def blocks(page: str) -> list[Block]:
    """The Python blocks of a page that are code, not output."""
    fences = list(FENCE.finditer(page))
    shown = [page[: fence.start()].endswith(OUTPUT) for fence in fences]
    found = []
    for number, fence in enumerate(fences):
        if fence["language"] == "python" and not shown[number]:
            follows = number + 1 < len(fences) and shown[number + 1]
            output = fences[number + 1].span("text") if follows else None
            found.append(Block(fence["text"], page[: fence.start()].count("\n") + 2, output))
    return found


def run(block: Block, before: str, space: dict[str, Any]) -> str:
    """What the block prints; what it raises is printed too, as the interpreter would."""
    text = before + block.code
    linecache.cache[SCRIPT] = (len(text), None, text.splitlines(keepends=True), SCRIPT)
    code = compile("\n" * before.count("\n") + block.code, SCRIPT, "exec")
    stream = io.StringIO()
    with contextlib.redirect_stdout(stream):
        try:
            exec(code, space)
        except Exception as error:
            if block.output is None:
                raise
            print("".join(traceback.format_exception_only(error)), end="")
    return re.sub(r"[ \t]+$", "", stream.getvalue(), flags=re.MULTILINE)


def results(page: str) -> Iterator[tuple[Block, str]]:
    """Every block with what it really prints; blocks run in order."""
    module = ModuleType("__main__")
    before = ""
    for block in blocks(page):
        yield block, run(block, before, module.__dict__)
        before += block.code


def agree(shown: str, printed: str) -> bool:
    """Whether the output on the page is the real one, `...` standing for anything. Where a time is
    left out, lines may end elsewhere."""
    flags = doctest.ELLIPSIS | (doctest.NORMALIZE_WHITESPACE if "(... ms)" in shown else 0)
    return CHECKER.check_output(shown.strip("\n"), printed.strip("\n"), flags)


def check(path: Path) -> int:
    """Run a page; AssertionError at the first output that is not the real one. The blocks run."""
    page, count = path.read_text("utf-8"), 0
    for block, printed in results(page):
        count += 1
        shown = page[slice(*block.output)] if block.output else ""
        assert block.output or not printed, f"{path}:{block.line} prints, but shows no output"
        if not agree(shown, printed):
            raise AssertionError(
                f"{path}:{block.line}: the page shows\n{shown}\nbut the block prints\n{printed}"
                f"if that is right: python tests/markdown_blocks.py {path}"
            )
    return count


def refresh(path: Path) -> None:
    """Write the real outputs into a page, where they differ."""
    page, pieces, end = path.read_text("utf-8"), [], 0
    for block, printed in results(page):
        if block.output and not agree(page[slice(*block.output)], printed):
            start, stop = block.output
            pieces += [page[end:start], NOISE.sub("...", printed).strip("\n") + "\n"]
            end = stop
            print(f"{path}:{block.line} refreshed")
        elif not block.output and printed:
            print(f"{path}:{block.line} prints, but shows no output:\n{printed}")
    path.write_text("".join([*pieces, page[end:]]), "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:]:
        refresh(Path(name))
