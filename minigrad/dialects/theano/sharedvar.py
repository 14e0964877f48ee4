"""shared: variables with a value that lives from call to call, such as parameters and data sets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import dtypes
from minigrad.dialects.theano.graph import TensorType, Variable
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError


class SharedVariable(Variable):
    """What `shared` returns: an input of every function that uses it, which needs no argument.

    Attributes:
        variable: the engine's Variable that holds the values. Another takes its place when the shape changes.
    """

    __slots__ = ("variable",)

    def __init__(self, value: np.ndarray, type: TensorType, name: str | None):
        super().__init__(type, name=name)
        self.variable = mg.Variable(value, trainable=False, name=name)

    def get_value(self, borrow: bool = False, return_internal_type: bool = False) -> np.ndarray:
        """The values: a copy, or with `borrow` a read-only view, whose values change with the variable's."""
        values = self.variable.numpy()
        return values if borrow else values.copy()

    def set_value(self, new_value: Any, borrow: bool = False) -> None:
        """Replace the values, which are copied whatever `borrow` says. The shape may change, the dimensions may not.

        Raises:
            ShapeError: for another number of dimensions, or a length other than 1 where the type says 1.
            DTypeError: for values that the dtype does not hold.
        """
        self.put(mg.as_tensor(as_value(f"set_value of {self!r}", new_value, self.type, allow_downcast=None)))

    def put(self, value: mg.Tensor) -> None:
        """Take these values, of the right dtype and number of dimensions."""
        if value.shape == self.variable.shape:
            self.variable.assign(value)
        else:
            self.variable = mg.Variable(value, trainable=False, name=self.name)

    def clone(self) -> SharedVariable:
        """Another shared variable with the same values."""
        return SharedVariable(self.variable.numpy(), self.type, self.name)

    def __repr__(self) -> str:
        return self.name if self.name is not None else f"<shared {self.type!r}>"

    __str__ = __repr__
    __hash__ = object.__hash__


def shared(
    value: Any,
    name: str | None = None,
    strict: bool = False,
    allow_downcast: bool | None = None,
    borrow: bool = False,
    broadcastable: Sequence[bool] | None = None,
    target: str | None = None,
) -> SharedVariable:
    """A variable with a value of its own, which functions read and their updates change.

    Args:
        value: an array or a number, which keeps its dtype; lists are not taken.
        name: for messages.
        strict, allow_downcast, target: accepted, and ignored.
        borrow: accepted, and ignored: the values are copied, so that nothing else changes them.
        broadcastable: for each dimension, whether its length is and stays 1; by default none.

    Raises:
        ArgumentTypeError: for what is no array or number.
        ShapeError: for flags that do not fit the value.

    Example:
        >>> import numpy as np
        >>> from minigrad.dialects import theano
        >>> w = theano.shared(np.zeros(2), name="w", borrow=True)
        >>> step = theano.function([], w.sum(), updates=[(w, w + 1)])
        >>> float(step()), w.get_value()
        (0.0, array([1., 1.]))
    """
    if isinstance(value, Variable):
        raise ArgumentTypeError(f"shared: takes values, got the symbolic variable {value!r}")
    if isinstance(value, (mg.Tensor, int, float, complex, np.generic)):
        value = np.asarray(value)
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biufc":
        raise ArgumentTypeError(f"shared: takes an array or a number, got {type(value).__name__}; np.asarray converts")
    flags = (False,) * value.ndim if broadcastable is None else tuple(broadcastable)
    if len(flags) != value.ndim or any(flag and n != 1 for flag, n in zip(flags, value.shape)):
        raise ShapeError(f"shared: broadcastable is {flags}, which does not fit a value of shape {value.shape}")
    return SharedVariable(value, TensorType(dtypes.native(value.dtype), flags), name)


def as_value(what: str, value: Any, wanted: TensorType, allow_downcast: bool | None) -> np.ndarray:
    """`value` as an array of that type, if that loses nothing, or if it may.

    Python floats may always become floatX.

    Raises:
        ShapeError, DTypeError, ArgumentTypeError: naming what it is the value of.
    """
    if value.__class__ is not np.ndarray:
        if isinstance(value, Variable):
            raise ArgumentTypeError(f"{what}: got the symbolic variable {value!r}, expected values; givens replaces")
        given = value
        try:
            value = np.asarray(value)
        except ValueError as error:
            raise ShapeError(f"{what}: nested lists of unequal length ({error})") from None
        typed = isinstance(given, (np.ndarray, np.generic, mg.Tensor))
    else:
        given, typed = None, True
    dtype = np.dtype(wanted.dtype)
    if value.dtype != dtype:
        if value.dtype.kind not in "biufc":
            raise ArgumentTypeError(f"{what}: got {value.dtype}, expected numbers of dtype {dtype}")
        value = _converted(what, value, dtype, allow_downcast, typed, given.__class__ is float)
    elif not value.dtype.isnative:
        value = value.astype(dtype)
    if value.ndim != wanted.ndim:
        raise ShapeError(f"{what}: got {value.ndim} dimensions, shape {value.shape}; expected {wanted.ndim}")
    if True in wanted.broadcastable:
        for axis, flag in enumerate(wanted.broadcastable):
            if flag and value.shape[axis] != 1:
                raise ShapeError(f"{what}: got shape {value.shape}, expected length 1 in dimension {axis}")
    return value


def _converted(
    what: str, value: np.ndarray, dtype: np.dtype, allow_downcast: bool | None, typed: bool, is_float: bool
) -> np.ndarray:
    holds = np.result_type(value.dtype, dtype) == dtype
    if not holds and not allow_downcast:
        loses = typed or value.dtype.kind == "c" or not np.array_equal(value.astype(dtype), value, equal_nan=True)
        if loses and not (is_float and dtype.kind == "f" and allow_downcast is None):
            raise DTypeError(
                f"{what}: got {value.dtype}, which {dtype} does not hold; cast the values, or say "
                "allow_input_downcast=True"
            )
    return value.astype(dtype)
