"""Transcendental functions for kernels: their errors, their special values, and that loops around them vectorize."""

import doctest
import math
import re
from functools import lru_cache

import numpy as np
import pytest

from minigrad.devices import cache, cpu, cpu_math

NAMES = list(cpu_math.ULP)
LIBRARY_CALLS = {"sin_f64", "cos_f64"}

PLAIN = """
def {name}_loop(chunk, out, x):
    for i in range(x.size):
        out[i] = f(x[i])
"""
SURROUNDED = """
def {name}_surrounded(chunk, out, x):
    for i in range(x.size):
        out[i] = f(x[i] * x.dtype.type(2)) * x.dtype.type(0.5)
"""


@lru_cache
def kernel_of(name, source=PLAIN):
    """The loop around one function, compiled without the kernel cache: what comes from there has no text to look at."""
    text = source.format(name=name)
    kernel = cpu.chunked(cpu.from_source(text.split()[1].split("(")[0], text, {"f": getattr(cpu_math, name)}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "folder", lambda: (None, "off"))
        kernel.serial(1, np.empty(1, dtype_of(name)), np.ones(1, dtype_of(name)))
    return kernel


def values_of(name, x, source=PLAIN):
    out = np.empty_like(x)
    kernel_of(name, source).serial(1, out, x)
    return out


def dtype_of(name):
    return np.float32 if name.endswith("f32") else np.float64


# The oracle: the same function in the next wider type.


def wide_sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def wide_erf(x):
    if x.dtype == np.float64:
        return np.fromiter(map(math.erf, x.tolist()), np.float64, x.size)
    a = np.minimum(np.abs(x), 7)
    term, total = a, np.zeros_like(a)
    for n in range(250):  # erf(a) = 2/√π e**-a² Σ (2a²)**n a / (2n + 1)!!, whose terms are all positive
        total = total + term
        term = term * (2 * a * a) / (2 * n + 3)
    return np.copysign(total * np.exp(-a * a) / np.sqrt(np.arctan(x.dtype.type(1))), x)


def wide_erfc(x):
    """1 - erf for what is below 1.5, and the continued fraction above, where the difference would lose digits."""
    if x.dtype == np.float64:
        return np.fromiter(map(math.erfc, x.tolist()), np.float64, x.size)
    z = np.where(x > 1.5, x, 1.5)
    fraction = np.zeros_like(z)
    for n in range(200, 0, -1):
        fraction = (n / x.dtype.type(2)) / (z + fraction)
    high = np.minimum(z, 200).astype(np.float32).astype(z.dtype)  # its square is exact, and exp has all its digits
    square = np.exp(-high * high) * np.exp((high - z) * (high + z))
    return np.where(x > 1.5, square / ((z + fraction) * np.sqrt(4 * np.arctan(x.dtype.type(1)))), 1 - wide_erf(x))


def reference(name, x):
    function = name.split("_")[0]
    with np.errstate(all="ignore"):  # signalling NaNs among the arguments
        wide = x.astype(np.float64 if x.dtype == np.float32 else np.longdouble)
        return {"sigmoid": wide_sigmoid, "erf": wide_erf, "erfc": wide_erfc}.get(function, getattr(np, function, None))(
            wide
        )


def ulps(y, exact):
    """The distance of each y from the exact value in units of y's last place; inf where inf, NaN or a sign is wrong."""
    info = np.finfo(y.dtype)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(np.abs(exact))[1], info.minexp + 1)
        error = np.abs(y.astype(exact.dtype) - exact) / np.ldexp(exact.dtype.type(1), exponent - info.nmant - 1)
        # From half a unit above the largest number on, inf is the rounded result.
        overflow = np.abs(exact) >= exact.dtype.type(info.max) * (1 + exact.dtype.type(info.eps) / 4)
    error = np.where(overflow, np.where(y == np.copysign(np.inf, exact), 0, np.inf), error)
    error = np.where(np.isnan(y) | np.isnan(exact), np.where(np.isnan(y) & np.isnan(exact), 0, np.inf), error)
    return np.where((exact == 0) & (np.signbit(y) != np.signbit(exact)), np.inf, error)


