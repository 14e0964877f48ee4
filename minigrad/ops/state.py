"""Primitives that change Variables in place: assignment and the optimizers' update steps.

The rest of the program is free of side effects. None of these is differentiated: what backward would need of a value
that was overwritten is gone, which backward notices.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ArgumentTypeError, DTypeError, ShapeError
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor, Variable, as_tensor

assign_p = Primitive("mg::assign", mutates=("variable",), moves=True)
count_p = Primitive("mg::count", mutates=("counter",))
schedule_p = Primitive("mg::schedule", mutates=("rate",))
# Optimizers' steps change all parameters in one call: there may be many, and small.
sgd_p = Primitive("mg::sgd", mutates=("groups",))  # param, grad
momentum_p = Primitive("mg::momentum", mutates=("groups",), group=(3, 2))  # param, velocity, grad
adam_p = Primitive("mg::adam", mutates=("groups",), group=(4, 3))  # param, m, v, grad


def groups_of(size: int, values: Sequence[Any]) -> Iterator[tuple]:
    """Successive values, so many at a time."""
    return zip(*[iter(values)] * size, strict=True)


def _require_like(operation: str, scalars: dict[str, Abstract], **values: Abstract) -> None:
    (first, want), *others = values.items()
    dtypes.require_floating(operation, first, want.dtype)
    for name, got in others:
        wider = name != "grad" and got.dtype == dtypes.arithmetic(want.dtype)  # slots of half types
        if got.shape != want.shape or (got.dtype != want.dtype and not wider):
            raise ShapeError(
                f"{operation}: {name} has {got.dtype}{got.shape}, expected {want.dtype}{want.shape} as of {first}"
            )
    for name, got in scalars.items():
        if got.shape:
            raise ShapeError(f"{operation}: {name} has shape {got.shape}, expected a scalar")


@assign_p.infer
def _(variable, value):
    try:
        fits = np.broadcast_shapes(variable.shape, value.shape) == variable.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"assign: value has shape {value.shape}, expected {variable.shape} or what broadcasts to it")
    dtypes.require_same("assign", variable=variable.dtype, value=value.dtype)


@assign_p.kernel("cpu")
def _(out, variable, value):
    np.copyto(out, value)


@assign_p.kernel("reference")
def _(variable, value):
    return np.broadcast_to(value, variable.shape).copy()


@assign_p.samples
def _(rng):
    yield Sample((np.zeros((2, 3)), rng.standard_normal((2, 3))))
    yield Sample((np.zeros((2, 3)), rng.standard_normal((3,))))
    yield Sample((np.zeros((0,)), np.zeros((0,))))
    yield Sample((np.zeros((2, 3)), np.ones((3, 2))), error=ShapeError, match=r"expected \(2, 3\)")


# A count of steps, and a learning rate that follows from it: by a Python function, which is called at each step, also
# of a kept tape.


@count_p.infer
def _(counter):
    dtypes.require_integer("count", "counter", counter.dtype)
    if counter.shape:
        raise ShapeError(f"count: counter has shape {counter.shape}, expected a scalar")


@cpu.chunked
def _count(chunk, counter):
    counter[0] += 1


@count_p.kernel("cpu")
def _(out, counter):
    _count(1, 1, out.reshape(1))


@count_p.kernel("reference")
def _(counter):
    return counter + counter.dtype.type(1)


@count_p.samples
def _(rng):
    yield Sample((np.array(3),))
    yield Sample((np.array([3]),), error=ShapeError, match="expected a scalar")
    yield Sample((np.array(3.0),), error=DTypeError, match="expected an integer dtype")


@schedule_p.infer
def _(rate, steps, *, rule):
    dtypes.require_floating("schedule", "rate", rate.dtype)
    if rate.shape or steps.shape:
        raise ShapeError(f"schedule: rate has shape {rate.shape} and steps {steps.shape}, expected scalars")


@schedule_p.kernel("cpu")
def _(out, rate, steps, *, rule):
    out[...] = rule(int(steps))


@schedule_p.kernel("reference")
def _(rate, steps, *, rule):
    return np.asarray(rule(int(steps)), rate.dtype)


@schedule_p.samples
def _(rng):
    yield Sample((np.array(0.5), np.array(3)), {"rule": _halved})
    yield Sample((np.ones(2), np.array(3)), {"rule": _halved}, error=ShapeError, match=r"rate has shape \(2,\)")


def _halved(step: int) -> float:
    return 0.5**step


# Stochastic gradient descent: p ← p − lr·g, with weight decay added to g where asked for.


@cpu.chunked
def _sgd(chunk, chunks, param, grad, lr, weight_decay):
    low, high = chunk * param.size // chunks, (chunk + 1) * param.size // chunks
    p, g = param[low:high], grad[low:high]
    rate, decay = param.dtype.type(lr[0]), param.dtype.type(weight_decay)
    for i in range(p.size):
        p[i] -= rate * (g[i] + decay * p[i])


@sgd_p.infer
def _(lr, *groups, weight_decay):
    for param, grad in groups_of(2, groups):
        _require_like("sgd", {"lr": lr}, param=param, grad=grad)


@sgd_p.kernel("cpu")
def _(out, lr, *groups, weight_decay):
    rate = lr.reshape(1)  # the kernel reads it: its value is not known to whoever keeps the call
    for param, grad in groups_of(2, groups):
        if dtypes.has_kernels(param.dtype):
            chunks = 1 if param.size < cpu.PARALLEL_WORK else cpu.chunks_of(param.size)
            _sgd(chunks, param.size, chunks, param.ravel(), cpu.contiguous(grad).ravel(), rate, weight_decay)
        else:
            param[...] = _sgd_step(lr, param, grad, weight_decay=weight_decay)[0]


@sgd_p.kernel("reference")
def _sgd_step(lr, *groups, weight_decay):
    return tuple(p - lr.astype(p.dtype) * (g + weight_decay * p) for p, g in groups_of(2, groups))


@sgd_p.samples
def _(rng):
    for shape in [(2, 3), (), (0,), (257,)]:
        values = (np.asarray(0.1), rng.standard_normal(shape), rng.standard_normal(shape))
        yield Sample(values, {"weight_decay": 0.0})
        yield Sample((*values, rng.standard_normal(5), rng.standard_normal(5)), {"weight_decay": 0.01})
    bad = (np.asarray(0.1), np.ones(2), np.ones(2), np.zeros((2, 3)), np.ones((3, 2)))
    yield Sample(bad, {"weight_decay": 0.0}, error=ShapeError, match="grad has float64")


# Momentum: v ← μ·v − lr·g, then p ← p + v, or p ← p + μ·v − lr·g after Nesterov.


@cpu.chunked
def _momentum(chunk, chunks, param, velocity, grad, lr, momentum, nesterov, weight_decay):
    low, high = chunk * param.size // chunks, (chunk + 1) * param.size // chunks
    p, v, g = param[low:high], velocity[low:high], grad[low:high]
    rate, decay = param.dtype.type(lr[0]), param.dtype.type(weight_decay)
    keep = param.dtype.type(momentum)
    for i in range(p.size):
        step = rate * (g[i] + decay * p[i])
        v[i] = keep * v[i] - step
        p[i] += keep * v[i] - step if nesterov else v[i]


@momentum_p.infer
def _(lr, *groups, momentum, nesterov, weight_decay):
    for param, velocity, grad in groups_of(3, groups):
        _require_like("momentum", {"lr": lr}, param=param, velocity=velocity, grad=grad)


@momentum_p.kernel("cpu")
def _(out, lr, *groups, momentum, nesterov, weight_decay):
    for param, velocity, grad in groups_of(3, groups):
        if not dtypes.has_kernels(param.dtype):
            options = {"momentum": momentum, "nesterov": nesterov, "weight_decay": weight_decay}
            _copy((param, velocity), _momentum_step(lr, param, velocity, grad, **options))
            continue
        chunks = cpu.chunks_of(param.size)
        arrays = [a.ravel() for a in (param, velocity, cpu.contiguous(grad))]
        _momentum(chunks, param.size, chunks, *arrays, lr.reshape(1), momentum, nesterov, weight_decay)


@momentum_p.kernel("reference")
def _momentum_step(lr, *groups, momentum, nesterov, weight_decay):
    changed: list[Any] = []
    for param, velocity, grad in groups_of(3, groups):
        step = lr.astype(param.dtype) * (grad + weight_decay * param)
        velocity = momentum * velocity - step
        changed += [param + momentum * velocity - step if nesterov else param + velocity, velocity]
    return tuple(changed)


@momentum_p.samples
def _(rng):
    for shape in [(2, 3), (), (0,), (257,)]:
        values = (np.asarray(0.1), *(rng.standard_normal(shape) for _ in range(3)))
        params = {"momentum": 0.9, "weight_decay": 0.01}
        yield Sample(values, {**params, "nesterov": False})
        yield Sample((*values, *(rng.standard_normal(5) for _ in range(3))), {**params, "nesterov": True})


# Adam (Kingma & Ba 2015, algorithm 1): m and v are averages of g and g², divided by 1 − βᵗ to remove their bias from
# the start at 0. Epsilon is added to √v without that bias, or, as their ε̂ before section 2.1, with it. Weight decay is
# added to g, or shrinks p by itself (AdamW, Loshchilov & Hutter 2019).


@cpu.chunked
def _adam(chunk, chunks, param, m, v, grad, lr, step, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    low, high = chunk * param.size // chunks, (chunk + 1) * param.size // chunks
    p, m_, v_, g_ = param[low:high], m[low:high], v[low:high], grad[low:high]
    kind = param.dtype.type
    # 1 − β in float64: float32's 1 − 0.999 is off in the fifth digit.
    new1, new2 = kind(1.0 - beta1), kind(1.0 - beta2)
    rate, root = kind(lr[0] / (1.0 - beta1 ** step[0])), math.sqrt(1.0 - beta2 ** step[0])
    unbias, small = kind(1.0 / root), kind(epsilon / root if epsilon_hat else epsilon)
    decay, shrink = kind(0.0 if decoupled else weight_decay), kind(1.0 - lr[0] * weight_decay if decoupled else 1.0)
    for i in range(p.size):
        g = g_[i] + decay * p[i]
        m_[i] += new1 * (g - m_[i])
        v_[i] += new2 * (g * g - v_[i])
        p[i] = shrink * p[i] - rate * m_[i] / (math.sqrt(v_[i]) * unbias + small)


@adam_p.infer
def _(lr, step, *groups, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    for param, m, v, grad in groups_of(4, groups):
        _require_like("adam", {"lr": lr, "step": step}, param=param, m=m, v=v, grad=grad)


def _adam_factors(lr: Any, step: Any, beta1: float, beta2: float, weight_decay: float, decoupled: bool) -> tuple:
    """The step size over m's bias, what makes √v unbiased, the decay added to g, and p's own shrinking."""
    lr, t = float(lr), int(step)
    decay, shrink = (0.0, 1 - lr * weight_decay) if decoupled else (weight_decay, 1.0)
    return lr / (1 - beta1**t), 1 / math.sqrt(1 - beta2**t), decay, shrink


@adam_p.kernel("cpu")
def _(out, lr, step, *groups, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    scalars, numbers = (lr.reshape(1), step.reshape(1)), (beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled)
    for param, m, v, grad in groups_of(4, groups):
        if not dtypes.has_kernels(param.dtype):
            options = {"beta1": beta1, "beta2": beta2, "epsilon": epsilon, "epsilon_hat": epsilon_hat}
            options |= {"weight_decay": weight_decay, "decoupled": decoupled}
            _copy((param, m, v), _adam_step(lr, step, param, m, v, grad, **options))
            continue
        arrays = [a.ravel() for a in (param, m, v, cpu.contiguous(grad))]
        chunks = cpu.chunks_of(param.size)
        _adam(chunks, param.size, chunks, *arrays, *scalars, *numbers)


@adam_p.kernel("reference")
def _adam_step(lr, step, *groups, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    rate, unbias, decay, shrink = _adam_factors(lr, step, beta1, beta2, weight_decay, decoupled)
    small = epsilon * unbias if epsilon_hat else epsilon
    changed: list[Any] = []
    for param, m, v, grad in groups_of(4, groups):
        g = grad + decay * param
        m = m + (1 - beta1) * (g - m)
        v = v + (1 - beta2) * (g * g - v)
        changed += [shrink * param - rate * m / (np.sqrt(v) * unbias + small), m, v]
    return tuple(changed)


@adam_p.samples
def _(rng):
    params = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-2, "weight_decay": 0.01}
    for shape in [(2, 3), (), (0,), (257,)]:
        groups = [
            (rng.standard_normal(s), rng.standard_normal(s), rng.random(s), rng.standard_normal(s)) for s in (shape, 5)
        ]
        scalars = np.asarray(0.1), np.asarray(3)
        yield Sample((*scalars, *groups[0]), {**params, "decoupled": False, "epsilon_hat": False})
        yield Sample((*scalars, *groups[0], *groups[1]), {**params, "decoupled": True, "epsilon_hat": True})


def _copy(targets: tuple[np.ndarray, ...], values: tuple[np.ndarray, ...]) -> None:
    for target, value in zip(targets, values):
        target[...] = value


def assign(variable: Variable, value: Any) -> None:
    """Overwrite a Variable's values; `value` broadcasts to its shape.

    Raises:
        ArgumentTypeError: if `variable` is a constant tensor.
        ShapeError, DTypeError: if the value does not fit, or is no numbers; the Variable keeps its values.
    """
    if not isinstance(variable, Variable):
        raise ArgumentTypeError(f"assign: takes a Variable, got {type(variable).__name__}")
    value = value if isinstance(value, Tensor) else as_tensor(value, variable.dtype, like=variable)
    assign_p(variable, value.astype(variable.dtype))
