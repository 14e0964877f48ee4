"""Optimizers of `minigrad.optim` with Keras's arguments, and learning-rate schedules as classes (`schedules`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad import ops, optim
from minigrad.dialects.keras import schedules
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.optim import Optimizer
from minigrad.tensor import Tensor

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "Optimizer", "RMSprop", "get", "schedules"]


class _Keras(Optimizer):
    """What Keras's optimizers have in common.

    Args:
        learning_rate: a number or a schedule; ``lr`` is its old name.
        decay: of old, 1/(1 + decay·step) times the rate.
        clipnorm: each gradient is scaled so that its norm is at most this.
        clipvalue: elements of gradients are cut at ± this.
        global_clipnorm: all gradients are scaled together so that their norm is at most this.
    """

    clipnorm: float | None = None
    clipvalue: float | None = None

    def _given(self, options: dict[str, Any], learning_rate: Any) -> dict[str, Any]:
        """The arguments of the optimizer below, from those that all have; what is left is unknown."""
        kind = type(self).__name__
        self.name = options.pop("name", None) or kind
        rate = options.pop("lr", learning_rate)
        decay = options.pop("decay", 0.0)
        if decay:
            if callable(rate):
                raise ArgumentError(f"{kind}: got decay besides a schedule, expected one of them")
            rate = schedules.InverseTimeDecay(rate, 1, decay)
        limits = {name: options.pop(name, None) for name in ("clipnorm", "clipvalue", "global_clipnorm")}
        for name, limit in limits.items():
            if limit is not None and not limit > 0:
                raise ArgumentError(f"{kind}: {name} is {limit!r}, expected a positive number")
        if sum(limit is not None for limit in limits.values()) > 1:
            raise ArgumentError(f"{kind}: got several of {sorted(limits)}, expected at most one")
        self.clipnorm, self.clipvalue = limits["clipnorm"], limits["clipvalue"]
        if options:
            raise ArgumentTypeError(f"{kind}: unknown argument {sorted(options)}")
        return {"lr": rate, "clip_norm": limits["global_clipnorm"]}

    @property
    def learning_rate(self) -> Any:
        """The learning rate, as a Variable; set it to a number."""
        return self.lr

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        if self.schedule is not None:
            raise ArgumentError(f"{self.name}: has a schedule, which would set the learning rate again")
        self.lr.assign(rate)

    @property
    def iterations(self) -> Any:
        """The number of steps taken, as a Variable."""
        return self.steps

    def apply_gradients(self, grads_and_vars: Any) -> None:
        """One step with pairs of a gradient and its Variable."""
        gradients, variables = zip(*grads_and_vars)
        self.update(list(variables), list(gradients))

    def clipped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        if self.clipnorm is not None:
            return [g if g is None else optim.clip_by_global_norm([g], self.clipnorm)[0] for g in gradients]
        if self.clipvalue is not None:
            return [g if g is None else ops.clip(g, -self.clipvalue, self.clipvalue) for g in gradients]
        return super().clipped(gradients)


class SGD(_Keras, optim.SGD):
    """p ← p − lr·g, with momentum v ← μv − lr·g, p ← p + v."""

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **options: Any,
    ):
        if weight_decay and momentum:
            raise ArgumentError("SGD: weight_decay together with momentum is not offered; use a regularizer, or AdamW")
        given = self._given(options, learning_rate)
        super().__init__(
            momentum=momentum, nesterov=nesterov and bool(momentum), weight_decay=weight_decay or 0.0, **given
        )


class RMSprop(_Keras, optim.RMSprop):
    """s ← ρ·s + (1−ρ)·g², p ← p − lr·g/√(s + ε)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        centered: bool = False,
        **options: Any,
    ):
        if centered:
            raise ArgumentError("RMSprop: centered=True is not offered")
        super().__init__(rho=rho, momentum=momentum, epsilon=epsilon, **self._given(options, learning_rate))


class Adagrad(_Keras, optim.Adagrad):
    """a ← a + g², p ← p − lr·g/√(a + ε)."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Any,
    ):
        super().__init__(start=initial_accumulator_value, epsilon=epsilon, **self._given(options, learning_rate))


class Adam(_Keras, optim.Adam):
    """p ← p − lr·√(1 − β₂ᵗ)/(1 − β₁ᵗ)·m/(√v + ε); weight decay shrinks p by itself, as in AdamW."""

    decoupled = True

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        **options: Any,
    ):
        if amsgrad:
            raise ArgumentError(f"{type(self).__name__}: amsgrad=True is not offered")
        given = self._given(options, learning_rate)
        given |= {"beta1": beta_1, "beta2": beta_2, "weight_decay": weight_decay or 0.0}
        super().__init__(epsilon=epsilon, epsilon_hat=True, **given)


class AdamW(Adam):
    """Adam with decoupled weight decay."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Any,
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, amsgrad, weight_decay, **options)


_BY_NAME: dict[str, Any] = {c.__name__.lower(): c for c in (SGD, RMSprop, Adagrad, Adam, AdamW)}


def get(identifier: Any) -> Optimizer:
    """The optimizer of that name, with its defaults, or the optimizer itself.

    Raises:
        ArgumentError: for an unknown name, with those known.
        ArgumentTypeError: for what is neither.
    """
    if isinstance(identifier, str):
        if identifier.lower() not in _BY_NAME:
            raise ArgumentError(f"optimizer: {identifier!r} is unknown, expected one of {sorted(_BY_NAME)}")
        return _BY_NAME[identifier.lower()]()
    if isinstance(identifier, Optimizer):
        return identifier
    raise ArgumentTypeError(f"optimizer: got {identifier!r}, expected a name or an optimizer, made")
