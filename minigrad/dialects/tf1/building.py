"""Adding tensors to the graph: constants, and functions of tensors, whose results' shapes are found by trying."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import dtypes
from minigrad.dialects.tf1 import shapes
from minigrad.dialects.tf1.graph import Tensor, get_default_graph
from minigrad.dialects.tf1.shapes import Lengths, TensorShape
from minigrad.errors import ArgumentTypeError, DTypeError, MinigradError

_LENGTHS = (2, 3)  # that stand for lengths not known yet, to see how results depend on them


def constant_value(value: Any, dtype: Any = None) -> np.ndarray:
    """An array: floats are float32 and integers int32, unless they come as arrays or a dtype is given."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ArgumentTypeError(f"got {value!r}, which is no array of numbers ({error})") from None
    if array.dtype.kind not in "biuf":
        raise ArgumentTypeError(f"got {value!r} ({type(value).__name__}), expected numbers")
    if dtype is not None:
        wanted = dtypes.as_dtype(dtype)
        if array.dtype.kind == "f" and wanted.kind in "iub":
            raise ArgumentTypeError(f"Expected {wanted}, got {value!r} of type {type(value).__name__!r} instead")
        return array.astype(wanted)
    if isinstance(value, (np.ndarray, np.generic)):
        return array.astype(dtypes.native(array.dtype))
    return array.astype({"f": "float32", "i": "int32", "u": "int32"}.get(array.dtype.kind, array.dtype))


def convert_to_tensor(value: Any, dtype: Any = None, name: str | None = None) -> Tensor:
    """`value` as a tensor of the graph: itself, or a constant. Lists that hold tensors are packed.

    Raises:
        ArgumentTypeError: for what is no number, array, list or tensor; for a float where an integer is wanted.
        DTypeError: for a tensor of another dtype than the one wanted.
    """
    if isinstance(value, Tensor):
        if dtype is not None and value.dtype != dtypes.as_dtype(dtype):
            raise DTypeError(
                f"Tensor conversion requested dtype {dtypes.as_dtype(dtype)} for Tensor with dtype {value.dtype}: "
                f"{value!r}; use tf.cast"
            )
        return value
    if isinstance(value, TensorShape):
        value = value.as_list()
    if isinstance(value, (tuple, list)) and any(isinstance(v, Tensor) for v in value):
        from minigrad.dialects.tf1.array_ops import stack

        return stack([convert_to_tensor(v, dtype) for v in value], name=name)
    array = constant_value(value, dtype)
    # Integers that shapes and indices are made of stay on the host.
    held = array if array.dtype.kind in "iub" and array.ndim < 2 and array.size < 64 else mg.tensor(array)
    return get_default_graph().add("Const", lambda: held, name=name).result(array.dtype, array.shape)


def apply(
    type: str,
    run: Callable,
    inputs: Sequence[Tensor],
    name: str | None = None,
    dtype: Any = None,
    shape: Any = False,
) -> Tensor:
    """The tensor that a function makes of `inputs`. What is not said of it, trying the function shows.

    Raises:
        MinigradError: that the function raises for inputs of such shapes and dtypes.
    """
    if dtype is None or shape is False:
        (found,) = tried(name or type, run, inputs)
        dtype = found[0] if dtype is None else dtype
        shape = found[1] if shape is False else shape
    return get_default_graph().add(type, run, inputs, name).result(dtype, shape)


def tried(operation: str, run: Callable, inputs: Sequence[Tensor]) -> list[tuple[np.dtype, Lengths]]:
    """The dtypes and shapes that a function's results have, seen by calling it on ones.

    Lengths that are not known are taken as two different numbers: where results differ, theirs are not known either.
    Where those fit nothing, they are taken as a length that another input has.
    """
    if any(t.lengths is None for t in inputs):
        return _tried_without_shapes(operation, run, inputs)
    known = {n for t in inputs for n in t.lengths or ()}
    others = sorted(n for n in known - {None, *_LENGTHS} if n is not None)
    results: list[list[np.ndarray]] = []
    errors: list[MinigradError] = []
    for length in (*_LENGTHS, *others) if None in known else _LENGTHS[:1]:
        if len(results) < 2:
            try:
                results.append(_results(operation, run, inputs, length))
            except MinigradError as error:
                errors.append(error)
    if not results:
        raise errors[0]
    return [
        (values[0].dtype, tuple(n[0] if len(set(n)) == 1 else None for n in zip(*[v.shape for v in values])))
        for values in zip(*results)
    ]


def _results(operation: str, run: Callable, inputs: Sequence[Tensor], length: int, rank: int = 0) -> list[np.ndarray]:
    values = []
    for t in inputs:
        sizes = (length,) * rank if t.lengths is None else tuple(length if n is None else n for n in t.lengths)
        ones = np.ones(sizes, t.dtype)
        values.append(ones if t.dtype.kind in "iub" and len(sizes) < 2 else mg.tensor(ones))
    try:
        with mg.no_grad(), mg.on_device("reference"), np.errstate(all="ignore"):
            found = run(*values)
    except MinigradError as error:
        given = ", ".join(f"{t.name} {t.dtype}{shapes.text(t.lengths)}" for t in inputs)
        unknown = any(t.lengths is None or None in t.lengths for t in inputs)
        note = f"; a length that is not known was taken as {length}" if unknown else ""
        words = str(error) if str(error).startswith(f"{operation}: ") else f"{operation}: {error}"
        raise type(error)(f"{words} (given {given}{note})") from None
    return [np.asarray(v) for v in (found if isinstance(found, tuple) else (found,))]


def _tried_without_shapes(operation: str, run: Callable, inputs: Sequence[Tensor]) -> list[tuple[np.dtype, Lengths]]:
    """Of inputs whose number of axes is not known only the results' dtypes are found."""
    for rank in range(5):
        try:
            found = _results(operation, run, inputs, _LENGTHS[0], rank)
        except (MinigradError, ValueError, TypeError, IndexError):
            continue
        return [(v.dtype, None) for v in found]
    first = next((t.dtype for t in inputs if t.dtype.kind == "f"), inputs[0].dtype)
    return [(first, None)]
