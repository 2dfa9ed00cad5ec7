"""What the figures depend on: processor, CPUs, versions, and the interpreter that has PyTensor."""

from __future__ import annotations

import compileall
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": names[0] if names else platform.processor(),
        "cpus used": cpu_count(),
        "python": platform.python_version(),
        **{name: installed(name) for name in ("numpy", "numba", "scipy", "jax", "torch")},
        "pytensor": pytensor_version() or "none",
    }


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def write_bytecode() -> None:
    """Give this checkout the bytecode that pip gives to a package it installs, as the peers' are:
    a first call imports modules, and where Python may not write bytecode they are parsed anew each
    time, 0.2 s."""
    for name in ("tracegrad", "codegen"):
        compileall.compile_dir(ROOT / name, quiet=2)


def cpu_count() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pytensor_interpreter() -> str:
    """PyTensor wants an older numba than ours, so it may live in an environment of its own."""
    return os.environ.get("PYTENSOR_PYTHON") or sys.executable


@cache
def pytensor_version() -> str:
    """Of that interpreter's PyTensor, with its numba; empty if it has none."""
    code = "from importlib.metadata import version as v; "
    code += "print(f\"{v('pytensor')} with numba {v('numba')}\")"
    try:
        run = subprocess.run([pytensor_interpreter(), "-c", code], capture_output=True, text=True)
    except OSError:
        return ""
    return run.stdout.strip() if run.returncode == 0 else ""
