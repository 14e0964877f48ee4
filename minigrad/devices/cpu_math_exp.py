"""exp, expm1, tanh and sigmoid, float32 and float64. See `cpu_math`."""

import math

import numpy as np

from minigrad.devices import cpu

LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
# ln2 in two parts; the first has so few digits that its products with k are exact.
LN2_HIGH_F32, LN2_LOW_F32 = 0.693145751953125, 1.4286068203094173e-06
LN2_HIGH_F64, LN2_LOW_F64 = 0.6931471805598903, 5.497923018708371e-14
# x + ROUND is rounded to an integer, which then stands in the low bits of the sum: 1.5·2**23 and 1.5·2**52.
ROUND_F32, ROUND_F64 = 12582912.0, 6755399441055744.0
ONE_F32 = 0x3F800000  # the bits of 1.0


@cpu.jit
def fma(a, b, c):
    return a * b + c  # fused where the processor can; only where either rounding will do


@cpu.jit(exact=True)
def times_power(x, k):
    """x·2**k for the k in the low bits of an integer, where neither is subnormal and x is no NaN."""
    return np.int64(np.float64(x).view(np.int64) + (k << 52)).view(np.float64)


@cpu.jit
def _exp_tail_f32(r):
    """(e**r - 1 - r) / r**2 for |r| <= ln2/2, in float32 and by pairs, which waits less."""
    c = np.float32
    r2 = r * r
    p = c(0.0013814598529891275) * r2 + (c(0.008368716877626926) * r + c(0.04166838804615791))
    return p * r2 + (c(0.16666520631749063) * r + c(0.49999993447804864))


@cpu.jit(exact=True)
def exp_f32(x):
    """e**x, within 0.8 ulp.

    x = k·ln2 + r, a polynomial in r, times 2**k in two steps, so that results fade into subnormals.
    Any float32: inf above 88.73, 0 below -103.98.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import exp_f32
        >>> round(float(exp_f32(np.float32(1.0))), 5)
        2.71828
    """
    c = np.float32
    x = c(90.0) if x > c(90.0) else x
    x = c(-106.0) if x < c(-106.0) else x
    shifted = fma(x, c(LOG2E), c(ROUND_F32))
    k = shifted - c(ROUND_F32)
    high = fma(k, c(-LN2_HIGH_F32), x)
    low = k * c(-LN2_LOW_F32)
    r = high + low
    one_high = c(1.0) + high
    lost = high - (one_high - c(1.0))
    p = one_high + fma(r * r, _exp_tail_f32(r), lost + low)
    n = np.float32(shifted).view(np.int32)
    half = n >> 1
    first = np.int32((half << 23) + ONE_F32).view(np.float32)
    return p * first * np.int32(((n - half) << 23) + ONE_F32).view(np.float32)


@cpu.jit
def _exp_short(r):
    """e**r for |r| <= ln2/2, to 2**-34."""
    p = 0.00019775160047747555
    p = p * r + 0.0013948195183017945
    p = p * r + 0.008333561178437518
    p = p * r + 0.04166622525193187
    p = p * r + 0.1666666512523646
    p = p * r + 0.5000000104595601
    p = p * r + 1.0000000002432798
    p = p * r + 0.9999999999616549
    return p


@cpu.jit(exact=True)
def exp_wide(y):
    """e**y for a y that was float32: the low bits of such a NaN are zero, and `times_power` leaves it alone."""
    shifted = fma(y, LOG2E, ROUND_F64)
    r = fma(shifted - ROUND_F64, -LN2, y)
    return times_power(_exp_short(r), np.float64(shifted).view(np.int64))


@cpu.jit
def _expm1_short(r):
    """e**r - 1 for |r| <= ln2/2, to 2**-31."""
    p = 0.00019845879238863972
    p = p * r + 0.001394062727742931
    p = p * r + 0.008333389365710816
    p = p * r + 0.04166636091407139
    p = p * r + 0.16666666370482175
    p = p * r + 0.5000000044163675
    return p * (r * r) + r


@cpu.jit(exact=True)
def expm1_wide(y):
    shifted = fma(y, LOG2E, ROUND_F64)
    r = fma(shifted - ROUND_F64, -LN2, y)
    power = times_power(1.0, np.float64(shifted).view(np.int64))
    return fma(power, _expm1_short(r), power - 1.0)


@cpu.jit(exact=True)
def expm1_f32(x):
    """e**x - 1, exact also where x is small, within 0.51 ulp.

    x = k·ln2 + r; 2**k·(e**r - 1) + (2**k - 1), in float64.
    Any float32; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import expm1_f32
        >>> round(float(expm1_f32(np.float32(1e-6))), 13)
        1.0000005e-06
    """
    y = np.float32(96.0) if x > np.float32(96.0) else x
    y = np.float32(-32.0) if y < np.float32(-32.0) else y
    return math.copysign(np.float32(expm1_wide(np.float64(y))), x)


