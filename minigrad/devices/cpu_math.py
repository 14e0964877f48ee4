"""exp, log, tanh and their like as scalar functions of float32 and float64 that a Numba loop can vectorize.

A loop that calls math.exp makes one library call an element. These functions are straight arithmetic without branches,
so LLVM turns the loop around them into vector instructions. They keep IEEE arithmetic inside kernels that don't: NaN
in is NaN out, overflow is inf, underflow is gradual. Most float32 functions work in float64, where a short polynomial
leaves nothing but the last rounding.

`ULP` has each function's largest error, in units of the last place of the result: over all 2**32 arguments for
float32 (erfc: every 97th), over 3·10**7 for float64 (erf: 2·10**6, erfc: 2·10**5), of all exponents and next to every
boundary.

Every polynomial is our own: minimax in the relative error of the function it serves, by Remez exchange in 200-bit
arithmetic. Polynomials are plain `jit` functions, since a fused multiply-add does them good; what must be rounded as
written (argument reduction, sums of high and low parts) stands in exact ones.
"""

from minigrad.devices.cpu_math_erf import erf_f32, erf_f64, erfc_f32, erfc_f64
from minigrad.devices.cpu_math_exp import (
    exp_f32,
    exp_f64,
    expm1_f32,
    expm1_f64,
    sigmoid_f32,
    sigmoid_f64,
    tanh_f32,
    tanh_f64,
)
from minigrad.devices.cpu_math_log import log1p_f32, log1p_f64, log_f32, log_f64
from minigrad.devices.cpu_math_sin import cos_f32, cos_f64, sin_f32, sin_f64

#: The largest error of each function in units of the last place, as measured and rounded up; the tests hold it.
ULP = {
    "exp_f32": 0.8,
    "expm1_f32": 0.51,
    "log_f32": 0.52,
    "log1p_f32": 0.52,
    "tanh_f32": 0.51,
    "sigmoid_f32": 0.51,
    "erf_f32": 0.51,
    "erfc_f32": 0.51,
    "sin_f32": 0.51,
    "cos_f32": 0.51,
    "exp_f64": 0.76,
    "expm1_f64": 1.6,
    "log_f64": 0.85,
    "log1p_f64": 0.85,
    "tanh_f64": 2.0,
    "sigmoid_f64": 1.7,
    "erf_f64": 2.1,
    "erfc_f64": 5.7,
    "sin_f64": 0.52,
    "cos_f64": 0.52,
}

__all__ = [
    "ULP",
    "cos_f32",
    "cos_f64",
    "erf_f32",
    "erf_f64",
    "erfc_f32",
    "erfc_f64",
    "exp_f32",
    "exp_f64",
    "expm1_f32",
    "expm1_f64",
    "log1p_f32",
    "log1p_f64",
    "log_f32",
    "log_f64",
    "sigmoid_f32",
    "sigmoid_f64",
    "sin_f32",
    "sin_f64",
    "tanh_f32",
    "tanh_f64",
]
