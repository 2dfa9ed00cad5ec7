"""Modules that load when something of them is first used, so that `import tracegrad` stays quick.

dumps = Later("tracegrad.inspect.dump")      ...      dumps.dump_graph(graph)   # imported here
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Later:
    """A module, or with `attribute` a function of one, that is imported at its first use."""

    def __init__(self, module: str, attribute: str = "") -> None:
        self._module, self._attribute = module, attribute

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._module), name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return getattr(import_module(self._module), self._attribute)(*args, **kwargs)