def samples(dtype, count):
    """All exponents, the ranges where something happens, and the neighbours of the boundaries of each reduction."""
    rng = np.random.default_rng(20240229)
    info = np.finfo(dtype)
    bits = rng.integers(0, np.iinfo(f"u{info.bits // 8}").max, count, f"u{info.bits // 8}", endpoint=True)
    sign = rng.choice([-1, 1], count)
    lowest, highest = (-110, 90) if dtype is np.float32 else (-760, 720)
    parts = [
        bits.view(dtype),
        rng.uniform(-1, 1, count),
        rng.uniform(-6, 6, count),
        rng.uniform(lowest, highest, count),
        sign * 2.0 ** rng.uniform(-30, 30, count),
        1 + sign * 2.0 ** rng.uniform(-30, 0, count),
    ]
    boundaries = [(np.arange(-1100, 1100) + 0.5) * math.log(2), np.sqrt(0.5) * 2.0 ** np.arange(-126, 126)]
    boundaries += [np.arange(1, 5000) * (math.pi / 2), np.array([0.45, 0.7, 1, 4, 5.93, 10.1, 16, 27.5, 32, 709.9])]
    for boundary in boundaries:
        for steps in range(-4, 5):
            parts += [boundary * (1 + steps * info.eps), -boundary * (1 + steps * info.eps)]
    with np.errstate(over="ignore"):
        return np.concatenate([np.asarray(part, dtype) for part in parts])


@pytest.mark.parametrize("name", NAMES)
def test_error_is_within_the_stated_bound(name):
    dtype = dtype_of(name)
    if dtype is np.float64 and np.finfo(np.longdouble).nmant <= 52:
        pytest.skip("long double is no wider than float64 here, so there is no exact value to compare with")
    x = samples(dtype, 400_000 if dtype is np.float32 else 15_000 if name in ("erf_f64", "erfc_f64") else 80_000)
    error = ulps(values_of(name, x), reference(name, x))
    worst = error.argmax()
    print(f"{name}: {error[worst]:.3f} ulp at {x[worst]!r}")
    assert error[worst] <= cpu_math.ULP[name]


@pytest.mark.parametrize("name", NAMES)
def test_every_nan_stays_nan(name):
    info = np.finfo(dtype_of(name))
    rng = np.random.default_rng(7)
    payload = rng.integers(1, 2**info.nmant, 1000, f"u{info.bits // 8}")
    x = (payload | np.array([np.inf, -np.inf], info.dtype).view(payload.dtype)[:, None]).view(info.dtype)
    assert np.isnan(x).all()
    assert np.isnan(values_of(name, x.ravel())).all()


INF, NAN = math.inf, math.nan
ODD = [(0, 0), (-0.0, -0.0), ("tiny", "tiny"), ("-tiny", "-tiny")]  # and the slope at 0 is 1
EXACT = {
    "exp": [(0, 1), (-0.0, 1), ("tiny", 1), ("-tiny", 1), ("max", INF), ("-max", 0), (INF, INF), (-INF, 0)],
    "expm1": [*ODD, ("normal", "normal"), ("max", INF), ("-max", -1), (INF, INF), (-INF, -1)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (INF, INF), ("-tiny", NAN), (-1, NAN), ("-max", NAN), (-INF, NAN)],
    "log1p": [*ODD, ("normal", "normal"), (-1, -INF), (-1.5, NAN), ("-max", NAN), (-INF, NAN), (INF, INF)],
    "tanh": [*ODD, ("normal", "normal"), (40, 1), (-40, -1), ("max", 1), ("-max", -1), (INF, 1), (-INF, -1)],
    "sigmoid": [(0, 0.5), (-0.0, 0.5), ("tiny", 0.5), (40, 1), ("max", 1), ("-max", 0), (INF, 1), (-INF, 0)],
    "erf": [*ODD, (7, 1), (-7, -1), ("max", 1), ("-max", -1), (INF, 1), (-INF, -1)],
    "erfc": [(0, 1), (-0.0, 1), ("tiny", 1), (-7, 2), ("max", 0), ("-max", 2), (INF, 0), (-INF, 2)],
    "sin": [*ODD, ("normal", "normal"), (INF, NAN), (-INF, NAN)],
    "cos": [(0, 1), (-0.0, 1), ("tiny", 1), ("normal", 1), (INF, NAN), (-INF, NAN)],
}


