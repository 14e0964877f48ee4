"""Dtypes: which there are, how operands of several meet, and in which sums are carried."""

from typing import Any

import numpy as np

from minigrad.errors import DTypeError

bool_ = np.dtype(np.bool_)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)

#: What Python floats become where nothing else says.
default_float = float32

_KERNEL_FLOATS = frozenset({float32, float64})


def as_dtype(value: Any) -> np.dtype:
    """The NumPy dtype that `value` names (``"float32"``, ``np.int64``, a dtype), in native byte order.

    Raises:
        DTypeError: if it names none that tensors have: booleans, integers, real and complex floats.
    """
    try:
        dtype = native(np.dtype(value))
    except TypeError as error:
        raise DTypeError(f"dtype: {value!r} names no dtype") from error
    if dtype.kind not in "biufc":
        raise DTypeError(f"dtype: tensors hold numbers and booleans, not {dtype}")
    return dtype


def native(dtype: np.dtype) -> np.dtype:
    """The dtype in native byte order: the one object of its kind, so that calls can compare with ``is``."""
    return np.dtype(dtype.type)


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether values of this dtype can carry gradients: real floats can."""
    return dtype.kind == "f"


def has_kernels(dtype: np.dtype) -> bool:
    """Whether compiled floating-point kernels exist for this dtype: float32 and float64."""
    return dtype in _KERNEL_FLOATS


def floating(dtype: np.dtype) -> np.dtype:
    """The dtype of `exp` or `/` on values of `dtype`: itself for floats, float64 for integers, as in NumPy."""
    return dtype if dtype.kind in "fc" else float64


def real(dtype: np.dtype) -> np.dtype:
    """The dtype of the parts of a complex number, and any other dtype itself."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def require_floating(operation: str, argument: str, dtype: np.dtype) -> None:
    """Raise a DTypeError that names operation and argument unless `dtype` is a float."""
    if dtype.kind not in "fc":
        raise DTypeError(f"{operation}: {argument} has dtype {dtype}, expected a floating-point dtype")


def require_integer(operation: str, argument: str, dtype: np.dtype) -> None:
    """Raise a DTypeError that names operation and argument unless `dtype` is an integer."""
    if dtype.kind not in "iu":
        raise DTypeError(f"{operation}: {argument} has dtype {dtype}, expected an integer dtype")


def require_same(operation: str, **dtypes: np.dtype | None) -> np.dtype:
    """The one dtype that all named arguments have; None stands for an absent argument.

    Raises:
        DTypeError: naming the first two that differ.
    """
    present = [(name, dtype) for name, dtype in dtypes.items() if dtype is not None]
    first, dtype = present[0]
    for name, other in present[1:]:
        if other != dtype:
            raise DTypeError(f"{operation}: {name} has dtype {other}, expected {dtype} as of {first}")
    return dtype
