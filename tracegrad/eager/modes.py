"""Whether operations are recorded: `no_grad`, `enable_grad`, `set_grad_enabled`.

    with tg.no_grad():
        w -= 0.1 * w.grad          # computed, not recorded

The mode belongs to a thread (and to an asynchronous task).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from inspect import isgeneratorfunction
from typing import Any

_enabled: ContextVar[bool] = ContextVar("grad_enabled", default=True)

is_grad_enabled = _enabled.get


class set_grad_enabled:
    """Record operations or not, from now on; as a context or decorator, within it."""

    def __init__(self, mode: bool) -> None:
        self.mode = bool(mode)
        self._before = [_enabled.get()]
        _enabled.set(self.mode)

    def __enter__(self) -> None:
        _enabled.set(self.mode)

    def __exit__(self, *error: object) -> None:
        _enabled.set(self._before[-1])

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        _enabled.set(self._before[-1])
        return _within(self.mode, function)


class _Mode:
    """`with no_grad(): ...`, `@no_grad()` and `@no_grad`; may be entered repeatedly."""

    mode = False

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        return super().__new__(cls) if function is None else _within(cls.mode, function)

    def __init__(self) -> None:
        self._before: list[bool] = []

    def __enter__(self) -> None:
        self._before.append(_enabled.get())
        _enabled.set(self.mode)

    def __exit__(self, *error: object) -> None:
        _enabled.set(self._before.pop())

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return _within(self.mode, function)


class no_grad(_Mode):
    """Within: results do not require gradients, nothing is recorded, leaves may be written to."""

    mode = False


class enable_grad(_Mode):
    """Within: operations are recorded, also inside of a `no_grad`."""

    mode = True


@contextmanager
def recording_gradients(mode: bool) -> Iterator[None]:
    before = _enabled.get()
    _enabled.set(mode)
    try:
        yield
    finally:
        _enabled.set(before)


def _within(mode: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        with recording_gradients(mode):
            return function(*args, **kwargs)

    @wraps(function)
    def steps(*args: Any, **kwargs: Any) -> Iterator[Any]:
        """The mode of a generator holds in its steps, and not between them."""
        generator = function(*args, **kwargs)
        resume = partial(next, generator)
        while True:
            with recording_gradients(mode):
                try:
                    item = resume()
                except StopIteration as stop:
                    return stop.value
            try:
                resume = partial(generator.send, (yield item))
            except GeneratorExit:
                generator.close()
                raise
            except Exception as error:
                resume = partial(generator.throw, error)

    return steps if isgeneratorfunction(function) else wrapped
