"""sin and cos, float32 and float64. See `cpu_math`."""

import math

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math_exp import ROUND_F64, fma


@cpu.jit
def _sinpi_short(r):
    """sin(π·r) for |r| <= 1/2, to 2**-35."""
    z = r * r
    p = -0.0070220241398290945
    p = p * z + 0.08204639848225062
    p = p * z - 0.5992513140050637
    p = p * z + 2.5501632390110998
    p = p * z - 5.167712762079059
    p = p * z + 3.1415926535231824
    return p * r


@cpu.jit(exact=True)
def _modulo_2(q):
    return fma(np.rint(0.5 * q), -2.0, q)


@cpu.jit(exact=True)
def _sin_of_turns(x, turn):
    """sin(x + π·turn). 1/π in three pieces of 29 bits, whose products with x are exact, and a rest.

    From 2**76 on, x is an even multiple of π times the digits of 1/π above 2**-52, so these are left out.
    """
    big = abs(x) >= np.float32(7.555786372591432e22)
    d = np.float64(x)
    q1 = _modulo_2(d * (1.468547768767099e-16 if big else 0.3183098854497075))
    q2 = _modulo_2(d * (1.41881100420726e-25 if big else 7.340831623126043e-10))
    q3 = _modulo_2(d * (4.6860032644508e-34 if big else 1.1380050335985908e-18))
    q4 = d * (7.75408380501447e-43 if big else 2.940607374559956e-27)
    shifted = (q1 + turn) + (q2 + q3) + ROUND_F64
    k = shifted - ROUND_F64
    r = (((q1 - (k - turn)) + q2) + q3) + q4
    odd = np.float64(shifted).view(np.int64) << 63
    return np.float32(np.int64(np.float64(_sinpi_short(r)).view(np.int64) ^ odd).view(np.float64))


@cpu.jit(exact=True)
def sin_f32(x):
    """The sine, within 0.51 ulp.

    (-1)**k·sin(π·r) with x/π = k + r; 1/π has as many digits as the exponent of x asks for.
    Any float32, however large; NaN at ±inf; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import sin_f32
        >>> round(float(sin_f32(np.float32(1e10))), 5)
        -0.48751
    """
    return x if x == np.float32(0.0) else _sin_of_turns(x, 0.0)


@cpu.jit(exact=True)
def cos_f32(x):
    """The cosine, within 0.51 ulp.

    sin(π·(x/π + ½)), reduced as `sin_f32` is.
    Any float32, however large; NaN at ±inf.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import cos_f32
        >>> round(float(cos_f32(np.float32(1e10))), 5)
        0.87312
    """
    return _sin_of_turns(x, 0.5)


@cpu.jit(exact=True)
def sin_f64(x):
    """The sine, from the C library, within 0.52 ulp.

    A call: reducing a large float64 by π takes a branch, and no loop with it would vectorize.
    Any float64; NaN at ±inf; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import sin_f64
        >>> round(float(sin_f64(np.float64(1e22))), 12)
        -0.852200849767
    """
    return math.sin(x)


@cpu.jit(exact=True)
def cos_f64(x):
    """The cosine, from the C library, within 0.52 ulp.

    A call, as for `sin_f64`.
    Any float64; NaN at ±inf.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import cos_f64
        >>> round(float(cos_f64(np.float64(1e22))), 12)
        0.523214785395
    """
    return math.cos(x)
