"""TensorShape and Dimension: what is known of a tensor's shape before it has values."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


class Dimension:
    """A length, or None for one that is not known. It compares and computes as its number does.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> d = tf.TensorShape([None, 28])[1]
        >>> d.value, int(d), d * 2, d == 28
        (28, 28, Dimension(56), True)
    """

    __slots__ = ("value",)

    def __init__(self, value: Any):
        self.value: int | None = value.value if isinstance(value, Dimension) else None if value is None else int(value)
        if self.value is not None and self.value < 0:
            raise ShapeError(f"Dimension: a length is {value!r}, expected at least 0")

    def __index__(self) -> int:
        if self.value is None:
            raise ArgumentTypeError("Dimension: this length is not known before the graph runs; use tf.shape(x)[axis]")
        return self.value

    __int__ = __index__

    def __eq__(self, other: object) -> bool:
        return self.value == (other.value if isinstance(other, Dimension) else other)

    def __hash__(self) -> int:
        return hash(self.value)

    def __repr__(self) -> str:
        return f"Dimension({self.value})"

    def __str__(self) -> str:
        return "?" if self.value is None else str(self.value)

    def __mul__(self, other: Any) -> Dimension:
        value = Dimension(other).value
        return Dimension(None if self.value is None or value is None else self.value * value)

    def __floordiv__(self, other: Any) -> Dimension:
        value = Dimension(other).value
        return Dimension(None if self.value is None or value is None else self.value // value)

    def __add__(self, other: Any) -> Dimension:
        value = Dimension(other).value
        return Dimension(None if self.value is None or value is None else self.value + value)

    def __sub__(self, other: Any) -> Dimension:
        value = Dimension(other).value
        return Dimension(None if self.value is None or value is None else self.value - value)

    __rmul__, __radd__ = __mul__, __add__


class TensorShape:
    """The lengths of a tensor's axes, None for those not known; of ``TensorShape(None)`` not even their number is.

    Example:
        >>> from minigrad.dialects import tf1 as tf
        >>> shape = tf.placeholder(tf.float32, [None, 28, 28]).get_shape()
        >>> shape.as_list(), shape[1:].num_elements(), str(shape)
        ([None, 28, 28], 784, '(?, 28, 28)')
    """

    __slots__ = ("_lengths",)

    def __init__(self, dims: Any):
        self._lengths = lengths(dims)

    @property
    def ndims(self) -> int | None:
        return None if self._lengths is None else len(self._lengths)

    rank = ndims

    @property
    def dims(self) -> list[Dimension] | None:
        return None if self._lengths is None else [Dimension(n) for n in self._lengths]

    def as_list(self) -> list[int | None]:
        """The lengths.

        Raises:
            ShapeError: if not even their number is known.
        """
        return list(self._known("as_list"))

    def num_elements(self) -> int | None:
        """The product of the lengths; None if one of them is not known."""
        known = None if self._lengths is None else [n for n in self._lengths if n is not None]
        return prod(known) if known is not None and len(known) == len(self._lengths or ()) else None

    def is_fully_defined(self) -> bool:
        """Whether every length is known."""
        return self.num_elements() is not None

    def with_rank(self, rank: int) -> TensorShape:
        """This shape, which must have so many axes if it is known how many.

        Raises:
            ShapeError: if it has another number.
        """
        if self._lengths is None:
            return TensorShape([None] * rank)
        if len(self._lengths) != rank:
            raise ShapeError(f"Shape {self} must have rank {rank}")
        return self

    def __len__(self) -> int:
        return len(self._known("len"))

    def __iter__(self) -> Iterator[Dimension]:
        return iter([Dimension(n) for n in self._known("iteration")])

    def __getitem__(self, key: Any) -> Any:
        part = self._known("indexing")[key]
        return TensorShape(part) if isinstance(key, slice) else Dimension(part)

    def __eq__(self, other: object) -> bool:
        try:
            return self._lengths == lengths(other)
        except (ArgumentTypeError, ShapeError):
            return False

    def __hash__(self) -> int:
        return hash(self._lengths)

    def __str__(self) -> str:
        return text(self._lengths)

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def _known(self, what: str) -> tuple[int | None, ...]:
        if self._lengths is None:
            raise ShapeError(f"TensorShape: {what} of an unknown shape; say the shape of the placeholder, or set_shape")
        return self._lengths


Lengths = tuple[int | None, ...] | None


def lengths(shape: Any) -> Lengths:
    """A shape as a tuple of integers and Nones; None for one of which nothing is known."""
    if shape is None:
        return None
    if isinstance(shape, TensorShape):
        return shape._lengths
    if isinstance(shape, (int, Dimension)):
        shape = (shape,)
    try:
        return tuple(Dimension(n).value for n in shape)
    except TypeError:
        raise ArgumentTypeError(f"shape is {shape!r}, expected a list of integers and Nones") from None


def text(shape: Lengths) -> str:
    """A shape as messages show it: ``(?, 784)``."""
    if shape is None:
        return "<unknown>"
    parts = ["?" if n is None else str(n) for n in shape]
    return f"({parts[0]},)" if len(parts) == 1 else f"({', '.join(parts)})"


def merged(one: Lengths, other: Lengths) -> Lengths:
    """What is known from both.

    Raises:
        ArgumentError: if they contradict one another; also a ValueError.
    """
    if one is None or other is None:
        return other if one is None else one
    if len(one) != len(other) or any(a is not None and b is not None and a != b for a, b in zip(one, other)):
        raise ArgumentError(f"Shapes {text(one)} and {text(other)} are not compatible")
    return tuple(b if a is None else a for a, b in zip(one, other))
