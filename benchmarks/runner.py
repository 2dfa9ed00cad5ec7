"""Compare implementations of one computation: equal results first, then interleaved rounds.

In: `Workload`s, each with its arguments, a float64 reference and one `Entry` per implementation.
Out: a table with, for each, the median and the fastest round in microseconds, the median divided
by the best peer's, the seconds of the first call, and the peak memory of a call.

    main(workloads)      # python benchmarks/two_line.py --threads 1 --rounds 30 --json out.json

All implementations run in one process and take turns in every round, so that whatever else the
machine does falls on all of them alike. Threads are limited by the set of CPUs that the process may
use, which every library here obeys.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from surroundings import cpu_count, machine, write_bytecode

Call = Callable[..., Any]

ROUND_SECONDS = 0.01
"""How long one implementation runs in one round: enough calls to fill this."""
SETTLE_SECONDS = 0.12
"""Pause before a turn on several CPUs: after a product OpenBLAS's threads spin on for 2**28 cycles,
105 ms here, on the CPU that whoever is next needs."""
SEED = 20240611


def unchanged(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Library:
    """How a peer holds arrays: from NumPy, back to NumPy, and waiting for asynchronous work."""

    name: str
    native: Call = unchanged
    back: Call = np.asarray
    wait: Call = unchanged
    peer: bool = True
    """Whether users could pick it instead: what ratios are taken to."""


NUMPY = Library("NumPy arrays")
OURS = Library("tracegrad", peer=False)
BY_HAND = Library("numba by hand", peer=False)


class Held:
    """An implementation with its arguments in hand, ready to take its turns."""

    def __init__(self, call: Call) -> None:
        self.call = call

    def first(self) -> tuple[Any, float]:
        """The results, and the seconds that the first call took."""
        start = time.perf_counter()
        return self.call(), time.perf_counter() - start

    def memory(self) -> int | None:
        return peak_memory(self.call)

    def timed(self, repeat: int) -> float:
        """Seconds per call."""
        return timed(self.call, repeat)

    def close(self) -> None:
        """Called at the end."""


@dataclass(frozen=True)
class Entry:
    """One implementation: `function(*arguments)` returns a flat sequence of arrays."""

    name: str
    library: Library
    function: Call
    optional: bool = False
    """Left out with a note where its first call fails: the library may be missing."""

    def held(self, arguments: Sequence[Any], numpy: bool) -> Held:
        return Held(caller(self, arguments, numpy))


@dataclass(frozen=True)
class Workload:
    """One computation on given arguments; every entry must return what `reference` returns."""

    name: str
    arguments: tuple[Any, ...]
    reference: Call
    """In float64, returning the same flat sequence."""
    entries: tuple[Entry, ...]
    tolerance: float = 0.0
    """Largest error relative to the largest element; 0: derived from dtype and size."""


@dataclass
class Result:
    """What was measured of one implementation; times are seconds per call."""

    name: str
    first_call: float
    error: float
    memory: int | None
    peer: bool
    rounds: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    @property
    def fastest(self) -> float:
        return min(self.rounds)


def tolerance(workload: Workload) -> float:
    """Rounding grows at most like the square root of the terms summed, times a small constant."""
    floats = [a for a in map(np.asarray, workload.arguments) if a.dtype.kind == "f"]
    unit = max(float(np.finfo(array.dtype).eps) for array in floats)
    return workload.tolerance or 16 * unit * max(array.size for array in floats) ** 0.5


def check(workload: Workload, entry: Entry, results: Sequence[Any], wanted: Sequence[Any]) -> float:
    """The largest error relative to the reference's largest element; raises if it is too large."""
    found = [entry.library.back(result) for result in results]
    assert len(found) == len(wanted), f"{entry.name}: {len(found)} results, not {len(wanted)}"
    worst = 0.0
    for value, right in zip(found, wanted, strict=True):
        assert np.shape(value) == np.shape(right), f"{entry.name}: {np.shape(value)}"
        scale = np.max(np.abs(right), initial=1e-300)
        worst = max(worst, float(np.max(np.abs(value - right), initial=0.0) / scale))
    if not worst <= tolerance(workload):
        raise AssertionError(f"{workload.name}: {entry.name} is wrong by {worst:.1e}")
    return worst


