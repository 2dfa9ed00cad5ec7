"""Run the workloads and write the tables of docs/performance.md.

    python benchmarks/report.py                      # all; see benchmarks/README.md for how long
    python benchmarks/report.py two_line mlp --rounds 7
    python benchmarks/report.py --render             # the page from what was measured before

What was measured is kept in `measured.json`, by file: a run replaces the files that it names and
leaves the others as they are. The text around the tables is written by people; what stands between
two marks is made from the figures.

    <!-- table: workloads -->  ...  <!-- end of table -->
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
PAGE = HOME.parent / "docs" / "performance.md"
MEASURED = HOME / "measured.json"
MARKS = re.compile(r"<!-- table: (.+?) -->\n.*?<!-- end of table -->", re.DOTALL)
WORKLOADS = (
    "two_line",
    "rosenbrock",
    "logistic_regression",
    "transcendental",
    "black_scholes",
    "layer_norm",
    "mlp",
    "hvp",
    "hessian",
    "attention",
    "lstm",
    "nbody",
    "reprojection",
    "ode",
)
THREADS = ("1", "2")
Found = dict[str, Any]


def run(file: str, *options: str, fresh: bool = True) -> Found:
    """What one benchmark file writes; `fresh`: it begins with an empty cache of compiled code."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.json")
        own = {"XDG_CACHE_HOME": folder} if fresh else {}
        command = [sys.executable, str(HOME / f"{file}.py"), *options, "--json", str(path)]
        subprocess.run(command, check=True, env={**os.environ, **own})
        return json.loads(path.read_text())


def compared(file: str, options: argparse.Namespace) -> Found:
    """A workload's figures for each number of CPUs."""
    limits = ["--rounds", str(options.rounds), "--seconds", str(options.seconds)]
    found = run(file, "--threads", *THREADS, *limits)
    runs = [found[number] for number in THREADS]
    rows = [summary(records) for records in zip(*(r["workloads"] for r in runs), strict=True)]
    return {"machine": runs[0]["machine"], "rows": rows}


def summary(records: tuple[Found, ...]) -> Found:
    """Of one workload: medians by number of CPUs, first calls and memory of the first."""
    results = records[0]["results"]
    return {
        "name": records[0]["workload"],
        "medians": [
            {r["name"]: statistics.median(r["rounds"]) for r in record["results"]}
            for record in records
        ],
        "peers": [r["name"] for r in results if r["peer"]],
        "first": {r["name"]: r["first_call"] for r in results},
        "memory": {r["name"]: r["memory"] for r in results},
    }


def digits(options: argparse.Namespace) -> Found:
    found = run("digits", "--threads", "1", "--rounds", str(options.rounds), fresh=False)
    fastest = {r["name"]: min(r["rounds"]) for r in found["workloads"][0]["results"]}
    return {"machine": found["machine"], "fastest": fastest}


def cold_start(options: argparse.Namespace) -> Found:
    found = run("cold_start", "--rounds", "3", fresh=False)
    return {
        "machine": found["machine"],
        **{k: {n: statistics.median(t) for n, t in found[k].items()} for k in ("cold", "warm")},
    }


def ragged(options: argparse.Namespace) -> Found:
    return run("ragged")


# The tables, from the figures.


def microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def workload_table(measured: Found) -> Iterator[str]:
    yield (
        "| workload | us, 1 CPU | / by hand | / best peer | us, 2 CPUs | / by hand | / best peer "
        "| first call s: ours / JAX | peak MB: ours / JAX / PyTorch |"
    )
    yield "|---|---:|---:|---|---:|---:|---|---:|---:|"
    for file in WORKLOADS:
        for row in measured.get(file, {}).get("rows", ()):
            cells = [cell for medians in row["medians"] for cell in times(medians, row["peers"])]
            last = [firsts(row["first"]), memory(row["memory"])]
            yield f"| {row['name']} | {' | '.join([*cells, *last])} |"


def times(medians: dict[str, float], peers: list[str]) -> list[str]:
    """Our median, its ratio to numba by hand, and to the fastest peer by name; and to PyTensor."""
    ours = best_of(medians, "tracegrad") or 0.0
    hand = best_of(medians, "numba by hand")
    peers = sorted((name for name in peers if name in medians), key=medians.__getitem__)
    named = peers[:1] + [name for name in peers[1:] if name == "PyTensor"]
    ratios = ", ".join(f"{ratio(ours / medians[name])} {name}" for name in named)
    return [microseconds(ours), f"{ours / hand:.2f}" if hand else "", ratios]


def ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def best_of(figures: dict[str, Any], name: str) -> Any:
    """The least of the figures of that library, in whatever spelling."""
    found = [value for key, value in figures.items() if key.startswith(name) and value is not None]
    return min(found, default=None)


def firsts(first: dict[str, float]) -> str:
    theirs = best_of(first, "jax") or best_of(first, "JAX")
    return f"{best_of(first, 'tracegrad'):.1f} / " + (f"{theirs:.1f}" if theirs else "-")


def memory(used: dict[str, int | None]) -> str:
    """Peak megabytes of a call."""
    cells = []
    for names in (("tracegrad",), ("jax", "JAX"), ("PyTorch",)):
        found = [x for name in names if (x := best_of(used, name)) is not None]
        cells.append(f"{found[0] / 2**20:.1f}" if found else "-")
    return " / ".join(cells)


def digits_table(measured: Found) -> Iterator[str]:
    yield "| | ms |"
    yield "|---|---:|"
    fastest = measured["digits"]["fastest"]
    for name in sorted(fastest, key=fastest.__getitem__):
        yield f"| {name} | {fastest[name] * 1e3:.1f} |"


def first_table(measured: Found) -> Iterator[str]:
    yield "| | empty caches | filled caches |"
    yield "|---|---:|---:|"
    cold, warm = measured["cold_start"]["cold"], measured["cold_start"]["warm"]
    for name in cold:
        yield f"| {name} | {cold[name]:.2f} | {warm[name]:.2f} |"


def ragged_table(measured: Found) -> Iterator[str]:
    yield "| | seconds |"
    yield "|---|---:|"
    seconds = measured["ragged"]["seconds"]
    for name in sorted(seconds, key=seconds.__getitem__):
        yield f"| {name} | {seconds[name]:.3f} |"


Table = tuple[tuple[str, ...], Callable[[Found], Iterator[str]]]
TABLES: dict[str, Table] = {
    "workloads": (WORKLOADS, workload_table),
    "first gradient": (("cold_start",), first_table),
    "digits": (("digits",), digits_table),
    "ragged": (("ragged",), ragged_table),
}
"""By the mark on the page: the files that it is made from, and how."""
OTHERS: dict[str, Callable[[argparse.Namespace], Found]] = {
    "cold_start": cold_start,
    "digits": digits,
    "ragged": ragged,
}


def machines(measured: Found, files: tuple[str, ...]) -> str:
    """Date, processor and versions; of which files, where they differ."""
    groups: dict[str, list[str]] = {}
    for file in files:
        if file in measured:
            own = {k: v for k, v in measured[file]["machine"].items() if k != "cpus used"}
            line = ", ".join(f"{key} {value}" for key, value in own.items())
            groups.setdefault(line, []).append(file)
    if len(groups) == 1:
        return f"{next(iter(groups))}."
    return "\n".join(f"* {', '.join(names)}: {line}." for line, names in groups.items())


def render(measured: Found, page: str) -> str:
    """The page with every table made anew; one of which nothing was measured stays."""

    def made(found: re.Match[str]) -> str:
        name = found[1]
        files, rows = TABLES[name]
        if not any(file in measured for file in files):
            return found[0]
        table = "\n".join(rows(measured))
        body = f"{machines(measured, files)}\n\n{table}"
        return f"<!-- table: {name} -->\n\n{body}\n\n<!-- end of table -->"

    return MARKS.sub(made, page)


def write(measured: Found) -> None:
    MEASURED.write_text(json.dumps(measured, indent=1) + "\n", "utf-8")
    PAGE.write_text(render(measured, PAGE.read_text("utf-8")), "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    every = [*OTHERS, *WORKLOADS]
    parser.add_argument("files", nargs="*", help=" ".join(every))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=6, help="of rounds for one workload")
    parser.add_argument("--render", action="store_true", help="measure nothing")
    options = parser.parse_args()
    if unknown := set(options.files) - set(every):
        parser.error(f"no such file: {', '.join(sorted(unknown))}")
    measured = json.loads(MEASURED.read_text("utf-8")) if MEASURED.exists() else {}
    chosen = [] if options.render else options.files or every
    for file in chosen:
        how = OTHERS.get(file)
        measured[file] = how(options) if how else compared(file, options)
        write(measured)  # what there is so far: a run takes long
    write(measured)


if __name__ == "__main__":
    main()
