"""numba's extension modules, loaded without the packages that they stand in.

In: a name. Out: the module: the runtime that counts references to arrays, what makes Python
functions of addresses, what compiled code calls. `import numba` takes 0.2 s; these take 2 ms.

    extension(RUNTIME).c_helpers["Allocate"]
"""

from __future__ import annotations

import sys
from functools import cache
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

RUNTIME = "numba.core.runtime._nrt_python"
FUNCTIONS = "numba._dynfunc"
HELPERS = "numba._helperlib"


@cache
def extension(name: str) -> Any:
    """An extension module of numba's, without the packages that it stands in if these are not
    loaded; they find it when they are.
    """
    if name in sys.modules or "numba" in sys.modules:
        return import_module(name)
    spec = find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("numba is not installed")
    folder = Path(spec.origin).parents[1].joinpath(*name.split(".")[:-1])
    found = PathFinder.find_spec(name, [str(folder)])
    if found is None or found.loader is None:
        raise ImportError(f"{name} is not in {folder}")
    module = module_from_spec(found)
    found.loader.exec_module(module)
    sys.modules[name] = module
    if name == RUNTIME:
        module.memsys_use_cpython_allocator()  # as numba does, before anything is allocated
    return module