def number(given, dtype):
    if not isinstance(given, str):
        return dtype(given)
    info = np.finfo(dtype)
    size = {"tiny": info.smallest_subnormal, "normal": info.smallest_normal, "max": info.max}[given.lstrip("-")]
    return -size if given.startswith("-") else size


@pytest.mark.parametrize("name", NAMES)
def test_special_values(name):
    dtype = dtype_of(name)
    pairs = [*EXACT[name.split("_")[0]], (NAN, NAN)]
    x = np.array([number(given, dtype) for given, _ in pairs])
    expected = np.array([number(wanted, dtype) for _, wanted in pairs])
    # The same values through the vector loop and through the loop for what is left over.
    for repeated in (1, 64):
        y = values_of(name, np.repeat(x, repeated))[::repeated]
        np.testing.assert_array_equal(y, expected)
        numbers = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(y[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize(
    ("name", "x", "expected"),
    [
        ("exp_f32", -103.0, 1.401298464324817e-45),
        ("exp_f32", -100.0, 3.783505853677006e-44),
        ("sigmoid_f32", -100.0, 3.783505853677006e-44),
        ("exp_f64", -745.0, 5e-324),
        ("exp_f64", -740.0, 4.2e-322),
        ("sigmoid_f64", -740.0, 4.2e-322),
    ],
)
def test_underflow_is_gradual(name, x, expected):
    dtype = dtype_of(name)
    np.testing.assert_array_equal(values_of(name, np.full(40, x, dtype)), np.full(40, expected, dtype))


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_amid_fast_arithmetic(name):
    x = samples(dtype_of(name), 2000)
    with np.errstate(all="ignore"):
        expected = values_of(name, x * 2) / 2
    actual = values_of(name, x, SURROUNDED)
    usual = ~(np.abs(expected) < np.finfo(x.dtype).smallest_normal)  # halving a subnormal rounds
    np.testing.assert_array_equal(actual[usual], expected[usual])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in LIBRARY_CALLS])
def test_loops_vectorize(name):
    (text,) = kernel_of(name).serial.compiled().inspect_llvm().values()
    assert re.search(r"fmul\b.*<\d+ x (float|double)>", text)
    assert not re.search(rf"call .*cpu_math\w*\d+{name}", text)


@pytest.mark.parametrize("name", NAMES)
def test_type_out_is_type_in(name):
    dtype = dtype_of(name)
    getattr(cpu_math, name)(dtype(0.5))
    (overload,) = getattr(cpu_math, name).entry.nopython_signatures
    assert [str(overload.args[0]), str(overload.return_type)] == [np.dtype(dtype).name] * 2


@pytest.mark.parametrize("name", NAMES)
def test_example_runs(name):
    text = getattr(cpu_math, name).__doc__
    test = doctest.DocTestParser().get_doctest(text, {}, name, cpu_math.__file__, 0)
    assert test.examples
    assert doctest.DocTestRunner().run(test).failed == 0


def test_each_docstring_states_its_bound():
    for name, bound in cpu_math.ULP.items():
        assert f"within {bound} ulp" in getattr(cpu_math, name).__doc__
