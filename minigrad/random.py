"""Random tensors: counter-based, so that the same seed gives the same bits on any number of threads.

Every function draws from the generator that it is given, or from `default_generator`: state of this module that
starts from seed 0 and that `seed` restarts. NumPy's and Python's generators are neither used nor changed.
"""

from __future__ import annotations

from operator import index
from typing import Any

from minigrad import dtypes
from minigrad.errors import ArgumentTypeError
from minigrad.ops.generator import Generator, begin, default_generator
from minigrad.ops.noise import (
    number,
    random_bernoulli_p,
    random_bits_p,
    random_integers_p,
    random_normal_p,
    random_permutation_p,
    random_truncated_normal_p,
    random_uniform_p,
)
from minigrad.tensor import Tensor

__all__ = [
    "Generator",
    "bernoulli",
    "bits",
    "default_generator",
    "integers",
    "normal",
    "permutation",
    "seed",
    "truncated_normal",
    "uniform",
]


def seed(seed: int | None) -> None:
    """Restart the default generator from a seed, or for None from one of the operating system's.

    Example:
        >>> import minigrad as mg
        >>> mg.random.seed(3)
        >>> first = mg.random.normal((2,))
        >>> mg.random.seed(3)
        >>> (mg.random.normal((2,)) == first).tolist()
        [True, True]
    """
    default_generator.seed(seed)


def uniform(
    shape: Any,
    low: float = 0.0,
    high: float = 1.0,
    dtype: Any = dtypes.float32,
    generator: Generator | None = None,
    device: str = "cpu",
) -> Tensor:
    """Uniform on [low, high): low + (high − low)·u, where u has 24 bits for float32 and 53 for float64.

    Args:
        shape: an integer or several.
        low, high: finite numbers; high itself is never drawn, whatever is rounded.
        dtype: float32 or float64; float16 or bfloat16, to which float32 numbers are rounded.
        generator: where from.
        device: where to, as of `Tensor.to`; it does not change what is drawn.

    Raises:
        ArgumentError: unless low < high, both finite.
        ShapeError: for a negative length.
        DTypeError: for another dtype.

    Example:
        >>> import minigrad as mg
        >>> mg.random.uniform((3,), generator=mg.random.Generator(seed=1))
        tensor([0.89025915, 0.8946847 , 0.5857259 ], dtype=float32)
    """
    params = {"shape": _shape("uniform", shape), "low": number("uniform", "low", low)}
    params |= {"high": number("uniform", "high", high), "dtype": _name(dtype)}
    words = 2 if params["dtype"] == "float64" else 1
    return random_uniform_p(begin(random_uniform_p, generator, words, **params).to(device), **params)


def normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    dtype: Any = dtypes.float32,
    generator: Generator | None = None,
    device: str = "cpu",
) -> Tensor:
    """Normal with that mean and standard deviation, by Box and Muller's transform.

    float32 values reach 6.7 standard deviations, float64 values 8.6.

    Raises:
        ArgumentError: if mean or std is not finite, or std is negative.
        ShapeError: for a negative length.
        DTypeError: for a dtype other than of `uniform`.

    Source: Box & Muller (1958), A note on the generation of random normal deviates.

    Example:
        >>> import minigrad as mg
        >>> x = mg.random.normal((1000, 10), mean=5.0, generator=mg.random.Generator(seed=1))
        >>> x.shape
        (1000, 10)
        >>> round(float(x.numpy().mean()), 1)
        5.0
    """
    params = {"shape": _shape("normal", shape), "mean": number("normal", "mean", mean)}
    params |= {"std": number("normal", "std", std), "dtype": _name(dtype)}
    words = 2 if params["dtype"] == "float64" else 1
    return random_normal_p(begin(random_normal_p, generator, words, **params).to(device), **params)


def truncated_normal(
    shape: Any,
    mean: float = 0.0,
    std: float = 1.0,
    low: float = -2.0,
    high: float = 2.0,
    dtype: Any = dtypes.float32,
    generator: Generator | None = None,
    device: str = "cpu",
) -> Tensor:
    """Normal, given that it lies between `low` and `high` standard deviations from the mean.

    mean + std·z with z = Φ⁻¹(Φ(low) + (Φ(high) − Φ(low))·u): nothing is rejected, and limits far out in a tail, or
    infinite, are as good as others. `mean` and `std` are those before the truncation.

    Raises:
        ArgumentError: unless low < high with some probability between them, mean is finite, and std finite and ≥ 0.
        ShapeError: for a negative length.
        DTypeError: for a dtype other than of `uniform`.

    Example:
        >>> import minigrad as mg
        >>> x = mg.random.truncated_normal((10_000,), std=0.1, generator=mg.random.Generator(seed=1))
        >>> bool(abs(x).max() <= 0.2)
        True
    """
    params = {"shape": _shape("truncated_normal", shape), "mean": number("truncated_normal", "mean", mean)}
    params |= {"std": number("truncated_normal", "std", std), "low": number("truncated_normal", "low", low)}
    params |= {"high": number("truncated_normal", "high", high), "dtype": _name(dtype)}
    start = begin(random_truncated_normal_p, generator, 2, **params)
    return random_truncated_normal_p(start.to(device), **params)


