"""The scalar functions of kernels, by name and ``_f32`` or ``_f64``: CUDA's own, within 2 ulp of the true values.

On the simulator NumPy's stand for them: Python's raise an error where a GPU gives infinity or NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad import scalar
from minigrad.devices.cuda.kernels import Function, gpu, jit

#: How operations are written in kernels, where `minigrad.scalar` says something else.
CODE = {
    "div": "div({0}, {1})",
    "sqrt": "sqrt{m}({0})",
    "floor": "floor{m}({0})",
    "sign": "sign{m}({0})",
    "pow": "pow{m}({0}, {1})",
    "abs": "abs({0})",
}


@jit
def div(x, y):
    """x / y, rounded once."""
    return x / y


def _exp(x):
    return math.exp(x)


def _expm1(x):
    return math.expm1(x)


def _log(x):
    return math.log(x)


def _log1p(x):
    return math.log1p(x)


def _tanh(x):
    return math.tanh(x)


def _erf(x):
    return math.erf(x)


def _erfc(x):
    return math.erfc(x)


def _sin(x):
    return math.sin(x)


def _cos(x):
    return math.cos(x)


def _sqrt(x):
    return math.sqrt(x)


def _pow(x, y):
    return math.pow(x, y)


@jit
def floor_f32(x):
    return gpu.libdevice.floorf(x)


@jit
def floor_f64(x):
    return gpu.libdevice.floor(x)


@jit
def sigmoid_f32(x):
    e = math.exp(-abs(x))  # exp of the negative magnitude alone never overflows
    return (np.float32(1) if x >= 0 else e) / (np.float32(1) + e)


@jit
def sigmoid_f64(x):
    e = math.exp(-abs(x))
    return (1.0 if x >= 0 else e) / (1.0 + e)


@jit
def sign_f32(x):
    return np.float32(1) if x > 0 else np.float32(-1) if x < 0 else x


@jit
def sign_f64(x):
    return 1.0 if x > 0 else -1.0 if x < 0 else x


def _numpy_twin(name: str, function: Callable) -> Function:
    return jit(function, simulated=lambda *args: name_to_numpy[name](*args))


name_to_numpy: dict[str, Any] = {name: operation.numpy for name, operation in scalar.OPERATIONS.items()}
for _name in ("exp", "expm1", "log", "log1p", "tanh", "erf", "erfc", "sin", "cos", "sqrt", "pow"):
    for _suffix in ("_f32", "_f64"):
        globals()[_name + _suffix] = _numpy_twin(_name, globals()[f"_{_name}"])
for _name in ("floor", "sigmoid"):
    for _suffix in ("_f32", "_f64"):
        globals()[_name + _suffix].simulated = lambda *args, _name=_name: name_to_numpy[_name](*args)


# Products that are rounded by themselves, where a compiler would make one operation of them and a sum.


def _times(x, y):
    return x * y


@jit(simulated=_times)
def times_f32(x, y):
    return gpu.libdevice.fmul_rn(x, y)


@jit(simulated=_times)
def times_f64(x, y):
    return gpu.libdevice.dmul_rn(x, y)
