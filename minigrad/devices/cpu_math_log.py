"""log and log1p, float32 and float64. See `cpu_math`."""

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math_exp import LN2, LN2_HIGH_F64, LN2_LOW_F64, fma

ONE_F64 = 0x3FF0000000000000
SQRT_HALF_F64 = 0x3FE6A09E667F3BCD
MANTISSA_F64 = 0x000FFFFFFFFFFFFF
TWO_52_F64 = 0x4330000000000000
TWO_52 = 4503599627370496.0


@cpu.jit(exact=True)
def _split(w):
    """m in [√½, √2) and k with w = m·2**k, for positive normal float64."""
    bits = np.float64(w).view(np.int64) + (ONE_F64 - SQRT_HALF_F64)
    m = np.int64((bits & MANTISSA_F64) + SQRT_HALF_F64).view(np.float64)
    # The exponent becomes a float by standing in the low bits of 2**52: AVX2 can't convert 64-bit integers.
    k = np.int64(((bits >> 52) & 0xFFF) | TWO_52_F64).view(np.float64)
    return m, k - (TWO_52 + 1023.0)


@cpu.jit
def _log1p_short(f):
    """log(1 + f) for f in [√½ - 1, √2 - 1], to 2**-30."""
    p = 0.06725053217076324
    p = p * f - 0.11676044115250599
    p = p * f + 0.11900954930576643
    p = p * f - 0.12407339409918647
    p = p * f + 0.14217681100666918
    p = p * f - 0.16667688914340226
    p = p * f + 0.20002219978674998
    p = p * f - 0.2500002570450109
    p = p * f + 0.3333331081198469
    p = p * f - 0.49999999753494334
    return p * (f * f) + f


@cpu.jit(exact=True)
def _log(w):
    m, k = _split(w)
    return fma(k, LN2, _log1p_short(m - 1.0))


@cpu.jit(exact=True)
def log_f32(x):
    """The natural logarithm, within 0.52 ulp.

    x = m·2**k with m in [√½, √2); k·ln2 and a polynomial in m - 1, in float64.
    Any float32: -inf at ±0, NaN below.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import log_f32
        >>> round(float(log_f32(np.float32(10.0))), 5)
        2.30259
    """
    y = np.float32(_log(np.float64(x)))
    y = y if x < np.float32(np.inf) else x
    y = np.float32(-np.inf) if x == np.float32(0.0) else y
    return np.float32(np.nan) if x < np.float32(0.0) else y


@cpu.jit(exact=True)
def log1p_f32(x):
    """log(1 + x), exact also where x is small, within 0.52 ulp.

    The logarithm of w = 1 + x in float64, and what the sum lost.
    Any float32: -inf at -1, NaN below; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import log1p_f32
        >>> round(float(log1p_f32(np.float32(1e-6))), 13)
        9.999995e-07
    """
    d = np.float64(x)
    w = 1.0 + d
    lost = d - (w - 1.0) if x < np.float32(1.0) else 0.0  # it counts where w is near 1, so it isn't divided by w
    y = np.float32(_log(w) + lost)
    y = y if x < np.float32(np.inf) else x
    y = np.float32(-np.inf) if x == np.float32(-1.0) else y
    y = np.float32(np.nan) if x < np.float32(-1.0) else y
    return x if x == np.float32(0.0) else y


@cpu.jit
def _log_tail(z):
    """(log((1 + s) / (1 - s)) - 2s) / s at z = s**2, for the s = f / (2 + f) of f in [√½ - 1, √2 - 1], to 2**-58."""
    p = 0.14796105340594187
    p = p * z + 0.15314035847066498
    p = p * z + 0.18183564866130336
    p = p * z + 0.2222219856349795
    p = p * z + 0.28571428742474725
    p = p * z + 0.3999999999941432
    p = p * z + 0.6666666666666734
    return p * z


@cpu.jit(exact=True)
def _log_and(w, rest, k0):
    """log(w) + k0·ln2 + rest for a small rest; f - (f²/2 - ...) is added up from the small end."""
    m, k = _split(w)
    k = k + k0
    f = m - 1.0
    s = f / (2.0 + f)
    half_square = 0.5 * f * f
    low = s * (half_square + _log_tail(s * s)) + fma(k, LN2_LOW_F64, rest)
    return k * LN2_HIGH_F64 - ((half_square - low) - f)


@cpu.jit(exact=True)
def log_f64(x):
    """The natural logarithm, within 0.85 ulp.

    x = m·2**k with m in [√½, √2), f = m - 1, s = f / (2 + f); k·ln2 and an odd polynomial in s.
    Any float64: -inf at ±0, NaN below.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import log_f64
        >>> round(float(log_f64(np.float64(10.0))), 12)
        2.302585092994
    """
    tiny = x < 2.2250738585072014e-308
    y = _log_and(x * 18014398509481984.0 if tiny else x, 0.0, -54.0 if tiny else 0.0)
    y = y if x < np.inf else x
    y = -np.inf if x == 0.0 else y
    return np.nan if x < 0.0 else y


@cpu.jit(exact=True)
def log1p_f64(x):
    """log(1 + x), exact also where x is small, within 0.85 ulp.

    The logarithm of w = 1 + x, and what the sum lost, divided by w.
    Any float64: -inf at -1, NaN below; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import log1p_f64
        >>> round(float(log1p_f64(np.float64(1e-6))), 21)
        9.99999500000333e-07
    """
    w = 1.0 + x
    y = _log_and(w, (x - (w - 1.0)) / w, 0.0)
    y = y if x < np.inf else x
    y = -np.inf if x == -1.0 else y
    y = np.nan if x < -1.0 else y
    return x if x == 0.0 else y