def integers(
    shape: Any,
    low: int,
    high: int,
    dtype: Any = dtypes.int64,
    generator: Generator | None = None,
    device: str = "cpu",
) -> Tensor:
    """Integers from `low` to ``high - 1``, all equally likely to within 2⁻⁶⁴.

    Raises:
        ArgumentError: unless low < high, and both fit the dtype.
        ArgumentTypeError: for limits that are no integers.
        ShapeError: for a negative length.
        DTypeError: for a dtype that is not an integer's.

    Example:
        >>> import minigrad as mg
        >>> mg.random.integers((5,), 0, 10, generator=mg.random.Generator(seed=1))
        tensor([8, 8, 5, 0, 6], dtype=int64)
    """
    params = {"shape": _shape("integers", shape), "low": _integer("integers", "low", low)}
    params |= {"high": _integer("integers", "high", high), "dtype": _name(dtype)}
    return random_integers_p(begin(random_integers_p, generator, 4, **params).to(device), **params)


def bernoulli(shape: Any, p: float = 0.5, generator: Generator | None = None, device: str = "cpu") -> Tensor:
    """Booleans, True with probability p (resolved to 2⁻³²).

    Raises:
        ArgumentError: unless p is in [0, 1].
        ShapeError: for a negative length.

    Example:
        >>> import minigrad as mg
        >>> mg.random.bernoulli((4,), 0.5, generator=mg.random.Generator(seed=0))
        tensor([ True, False, False, False], dtype=bool)
    """
    params = {"shape": _shape("bernoulli", shape), "p": number("bernoulli", "p", p)}
    return random_bernoulli_p(begin(random_bernoulli_p, generator, 1, **params).to(device), **params)


def permutation(n: int, generator: Generator | None = None, device: str = "cpu") -> Tensor:
    """The integers 0 … n − 1 in random order, every order equally likely to within n²·2⁻⁶⁴.

    Raises:
        ShapeError: if n is negative.
        ArgumentTypeError: if n is no integer.

    Source: Fisher & Yates (1938), Durstenfeld (1964), Algorithm 235: Random permutation; here from the inside out.

    Example:
        >>> import minigrad as mg
        >>> mg.random.permutation(5, mg.random.Generator(seed=1))
        tensor([0, 1, 4, 2, 3], dtype=int64)
    """
    n = _integer("permutation", "n", n)
    return random_permutation_p(begin(random_permutation_p, generator, 2, n=n).to(device), n=n)


def bits(shape: Any, dtype: Any = "uint32", generator: Generator | None = None, device: str = "cpu") -> Tensor:
    """The generator's own numbers: uniform over all of uint32 or uint64.

    Raises:
        ShapeError: for a negative length.
        DTypeError: for another dtype.

    Example:
        >>> import minigrad as mg
        >>> [hex(w) for w in mg.random.bits((4,), generator=mg.random.Generator(seed=0)).tolist()]
        ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    params = {"shape": _shape("bits", shape), "dtype": _name(dtype)}
    words = 1 if params["dtype"] == "uint32" else 2
    return random_bits_p(begin(random_bits_p, generator, words, **params).to(device), **params)


def _shape(operation: str, shape: Any) -> tuple[int, ...]:
    try:
        return tuple([index(n) for n in shape]) if isinstance(shape, (tuple, list)) else (index(shape),)
    except TypeError:
        raise ArgumentTypeError(
            f"{operation}: shape is {shape!r}, expected an integer or a tuple of integers"
        ) from None


def _integer(operation: str, argument: str, value: Any) -> int:
    try:
        return index(value)
    except TypeError:
        raise ArgumentTypeError(f"{operation}: {argument} is {value!r}, expected an integer") from None


def _name(dtype: Any) -> str:
    return "float32" if dtype is dtypes.float32 else dtypes.as_dtype(dtype).name
