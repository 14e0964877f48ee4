"""Activations that no clamp is: f(z) in the place of z, and dy·f′(z) in the place of z."""

from collections.abc import Callable
from functools import cache

import numpy as np

from minigrad.devices import cpu, cpu_math

SMOOTH = ("elu", "tanh", "sigmoid")
COST = 8  # elements of plain arithmetic that one of these is worth


def activate(activation: str, z: np.ndarray) -> None:
    """f(z) in the place of z, which is C-contiguous."""
    chunks = cpu.chunks_of(z.size)
    if chunks:
        _kernels(activation, z.dtype)[0](chunks, COST * z.size, chunks, z.ravel())


def gate(activation: str, z: np.ndarray, dy: np.ndarray) -> None:
    """dy·f′(z) in the place of z."""
    chunks = cpu.chunks_of(z.size)
    if chunks:
        _kernels(activation, z.dtype)[1](chunks, COST * z.size, chunks, z.ravel(), dy.ravel())


@cache
def _kernels(activation: str, dtype: np.dtype) -> tuple[cpu.Kernel, cpu.Kernel]:
    function, slope = _FUNCTIONS[activation]("f32" if dtype == np.float32 else "f64")

    @cpu.chunked
    def activate_elements(chunk, chunks, z):
        part = z[z.size * chunk // chunks : z.size * (chunk + 1) // chunks]
        for j in range(part.size):
            part[j] = function(part[j])

    @cpu.chunked
    def gate_elements(chunk, chunks, z, dy):
        low, high = z.size * chunk // chunks, z.size * (chunk + 1) // chunks
        part, given = z[low:high], dy[low:high]
        for j in range(part.size):
            part[j] = given[j] * slope(part[j])

    return activate_elements, gate_elements


def _tanh(kind: str) -> tuple[Callable, Callable]:
    tanh, sigmoid = getattr(cpu_math, f"tanh_{kind}"), getattr(cpu_math, f"sigmoid_{kind}")

    @cpu.jit(inline=True)
    def slope(z):
        a, b = sigmoid(z + z), sigmoid(-z - z)
        return (a + a) * (b + b)

    return tanh, slope


def _sigmoid(kind: str) -> tuple[Callable, Callable]:
    sigmoid = getattr(cpu_math, f"sigmoid_{kind}")

    @cpu.jit(inline=True)
    def slope(z):
        return sigmoid(z) * sigmoid(-z)

    return sigmoid, slope


def _elu(kind: str) -> tuple[Callable, Callable]:
    exp, expm1 = getattr(cpu_math, f"exp_{kind}"), getattr(cpu_math, f"expm1_{kind}")

    @cpu.jit(inline=True)
    def function(z):
        return expm1(z) if z <= 0 else z

    @cpu.jit(inline=True)
    def slope(z):
        return exp(z) if z <= 0 else 1.0

    return function, slope


_FUNCTIONS = {"tanh": _tanh, "sigmoid": _sigmoid, "elu": _elu}
