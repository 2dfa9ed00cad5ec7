"""The eager Tensor: an ndarray whose operations run at once and, where need be, are remembered.

    x = tg.tensor([1., 2.], requires_grad=True)
    y = (x * x).sum()          # tensor(5., grad_fn=<SumBackward>)
    y.backward()               # x.grad: tensor([2., 4.])

The parts are in `tracegrad.eager`: `core` computes and records, `inplace` writes, `engine` walks
back.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from tracegrad.eager.call import call
from tracegrad.eager.core import Core, operand_node
from tracegrad.eager.methods import Methods
from tracegrad.eager.node import user_site
from tracegrad.eager.printing import tensor_text
from tracegrad.errors import UnsupportedError
from tracegrad.later import Later
from tracegrad.leaves import is_masked
from tracegrad.ops.op import supported_dtype

if TYPE_CHECKING:
    from tracegrad.inspect.dump import Dump

recorded = Later("tracegrad.inspect.recorded")


class Tensor(Methods):
    """An array with a gradient: made by `tg.tensor`, `tg.zeros`, ..., or by operations."""

    def __init__(self, data: Any, dtype: Any = None, requires_grad: bool = False) -> None:
        self._data = array_of(data, dtype, copy=True)
        self._origin = user_site()
        if requires_grad:
            self.requires_grad_()

    @classmethod
    def call(cls, function: Any, leaves: Sequence[Any], tree: Any) -> Any:
        """A traced function called on tensors: one node of the graph, run compiled."""
        return call(cls, function, leaves, tree)

    def numpy(self) -> np.ndarray:
        """The array itself: it shares memory with the tensor. Raises if a gradient is required."""
        if self.requires_grad:
            raise RuntimeError(
                "Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() "
                "instead."
            )
        return self._data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        array = self.numpy()
        if dtype is not None and array.dtype != dtype:
            if copy is False:
                raise ValueError(
                    f"a tensor of {array.dtype} cannot be seen as {dtype} without a copy"
                )
            return array.astype(dtype)
        return array.copy() if copy else array

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        try:
            return super().__array_ufunc__(ufunc, method, *inputs, **options)
        except UnsupportedError:
            if method == "at" or _needs_gradient((inputs, options)):
                raise
            return getattr(ufunc, method)(*_plain(inputs), **_plain(options))

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Ours if there is one; on tensors that need no gradient any other NumPy function too."""
        try:
            return super().__array_function__(function, types, args, dict(kwargs))
        except UnsupportedError:
            if _needs_gradient((args, kwargs)):
                raise
            return function(*_plain(args), **_plain(kwargs))

    def item(self) -> Any:
        """The one element as a Python number."""
        if self._data.size != 1:
            raise RuntimeError(
                f"a Tensor with {self._data.size} elements cannot be converted to Scalar"
            )
        return self._data.item()

    def tolist(self) -> Any:
        return self._data.tolist()

    def __len__(self) -> int:
        if not self._data.ndim:
            raise TypeError("len() of a 0-d tensor")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Self]:
        if not self._data.ndim:
            raise TypeError("iteration over a 0-d tensor")
        return (self[number] for number in range(self._data.shape[0]))

    def __bool__(self) -> bool:
        if self._data.size != 1:
            many = "more than one value" if self._data.size else "no values"
            raise RuntimeError(
                f"Boolean value of Tensor with {many} is ambiguous: use .any(), .all() or tg.where"
            )
        return bool(self._data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        if self._data.size != 1 or self._data.dtype.kind not in "biu":
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(self._data.item())

    def __contains__(self, value: Any) -> bool:
        return value in self._data

    def __repr__(self) -> str:
        fn = self.grad_fn
        notes = [f"grad_fn={fn!r}"] if fn is not None else ["requires_grad=True"] * self._requires
        return tensor_text(self._data, notes)

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return (
            format(self.item(), spec) if spec and self._data.ndim == 0 else format(repr(self), spec)
        )

    def dump(self) -> Dump:
        """The operations that made this tensor, as a NumPy program with the lines they came from.

        A tensor that records nothing is the parameter of an empty program.
        """
        return recorded.dump_eager([self._node() or operand_node(self)])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if self.grad_fn is not None:
            raise RuntimeError(
                "Only Tensors created explicitly by the user (graph leaves) support the deepcopy "
                "protocol at the moment. Use detach() or clone()"
            )
        tensor = self.of(self._data.copy())
        tensor._requires, tensor._origin = self._requires, self._origin
        tensor._grad = copy.deepcopy(self._grad, memo)
        memo[id(self)] = tensor
        return tensor

    def __reduce__(self) -> Any:
        if self.grad_fn is not None:
            raise RuntimeError("only leaf tensors can be pickled: detach() first")
        return Tensor, (self._data, None, self._requires)


def array_of(data: Any, dtype: Any, copy: bool) -> np.ndarray:
    """`data` (numbers, nested lists, arrays, tensors) as an array that tensors can hold."""
    if isinstance(data, Core):
        data = data._data
    elif isinstance(data, list | tuple):
        data = _plain(data)
    if is_masked(data):
        raise TypeError("a masked array: pass x.filled(value) or x.data")
    array = np.array(data, dtype=dtype) if copy else np.asarray(data, dtype=dtype)
    array = array if type(array) is np.ndarray else np.array(array, subok=False)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    supported_dtype(array.dtype)
    return array


def _plain(value: Any) -> Any:
    """The same with arrays in place of tensors, in nested lists, tuples and dicts."""
    match value:
        case Core():
            return value._data
        case list() | tuple():
            return type(value)([_plain(item) for item in value])
        case dict():
            return {key: _plain(item) for key, item in value.items()}
    return value


def _needs_gradient(value: Any) -> bool:
    match value:
        case Core():
            return value._node() is not None
        case list() | tuple():
            return any(_needs_gradient(item) for item in value)
        case dict():
            return any(_needs_gradient(item) for item in value.values())
    return False
