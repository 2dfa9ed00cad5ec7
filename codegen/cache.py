"""The disk cache: generated modules and their compiled code, right by construction.

In: the parts of a key (text, callees, options, versions, CPU) and data. Out: the data again, in
this process or another, or the reason why not.

    <XDG_CACHE_HOME>/tracegrad/loss_3f2a.../loss_3f2a....py     the generated module
                                            code                its machine code, pickled
                                            entry.json          digests of both, parts of the key
                          by_graph/loss_9b41.../...             a function that loads without numba

The key is a SHA-256 over everything the code depends on, so an entry is never stale. An entry is
written to a temporary directory, synchronised and renamed: it is there completely or not at all.
Its directory must belong to the user and be closed to others, and the digests must agree, before
a byte is unpickled; whatever is damaged, foreign or unreadable is a miss.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from codegen.records import dataclass

CODE, RECORD = "code", "entry.json"
BY_GRAPH = "by_graph"
"""Where functions are kept by the graph that they were made of (`codegen.native`)."""
LIMIT = 512 * 2**20
"""Bytes that the cache may hold; beyond it what was unused for longest goes."""
ABANDONED = 3600.0
"""Seconds after which an unfinished entry was left by a process that died."""
SWEEP, SWEPT = 300.0, ".swept"
"""Seconds between two looks at the size of the whole cache (a full one takes 0.2 s to look at), and
the file that says when the last one was."""


class CacheWarning(UserWarning):
    """The disk cache cannot be used; everything works, but is compiled again in each process."""


@dataclass(frozen=True)
class Key:
    """What compiled code depends on, part by part (so that a miss can be explained)."""

    name: str
    parts: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        return sha256(json.dumps([self.name, self.parts]).encode())

    @property
    def stem(self) -> str:
        """The name of the module and of the directory: the function's name and the digest."""
        return f"{self.name}_{self.digest[:24]}"

    @property
    def record(self) -> dict[str, str]:
        """A digest for each part of the key."""
        return {part: sha256(value.encode()) for part, value in self.parts}


@dataclass(frozen=True)
class Entry:
    """One compiled module on disk."""

    path: Path
    bytes: int
    used: float

    @property
    def name(self) -> str:
        return self.path.name


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def directory() -> Path:
    """Where the cache lies; see the XDG Base Directory Specification."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "tracegrad"


def by_graph() -> Path:
    return directory() / BY_GRAPH


def private(path: Path) -> bool:
    """Whether a directory (not a link to one) is ours and nobody else can write or read it."""
    try:
        found = path.lstat()
    except OSError:
        return False
    if not stat.S_ISDIR(found.st_mode):
        return False
    return not hasattr(os, "getuid") or (
        found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) & 0o077 == 0
    )


def load(key: Key, root: Path | None = None) -> tuple[bytes | None, str]:
    """The compiled code for `key` and `hit`, or None and why there is none."""
    folder = (root or directory()) / key.stem
    if not folder.is_dir():
        return None, f"miss: {difference(key)}" if root is None else "miss"
    try:
        code = checked(folder, key)
    except (OSError, ValueError, KeyError) as error:
        discard(folder)
        return None, f"miss: the entry is damaged ({error})"
    with contextlib.suppress(OSError):
        os.utime(folder / RECORD)
    return code, "hit"


def checked(folder: Path, key: Key | None = None) -> bytes:
    """The code of an entry. Raises OSError, ValueError or KeyError unless all of it is sound."""
    if not (private(folder) and private(folder.parent)):
        raise ValueError("its directory is open to others or not ours")
    record = json.loads((folder / RECORD).read_text("utf-8"))
    if not isinstance(record, dict):
        raise ValueError("its record is not one")
    if key is not None and (record["key"], record["parts"]) != (key.digest, key.record):
        raise ValueError("it is for another key")
    text, code = (folder / f"{folder.name}.py").read_bytes(), (folder / CODE).read_bytes()
    if sha256(text) != record["text"] or sha256(code) != record["code"]:
        raise ValueError("its digests do not agree")
    return code


def difference(key: Key) -> str:
    """Which part of the key differs from that of the latest entry of the same name."""
    for entry in entries(key.name):
        try:
            record = json.loads((entry.path / RECORD).read_text("utf-8"))
            mine = key.record
            changed = [part for part in mine if record["parts"].get(part) != mine[part]]
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        return f"another {', '.join(changed)} than {entry.name}"
    return "not compiled before"


def store(key: Key, text: str, code: bytes, root: Path | None = None) -> Path | None:
    """Keep a module and its code; the path of the module's file, or None if there is no room for
    it (which is warned about once)."""
    try:
        return _stored(key, text, code, root)
    except OSError as error:
        _warn_once(f"compiled code is not kept: {error}")
        return None


def _stored(key: Key, text: str, code: bytes, root: Path | None) -> Path:
    for folder in (directory(), root or directory()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not private(folder):
            folder.chmod(0o700)
        if not private(folder):
            raise PermissionError(f"{folder} is not a directory of this user")
    root = root or directory()
    final = root / key.stem
    unfinished = Path(tempfile.mkdtemp(prefix=".", dir=root))
    try:
        data = text.encode()
        record = {
            "key": key.digest,
            "parts": key.record,
            "text": sha256(data),
            "code": sha256(code),
        }
        _write(unfinished / f"{key.stem}.py", data)
        _write(unfinished / CODE, code)
        _write(unfinished / RECORD, json.dumps(record, indent=1).encode())
        _synchronise(unfinished)
        with contextlib.suppress(OSError):  # another process was first: its entry is as good
            unfinished.rename(final)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    if root == directory() and _due(root / SWEPT):
        prune(keep=final)
    return final / f"{key.stem}.py"


def _due(stamp: Path) -> bool:
    """Whether the last sweep is long enough ago; then this one is recorded."""
    try:
        if 0 <= time.time() - stamp.stat().st_mtime < SWEEP:
            return False
    except FileNotFoundError:
        pass
    stamp.touch(mode=0o600)
    return True


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _synchronise(folder: Path) -> None:
    """Make the names in a directory durable (where the system knows how)."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def discard(folder: Path) -> None:
    """Remove an entry so that nobody sees half of it: under another name first."""
    with contextlib.suppress(OSError):
        grave = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
        folder.rename(grave / folder.name)
        shutil.rmtree(grave, ignore_errors=True)


