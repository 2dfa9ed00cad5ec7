"""The command line: `python -m tracegrad cache ls|clear|verify` and `python -m tracegrad doctor`.

$ python -m tracegrad cache ls
loss_value_and_grad_4f21c09bd1c6c1f0a1b2c3d4     48.1 KiB  used 2026-03-01 12:04
1 entry, 48.1 KiB of 512.0 MiB in ~/.cache/tracegrad
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from codegen import cache
from tracegrad import doctor


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status: 0 if all is well."""
    parser = argparse.ArgumentParser("python -m tracegrad", description="Cache and diagnosis.")
    commands = parser.add_subparsers(dest="command", required=True)
    kept = commands.add_parser("cache", help="the compiled code that is kept on disk")
    kept.add_argument(
        "action",
        choices=("ls", "clear", "verify"),
        help="list the entries; remove them all; check each and remove the damaged ones",
    )
    commands.add_parser("doctor", help="check that everything compiled code needs is in order")
    given = parser.parse_args(arguments)
    if given.command == "doctor":
        return doctor.report()
    return {"ls": list_entries, "clear": clear, "verify": verify}[given.action]()


def list_entries() -> int:
    """The entries, most recently used first, and their sum."""
    entries = cache.entries()
    width = max((len(entry.name) for entry in entries), default=0)
    for entry in entries:
        used = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.used))
        print(f"{entry.name:{width}}  {size(entry.bytes):>10}  used {used}")
    total = size(sum(entry.bytes for entry in entries))
    print(f"{counted(len(entries))}, {total} of {size(cache.LIMIT)} in {cache.directory()}")
    return 0


def clear() -> int:
    print(f"removed {counted(cache.clear())} from {cache.directory()}")
    return 0


def verify() -> int:
    """Say what is wrong with the entries that are damaged; status 1 if there are any."""
    results = cache.verify()
    damaged = {name: state for name, state in results.items() if state != "ok"}
    for name, state in damaged.items():
        print(f"removed {name}: {state}")
    print(f"{counted(len(results))} checked, {len(damaged)} damaged")
    return 1 if damaged else 0


def counted(number: int) -> str:
    return f"{number} {'entry' if number == 1 else 'entries'}"


def size(count: float) -> str:
    """Bytes for people: 1536 -> `1.5 KiB`."""
    units = ("B", "KiB", "MiB", "GiB")
    step = 0
    while count >= 1024 and step < len(units) - 1:
        count, step = count / 1024, step + 1
    return f"{count:.1f} {units[step]}" if step else f"{int(count)} B"


if __name__ == "__main__":
    sys.exit(main())
