"""exp, log, tanh and their like as scalar functions of float32 and float64 that a Numba loop can vectorize.

A loop that calls math.exp makes one library call an element. These functions are straight arithmetic without branches,
so LLVM turns the loop around them into vector instructions. They keep IEEE arithmetic inside kernels that don't: NaN
in is NaN out, overflow is inf, underflow is gradual. Most float32 functions work in float64, where a short polynomial
leaves nothing but the last rounding.

`ULP` has each function's largest error, in units of the last place of the result: over all 2**32 arguments for
float32, over 3·10**7 for float64 (erf: 2·10**6), of all exponents and next to every boundary.
"""

import math

import numpy as np

from minigrad.devices import cpu

#: The largest error of each function in units of the last place, as measured and rounded up; the tests hold it.
ULP = {
    "exp_f32": 0.8,
    "expm1_f32": 0.51,
    "log_f32": 0.52,
    "log1p_f32": 0.52,
    "tanh_f32": 0.51,
    "sigmoid_f32": 0.51,
    "erf_f32": 0.51,
    "sin_f32": 0.51,
    "cos_f32": 0.51,
    "exp_f64": 0.76,
    "expm1_f64": 1.6,
    "log_f64": 0.85,
    "log1p_f64": 0.85,
    "tanh_f64": 2.0,
    "sigmoid_f64": 1.7,
    "erf_f64": 2.1,
    "sin_f64": 0.52,
    "cos_f64": 0.52,
}

LOG2E = 1.4426950408889634
LN2 = 0.6931471805599453
# ln2 in two parts; the first has so few digits that its products with k are exact.
LN2_HIGH_F32, LN2_LOW_F32 = 0.693145751953125, 1.4286068203094173e-06
LN2_HIGH_F64, LN2_LOW_F64 = 0.6931471805598903, 5.497923018708371e-14
# x + ROUND is rounded to an integer, which then stands in the low bits of the sum: 1.5·2**23 and 1.5·2**52.
ROUND_F32, ROUND_F64 = 12582912.0, 6755399441055744.0
ONE_F32 = 0x3F800000  # the bits of 1.0
ONE_F64 = 0x3FF0000000000000
SQRT_HALF_F64 = 0x3FE6A09E667F3BCD
MANTISSA_F64 = 0x000FFFFFFFFFFFFF
TWO_52_F64 = 0x4330000000000000
TWO_52 = 4503599627370496.0

# Every polynomial here is our own: minimax in the relative error of the function it serves, by Remez exchange in
# 200-bit arithmetic. Polynomials are plain `jit` functions, since a fused multiply-add does them good; what must be
# rounded as written (argument reduction, sums of high and low parts) stands in exact ones.


@cpu.jit
def _fma(a, b, c):
    return a * b + c  # fused where the processor can; only where either rounding will do


@cpu.jit(exact=True)
def _times_power(x, k):
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
    shifted = _fma(x, c(LOG2E), c(ROUND_F32))
    k = shifted - c(ROUND_F32)
    high = _fma(k, c(-LN2_HIGH_F32), x)
    low = k * c(-LN2_LOW_F32)
    r = high + low
    one_high = c(1.0) + high
    lost = high - (one_high - c(1.0))
    p = one_high + _fma(r * r, _exp_tail_f32(r), lost + low)
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
def _exp(y):
    """e**y for a y that was float32: the low bits of such a NaN are zero, and `_times_power` leaves it alone."""
    shifted = _fma(y, LOG2E, ROUND_F64)
    r = _fma(shifted - ROUND_F64, -LN2, y)
    return _times_power(_exp_short(r), np.float64(shifted).view(np.int64))


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
def _expm1(y):
    shifted = _fma(y, LOG2E, ROUND_F64)
    r = _fma(shifted - ROUND_F64, -LN2, y)
    power = _times_power(1.0, np.float64(shifted).view(np.int64))
    return _fma(power, _expm1_short(r), power - 1.0)


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
    return math.copysign(np.float32(_expm1(np.float64(y))), x)


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
    e = _expm1(2.0 * np.float64(a))
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
    return np.float32(1.0 / (1.0 + _exp(-np.float64(y))))


