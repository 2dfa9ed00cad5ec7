"""The methods with which a traced function shows itself: `dump`, `stages`, `source`, `explain`, ...

All take example arguments, `f.dump(x)`; without arguments they show the latest version.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from tracegrad.errors import TraceError
from tracegrad.ir.interpret import extents_of
from tracegrad.later import Later
from tracegrad.leaves import leaves_of
from tracegrad.tree import unflatten
from tracegrad.version import Version

if TYPE_CHECKING:
    from tracegrad.inspect.compiled import Compiled, GeneratedSource
    from tracegrad.inspect.drawing import Drawing
    from tracegrad.inspect.dump import Dump
    from tracegrad.inspect.explain import Explanation
    from tracegrad.inspect.subject import StageView, Subject

compiling = Later("tracegrad.inspect.compiled")
drawing = Later("tracegrad.inspect.drawing")
explaining = Later("tracegrad.inspect.explain")
exporting = Later("tracegrad.inspect.export")
subjects = Later("tracegrad.inspect.subject")


def plain(leaf: Any) -> Any:
    """A tensor's array; anything else as it is."""
    return leaf.detach().numpy() if hasattr(leaf, "detach") else leaf


class Inspectable:
    """What `Function` inherits: everything here reads, nothing changes what is compiled."""

    name: str
    latest: Version | None
    shows: str
    _derived: dict[Any, Any]

    def version_for(
        self, args: tuple[Any, ...], kwargs: Any, for_all: bool = False
    ) -> tuple[Version, list[Any]]:
        raise NotImplementedError

    @property
    def value_and_grad(self) -> Any:
        raise NotImplementedError

    def dump(
        self, *args: Any, which: str | None = None, after: str | None = None, **kwargs: Any
    ) -> Dump:
        """The IR as a NumPy program with types, memory and the user's lines in comments.

        `which`: "primal", "forward" (default), "backward", "consuming" (the backward that runs
        without `retain_graph`: it may write into the kept values) or "joint"; `after`: the name of
        a pass.
        """
        return self._subject(args, kwargs).dump(which, after)

    def stages(self, *args: Any, which: str | None = None, **kwargs: Any) -> list[StageView]:
        """What every pass made, in order; of one program, or of all."""
        return self._subject(args, kwargs).stages(which)

    def explain(self, *args: Any, which: str | None = None, **kwargs: Any) -> Explanation:
        """Passes, kernels, residuals and why they are kept, guards, memory, compilation."""
        subject = self._subject(args, kwargs)
        return explaining.explanation(subject, self.versions, which)  # type: ignore[attr-defined]

    def source(self, *args: Any, which: str | None = None, **kwargs: Any) -> GeneratedSource:
        """The generated module; `.path` is its file."""
        return compiling.generated_source(self._subject(args, kwargs), which)

    def graph(self, *args: Any, which: str | None = None, **kwargs: Any) -> Drawing:
        """A drawing of the graph, shown by notebooks; `str()` is the SVG."""
        return drawing.draw(self._subject(args, kwargs), which)

    def compiled(self, *args: Any, **kwargs: Any) -> Compiled:
        """The numba functions: `.primal`, `.forward`, `.backward`, `.value_and_grad`."""
        return compiling.Compiled(self._subject(args, kwargs, for_all=True), self)

    def export(self, path: Any, *args: Any, threads: bool = False, **kwargs: Any) -> None:
        """Write a module with forward, backward, value_and_grad; it needs numpy and numba only.

        `threads`: loops over large arrays are numba's `prange`; numba takes longer to compile them.
        """
        exporting.export(path, self._subject(args, kwargs, for_all=True), self, threads)

    def _subject(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], for_all: bool = False
    ) -> Subject:
        """`for_all`: what users call with any arguments is not to assume short extents."""
        latest = self._latest()
        if latest is not None and for_all and latest.short and not (args or kwargs):
            args, kwargs = compiling.example(latest, latest.extents)
        if args or kwargs or (latest is None and self._takes_nothing()):
            leaves, tree = leaves_of((args, kwargs))
            args, kwargs = unflatten(tree, iter([plain(leaf) for leaf in leaves]))
            version, values = self.version_for(args, kwargs, for_all)
            sizes = extents_of(version.graph, values)
            extents = {name: int(size) for name, size in sizes.items()}  # type: ignore[arg-type]
            return subjects.Subject(self.name, version, extents, self.shows)
        if latest is None:
            raise TraceError(
                f"{self.name} has no version yet: call it first, or give example arguments, "
                f"{self.name}.dump(x)"
            )
        return subjects.Subject(self.name, latest, latest.extents, self.shows)

    def _latest(self) -> Version | None:
        """The latest version; if only gradients were called so far, the one for their arguments."""
        called = [made.latest for made in self._derived.values() if made.latest is not None]
        if self.latest is None and called:
            return self.version_for(*compiling.example(called[-1], called[-1].extents))[0]
        return self.latest

    def _takes_nothing(self) -> bool:
        return not inspect.signature(self).parameters  # type: ignore[arg-type]
