"""How many threads compiled functions and BLAS use.

tg.set_num_threads(1)      # one thread, for everything: loops, NumPy's and SciPy's BLAS
"""

from __future__ import annotations

import operator

from tracegrad.later import Later

threads = Later("codegen.threads")


def set_num_threads(n: int) -> None:
    """Use `n` threads in loops over large arrays and in BLAS, NumPy's as well as SciPy's.

    Results do not depend on it. It holds for the whole process; until it is called there are as
    many threads as the environment variable NUMBA_NUM_THREADS or OMP_NUM_THREADS says, else as many
    as there are CPUs that this process may use.

    >>> import tracegrad as tg
    >>> tg.set_num_threads(2)
    >>> tg.get_num_threads()
    2

    Raises TypeError if `n` is no integer, ValueError if it is not positive.
    """
    count = operator.index(n)
    if count < 1:
        raise ValueError(f"set_num_threads: there must be at least 1 thread, not {count}")
    threads.use(count)


def get_num_threads() -> int:
    """How many threads loops over large arrays use."""
    return threads.present()
