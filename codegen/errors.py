"""What goes wrong in codegen: a program that cannot be printed, a text that numba refuses."""


class CodegenError(Exception):
    """A loop program that is not well-formed; `comment` is that of the statement at fault."""

    comment = ""


class CompileError(CodegenError):
    """numba refused a generated module; `source` is its text, `__cause__` numba's error."""

    def __init__(self, message: str, source: str) -> None:
        super().__init__(message)
        self.source = source


class BrokenPromise(CodegenError):
    """A foreign function cannot be compiled for its arguments, or returns other types than were
    promised for it; `comment` is that of the call."""
