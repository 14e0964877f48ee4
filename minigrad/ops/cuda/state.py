"""CUDA kernels of the primitives that change Variables in place: assignment, counts, and the optimizers' updates."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray, Kernel, gpu
from minigrad.devices.cuda.copies import copy_into, fill
from minigrad.errors import DTypeError
from minigrad.ops.state import adam_p, assign_p, count_p, momentum_p, schedule_p, sgd_p
from minigrad.ops.updates import adagrad_p, rmsprop_p


@assign_p.kernel("cuda")
def _(out, variable, value):
    copy_into(out, value)


@cuda.kernel
def _count(counter):
    counter[0] += 1


@count_p.kernel("cuda")
def _(out, counter):
    _count(1, 1, out)


@schedule_p.kernel("cuda")
def _(out, rate, steps, *, rule):
    fill(out, rule(int(cuda.to_host(steps))))  # a Python function of a number: there is no other way than to wait


def _update(kernel: Kernel, changed: Any, grad: DeviceArray, *rest: Any) -> None:
    """A thread for each parameter."""
    param = changed[0]
    if param.dtype.kind != "f" or param.dtype.itemsize not in (4, 8):
        raise DTypeError(f"{kernel.__name__.strip('_')}: there is no CUDA kernel for {param.dtype}")
    kernel(cuda.blocks_of(param.size), cuda.THREADS, *changed, cuda.contiguous(grad), *rest)


@cuda.kernel
def _sgd(param, grad, lr, decay):
    i = gpu.grid(1)
    if i < param.size:
        p = param[i]
        param[i] = p - param.dtype.type(lr[0]) * (grad[i] + decay * p)


@sgd_p.kernel("cuda")
def _(out, lr, *pairs, weight_decay):
    for param, grad in zip(out, pairs[1::2]):
        _update(_sgd, (param,), grad, lr, param.dtype.type(weight_decay))


@cuda.kernel
def _momentum(param, velocity, grad, lr, keep, nesterov, decay):
    i = gpu.grid(1)
    if i < param.size:
        step = param.dtype.type(lr[0]) * (grad[i] + decay * param[i])
        v = keep * velocity[i] - step
        velocity[i] = v
        param[i] += keep * v - step if nesterov else v


@momentum_p.kernel("cuda")
def _(out, param, velocity, grad, lr, *, momentum, nesterov, weight_decay):
    kind = param.dtype.type
    _update(_momentum, out, grad, lr, kind(momentum), bool(nesterov), kind(weight_decay))


# Adam's factors are two powers in float64: computed once, and not by every thread.


@cuda.kernel
def _adam_factors(factors, lr, step, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    factors[0] = lr[0] / (1.0 - beta1 ** step[0])
    factors[1] = 1.0 / math.sqrt(1.0 - beta2 ** step[0])
    factors[2] = 1.0 - lr[0] * weight_decay if decoupled else 1.0
    factors[3] = epsilon * factors[1] if epsilon_hat else epsilon


@cuda.kernel
def _adam(param, m, v, grad, factors, new1, new2, decay):
    i = gpu.grid(1)
    if i < param.size:
        kind = param.dtype.type
        g = grad[i] + decay * param[i]
        m_ = m[i] + new1 * (g - m[i])
        v_ = v[i] + new2 * (g * g - v[i])
        m[i], v[i] = m_, v_
        root = kind(math.sqrt(v_)) * kind(factors[1]) + kind(factors[3])
        param[i] = kind(factors[2]) * param[i] - kind(factors[0]) * m_ / root


@adam_p.kernel("cuda")
def _(out, param, m, v, grad, lr, step, *, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    kind, decoupled = param.dtype.type, bool(decoupled)
    factors = cuda.empty((4,), np.dtype(np.float64), param.lease.stream.device)
    options = (float(beta1), float(beta2), float(epsilon), bool(epsilon_hat), float(weight_decay), decoupled)
    _adam_factors(1, 1, factors, lr, step, *options)
    decay = 0.0 if decoupled else weight_decay
    _update(_adam, out, grad, factors, kind(1.0 - beta1), kind(1.0 - beta2), kind(decay))


@cuda.kernel
def _rmsprop(param, square, velocity, grad, lr, new, keep, small, decay):
    i = gpu.grid(1)
    if i < param.size:
        kind = param.dtype.type
        g = grad[i] + decay * param[i]
        s = square[i] + new * (g * g - square[i])
        v = keep * velocity[i] + kind(lr[0]) * g / kind(math.sqrt(s + small))
        square[i], velocity[i] = s, v
        param[i] -= v


@rmsprop_p.kernel("cuda")
def _(out, param, square, velocity, grad, lr, *, rho, momentum, epsilon, weight_decay):
    kind = param.dtype.type
    _update(_rmsprop, out, grad, lr, kind(1.0 - rho), kind(momentum), kind(epsilon), kind(weight_decay))


@cuda.kernel
def _adagrad(param, total, grad, lr, small, decay):
    i = gpu.grid(1)
    if i < param.size:
        kind = param.dtype.type
        g = grad[i] + decay * param[i]
        a = total[i] + g * g
        total[i] = a
        param[i] -= kind(lr[0]) * g / kind(math.sqrt(a + small))


@adagrad_p.kernel("cuda")
def _(out, param, total, grad, lr, *, epsilon, weight_decay):
    _update(_adagrad, out, grad, lr, param.dtype.type(epsilon), param.dtype.type(weight_decay))
