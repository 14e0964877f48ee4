"""More update steps as primitives that change Variables in place: RMSprop and Adagrad. See `state`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ShapeError
from minigrad.ops.state import _copy, _require_like, groups_of
from minigrad.primitive import Primitive, Sample

rmsprop_p = Primitive("mg::rmsprop", mutates=("groups",), group=(4, 3))  # param, square, velocity, grad
adagrad_p = Primitive("mg::adagrad", mutates=("groups",), group=(3, 2))  # param, total, grad


# RMSprop (Tieleman & Hinton 2012): s ← ρ·s + (1−ρ)·g², v ← μ·v + lr·g/√(s + ε), p ← p − v.


@cpu.chunked
def _rmsprop(chunk, chunks, param, square, velocity, grad, lr, rho, momentum, epsilon, weight_decay):
    low, high = chunk * param.size // chunks, (chunk + 1) * param.size // chunks
    p, s, v, g_ = param[low:high], square[low:high], velocity[low:high], grad[low:high]
    kind = param.dtype.type
    # 1 − ρ in float64: float32's 1 − 0.999 is off in the fifth digit.
    new, keep, small = kind(1.0 - rho), kind(momentum), kind(epsilon)
    rate, decay = kind(lr[0]), kind(weight_decay)
    for i in range(p.size):
        g = g_[i] + decay * p[i]
        s[i] += new * (g * g - s[i])
        v[i] = keep * v[i] + rate * g / math.sqrt(s[i] + small)
        p[i] -= v[i]


@rmsprop_p.infer
def _(lr, *groups, rho, momentum, epsilon, weight_decay):
    for param, square, velocity, grad in groups_of(4, groups):
        _require_like("rmsprop", {"lr": lr}, param=param, square=square, velocity=velocity, grad=grad)


@rmsprop_p.kernel("cpu")
def _(out, lr, *groups, rho, momentum, epsilon, weight_decay):
    for param, square, velocity, grad in groups_of(4, groups):
        if not dtypes.has_kernels(param.dtype):
            options = {"rho": rho, "momentum": momentum, "epsilon": epsilon, "weight_decay": weight_decay}
            _copy((param, square, velocity), _rmsprop_step(lr, param, square, velocity, grad, **options))
            continue
        chunks = cpu.chunks_of(param.size)
        arrays = [a.ravel() for a in (param, square, velocity, cpu.contiguous(grad))]
        _rmsprop(chunks, param.size, chunks, *arrays, lr.reshape(1), rho, momentum, epsilon, weight_decay)


@rmsprop_p.kernel("reference")
def _rmsprop_step(lr, *groups, rho, momentum, epsilon, weight_decay):
    changed: list[Any] = []
    for param, square, velocity, grad in groups_of(4, groups):
        g = grad + weight_decay * param
        square = square + (1 - rho) * (g * g - square)
        velocity = momentum * velocity + lr.astype(param.dtype) * g / np.sqrt(square + epsilon)
        changed += [param - velocity, square, velocity]
    return tuple(changed)


@rmsprop_p.samples
def _(rng):
    params = {"rho": 0.9, "epsilon": 1e-7}
    for shape in [(2, 3), (), (0,), (257,)]:
        p, v, g = (rng.standard_normal(shape) for _ in range(3))
        values = (np.asarray(0.1), p, rng.random(shape), v, g)
        yield Sample(values, {**params, "momentum": 0.0, "weight_decay": 0.0})
        other = (rng.standard_normal(5), rng.random(5), rng.standard_normal(5), rng.standard_normal(5))
        yield Sample((*values, *other), {**params, "momentum": 0.9, "weight_decay": 0.01})
    bad = (np.asarray(0.1), np.ones(2), np.ones(2), np.ones(2), np.ones(3))
    yield Sample(bad, {**params, "momentum": 0.0, "weight_decay": 0.0}, error=ShapeError, match="grad has float64")


# Adagrad (Duchi et al. 2011): a ← a + g², p ← p − lr·g/√(a + ε).


@cpu.chunked
def _adagrad(chunk, chunks, param, total, grad, lr, epsilon, weight_decay):
    low, high = chunk * param.size // chunks, (chunk + 1) * param.size // chunks
    p, a, g_ = param[low:high], total[low:high], grad[low:high]
    kind = param.dtype.type
    rate, decay, small = kind(lr[0]), kind(weight_decay), kind(epsilon)
    for i in range(p.size):
        g = g_[i] + decay * p[i]
        a[i] += g * g
        p[i] -= rate * g / math.sqrt(a[i] + small)


@adagrad_p.infer
def _(lr, *groups, epsilon, weight_decay):
    for param, total, grad in groups_of(3, groups):
        _require_like("adagrad", {"lr": lr}, param=param, total=total, grad=grad)


@adagrad_p.kernel("cpu")
def _(out, lr, *groups, epsilon, weight_decay):
    for param, total, grad in groups_of(3, groups):
        if not dtypes.has_kernels(param.dtype):
            options = {"epsilon": epsilon, "weight_decay": weight_decay}
            _copy((param, total), _adagrad_step(lr, param, total, grad, **options))
            continue
        chunks = cpu.chunks_of(param.size)
        arrays = [a.ravel() for a in (param, total, cpu.contiguous(grad))]
        _adagrad(chunks, param.size, chunks, *arrays, lr.reshape(1), epsilon, weight_decay)


@adagrad_p.kernel("reference")
def _adagrad_step(lr, *groups, epsilon, weight_decay):
    changed: list[Any] = []
    for param, total, grad in groups_of(3, groups):
        g = grad + weight_decay * param
        total = total + g * g
        changed += [param - lr.astype(param.dtype) * g / np.sqrt(total + epsilon), total]
    return tuple(changed)


@adagrad_p.samples
def _(rng):
    for shape in [(2, 3), (), (0,), (257,)]:
        values = (np.asarray(0.1), rng.standard_normal(shape), rng.random(shape), rng.standard_normal(shape))
        yield Sample(values, {"epsilon": 1e-7, "weight_decay": 0.0})
        other = (rng.standard_normal(5), rng.random(5), rng.standard_normal(5))
        yield Sample((*values, *other), {"epsilon": 1e-7, "weight_decay": 0.01})
    bad = (np.ones(1), np.ones(2), np.ones(2), np.ones(2))
    yield Sample(bad, {"epsilon": 1e-7, "weight_decay": 0.0}, error=ShapeError, match=r"lr has shape \(1,\)")
