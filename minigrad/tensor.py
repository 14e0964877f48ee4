"""Tensor and Variable: an array, its place on the tape, and conversions. Operators are attached by `minigrad.ops`."""

from __future__ import annotations

import itertools
import weakref
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu, cuda
from minigrad.devices.cuda import DeviceArray, dlpack
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_ndarray = np.ndarray
next_id = itertools.count(1).__next__  # the order in which nodes were recorded, over all threads
readers: list = []  # called as reader(tensor, how) before Python reads values: those of a `jit` that is recording
moves = [0]  # how often a Variable went to another device
writers: list = []  # called as writer(leaf) before its `grad` changes: those of a `jit` that is recording
living: weakref.WeakValueDictionary[int, Variable] = weakref.WeakValueDictionary()  # all Variables, by when made


def told(x: Tensor, how: str) -> np.ndarray:
    """The values of a tensor that Python is about to read, once whoever records knows of it; a copy, from a GPU."""
    _tell_readers(x, how)
    return x._data if x._data.__class__ is _ndarray else cuda.to_host(x._data)


def _tell_readers(x: Tensor, how: str) -> None:
    for reader in tuple(readers):
        reader(x, how)


class Leaf:
    """Where gradients end: the place on the tape of a tensor that no primitive made. Holds ``.grad``."""

    __slots__ = ("dtype", "grad", "id", "shape")
    primitive = None
    edges: tuple = ()
    outputs = 1

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.id = next_id()
        self.shape = shape
        self.dtype = dtype
        self.grad: Tensor | None = None


def put_grad(leaf: Leaf, value: Tensor | None) -> None:
    """Set a leaf's gradient, and tell who records."""
    for writer in tuple(writers) if writers else ():
        writer(leaf)
    leaf.grad = value


