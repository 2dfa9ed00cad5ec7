"""The errors that users see. Each says what is wrong, where, and what to do instead."""

from __future__ import annotations

import numpy as np


class TracegradError(Exception):
    """Base of the errors that have no closer built-in class."""

    __module__ = "tracegrad"


class ShapeError(TracegradError, ValueError):
    """Operands whose shapes do not go together."""

    __module__ = "tracegrad"


class MatrixError(ShapeError, np.linalg.LinAlgError):
    """Arrays that are not matrices of the shape that linear algebra wants."""

    __module__ = "tracegrad"


class TraceError(TracegradError, TypeError):
    """Something that a traced function cannot do with a traced value."""

    __module__ = "tracegrad"


class NotDifferentiableError(TracegradError, TypeError):
    """A gradient was asked of something that has none."""

    __module__ = "tracegrad"


class MemoryBudgetError(TracegradError, ValueError):
    """No choice of kept values fits a budget of memory."""

    __module__ = "tracegrad"


class UnsupportedError(TracegradError, TypeError):
    """A function or argument outside of what tracegrad knows."""

    __module__ = "tracegrad"


class LongCompilation(UserWarning):
    """A program took long to compile, and a Python loop that was written out may be the reason."""

    __module__ = "tracegrad"


class CompileError(TracegradError, RuntimeError):
    """The generated code did not compile, a defect of tracegrad; or a function of the user's that
    it calls did not, or returns something else than its `shape=` says.

    `dump` is the IR, `source` the generated text, `details` all that the compiler said.
    """

    def __init__(self, message: str, dump: str = "", source: str = "", details: str = "") -> None:
        super().__init__(message)
        self.dump, self.source, self.details = dump, source, details
