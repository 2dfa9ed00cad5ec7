"""numba's CPU target with only those of its implementations loaded that generated code uses.

`Essential` is a target as numba's extension interface knows them. A dispatcher of it compiles with
scalars, tuples, ranges, arrays and ufuncs, but without strings, lists, dictionaries, statistics or
linear algebra. That is 0.03 instead of 0.25 s of the first compilation of a process, of which
`scipy.linalg` alone takes 0.15.

numba's implementations stand in registries; a context holds what it installed from them.
`CPUContext.refresh` imports all modules with implementations, then installs what is new. Here
`refresh` installs what the modules imported so far have. Both contexts share what is installed, so
a compilation of the user's own adds the rest for itself, and functions of either target call those
of the other. `complete` adds the rest too, for a function that needs it.
"""

from __future__ import annotations

from functools import cached_property
from types import ModuleType
from typing import Any

from numba.core.compiler import CompilerBase
from numba.core.compiler_machinery import CompilerPass, PassManager
from numba.core.imputils import builtin_registry
from numba.core.registry import CPUDispatcher, CPUTarget, cpu_target
from numba.core.runtime.nrt import rtsys
from numba.core.target_extension import (
    CPU,
    dispatcher_registry,
    jit_registry,
    target_override,
    target_registry,
)
from numba.cpython import builtins, iterators, mathimpl, numbers, rangeobj, slicing, tupleobj
from numba.np import arrayobj, npyimpl

NAME = "codegen"
IMPORTED: tuple[ModuleType, ...] = (
    builtins, iterators, numbers, rangeobj, slicing, tupleobj, arrayobj,
)  # fmt: skip
"""Modules that fill numba's registry of builtins when they are imported."""


class Essential(CPU):
    """The target, as numba names and compares them."""


class EssentialTarget(CPUTarget):
    """Where the contexts of the target are."""

    @property
    def typing_context(self) -> Any:
        return cpu_target.typing_context

    @cached_property
    def target_context(self) -> Any:
        """A context that shares with numba's own all that is installed in either."""
        context: Any = cpu_target.target_context
        return context.subtarget(target=Essential, refresh=self.refresh)

    def refresh(self) -> None:
        """Install what the registries in use have beyond what is installed."""
        context = self.target_context
        rtsys.initialize(context)
        # numba puts what intrinsics lower to into whichever registry was installed first: by a
        # function that the user compiled before us that may be another one.
        own = (mathimpl.registry, npyimpl.registry, builtin_registry)
        for registry in dict.fromkeys([*own, *context._registries]):
            context.install_registry(registry)


TARGET = EssentialTarget(NAME)


class Dispatcher(CPUDispatcher):
    """A dispatcher of the target."""

    targetdescr = TARGET


class Compiler(CompilerBase):
    """Compiles for the target, by `passes`."""

    passes: tuple[type[CompilerPass], ...] = ()

    def __init__(self, *parts: Any) -> None:
        with target_override(NAME):  # whose contexts are refreshed
            super().__init__(*parts)

    def define_pipelines(self) -> list[PassManager]:
        manager = PassManager(type(self).__name__)
        for step in self.passes:
            manager.add_pass(step, step.__name__)
        manager.finalize()
        return [manager]


def complete() -> None:
    """Load all of numba's implementations."""
    context: Any = cpu_target.target_context
    context.refresh()


target_registry[NAME] = Essential
dispatcher_registry[Essential] = Dispatcher
jit_registry[Essential] = jit_registry[CPU]