class Tensor:
    """An n-dimensional array that remembers how it was made. Made by `tensor` and by every operation.

    Its values don't change, except a Variable's, and then only by ``assign``: what `numpy` returns is read-only.
    Under the operators and functions it behaves as a NumPy array, dtype promotion and broadcasting included.

    Attributes:
        shape, dtype, ndim, size: as NumPy's.
        requires_grad: whether gradients flow to it.
        grad: a leaf's gradient, accumulated by ``backward``; None before.
    """

    # _data: the array, on a GPU a DeviceArray. _node, _index: the tape's node that made it and which of its outputs it
    # is; None where no gradient flows. _version: a counter shared by a Variable and all views of it, raised by each
    # in-place change; None for memory that never changes.
    __slots__ = ("__weakref__", "_data", "_index", "_node", "_version")
    __array_ufunc__ = None  # NumPy's operators give way to ours

    def __init__(self, data: Any, node: Any = None, index: int = 0, version: list[int] | None = None):
        if data.__class__ is not _ndarray and data.__class__ is not DeviceArray:
            raise ArgumentTypeError(f"Tensor: takes an ndarray, got {type(data).__name__}; minigrad.tensor converts")
        self._data: Any = data
        self._node = node
        self._index = index
        self._version = version

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> np.dtype:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    @property
    def device(self) -> str:
        """``"cpu"``, ``"cuda"``, or ``"cuda:1"`` and so on: where the values lie, and what computes with them does."""
        return "cpu" if self._data.__class__ is _ndarray else self._data.device

    @property
    def requires_grad(self) -> bool:
        return self._node is not None

    @property
    def grad(self) -> Tensor | None:
        return self._node.grad if isinstance(self._node, Leaf) else None

    @grad.setter
    def grad(self, value: Tensor | None) -> None:
        if self._node.__class__ is not Leaf:
            raise GradientError("grad: only a leaf that requires gradients holds one")
        if value is not None and not isinstance(value, Tensor):
            raise ArgumentTypeError(f"grad: got {type(value).__name__}, expected a Tensor or None")
        if value is not None and (value.shape != self.shape or value.dtype != self.dtype):
            raise ShapeError(f"grad: got {value.dtype}{value.shape}, expected {self.dtype}{self.shape}")
        put_grad(self._node, value)

    def numpy(self) -> np.ndarray:
        """The values as a read-only NumPy array; ``numpy().copy()`` may be written to.

        It shares memory with a tensor on the CPU, and is a copy of one on a GPU.
        """
        view = told(self, "numpy()").view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        values = told(self, "a NumPy array")
        if copy:
            return np.array(values, dtype)
        if copy is False and values is not self._data:
            raise ArgumentError(f"numpy.asarray: from {self.device} to the CPU needs a copy")
        if dtype is not None and np.dtype(dtype) != values.dtype:
            if copy is False:
                raise ArgumentError(f"numpy.asarray: {self.dtype} to {np.dtype(dtype)} needs a copy")
            return values.astype(dtype)
        return self.numpy()

    def __dlpack__(self, **options: Any) -> Any:
        """A DLPack capsule. Consumers that can't take read-only memory are given a copy."""
        _tell_readers(self, "DLPack")
        if self._data.__class__ is DeviceArray:
            return dlpack.capsule(self._data, **options)
        if dtypes.is_bfloat16(self._data.dtype):
            return dlpack.capsule_of_host(self._data.copy(), **options)
        version = options.get("max_version")
        source = self.numpy() if version is not None and version[0] >= 1 else self._data.copy()
        return source.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        if self._data.__class__ is DeviceArray:
            return dlpack.device(self._data)
        return dlpack.HOST

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Where the values lie on a GPU, for other libraries; AttributeError for a tensor on the CPU."""
        if self._data.__class__ is not DeviceArray:
            raise AttributeError("__cuda_array_interface__: the tensor is on the CPU")
        _tell_readers(self, "__cuda_array_interface__")
        return cuda.interface(self._data)

    def to(self, device: str) -> Tensor:
        """The tensor on another device; itself where it is there already. Gradients flow back.

        Args:
            device: ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` and so on.

        Raises:
            ArgumentError: for what names no device.
            DeviceError: for a GPU that is not there.
        """
        if cuda.index_of(device) == cuda.index_of(self.device):
            return self
        from minigrad.ops.transfer import transfer

        return transfer(self, device)

    def item(self) -> Any:
        """The value of a tensor of one element, as a Python number."""
        if self._data.size != 1:
            raise ShapeError(f"item: the tensor has shape {self.shape}, expected one element")
        return told(self, "a Python number").item()

    def tolist(self) -> Any:
        """The values as nested Python lists."""
        return told(self, "a list").tolist()

    def detach(self) -> Tensor:
        """The same values, constant to every derivative. Shares memory."""
        return Tensor(self._data.view(), None, 0, self._version)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        if self._data.size != 1:
            raise ShapeError(f"bool: a tensor of shape {self.shape} has no single truth value")
        return bool(told(self, "a truth value").item())

    def __index__(self) -> int:
        if self._data.ndim or self._data.dtype.kind not in "iu":
            raise DTypeError(f"index: {self.dtype}{self.shape} is not an integer scalar")
        return int(told(self, "an index").item())

    def __len__(self) -> int:
        if not self._data.ndim:
            raise ShapeError("len: a tensor of no dimensions has no length")
        return self._data.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __setitem__(self, key: Any, value: Any) -> None:
        raise ArgumentTypeError("tensors don't change in place; build a new one with where, concatenate or at_set")

    # Tensors compare by value, so a set or a dict would not find them again: they are hashed by identity, as an
    # object's default is, which Python withdraws from classes that define __eq__.
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        data = self._data if self._data.__class__ is _ndarray else cuda.to_host(self._data)
        shown, how = (data.astype(np.float32), _SHORT) if dtypes.is_bfloat16(data.dtype) else (data, None)
        values = np.array2string(shown, separator=", ", prefix="tensor(", threshold=100, edgeitems=3, formatter=how)
        extra = ", requires_grad=True" if self._node is not None else ""
        if data is not self._data:
            extra = f", device={self.device!r}{extra}"
        return f"tensor({values}, dtype={self.dtype}{extra})"

    if TYPE_CHECKING:  # attached by minigrad.ops.methods and minigrad.autodiff

        def __getattr__(self, name: str) -> Any: ...
        def __add__(self, other: Any) -> Tensor: ...
        def __radd__(self, other: Any) -> Tensor: ...
        def __sub__(self, other: Any) -> Tensor: ...
        def __rsub__(self, other: Any) -> Tensor: ...
        def __mul__(self, other: Any) -> Tensor: ...
        def __rmul__(self, other: Any) -> Tensor: ...
        def __truediv__(self, other: Any) -> Tensor: ...
        def __rtruediv__(self, other: Any) -> Tensor: ...
        def __pow__(self, other: Any) -> Tensor: ...
        def __rpow__(self, other: Any) -> Tensor: ...
        def __matmul__(self, other: Any) -> Tensor: ...
        def __rmatmul__(self, other: Any) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __lt__(self, other: Any) -> Tensor: ...
        def __le__(self, other: Any) -> Tensor: ...
        def __gt__(self, other: Any) -> Tensor: ...
        def __ge__(self, other: Any) -> Tensor: ...


class Variable(Tensor):
    """State: a tensor whose values change, by ``assign`` and nothing else.

    Parameters, running statistics, optimizer slots and random counters are Variables. Whether or not it is
    trainable, a value that was recorded for backward and then assigned to makes backward raise MutationError.

    Args:
        value: the initial values; they are copied.
        trainable: whether gradients flow to it. Integers and booleans never are.
        dtype: as of `tensor`.
        name: for messages, summaries and checkpoints.
        device: as of `tensor`.

    Attributes:
        regularizer: a function of the Variable that gives a penalty, which layers list and training adds to the loss;
            None, or set by ``Layer.add_variable``.
        constraint: a function from its values to allowed ones, which optimizers apply after each update; likewise.

    Example:
        >>> import minigrad as mg
        >>> w = mg.Variable([1.0, 2.0], name="w")
        >>> (w * w).sum().backward()
        >>> w.grad
        tensor([2., 4.], dtype=float32)
        >>> w.assign(w - 0.5 * w.grad)
        >>> w.numpy()
        array([0., 0.], dtype=float32)
    """

    __slots__ = ("constraint", "name", "regularizer")

    def __init__(
        self,
        value: Any,
        trainable: bool = True,
        dtype: Any = None,
        name: str | None = None,
        device: str | None = None,
    ):
        data = _placed(value, dtype, device)
        trainable = trainable and dtypes.is_differentiable(data.dtype)
        super().__init__(data, Leaf(data.shape, data.dtype) if trainable else None, 0, [0])
        self.name = name
        self.regularizer: Callable[[Tensor], Tensor] | None = None
        self.constraint: Callable[[Tensor], Tensor] | None = None
        living[next_id()] = self

    @property
    def trainable(self) -> bool:
        return self._node is not None

    def __repr__(self) -> str:
        return f"<Variable {self.name or 'unnamed'}: {super().__repr__()}>"

    def __deepcopy__(self, memo: dict) -> Variable:
        twin = Variable(self, self.trainable, name=self.name)
        twin.regularizer, twin.constraint = deepcopy(self.regularizer, memo), deepcopy(self.constraint, memo)
        return twin


def tensor(value: Any, dtype: Any = None, *, requires_grad: bool = False, device: str | None = None) -> Tensor:
    """A tensor of the given values, which are copied.

    Args:
        value: a number, nested lists, an array, a Tensor, or anything that NumPy or DLPack converts, or that has
            ``__cuda_array_interface__``. Arrays keep their dtype; Python floats become float32, Python integers int64.
        dtype: the dtype wanted instead. float16 and bfloat16 (with ``pip install 'minigrad[half]'``) are for storage:
            everything is computed in float32 and rounded once.
        requires_grad: whether it is a leaf that collects gradients.
        device: where, as of `Tensor.to`; a tensor's own device, and the CPU for other values, if None.

    Raises:
        DTypeError: for values that are no numbers, and for ``requires_grad`` with a dtype that has no derivative.

    Example:
        >>> import minigrad as mg
        >>> mg.tensor([[1.0, 2.0], [3.0, 4.0]])
        tensor([[1., 2.],
                [3., 4.]], dtype=float32)
        >>> mg.tensor([1, 2], requires_grad=True)
        Traceback (most recent call last):
        ...
        minigrad.errors.DTypeError: tensor: requires_grad needs a floating-point dtype, got int64
    """
    data = _placed(value, dtype, device)
    if requires_grad and not dtypes.is_differentiable(data.dtype):
        raise DTypeError(f"tensor: requires_grad needs a floating-point dtype, got {data.dtype}")
    return Tensor(data, Leaf(data.shape, data.dtype) if requires_grad else None)


def as_tensor(value: Any, dtype: Any = None, like: Tensor | None = None) -> Tensor:
    """`value` itself if it is a Tensor (of that dtype), else a constant tensor of its values, on `like`'s device."""
    if isinstance(value, Tensor) and (dtype is None or value._data.dtype == dtype):
        return value
    return Tensor(_placed(value, dtype, None if like is None or isinstance(value, Tensor) else like.device))


def full_like(x: Tensor, value: float, shape: tuple[int, ...] | None = None) -> Tensor:
    """A constant tensor of one number, of the dtype and on the device of x, and of its shape if none is given."""
    shape = x._data.shape if shape is None else shape
    if x._data.__class__ is _ndarray:
        return Tensor(np.full(shape, dtypes.number(value, x._data.dtype)))
    number = dtypes.rounded(np.array(value), x._data.dtype).item()
    constant = cuda.constant(number, x._data.dtype, x._data.lease.stream.device)
    return Tensor(constant.broadcast_to(shape) if shape else constant)


def from_dlpack(source: Any) -> Tensor:
    """A tensor in the memory of another library's array, on the CPU or on a GPU: nothing is copied.

    Args:
        source: has ``__dlpack__`` and ``__dlpack_device__``.

    Raises:
        DeviceError: for memory that is neither the CPU's nor a GPU's of CUDA.
        DTypeError: for what tensors don't hold.

    Example:
        >>> import numpy as np, minigrad as mg
        >>> mg.from_dlpack(np.ones(2))
        tensor([1., 1.], dtype=float64)
    """
    if isinstance(source, Tensor):
        return source.detach()
    data = dlpack.taken(source)
    dtypes.as_dtype(data.dtype)
    return Tensor(data)


def on(device: str, values: np.ndarray) -> Tensor:
    """A constant tensor of the values on a device; on the CPU it shares their memory."""
    index = cuda.index_of(device)
    return Tensor(values if index is None else cuda.to_device(values, index))


def move(variable: Variable, device: str) -> None:
    """Have a Variable on another device from now on. Its gradient is dropped."""
    if variable.device != device:
        _tell_readers(variable, "values on another device")
        moves[0] += 1
        variable._data = cuda.copied(variable._data, cuda.index_of(device))
        variable._version[0] += 1  # type: ignore[index]
        if variable.trainable:
            variable.grad = None


def _placed(value: Any, dtype: Any, device: str | None) -> Any:
    """A copy of the values in the dtype, on the device: by default where they are, or on the CPU."""
    if not isinstance(value, Tensor) and hasattr(value, "__cuda_array_interface__"):
        value = Tensor(cuda.taken(value))
    if isinstance(value, Tensor) and value._data.__class__ is DeviceArray:
        from minigrad.ops.cast import astype

        _tell_readers(value, "the values of a new tensor")
        cast = value if dtype is None else astype(value.detach(), dtype)
        return cuda.copied(cast._data, cuda.index_of(cast.device if device is None else device))
    data = _as_array(value, dtype, copy=True)
    index = None if device is None else cuda.index_of(device)
    return data if index is None else cuda.to_device(data, index)


def _as_array(value: Any, dtype: Any, copy: bool) -> np.ndarray:
    if isinstance(value, Tensor):
        value = told(value, "the values of a new tensor")
    elif not isinstance(value, np.ndarray) and hasattr(value, "__dlpack__") and not np.isscalar(value):
        value = told(from_dlpack(value), "the values of a new tensor")
    given = value if isinstance(value, (np.ndarray, np.generic)) else None
    try:
        array = np.array(value) if given is None else value
    except ValueError as error:
        raise ShapeError(f"tensor: nested lists of unequal length ({error})") from error
    if dtypes.kind(array.dtype) not in "biufc":
        raise DTypeError(f"tensor: {type(value).__name__} holds {array.dtype}, expected numbers or booleans")
    if dtype is not None:
        target = dtypes.as_dtype(dtype)
    elif given is None and array.dtype == dtypes.float64:
        target = dtypes.default_float
    else:
        target = dtypes.native(array.dtype)
    if dtypes.is_half(target):
        array = dtypes.rounded(array, target)
    if not copy:
        return np.array(array, target, copy=None, order="C", subok=False)
    memory = cpu.empty(array.shape, target)  # where lines of the cache begin, if it is large
    np.copyto(memory, array, casting="unsafe")
    return memory


def _four_digits(value: Any) -> str:
    """A bfloat16 with as many digits as tell it from others."""
    text = f"{value:.4g}"
    return text if set(text) & set(".en") else f"{text}."


_SHORT: Any = {"float_kind": _four_digits}
