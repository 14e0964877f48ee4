"""Makers of symbolic inputs: matrix, lvector, ftensor4 and the rest, their plurals, and constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from minigrad.dialects.theano.graph import Constant, TensorType, Variable, as_variable, constant_array
from minigrad.errors import ArgumentTypeError

_SHAPES = {
    "scalar": (),
    "vector": (False,),
    "row": (True, False),
    "col": (False, True),
    "matrix": (False, False),
    "tensor3": (False,) * 3,
    "tensor4": (False,) * 4,
    "tensor5": (False,) * 5,
}
_PREFIXES = {"b": "int8", "w": "int16", "i": "int32", "l": "int64", "f": "float32", "d": "float64", "z": "complex128"}
_PLURALS = {"matrix": "matrices"}


def _maker(kind: str, dtype: str | None) -> Callable[..., Variable]:
    flags = _SHAPES[kind]
    if dtype is None:

        def make(name: str | None = None, dtype: Any = None) -> Variable:
            return TensorType(dtype or "floatX", flags)(name)

    else:

        def make(name: str | None = None, dtype: Any = dtype) -> Variable:
            return TensorType(dtype, flags)(name)

    make.__doc__ = f"A symbolic {kind} of dtype {dtype or 'config.floatX, or the one given'}."
    return make


def _several(kind: str, make: Callable[..., Variable]) -> Callable[..., list[Variable]]:
    def makers(*names: Any) -> list[Variable]:
        if len(names) == 1 and isinstance(names[0], int):
            return [make() for _ in range(names[0])]
        if not all(isinstance(name, str) for name in names):
            raise ArgumentTypeError(f"{kind}: got {names!r}, expected names, or one number of variables")
        return [make(name) for name in names]

    makers.__doc__ = f"Several variables at once, ``x, y = T.{kind}('x', 'y')``."
    return makers


#: All makers by name: matrix, fmatrix, matrices, fmatrices, ...
makers: dict[str, Callable] = {}
for _kind in _SHAPES:
    for _prefix, _dtype in {"": None, **_PREFIXES}.items():
        _make = _maker(_kind, _dtype)
        _make.__name__ = _make.__qualname__ = f"{_prefix}{_kind}"
        makers[_make.__name__] = _make
        _plural = _prefix + _PLURALS.get(_kind, f"{_kind}s")
        makers[_plural] = _several(_plural, _make)
        makers[_plural].__name__ = _plural


def tensor(dtype: Any = None, broadcastable: Any = (), name: str | None = None) -> Variable:
    """A symbolic input of this dtype and these broadcastable flags."""
    return TensorType(dtype or "floatX", broadcastable)(name)


def constant(x: Any, name: str | None = None, ndim: int | None = None, dtype: Any = None) -> Variable:
    """A number or an array as a variable, in another dtype if one is given."""
    return as_variable(Constant(constant_array(x, dtype), name), ndim=ndim)


def as_tensor_variable(x: Any, name: str | None = None, ndim: int | None = None) -> Variable:
    """A variable, number, array or list, nested with variables or not, as a variable of `ndim` dimensions if given.

    Raises:
        ArgumentTypeError: for what is none of these.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.as_tensor_variable([[1.0, 2.0]]).ndim
        2
    """
    return as_variable(x, name, ndim)