@cpu.jit
def _log_erfc_short(a):
    """log(erfc(a)) for 0 <= a <= 4; what counts is its error times erfc / erf, 2**-31."""
    p = 1.1933005577975557e-06
    p = p * a - 2.1354616731015465e-05
    p = p * a + 0.00016748106395300284
    p = p * a - 0.0007406861438922368
    p = p * a + 0.0017993541143577548
    p = p * a - 0.0002530611584995363
    p = p * a - 0.0191176948938135
    p = p * a + 0.10277127718246815
    p = p * a + 0.63661983457167
    p = p * a + 1.128379166627927
    return p * -a


@cpu.jit(exact=True)
def erf_f32(x):
    """The error function, within 0.51 ulp.

    -expm1(log(erfc|x|)), the logarithm as a polynomial, in float64.
    Any float32; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import erf_f32
        >>> round(float(erf_f32(np.float32(0.5))), 5)
        0.5205
    """
    a = abs(x)
    a = np.float32(4.0) if a > np.float32(4.0) else a
    return math.copysign(np.float32(_expm1(_log_erfc_short(np.float64(a)))), x)


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
    return _fma(k, LN2, _log1p_short(m - 1.0))


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
    return _fma(np.rint(0.5 * q), -2.0, q)


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
    shifted = _fma(x, LOG2E, ROUND_F64)
    k = shifted - ROUND_F64
    high = _fma(k, -LN2_HIGH_F64, x)
    low = k * -LN2_LOW_F64
    r = high + low
    one_high = 1.0 + high
    lost = high - (one_high - 1.0)
    p = one_high + _fma(r * r, _exp_tail(r), lost + low)
    half = np.float64(_fma(k, 0.5, ROUND_F64)).view(np.int64)
    return p * _times_power(1.0, half) * _times_power(1.0, np.float64(shifted).view(np.int64) - half)


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
    shifted = _fma(y, LOG2E, ROUND_F64)
    k = shifted - ROUND_F64
    high = _fma(k, -LN2_HIGH_F64, y)
    low = k * -LN2_LOW_F64
    r = high + low
    p = r + _fma(r * r, _exp_tail(r), (high - r) + low)
    half_power = _times_power(0.5, np.float64(shifted).view(np.int64))  # 2**1024 is out of range, and its half is not
    z = _fma(half_power, p, half_power - 0.5) * 2.0
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
    low = s * (half_square + _log_tail(s * s)) + _fma(k, LN2_LOW_F64, rest)
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


@cpu.jit
def _log_erfc_tail(a):
    """(-log(erfc(a)) / a - 2/√π) / a for 0 <= a <= 5.93; what counts is its error times a²·erfc / erf, 2**-57."""
    p = 7.898364741561308e-16
    p = p * a - 3.8801712698466694e-14
    p = p * a + 8.90932616537401e-13
    p = p * a - 1.2695821007465405e-11
    p = p * a + 1.2562362197555894e-10
    p = p * a - 9.135428302881772e-10
    p = p * a + 5.025333700672538e-09
    p = p * a - 2.107484731421437e-08
    p = p * a + 6.609511085153509e-08
    p = p * a - 1.4269589069405527e-07
    p = p * a + 1.391250814513251e-07
    p = p * a + 3.331023064980373e-07
    p = p * a - 1.737131146039651e-06
    p = p * a + 2.8303386215230857e-06
    p = p * a + 3.4114299188134913e-06
    p = p * a - 2.972689843152267e-05
    p = p * a + 6.449338215856138e-05
    p = p * a + 2.5877984262951795e-05
    p = p * a - 0.000590125364679684
    p = p * a + 0.0016962063446477331
    p = p * a - 0.00020919468869629127
    p = p * a - 0.01912844700565606
    p = p * a + 0.10277260330182048
    p = p * a + 0.6366197723675828
    return p


@cpu.jit(exact=True)
def erf_f64(x):
    """The error function, within 2.1 ulp.

    -expm1(log(erfc|x|)), the logarithm as a polynomial whose first term is added last.
    Any float64; keeps the sign of zero.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import erf_f64
        >>> round(float(erf_f64(np.float64(0.5))), 12)
        0.520499877813
    """
    a = abs(x)
    a = 5.93 if a > 5.93 else a
    t = _fma(a, 1.1283791670955126, (a * a) * _log_erfc_tail(a) + a * 1.533545961316588e-17)
    return math.copysign(expm1_f64(-t), x)


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
