"""Run the workloads with 1 and 2 CPUs and write the tables of docs/performance.md.

    python benchmarks/report.py                      # all; half an hour on an idle machine
    python benchmarks/report.py two_line mlp --rounds 7

One row per workload: our time, its ratio to numba by hand (the limit) and to the fastest peer,
which is named. The text around the tables is written by people; what stands between the two marks
is replaced.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HOME = Path(__file__).resolve().parent
PAGE = HOME.parent / "docs" / "performance.md"
BEGIN, END = "<!-- tables: benchmarks/report.py -->", "<!-- end of tables -->"
FILES = (
    "two_line",
    "rosenbrock",
    "logistic_regression",
    "transcendental",
    "black_scholes",
    "attention",
    "layer_norm",
    "mlp",
    "nbody",
    "lstm",
    "reprojection",
)
THREADS = ("1", "2")


def measured(file: str, rounds: int) -> dict[str, Any]:
    """What one benchmark file found, by number of CPUs."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "out.json")
        command = [sys.executable, str(HOME / f"{file}.py"), "--threads", *THREADS]
        command += ["--rounds", str(rounds), "--json", str(path)]
        subprocess.run(command, check=True)
        return json.loads(path.read_text())


def microseconds(seconds: float) -> str:
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rows(found: dict[str, Any]) -> Iterator[str]:
    """The rows of one file's workloads."""
    runs = [found[number]["workloads"] for number in THREADS]
    for records in zip(*runs, strict=True):
        cells = [cell for record in records for cell in times(record["results"])]
        ours = [r for r in records[0]["results"] if r["name"].startswith("tracegrad")]
        yield f"| {records[0]['workload']} | " + " | ".join(
            [*cells, first(ours), memory(records[0])]
        )


def times(results: list[dict[str, Any]]) -> list[str]:
    """Our median, its ratio to numba by hand, and to the fastest peer by name."""
    medians = {r["name"]: statistics.median(r["rounds"]) for r in results}
    ours = min(time for name, time in medians.items() if name.startswith("tracegrad"))
    hand = [time for name, time in medians.items() if "numba by hand" in name]
    peers = {r["name"]: medians[r["name"]] for r in results if r["peer"]}
    best = min(peers, key=lambda name: peers[name])
    limit = f"{ours / min(hand):.2f}" if hand else ""
    return [microseconds(ours), limit, f"{ours / peers[best]:.2f} {best}"]


def first(ours: list[dict[str, Any]]) -> str:
    return f"{min(r['first_call'] for r in ours):.1f}"


def memory(record: dict[str, Any]) -> str:
    """Peak megabytes of a call: ours, JAX's, PyTorch's."""
    cells = []
    for name in ("tracegrad", "jax", "PyTorch"):
        used = [r["memory"] for r in record["results"] if r["name"].startswith(name)]
        cells.append(f"{min(used) / 2**20:.1f}" if used and used[0] is not None else "-")
    return " / ".join(cells) + " |"


def table(found: list[dict[str, Any]], rounds: int) -> str:
    """Machine and rows as Markdown."""
    machine = {k: v for k, v in found[0]["1"]["machine"].items() if k != "cpus used"}
    head = [
        ", ".join(f"{key} {value}" for key, value in machine.items()) + f"; {rounds} rounds.",
        "",
        "| workload | us, 1 CPU | / by hand | / best peer | us, 2 CPUs | / by hand | / best peer "
        "| first call s | peak MB: ours / JAX / PyTorch |",
        "|---|---:|---:|---|---:|---:|---|---:|---:|",
    ]
    return "\n".join([*head, *(row for one in found for row in rows(one))])


def write(made: str) -> None:
    """Put the table between the marks of the page."""
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{made}\n\n{END}{after}", "utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("files", nargs="*", default=list(FILES))
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    found: list[dict[str, Any]] = []
    for file in options.files or FILES:
        found.append(measured(file, options.rounds))
        write(table(found, options.rounds))  # what there is so far: a run takes long


if __name__ == "__main__":
    main()
