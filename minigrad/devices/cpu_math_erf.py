"""The error function and its complement, float32 and float64. See `cpu_math`."""

import math

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.cpu_math_exp import exp_f64, exp_wide, expm1_f64, expm1_wide, fma


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
    return math.copysign(np.float32(expm1_wide(_log_erfc_short(np.float64(a)))), x)


@cpu.jit
def _scaled_erfc_short(q):
    """(1 + 2a)·e**(a**2)·erfc(a) for 0 <= a <= 10.1 and q = (a - 3) / (a + 3), to 2**-34."""
    p = 3.324522318179855e-05
    p = p * q + 0.00012713601769758862
    p = p * q - 0.0001263891739077263
    p = p * q - 0.0007901265291167199
    p = p * q + 0.0018940241635701813
    p = p * q + 0.0025335071654728203
    p = p * q - 0.023770994484459868
    p = p * q + 0.06830738223471494
    p = p * q - 0.1192736586377544
    p = p * q + 0.12964519964792773
    p = p * q - 0.04756229371640361
    p = p * q - 0.1356211068645834
    p = p * q + 1.2530080582652898
    return p


@cpu.jit(exact=True)
def erfc_f32(x):
    """1 - erf(x), exact also where that is small, within 0.51 ulp.

    e**(-a**2) / (1 + 2a) times a polynomial in (a - 3) / (a + 3) for a = |x|, in float64; for negative x 2 minus that.
    Any float32; fades into subnormals above 9.19.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import erfc_f32
        >>> round(float(erfc_f32(np.float32(3.0))), 10)
        2.20905e-05
    """
    a = abs(x)
    a = np.float64(np.float32(10.1) if a > np.float32(10.1) else a)
    y = exp_wide(-(a * a)) * _scaled_erfc_short((a - 3.0) / (a + 3.0)) / (1.0 + 2.0 * a)
    return np.float32(2.0 - y if x < np.float32(0.0) else y)


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
    t = fma(a, 1.1283791670955126, (a * a) * _log_erfc_tail(a) + a * 1.533545961316588e-17)
    return math.copysign(expm1_f64(-t), x)


@cpu.jit
def _scaled_erfc(q):
    """(1 + 2a)·e**(a**2)·erfc(a) for 0 <= a <= 27.5 and q = (a - 4) / (a + 4), to 2**-59."""
    p = 1.188906635994096e-09
    p = p * q + 1.6451284313144166e-09
    p = p * q - 1.4084549811923038e-08
    p = p * q - 1.7399879177989165e-08
    p = p * q + 1.1040897589249722e-07
    p = p * q + 7.405197260949641e-08
    p = p * q - 8.260679424441555e-07
    p = p * q + 2.9417169162290225e-07
    p = p * q + 5.710265588277118e-06
    p = p * q - 1.1222173162416338e-05
    p = p * q - 2.4399469668222775e-05
    p = p * q + 0.00015062171604479803
    p = p * q - 0.00019925661881205377
    p = p * q - 0.0007577732969158545
    p = p * q + 0.0050319699638795195
    p = p * q - 0.016197734056599977
    p = p * q + 0.0371675155390658
    p = p * q - 0.06633036581232431
    p = p * q + 0.09373283499825211
    p = p * q - 0.10103906603629932
    p = p * q + 0.06809705425469541
    p = p * q + 0.01537965210261965
    p = p * q - 0.13962111684056253
    p = p * q + 1.2329951186255526
    return p


@cpu.jit(exact=True, inline=True)
def erfc_f64(x):
    """1 - erf(x), exact also where that is small, within 5.7 ulp.

    e**(-a**2) / (1 + 2a) times a polynomial in (a - 4) / (a + 4) for a = |x|, where a**2 is the square of a float32,
    which is exact, and a small rest; for negative x 2 minus that.
    Any float64; fades into subnormals above 26.54.

    Example:
        >>> import numpy as np
        >>> from minigrad.devices.cpu_math import erfc_f64
        >>> round(float(erfc_f64(np.float64(3.0))), 17)
        2.209049699859e-05
    """
    a = abs(x)
    a = 27.5 if a > 27.5 else a
    high = np.float64(np.float32(a))
    d = (high - a) * (high + a)
    r = _scaled_erfc((a - 4.0) / (a + 4.0)) / (1.0 + 2.0 * a)
    y = exp_f64(-(high * high)) * fma(r * d, 1.0 + d * (0.5 + d * 0.16666666666666666), r)
    return 2.0 - y if x < 0.0 else y
