"""Subject: a function of tensors at a point, and what its checks share: outputs, cotangents, gradients, tangents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from minigrad import autodiff, dtypes
from minigrad.errors import ArgumentError, ArgumentTypeError
from minigrad.gradcheck.weighted import ArrayFunction, Weighted
from minigrad.primitive import on_device
from minigrad.tape import no_grad
from minigrad.tensor import Tensor, as_tensor

EPS = float(np.finfo(np.float64).eps)


class Subject:
    """A function under check at a point, in float64. What is computed is computed once.

    Attributes:
        fn: the function.
        truth: the function whose values serve as truth.
        held: the function whose gradients serve as truth for the second order.
        values: the arguments as arrays, None where one is absent; floats in float64.
        wrt: the positions of those that are differentiated by.
        analytic: whether `truth` takes complex numbers.
        second_on: the device for derivatives of second order and up.
        seed: of all that is random.
        wide: the positions of arguments that stay in float64 where the others are narrowed.
    """

    def __init__(
        self,
        fn: Callable,
        args: Sequence[Any],
        *,
        seed: int = 0,
        constant: Sequence[int] = (),
        truth: Callable | None = None,
        held: Callable | None = None,
        analytic: bool = False,
        second_on: str = "cpu",
        wide: Sequence[int] = (),
    ):
        if not callable(fn):
            raise ArgumentTypeError(f"check: fn is {fn!r}, expected a function of tensors")
        if isinstance(args, (Tensor, np.ndarray)) or not isinstance(args, Sequence):
            raise ArgumentTypeError(f"check: args is of {type(args).__name__}, expected a list of arguments")
        if not isinstance(seed, (int, np.integer)) or seed < 0:
            raise ArgumentError(f"check: seed is {seed!r}, expected an integer of 0 or more")
        for name, places in (("constant", constant), ("wide", wide)):
            if isinstance(places, str) or any(p not in range(len(args)) for p in places):
                raise ArgumentError(f"check: {name} is {places!r}, expected positions of the {len(args)} arguments")
        self.fn, self.truth, self.held = fn, held or truth or fn, held or fn
        self.has_truth_of_its_own = held is not None or truth is not None
        self.values: list[Any] = [_as_float64(a) for a in args]
        self.wrt = [
            i for i, v in enumerate(self.values) if v is not None and v.dtype == np.float64 and i not in constant
        ]
        if not self.wrt:
            raise ArgumentError("check: no argument is a floating-point array, so there is no derivative to check")
        for i in self.wrt:
            if not np.isfinite(self.values[i]).all():
                raise ArgumentError(f"check: argument {i} holds NaN or infinity, where nothing has a derivative")
        self.analytic, self.second_on, self.seed = analytic, second_on, seed
        self.wide = frozenset(wide)
        self.names = [f"argument {i}" for i in self.wrt]

    def at(self, values: Sequence[np.ndarray | None]) -> Subject:
        """The same function at another point."""
        other = object.__new__(Subject)
        kept = ("fn", "truth", "held", "has_truth_of_its_own", "wrt", "analytic", "second_on", "seed", "names", "wide")
        other.__dict__.update({name: self.__dict__[name] for name in kept}, values=list(values))
        return other

    def narrowed(self, dtype: Any) -> list[Any]:
        """The values with their floats in another dtype, but for the wide ones, which are never narrowed."""
        dtype = np.dtype(dtype)
        kept = self.wide if dtype.itemsize < 8 else ()
        return [a.astype(dtype) if is_float(a) and i not in kept else a for i, a in enumerate(self.values)]

    @cached_property
    def rng(self) -> np.random.Generator:
        """For cotangents and tangents, in this order; apart from samples, for tangents must not equal primals."""
        return np.random.default_rng((self.seed, 1))

    @cached_property
    def _pulling(self) -> tuple[tuple[Tensor, ...], Callable]:
        outputs, pull = autodiff.vjp(self.on_floats(self.fn), *[self.values[i] for i in self.wrt])
        for y in outputs if isinstance(outputs, tuple) else (outputs,):
            if not isinstance(y, Tensor):
                raise ArgumentTypeError(f"check: fn returned {type(y).__name__}, expected a tensor or a tuple of them")
        return (outputs, pull) if isinstance(outputs, tuple) else ((outputs,), lambda ws: pull(ws[0]))

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        return self._pulling[0]

    @cached_property
    def cotangents(self) -> list[np.ndarray]:
        return [zero_mean(self.rng, o.shape) for o in self.outputs]

    def pull(self, cotangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Jᵀ times cotangents, by reverse mode."""
        return [g.numpy() for g in self._pulling[1](tuple(Tensor(w) for w in cotangents))]

    @cached_property
    def gradients(self) -> list[np.ndarray]:
        return self.pull(self.cotangents)

    @cached_property
    def tangents(self) -> list[np.ndarray]:
        self.cotangents  # noqa: B018  (drawn first)
        return [self.rng.standard_normal(self.values[i].shape) for i in self.wrt]

    def push(self, tangents: Sequence[np.ndarray]) -> list[np.ndarray]:
        """J times tangents, by forward mode."""
        pushed = autodiff.jvp(self.on_floats(self.fn), [self.values[i] for i in self.wrt], list(tangents))[1]
        return [t.numpy() for t in (pushed if isinstance(pushed, tuple) else (pushed,))]

    @cached_property
    def pushed(self) -> list[np.ndarray]:
        return self.push(self.tangents)

    @cached_property
    def phi(self) -> Weighted:
        """φ = Σ⟨cotangent, truth⟩."""
        return Weighted(as_array_function(self.truth), self.values, self.wrt, self.cotangents, self.seed)

    def direction(self, i: int, rng: np.random.Generator) -> np.ndarray:
        """A random direction for an argument, each element in proportion to its size."""
        a = np.abs(self.values[i])
        size = np.maximum(a, 1e-2 * max(float(np.max(a, initial=0.0)), 1.0))
        return np.asarray(rng.standard_normal(a.shape) * size)

    def on_floats(self, fn: Callable) -> Callable:
        """`fn` as a function of its floating-point arguments alone; the others have the dtype of these."""
        values, wrt = self.values, self.wrt

        def wrapped(*floats: Tensor) -> Any:
            kind = next((x.dtype for i, x in zip(wrt, floats) if i not in self.wide), np.dtype(np.float64))
            full: list[Any] = [
                None if v is None else Tensor(v.astype(kind, copy=False) if is_float(v) and i not in self.wide else v)
                for i, v in enumerate(values)
            ]
            for i, x in zip(wrt, floats):
                full[i] = x
            return fn(*full)

        return wrapped

    def derived(self) -> Subject:
        """(x, w) ↦ Jᵀw as the function under check, at this point and random cotangents."""
        rng = np.random.default_rng(self.seed + 1)
        with on_device(self.second_on):
            shapes = [o.shape for o in self.outputs]
        args = [self.values[i] for i in self.wrt]
        inputs = [*args, *[zero_mean(rng, shape) for shape in shapes]]
        other = Subject(
            self._pulled_by(self.fn, len(args)),
            inputs,
            seed=self.seed,
            held=None if self.held is self.fn else self._pulled_by(self.held, len(args)),
            second_on=self.second_on,
            wide=[n for n, i in enumerate(self.wrt) if i in self.wide],
        )
        other.names = [*self.names, *[f"cotangent {i}" for i in range(len(shapes))]]
        other.rng = rng
        # Centred, they would cancel a mean's gradient.
        with on_device(self.second_on):
            other.cotangents = [np.asarray(rng.standard_normal(g.shape)) for g in other.outputs]
        return other

    def _pulled_by(self, fn: Callable, count: int) -> Callable:
        function = self.on_floats(fn)

        def pulled(*inputs: Tensor) -> tuple[Tensor, ...]:
            result, pull = autodiff.vjp(function, *inputs[:count])
            ws = inputs[count:]
            return pull(ws if isinstance(result, tuple) else ws[0])

        return pulled


def as_array_function(fn: Callable) -> ArrayFunction:
    """A function of tensors as one of arrays."""

    def wrapped(*arrays: Any) -> list[np.ndarray]:
        with no_grad():
            result = fn(*[None if a is None else Tensor(np.asarray(a)) for a in arrays])
        return [t._data for t in (result if isinstance(result, tuple) else (result,))]

    return wrapped


def is_float(a: Any) -> bool:
    """Whether it is an array of floats, rather than of something else, or None."""
    return a is not None and dtypes.kind(a.dtype) == "f"


def zero_mean(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A random cotangent whose mean is 0, to which no normalization is blind."""
    w = rng.standard_normal(shape)
    return np.asarray(w - w.mean()) if w.size > 2 else np.asarray(w)


def _as_float64(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    array = np.array(as_tensor(value)._data)
    return array.astype(np.float64) if dtypes.is_differentiable(array.dtype) else array
