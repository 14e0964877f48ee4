"""Dtypes: which there are, how operands of several meet, in which arithmetic and sums are carried, and rounding.

The half types float16 and bfloat16 are for storage: values are computed in float32, and rounded once, to nearest even,
when a result is stored. NumPy has no bfloat16 of its own; ml_dtypes brings it, and is imported when it is asked for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minigrad.errors import DTypeError

bool_ = np.dtype(np.bool_)
int32 = np.dtype(np.int32)
int64 = np.dtype(np.int64)
float16 = np.dtype(np.float16)
float32 = np.dtype(np.float32)
float64 = np.dtype(np.float64)

#: What Python floats become where nothing else says.
default_float = float32

_KERNEL_FLOATS = frozenset({float32, float64})


def as_dtype(value: Any) -> np.dtype:
    """The NumPy dtype that `value` names (``"float32"``, ``np.int64``, a dtype), in native byte order.

    Raises:
        DTypeError: if it names none that tensors have: booleans, integers, real and complex floats; and for
            ``"bfloat16"`` where ml_dtypes is not installed.
    """
    if value.__class__ is str and value == "bfloat16":
        return bfloat16()
    try:
        dtype = native(np.dtype(value))
    except TypeError as error:
        raise DTypeError(f"dtype: {value!r} names no dtype") from error
    if kind(dtype) not in "biufc":
        raise DTypeError(f"dtype: tensors hold numbers and booleans, not {dtype}")
    return dtype


def bfloat16() -> np.dtype:
    """The dtype of float32's upper 16 bits: all of its range, and 8 of its 24 bits of precision.

    Raises:
        DTypeError: if ml_dtypes is not installed.
    """
    try:
        from ml_dtypes import bfloat16 as scalar
    except ImportError as error:
        raise DTypeError("dtype: bfloat16 needs ml_dtypes; pip install 'minigrad[half]' brings it") from error
    return np.dtype(scalar)


def native(dtype: np.dtype) -> np.dtype:
    """The dtype in native byte order: the one object of its kind, so that calls can compare with ``is``."""
    return np.dtype(dtype.type)


def is_bfloat16(dtype: np.dtype) -> bool:
    return dtype.kind == "V" and dtype.type.__name__ == "bfloat16"


def is_half(dtype: np.dtype) -> bool:
    """Whether it is float16 or bfloat16, in which nothing is computed."""
    return dtype.itemsize == 2 and (dtype.kind == "f" or is_bfloat16(dtype))


def kind(dtype: np.dtype) -> str:
    """NumPy's letter for the kind of numbers: ``f`` for real floats. NumPy itself calls bfloat16 a ``V``, for void."""
    return "f" if is_bfloat16(dtype) else dtype.kind


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether values of this dtype can carry gradients: real floats can."""
    return dtype.kind == "f" or is_bfloat16(dtype)


def has_kernels(dtype: np.dtype) -> bool:
    """Whether compiled floating-point kernels exist for this dtype: float32 and float64."""
    return dtype in _KERNEL_FLOATS


def has_gpu_kernels(dtype: np.dtype) -> bool:
    """Whether GPUs have floating-point kernels for it: float32 and float64, and the half types as what is stored."""
    return dtype in _KERNEL_FLOATS or is_half(dtype)


def arithmetic(dtype: np.dtype) -> np.dtype:
    """The dtype in which values are computed with: float32 for the half types, and any other itself."""
    return float32 if is_half(dtype) else dtype


def promoted(*dtypes: np.dtype, numbers: Sequence[Any] = ()) -> np.dtype:
    """The dtype in which values meet, by NumPy's rules, in which Python numbers take part with their kind alone.

    bfloat16 meets others as float16 does, and float16 in float32.

    Example:
        >>> from minigrad import dtypes
        >>> dtypes.promoted(dtypes.float16, numbers=[2.5]), dtypes.promoted(dtypes.int32, dtypes.float32)
        (dtype('float16'), dtype('float64'))
    """
    if not any(map(is_bfloat16, dtypes)):
        return np.result_type(*dtypes, *numbers)
    others = [dtype for dtype in dtypes if not is_bfloat16(dtype)]
    if float16 in others:
        others.append(float32)
    found = np.result_type(float16, *others, *numbers)
    return next(filter(is_bfloat16, dtypes)) if found == float16 else found


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values in a dtype, rounded once, to nearest even, where it is narrower.

    ml_dtypes goes from float64 to bfloat16 by way of float32, and so rounds twice. Here float32 is reached by a
    rounding to odd, which leaves to the second one what it needs to know: whether there was anything beyond.
    """
    if values.dtype == dtype:
        return values
    with np.errstate(all="ignore"):
        exact = values.dtype.itemsize <= (4 if values.dtype.kind == "f" else 2)  # in float32
        if is_bfloat16(dtype) and values.dtype.kind in "fiu" and not exact:
            values = _to_odd(values)
        return np.asarray(values.astype(dtype))


def number(value: Any, dtype: np.dtype) -> np.ndarray:
    """A Python number as an array without axes, rounded once.

    Raises:
        OverflowError: for an integer that the dtype does not hold.
    """
    return rounded(np.asarray(float(value)), dtype) if is_bfloat16(dtype) else np.array(value, dtype)


def _to_odd(values: np.ndarray) -> np.ndarray:
    """Integers or longer floats as float32: cut off, with the last bit set where anything was."""
    near = np.asarray(values.astype(float32))
    wide = values if values.dtype.kind == "f" else values.astype(np.longdouble)
    back = near.astype(wide.dtype)
    bits = near.view(np.int32) - (np.abs(back) > np.abs(wide)).astype(np.int32)
    return np.asarray(bits | (back != wide)).view(float32)


def finfo(dtype: np.dtype) -> Any:
    """`numpy.finfo`, of bfloat16 too."""
    if is_bfloat16(dtype):
        from ml_dtypes import finfo as of_ml_dtypes

        return of_ml_dtypes(dtype)
    return np.finfo(dtype)


def floating(dtype: np.dtype) -> np.dtype:
    """The dtype of `exp` or `/` on values of `dtype`: itself for floats, float64 for integers, as in NumPy."""
    return dtype if kind(dtype) in "fc" else float64


def real(dtype: np.dtype) -> np.dtype:
    """The dtype of the parts of a complex number, and any other dtype itself."""
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def require_floating(operation: str, argument: str, dtype: np.dtype) -> None:
    """Raise a DTypeError that names operation and argument unless `dtype` is a float."""
    if kind(dtype) not in "fc":
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