def entries(name: str | None = None) -> list[Entry]:
    """The modules it holds (of the functions called `name`), most recently used first."""
    return sorted(_entries(directory(), name), key=lambda entry: entry.used, reverse=True)


def all_entries() -> list[Entry]:
    """All that the cache holds, most recently used first."""
    found = [*_entries(directory()), *_entries(by_graph())]
    return sorted(found, key=lambda entry: entry.used, reverse=True)


def _entries(root: Path, name: str | None = None) -> Iterator[Entry]:
    try:
        folders = list(os.scandir(root))
    except OSError:
        return
    for folder in folders:
        if folder.name.startswith(".") or not folder.is_dir(follow_symlinks=False):
            continue
        if folder.name == BY_GRAPH:
            continue
        if name is not None and folder.name.rpartition("_")[0] != name:
            continue
        with contextlib.suppress(OSError):  # removed by another process meanwhile
            files = [file.stat() for file in os.scandir(folder.path)]
            used = max((file.st_mtime for file in files), default=0.0)
            yield Entry(Path(folder.path), sum(file.st_size for file in files), used)


def prune(limit: int = LIMIT, keep: Path | None = None) -> None:
    """Remove entries, the one unused for longest first, until the others fit into `limit` bytes."""
    room = limit
    for entry in all_entries():
        room -= entry.bytes
        if room < 0 and entry.path != keep:
            discard(entry.path)
    _remove_abandoned()


def _remove_abandoned() -> None:
    with contextlib.suppress(OSError):
        for folder in (*directory().glob(".*/"), *by_graph().glob(".*/")):
            if time.time() - folder.stat().st_mtime > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)


def clear() -> int:
    """Remove all entries; how many modules there were."""
    count = len(entries())
    for entry in all_entries():
        discard(entry.path)
    return count


def verify() -> Mapping[str, str]:
    """For each module `ok` or what is wrong with it; the wrong ones are removed. Functions kept by
    their graph are named where they are wrong."""
    results = {entry.name: "ok" for entry in entries()}
    for entry in all_entries():
        try:
            checked(entry.path)
        except (OSError, ValueError, KeyError) as error:
            results[entry.name] = str(error)
            discard(entry.path)
    return results


_warned: set[str] = set()


def _warn_once(message: str) -> None:
    if not _warned:
        _warned.add(message)
        warnings.warn(message, CacheWarning, stacklevel=4)