def as_float64(value: Any) -> Any:
    floating = isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"
    return value.astype(np.float64) if floating else value


def caller(entry: Entry, arguments: Sequence[Any], numpy: bool) -> Call:
    """A call without arguments: on arrays of the library itself, or from NumPy and back."""
    function, library = entry.function, entry.library
    if numpy:
        native, back = library.native, library.back
        return lambda: [back(r) for r in library.wait(function(*map(native, arguments)))]
    held, wait = tuple(map(library.native, arguments)), library.wait
    if wait is unchanged:
        return lambda: function(*held)
    return lambda: wait(function(*held))


def calls_per_round(held: Held) -> int:
    once = held.timed(1)
    if once < ROUND_SECONDS:
        once = held.timed(1)  # the first one may have been slow
    return max(1, int(ROUND_SECONDS / max(once, 1e-7)))


def timed(call: Call, repeat: int) -> float:
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    return (time.perf_counter() - start) / repeat


def peak_memory(call: Call) -> int | None:
    """Bytes that a call needs above what the process held before it (Linux only)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    gc.collect()
    reset.write_text("5")
    before = resident(status, "VmRSS")
    kept = call()
    peak = resident(status, "VmHWM")
    del kept
    return max(0, peak - before)


def resident(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024


def measure(
    workload: Workload, rounds: int, numpy: bool, chosen: str = "", seconds: float = math.inf
) -> tuple[list[Result], dict[str, str]]:
    """First calls, checks, memory, then `rounds` rounds in which all entries take turns; and why
    which entry is left out.

    `chosen`: words, the entries whose names contain one. `seconds`: see `take_turns`.
    """
    words, left_out = chosen.split(","), {}
    wanted = workload.reference(*map(as_float64, workload.arguments))
    taking: list[tuple[Result, Held]] = []
    try:
        for entry in (e for e in workload.entries if any(word in e.name for word in words)):
            try:
                held = entry.held(workload.arguments, numpy)
                found, first = held.first()
            except Exception as error:
                if not entry.optional:
                    raise
                left_out[entry.name] = str(error).splitlines()[0]
                continue
            error = check(workload, entry, found, wanted)
            del found
            result = Result(entry.name, first, error, held.memory(), entry.library.peer)
            taking.append((result, held))
        take_turns(taking, rounds, seconds)
    finally:
        for _, held in taking:
            held.close()
    return [result for result, _ in taking], left_out


def take_turns(taking: Sequence[tuple[Result, Held]], rounds: int, seconds: float) -> None:
    """Each takes its turn in every round. With an equal share of `seconds` for each, one that is
    through with its share sits out: the slow ones, whose figures matter least."""
    repeats = [calls_per_round(held) for _, held in taking]
    shares = [seconds / len(taking)] * len(taking)
    for number in range(rounds):
        for turn in range(len(taking)):
            k = (number + turn) % len(taking)
            result, held = taking[k]
            if shares[k] > 0:
                if cpu_count() > 1:
                    time.sleep(SETTLE_SECONDS)
                result.rounds.append(held.timed(repeats[k]))
                shares[k] -= result.rounds[-1] * repeats[k]


def table(workload: Workload, results: Sequence[Result], left_out: dict[str, str]) -> str:
    """The results as Markdown, fastest median first; then a row with the reason for each that is
    left out."""
    best = min((r.median for r in results if r.peer), default=None)
    lines = [
        f"### {workload.name}\n",
        "| implementation | median us | min us | / best peer | first call s | peak MB | error |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for r in sorted(results, key=lambda r: r.median):
        ratio = f"{r.median / best:.2f}" if best else ""
        memory = "" if r.memory is None else f"{r.memory / 2**20:.1f}"
        lines.append(
            f"| {r.name} | {r.median * 1e6:.2f} | {r.fastest * 1e6:.2f} | {ratio} "
            f"| {r.first_call:.2f} | {memory} | {r.error:.0e} |"
        )
    lines += [f"| {name} | left out: {why} ||||||" for name, why in left_out.items()]
    return "\n".join(lines) + "\n"


def limit_threads(threads: int) -> None:
    """Start this script anew on that many CPUs: libraries read their number when they load."""
    if threads in (0, cpu_count()):
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    os.execve(
        sys.executable,
        [sys.executable, *sys.argv],
        {**os.environ, **dict.fromkeys(names, str(threads))},
    )


def compare_threads(options: argparse.Namespace) -> None:
    """Run this script once for each number of CPUs and print one table per workload."""
    given = [str(number) for number in options.threads]
    rest = sys.argv[:]
    at = rest.index("--threads")
    del rest[at : at + 1 + len(given)]
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for number in given:
            path = Path(folder, f"{number}.json")
            command = [sys.executable, *rest, "--threads", number, "--json", str(path)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            runs.append(json.loads(path.read_text()))
    figures = {key: value for key, value in runs[0]["machine"].items() if key != "cpus used"}
    print("  ".join(f"{key} {value}" for key, value in figures.items()), end="\n\n")
    for records in zip(*(run["workloads"] for run in runs), strict=True):
        print(thread_table(given, records), flush=True)
    if options.json:
        options.json.write_text(json.dumps(dict(zip(given, runs, strict=True)), indent=1))


def thread_table(given: Sequence[str], records: Sequence[dict[str, Any]]) -> str:
    """One workload: the median and its ratio to the best peer's for each number of CPUs."""
    heads = [f"us, {number} CPU | / best peer" for number in given]
    lines = [
        f"### {records[0]['workload']}\n",
        f"| implementation | {' | '.join(heads)} | first call s | peak MB |",
        "|---|" + "---:|" * (2 * len(given) + 2),
    ]
    medians = [{r["name"]: statistics.median(r["rounds"]) for r in x["results"]} for x in records]
    peers = [
        [m[r["name"]] for r in x["results"] if r["peer"]]
        for m, x in zip(medians, records, strict=True)
    ]
    for result in records[0]["results"]:
        name, memory = result["name"], result["memory"]
        cells = []
        for found, others in zip(medians, peers, strict=True):
            time = found.get(name)
            cells.append("" if time is None else f"{time * 1e6:.2f}")
            cells.append(f"{time / min(others):.2f}" if time and others else "")
        peak = "" if memory is None else f"{memory / 2**20:.1f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {result['first_call']:.2f} | {peak} |")
    for name, why in records[0]["left out"].items():
        lines.append(f"| {name} | left out: {why} |{'|' * (2 * len(given) + 1)}")
    return "\n".join(lines) + "\n"


def generator() -> np.random.Generator:
    return np.random.default_rng(SEED)


def main(workloads: Iterable[Workload]) -> None:
    """The command line of every benchmark file."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[0], help="CPUs to use, several: a column each"
    )
    parser.add_argument("--with", dest="chosen", default="", help="implementations: jax,tracegrad")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="shared equally: the slow do fewer rounds",
    )
    parser.add_argument("--numpy", action="store_true", help="NumPy arrays in and out for everyone")
    parser.add_argument("--only", default="", help="workloads whose name contains this")
    parser.add_argument("--json", type=Path, help="write every round's time here")
    options = parser.parse_args()
    if len(options.threads) > 1:
        compare_threads(options)
        return
    limit_threads(options.threads[0])
    write_bytecode()
    print("  ".join(f"{key} {value}" for key, value in machine().items()), end="\n\n")
    records = []
    for workload in workloads:
        if options.only in workload.name:
            results, left_out = measure(
                workload, options.rounds, options.numpy, options.chosen, options.seconds
            )
            print(table(workload, results, left_out), flush=True)
            records.append(
                {
                    "workload": workload.name,
                    "results": [asdict(r) for r in results],
                    "left out": left_out,
                }
            )
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "workloads": records}, indent=1))
