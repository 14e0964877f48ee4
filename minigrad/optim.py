"""Optimizers: SGD with momentum and Nesterov, RMSprop, Adagrad, Adam and AdamW; gradient clipping. Schedules too."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import is_not
from typing import Any

import numpy as np

from minigrad import dtypes, ops
from minigrad.errors import ArgumentError, ArgumentTypeError, GradientError, MissingRuleError, ShapeError
from minigrad.ops.noise import number
from minigrad.ops.state import adam_p, count_p, momentum_p, schedule_p, sgd_p
from minigrad.ops.updates import adagrad_p, rmsprop_p
from minigrad.schedules import (
    cosine_decay,
    exponential_decay,
    inverse_time_decay,
    piecewise_constant,
    polynomial_decay,
    step_decay,
    warm_up,
)
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, Variable, full_like, move, put_grad

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Optimizer",
    "RMSprop",
    "clip_by_global_norm",
    "cosine_decay",
    "exponential_decay",
    "inverse_time_decay",
    "piecewise_constant",
    "polynomial_decay",
    "step_decay",
    "warm_up",
]

#: A learning rate (a float), or a function from the number of steps taken to one.
Rate = Any


class Optimizer:
    """Changes Variables along their gradients, in place.

    The learning rate, the count of steps and the slots of each Variable are Variables themselves. A Variable with a
    `constraint` gets the values that it gives, after each update. Slots of float16 and bfloat16 Variables are float32;
    the Variables themselves are rounded at each update, so that steps below their precision are lost.

    Args:
        lr: the learning rate, or a schedule: a function of the number of steps taken so far.
        weight_decay: L2 penalty's factor, added to the gradient.
        clip_norm: scale all gradients together so that their norm is at most this.

    Raises:
        ArgumentError, ArgumentTypeError: for values out of range, or that are no numbers.
    """

    def __init__(self, lr: Rate, weight_decay: float = 0.0, clip_norm: float | None = None):
        rate = _number(self, "lr", lr(0) if callable(lr) else lr)
        self.schedule = lr if callable(lr) else None
        self.lr = Variable(np.float64(rate), False, name="lr")
        self.steps = Variable(np.int64(0), name="steps")
        self.weight_decay = _number(self, "weight_decay", weight_decay)
        self.clip_norm = None if clip_norm is None else _number(self, "clip_norm", clip_norm)
        if self.clip_norm == 0:
            raise ArgumentError(f"{type(self).__name__}: clip_norm is {clip_norm!r}, expected a positive number")
        self.slots_each = 0  # how many slots a Variable needs
        self.slot_value = 0.0  # what slots hold in the beginning
        self.slots: list[tuple[Variable, ...]] = []
        self._variables: list[Variable] = []
        self._constrained: list[Variable] = []

    def build(self, variables: Sequence[Variable]) -> None:
        """Make the slots for these Variables; done by the first `update` if not before.

        Raises:
            ArgumentTypeError: for what is no Variable.
            GradientError: if it was built for others, or one of them is listed twice.
        """
        if not self._variables:
            self._require_variables(variables)
            if len({id(v) for v in variables}) < len(variables):
                raise GradientError(f"{type(self).__name__}: a Variable is listed twice, and would be changed twice")
            self._variables = list(variables)
            self._constrained = [v for v in variables if v.constraint is not None]
            self.slots = [
                tuple(Variable(_slot(v, self.slot_value), False) for _ in range(self.slots_each)) for v in variables
            ]
            if variables:
                for scalar in (self.lr, self.steps):
                    move(scalar, variables[0].device)
        elif len(variables) != len(self._variables) or any(map(is_not, variables, self._variables)):
            raise GradientError(
                f"{type(self).__name__}: was built for {len(self._variables)} Variables and got others; "
                "use a new optimizer for them"
            )

    def update(self, variables: Sequence[Variable], gradients: Sequence[Tensor | None]) -> None:
        """One step: change each Variable by its gradient; one whose gradient is None stays.

        Raises:
            GradientError: if the numbers differ, or the optimizer was built for other Variables.
            ArgumentTypeError: for what is no Variable, and for a gradient that is no Tensor.
            ShapeError: if a gradient has another shape or dtype than its Variable. Nothing has changed then.
        """
        if len(variables) != len(gradients):
            raise GradientError(f"{type(self).__name__}: got {len(gradients)} gradients for {len(variables)} Variables")
        self._require_variables(variables)
        for i, (v, g) in enumerate(zip(variables, gradients)):
            if g is not None and not isinstance(g, Tensor):
                kind = type(g).__name__
                raise ArgumentTypeError(f"{type(self).__name__}: gradient {i} is {kind}, expected a Tensor or None")
            if g is not None and (g._data.shape != v._data.shape or g._data.dtype != v._data.dtype):
                raise ShapeError(
                    f"{type(self).__name__}: gradient {i} has {g.dtype}{g.shape}, expected {v.dtype}{v.shape} "
                    f"as of {v.name or 'its Variable'}"
                )
        self.build(variables)
        self._update(gradients)

    def _update(self, gradients: Sequence[Tensor | None]) -> None:
        """`update` with gradients that fit."""
        if self.schedule is not None:
            schedule_p(self.lr, self.steps, rule=self._scheduled)
        count_p(self.steps)
        gradients = self.clipped(gradients)
        changes = [(v, g, s) for v, g, s in zip(self._variables, gradients, self.slots) if g is not None]
        if changes:
            self.change_all(changes)
        if self._constrained:
            _constrain(self._constrained)

    def _require_variables(self, variables: Sequence[Any]) -> None:
        for v in variables:
            if not isinstance(v, Variable):
                raise ArgumentTypeError(f"{type(self).__name__}: changes Variables, got {type(v).__name__}")

    def clipped(self, gradients: Sequence[Tensor | None]) -> Sequence[Tensor | None]:
        """The gradients as they are used: scaled by `clip_norm`."""
        return gradients if self.clip_norm is None else clip_by_global_norm(gradients, self.clip_norm)

    def _scheduled(self, steps: int) -> float:
        """The schedule's rate, once it is known to be one."""
        assert self.schedule is not None
        return _number(self, "the schedule's rate", self.schedule(steps))

    def step(self, variables: Sequence[Variable]) -> None:
        """`update` with the gradients that ``backward`` left, which are cleared."""
        try:
            leaves = [v._node for v in variables]
            gradients = [leaf.grad for leaf in leaves]
        except AttributeError:
            self._require_variables(variables)
            fixed = next(v for v in variables if not v.trainable)
            raise GradientError(f"{type(self).__name__}: {fixed.name or 'a Variable'} is not trainable") from None
        self.build(variables)
        for leaf in leaves:
            put_grad(leaf, None)
        self._update(gradients)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "change" in cls.__dict__ and "change_all" not in cls.__dict__:
            cls.change_all = Optimizer.change_all  # type: ignore[method-assign]

    def change_all(self, changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> None:
        """Change these Variables, by their gradients, and their slots: here one by one, by `change`."""
        for variable, gradient, slots in changes:
            self.change(variable, gradient, slots)

    def change(self, variable: Variable, gradient: Tensor, slots: tuple[Variable, ...]) -> None:
        """Change one Variable and its slots: what a new optimizer defines, unless it changes all in one call."""
        raise MissingRuleError(f"{type(self).__name__}: defines no change(variable, gradient, slots)")

    @property
    def variables(self) -> dict[str, Variable]:
        """The optimizer's state by name."""
        named = {"lr": self.lr, "steps": self.steps}
        for i, slots in enumerate(self.slots):
            named.update({f"slots/{i}/{j}": slot for j, slot in enumerate(slots)})
        return named


class SGD(Optimizer):
    """Stochastic gradient descent: v ← μv − lr·g, p ← p + v; with Nesterov p ← p + μv − lr·g.

    Args:
        lr: the learning rate, or a schedule.
        momentum: μ in [0, 1).
        nesterov: look ahead (Nesterov 1983, in the form of Sutskever et al. 2013); needs a momentum.
        weight_decay, clip_norm: as of Optimizer.

    Raises:
        ArgumentError: for values out of range.

    Example:
        >>> import minigrad as mg
        >>> w = mg.Variable([1.0])
        >>> mg.optim.SGD(0.1).update([w], [mg.tensor([2.0])])
        >>> w.numpy()
        array([0.8], dtype=float32)
    """

    def __init__(
        self,
        lr: Rate = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ):
        super().__init__(lr, weight_decay, clip_norm)
        self.momentum = _number(self, "momentum", momentum, below=1)
        if nesterov and not momentum:
            raise ArgumentError("SGD: nesterov needs a momentum above 0")
        self.nesterov = bool(nesterov)
        self.slots_each = 1 if momentum else 0

    def change_all(self, changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> None:
        if self.momentum:
            options = {"momentum": self.momentum, "nesterov": self.nesterov, "weight_decay": self.weight_decay}
            momentum_p(self.lr, *_in_groups(changes), **options)
        else:
            sgd_p(self.lr, *_in_groups(changes), weight_decay=self.weight_decay)


class RMSprop(Optimizer):
    """RMSprop: s ← ρ·s + (1−ρ)·g², v ← μ·v + lr·g/√(s + ε), p ← p − v (Tieleman & Hinton 2012, lecture 6e).

    Args:
        lr: the learning rate, or a schedule.
        rho: ρ, the decay rate of the average of g², in [0, 1).
        momentum: μ in [0, 1).
        epsilon: ε, added to the average under the root.
        weight_decay, clip_norm: as of Optimizer.

    Raises:
        ArgumentError: for values out of range.
    """

    def __init__(
        self,
        lr: Rate = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ):
        super().__init__(lr, weight_decay, clip_norm)
        self.rho, self.momentum = _number(self, "rho", rho, below=1), _number(self, "momentum", momentum, below=1)
        self.epsilon = _number(self, "epsilon", epsilon)
        self.slots_each = 2

    def change_all(self, changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> None:
        options = {"rho": self.rho, "momentum": self.momentum, "epsilon": self.epsilon}
        rmsprop_p(self.lr, *_in_groups(changes), **options, weight_decay=self.weight_decay)


class Adagrad(Optimizer):
    """Adagrad: a ← a + g², p ← p − lr·g/√(a + ε) (Duchi, Hazan & Singer 2011).

    Args:
        lr: the learning rate, or a schedule.
        start: what a is in the beginning, at least 0.
        epsilon: ε.
        weight_decay, clip_norm: as of Optimizer.

    Raises:
        ArgumentError: for values out of range.
    """

    def __init__(
        self,
        lr: Rate = 0.001,
        start: float = 0.1,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
    ):
        super().__init__(lr, weight_decay, clip_norm)
        self.slot_value, self.epsilon = _number(self, "start", start), _number(self, "epsilon", epsilon)
        self.slots_each = 1

    def change_all(self, changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> None:
        adagrad_p(self.lr, *_in_groups(changes), epsilon=self.epsilon, weight_decay=self.weight_decay)


class Adam(Optimizer):
    """Adam: p ← p − lr·m̂/(√v̂ + ε), with m̂, v̂ the debiased averages of g and g² (Kingma & Ba 2015, algorithm 1).

    Args:
        lr: the learning rate, or a schedule.
        beta1, beta2: decay rates of the averages, in [0, 1).
        epsilon: added to the denominator.
        weight_decay, clip_norm: as of Optimizer.
        epsilon_hat: whether ε stands beside √v before its bias is removed, as ε̂ in the paper's section 2 and in
            TensorFlow: √v̂ + ε/√(1 − β₂ᵗ) is the denominator then.

    Raises:
        ArgumentError: for values out of range.
    """

    decoupled = False

    def __init__(
        self,
        lr: Rate = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-7,
        weight_decay: float = 0.0,
        clip_norm: float | None = None,
        epsilon_hat: bool = False,
    ):
        super().__init__(lr, weight_decay, clip_norm)
        self.epsilon_hat = bool(epsilon_hat)
        self.beta1, self.beta2 = _number(self, "beta1", beta1, below=1), _number(self, "beta2", beta2, below=1)
        self.epsilon = _number(self, "epsilon", epsilon)
        self.slots_each = 2

    def change_all(self, changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> None:
        adam_p(
            self.lr,
            self.steps,
            *_in_groups(changes),
            beta1=self.beta1,
            beta2=self.beta2,
            epsilon=self.epsilon,
            epsilon_hat=self.epsilon_hat,
            weight_decay=self.weight_decay,
            decoupled=self.decoupled,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay: p also shrinks by 1 − lr·decay (Loshchilov & Hutter 2019)."""

    decoupled = True


def clip_by_global_norm(gradients: Sequence[Tensor | None], limit: float) -> list[Tensor | None]:
    """All gradients times min(1, limit/‖all of them‖₂) (Pascanu et al. 2013). A None stays None.

    Example:
        >>> import minigrad as mg
        >>> mg.optim.clip_by_global_norm([mg.tensor([3.0]), mg.tensor([4.0])], 1.0)
        [tensor([0.6], dtype=float32), tensor([0.8], dtype=float32)]
    """
    squares = [ops.square(g.astype(dtypes.float64)).sum() for g in gradients if g is not None]
    if not squares:
        return list(gradients)
    scale = ops.minimum(limit / ops.sqrt(sum(squares[1:], squares[0])), 1.0)
    return [None if g is None else g * scale.astype(g.dtype) for g in gradients]


def _in_groups(changes: Sequence[tuple[Variable, Tensor, tuple[Variable, ...]]]) -> list[Tensor]:
    """The tensors as the update primitives take them: for each Variable it, its slots and its gradient."""
    return [t for variable, gradient, slots in changes for t in (variable, *slots, gradient)]


def _slot(variable: Variable, value: float) -> Tensor:
    """What a slot holds in the beginning; for half types it is float32, whose small squares do not vanish."""
    x = variable.detach()
    return full_like(x.astype(dtypes.arithmetic(x.dtype)), value)


def _constrain(variables: Sequence[Variable]) -> None:
    with no_grad():
        for v in variables:
            v.assign(v.constraint(v))  # type: ignore[misc]


def _number(optimizer: Optimizer, argument: str, value: Any, below: float = math.inf) -> float:
    """`value` as a float in [0, below)."""
    name = type(optimizer).__name__
    value = number(name, argument, value.item() if isinstance(value, (np.ndarray, Tensor)) else value)
    if not 0 <= value < below:
        raise ArgumentError(f"{name}: {argument} is {value!r}, expected a number in [0, {below})")
    return value