@cpu.jit(exact=True)
def tanh_f32(x):
    """The hyperbolic tangent, within 0.51 ulp.

    e / (e + 2) with e = expm1(2|x|), in float64.
    Any float32; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import tanh_f32
        >>> round(float(tanh_f32(np.float32(0.5))), 5)
        0.46212
    """
    a = abs(x)
    a = np.float32(16.0) if a > np.float32(16.0) else a
    e = expm1_wide(2.0 * np.float64(a))
    return math.copysign(np.float32(e / (e + 2.0)), x)


@cpu.jit(exact=True)
def sigmoid_f32(x):
    """1 / (1 + e**-x), within 0.51 ulp.

    As it is written, in float64.
    Any float32; fades into subnormals below -87.3.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import sigmoid_f32
        >>> round(float(sigmoid_f32(np.float32(-1.0))), 5)
        0.26894
    """
    y = np.float32(112.0) if x > np.float32(112.0) else x
    y = np.float32(-112.0) if y < np.float32(-112.0) else y
    return np.float32(1.0 / (1.0 + exp_wide(-np.float64(y))))


@cpu.jit
def _exp_tail(r):
    """(e**r - 1 - r) / r**2 for |r| <= ln2/2, to 2**-61 of e**r - 1."""
    p = 2.087532495879143e-09
    p = p * r + 2.510897883028174e-08
    p = p * r + 2.755740266028345e-07
    p = p * r + 2.755724437435624e-06
    p = p * r + 2.480158717251634e-05
    p = p * r + 0.00019841269885965742
    p = p * r + 0.0013888888888962383
    p = p * r + 0.008333333333321691
    p = p * r + 0.04166666666666651
    p = p * r + 0.16666666666666677
    p = p * r + 0.5
    return p


@cpu.jit(exact=True)
def exp_f64(x):
    """e**x, within 0.76 ulp.

    x = k·ln2 + r with r in two parts, a polynomial in r, times 2**k in two steps.
    Any float64: inf above 709.78, 0 below -745.13.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import exp_f64
        >>> round(float(exp_f64(np.float64(1.0))), 12)
        2.718281828459
    """
    x = 711.0 if x > 711.0 else x
    x = -747.0 if x < -747.0 else x
    shifted = fma(x, LOG2E, ROUND_F64)
    k = shifted - ROUND_F64
    high = fma(k, -LN2_HIGH_F64, x)
    low = k * -LN2_LOW_F64
    r = high + low
    one_high = 1.0 + high
    lost = high - (one_high - 1.0)
    p = one_high + fma(r * r, _exp_tail(r), lost + low)
    half = np.float64(fma(k, 0.5, ROUND_F64)).view(np.int64)
    return p * times_power(1.0, half) * times_power(1.0, np.float64(shifted).view(np.int64) - half)


@cpu.jit(exact=True)
def expm1_f64(x):
    """e**x - 1, exact also where x is small, within 1.6 ulp.

    x = k·ln2 + r; 2**k·(e**r - 1) + (2**k - 1).
    Any float64; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import expm1_f64
        >>> round(float(expm1_f64(np.float64(1e-6))), 21)
        1.000000500000167e-06
    """
    y = 709.9 if x > 709.9 else x
    y = -40.0 if y < -40.0 else y
    shifted = fma(y, LOG2E, ROUND_F64)
    k = shifted - ROUND_F64
    high = fma(k, -LN2_HIGH_F64, y)
    low = k * -LN2_LOW_F64
    r = high + low
    p = r + fma(r * r, _exp_tail(r), (high - r) + low)
    half_power = times_power(0.5, np.float64(shifted).view(np.int64))  # 2**1024 is out of range, and its half is not
    z = fma(half_power, p, half_power - 0.5) * 2.0
    return x if abs(x) < 1e-17 else z


@cpu.jit(exact=True)
def tanh_f64(x):
    """The hyperbolic tangent, within 2.0 ulp.

    From e = expm1(2|x|) in the form that loses least: h - h·tanh with h = e/2, or 1 - 2/(e + 2).
    Any float64; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import tanh_f64
        >>> round(float(tanh_f64(np.float64(0.5))), 12)
        0.46211715726
    """
    a = abs(x)
    e = expm1_f64(2.0 * a)
    small = a < 0.45
    q = (e if small else -2.0) / (e + 2.0)
    return math.copysign(0.5 * e - 0.5 * e * q if small else q + 1.0, x)


@cpu.jit(exact=True)
def sigmoid_f64(x):
    """1 / (1 + e**-x), within 1.7 ulp.

    From e = e**-|x|: 1 / (1 + e) above zero, e - e·sigmoid well below it.
    Any float64; fades into subnormals below -708.4.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import sigmoid_f64
        >>> round(float(sigmoid_f64(np.float64(-1.0))), 12)
        0.26894142137
    """
    e = exp_f64(-abs(x))
    q = (e if x < 0.0 else 1.0) / (1.0 + e)
    return e - e * q if x < -0.7 else q
