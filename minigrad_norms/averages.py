"""Exponential moving averages of Variables and tensors, as ``tf.train.ExponentialMovingAverage``."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor, Variable
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms.batch import fraction
from minigrad_norms.running import move_averages_p
from minigrad_norms.store import TRAINABLE_VARIABLES, get_collection


class ExponentialMovingAverage:
    """shadow −= (1 − d)·(shadow − value), for Variables and tensors.

    d is `decay`, or min(decay, (1 + n)/(10 + n)) where `num_updates` is n: averages that forget quickly at first. A
    Variable's shadow starts at the value that it had when `apply` first saw it, a tensor's at 0. With `zero_debias` the
    average of a tensor is shadow/(1 − Πd), which is free of that 0: after t steps of one decay 1 − decayᵗ.

    An element that is NaN or infinite leaves its average as it is.

    Args:
        decay: in [0, 1].
        num_updates: n, a number or a Variable.
        zero_debias: whether averages of tensors are freed from their start at 0.
        name: what names of averages end in.

    Raises:
        ArgumentError: for a decay outside [0, 1].

    Example:
        >>> import minigrad as mg, minigrad_norms as norms
        >>> w = mg.Variable([1.0], name="w")
        >>> averages = norms.ExponentialMovingAverage(0.75)
        >>> averages.apply([w])
        >>> w.assign([5.0])
        >>> averages.apply([w])
        >>> averages.average(w).numpy()
        array([2.], dtype=float32)
        >>> averages.average_name(w)
        'w/ExponentialMovingAverage'
    """

    def __init__(
        self,
        decay: float,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ):
        self.decay = fraction("ExponentialMovingAverage", "decay", decay)
        self.num_updates = num_updates
        self.zero_debias = bool(zero_debias)
        self.name = name
        if num_updates is not None and not isinstance(num_updates, (int, float, np.number, Tensor)):
            raise ArgumentTypeError(
                f"ExponentialMovingAverage: num_updates is {num_updates!r}, expected a number or a Variable"
            )
        self._entries: dict[Any, _Entry] = {}

    def apply(self, values: Any = None) -> None:
        """Take the present values into the averages.

        Args:
            values: Variables and tensors, one, a list, or a dict from names. A Variable is known by itself; a tensor,
                which is a new one each time, by its name in a dict or its place in the list: tensors of several
                calls need names. By default all that TRAINABLE_VARIABLES holds in the `VariableStore` in use.

        Raises:
            ArgumentTypeError: for something that is no float tensor.
            ShapeError: if a tensor has another shape or dtype than the one before of its name or place.
        """
        pairs: list[Any] = []
        keep = self._keep()
        for key, value in _keyed(get_collection(TRAINABLE_VARIABLES) if values is None else values):
            entry = self._entry(key, value)
            pairs += [entry.shadow, value.detach()]
            if entry.left is not None:
                pairs += [entry.left, (value.detach() * 0).astype("float64")]  # 0, or NaN where the value is not finite
        move_averages_p(keep, *pairs)

    def average(self, value: Any) -> Tensor | None:
        """The average of a Variable, or of a tensor as applied last, or of what has this name or place.

        None if there is none. A Variable's is the shadow Variable itself.
        """
        entry = self._find(value)
        return None if entry is None else entry.average()

    def average_name(self, value: Any) -> str:
        """The name of a value's average, e.g. ``"w/ExponentialMovingAverage"``; it need not be kept yet."""
        if isinstance(value, (str, int)):
            return f"{value}/{self.name}"
        entry = self._find(value)
        own = getattr(value, "name", None) if entry is None else entry.name
        if own is None:
            raise ArgumentError("average_name: the value has no name and was never applied")
        return f"{own}/{self.name}"

    @property
    def variables(self) -> dict[str, Variable]:
        """The Variables that hold the averages, by name."""
        found: dict[str, Variable] = {}
        for entry in self._entries.values():
            found[f"{entry.name}/{self.name}"] = entry.shadow
            if entry.left is not None:
                found[f"{entry.name}/{self.name}/left"] = entry.left
        return found

    def _find(self, value: Any) -> _Entry | None:
        if isinstance(value, (str, int)):
            return self._entries.get(value)
        return next((e for e in self._entries.values() if e.value() is value), None)

    def _entry(self, key: Any, value: Tensor) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            own = getattr(value, "name", None) or str(len(self._entries) if isinstance(value, Variable) else key)
            taken = sum(e.own == own for e in self._entries.values())
            name = f"{own}_{taken}" if taken else own
            entry = self._entries[key] = _Entry(own, name, value, self.zero_debias, self.name)
        shadow = entry.shadow
        if (value.shape, value.dtype) != (shadow.shape, shadow.dtype):
            raise ShapeError(
                f"apply: {entry.name!r} is {value.dtype}{value.shape}, expected {shadow.dtype}{shadow.shape} as before"
            )
        entry.remember(value)
        return entry

    def _keep(self) -> Tensor:
        if self.num_updates is None:
            return mg.tensor(self.decay, "float64")
        n = mg.as_tensor(self.num_updates).astype("float64")
        return mg.minimum((1.0 + n) / (10.0 + n), self.decay)


class _Entry:
    """An average: its shadow, and for a debiased one how much of the start at 0 is left, Πd."""

    def __init__(self, own: str, name: str, value: Tensor, zero_debias: bool, suffix: str):
        self.own, self.name = own, name  # the value's, and one that no other average has
        self.remember(value)
        first = value.detach() if isinstance(value, Variable) else np.zeros(value.shape, value.dtype)
        self.shadow = Variable(first, False, value.dtype, f"{name}/{suffix}")
        debias = zero_debias and not isinstance(value, Variable)
        self.left = Variable(np.ones(value.shape), False, "float64", f"{name}/{suffix}/left") if debias else None

    def remember(self, value: Tensor) -> None:
        """Know the value again; a tensor only as long as someone else holds it, and with it its tape."""
        self.value: Callable[[], Tensor | None] = (lambda: value) if isinstance(value, Variable) else weakref.ref(value)

    def average(self) -> Tensor:
        if self.left is None:
            return self.shadow
        whole = 1.0 - self.left
        return (self.shadow / mg.where(whole > 0, whole, 1.0)).astype(self.shadow.dtype)


def _keyed(values: Any) -> Iterable[tuple[Any, Tensor]]:
    """Each value with what it is known by."""
    if isinstance(values, Mapping):
        items: Iterable[tuple[Any, Any]] = values.items()
    else:
        items = enumerate([values] if isinstance(values, Tensor) else values)
    for key, value in items:
        if not isinstance(value, Tensor):
            value = mg.as_tensor(value)
        if not mg.dtypes.is_differentiable(value.dtype):
            raise ArgumentTypeError(f"apply: {key!r} has dtype {value.dtype}, expected a float")
        yield (("variable", id(value)) if isinstance(value, Variable) else key), value
