"""CUDA kernels of the primitives that change Variables in place: assignment, counts, and the optimizers' updates."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray
from minigrad.devices.cuda.copies import copy_into, fill
from minigrad.devices.cuda.many import for_each
from minigrad.errors import DTypeError
from minigrad.ops.state import adam_p, assign_p, count_p, groups_of, momentum_p, schedule_p, sgd_p
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


# Optimizers' steps: what becomes of one element, of all parameters in one launch.


def _change(
    groups: Sequence[tuple], step: Callable[[type], Callable], written: int, factors: DeviceArray, *numbers: Any
) -> None:
    """One launch for all groups of the same dtypes, whose last arrays are gradients."""
    by_dtypes: dict[tuple[np.dtype, ...], list] = {}
    for *changed, grad in groups:
        by_dtypes.setdefault(tuple([a.dtype for a in (*changed, grad)]), []).append((*changed, cuda.contiguous(grad)))
    for kinds, some in by_dtypes.items():
        if not dtypes.has_gpu_kernels(kinds[0]):
            raise DTypeError(f"{step.__name__.strip('_')}: there is no CUDA kernel for {kinds[0]}")
        kind = dtypes.arithmetic(kinds[0]).type
        for_each(some, written, step(kind), factors, *[n if isinstance(n, bool) else kind(n) for n in numbers])


@cache
def _sgd(kind: type) -> Callable:
    def sgd(p, g, rate, decay):
        return (p - rate * (g + decay * p),)

    return sgd


@sgd_p.kernel("cuda")
def _(out, lr, *groups, weight_decay):
    _change(list(groups_of(2, groups)), _sgd, 1, lr, weight_decay)


@cache
def _momentum(kind: type) -> Callable:
    def momentum(p, v, g, rate, keep, nesterov, decay):
        step = rate * (g + decay * p)
        v = keep * v - step
        return p + (keep * v - step if nesterov else v), v

    return momentum


@momentum_p.kernel("cuda")
def _(out, lr, *groups, momentum, nesterov, weight_decay):
    _change(list(groups_of(3, groups)), _momentum, 2, lr, momentum, bool(nesterov), weight_decay)


# Adam's factors are two powers in float64: computed once, and not by every thread.


@cuda.kernel
def _adam_factors(factors, lr, step, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    factors[0] = lr[0] / (1.0 - beta1 ** step[0])
    factors[1] = 1.0 / math.sqrt(1.0 - beta2 ** step[0])
    factors[2] = 1.0 - lr[0] * weight_decay if decoupled else 1.0
    factors[3] = epsilon * factors[1] if epsilon_hat else epsilon


@cache
def _adam(kind: type) -> Callable:
    def adam(p, m, v, g, rate, unbias, shrink, small, new1, new2, decay):
        g = g + decay * p
        m = m + new1 * (g - m)
        v = v + new2 * (g * g - v)
        return shrink * p - rate * m / (kind(math.sqrt(v)) * unbias + small), m, v

    return adam


@adam_p.kernel("cuda")
def _(out, lr, step, *groups, beta1, beta2, epsilon, epsilon_hat, weight_decay, decoupled):
    factors = cuda.empty((4,), np.dtype(np.float64), lr.lease.stream.device)
    options = (float(beta1), float(beta2), float(epsilon), bool(epsilon_hat), float(weight_decay), bool(decoupled))
    _adam_factors(1, 1, factors, lr, step, *options)
    decay = 0.0 if decoupled else weight_decay
    _change(list(groups_of(4, groups)), _adam, 3, factors, 1.0 - beta1, 1.0 - beta2, decay)


@cache
def _rmsprop(kind: type) -> Callable:
    def rmsprop(p, s, v, g, rate, new, keep, small, decay):
        g = g + decay * p
        s = s + new * (g * g - s)
        v = keep * v + rate * g / kind(math.sqrt(s + small))
        return p - v, s, v

    return rmsprop


@rmsprop_p.kernel("cuda")
def _(out, lr, *groups, rho, momentum, epsilon, weight_decay):
    _change(list(groups_of(4, groups)), _rmsprop, 3, lr, 1.0 - rho, momentum, epsilon, weight_decay)


@cache
def _adagrad(kind: type) -> Callable:
    def adagrad(p, a, g, rate, small, decay):
        g = g + decay * p
        a = a + g * g
        return p - rate * g / kind(math.sqrt(a + small)), a

    return adagrad


@adagrad_p.kernel("cuda")
def _(out, lr, *groups, epsilon, weight_decay):
    _change(list(groups_of(3, groups)), _adagrad, 2, lr, epsilon, weight_decay)
