"""tensor.shared_randomstreams: random variables, which draw anew from the engine's generators at each call."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano import graph
from minigrad.dialects.theano.graph import TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.tensor import elementwise, joining, reductions, shaping
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, ShapeError


class Draw:
    """The function of tensors behind a random variable, and its generator."""

    __slots__ = ("generator", "kind")

    def __init__(self, kind: str, generator: Any):
        self.kind = kind
        self.generator = generator

    def __call__(self, *lengths: int, dtype: str, pattern: tuple | None = None) -> Tensor:
        shape = lengths[0] if pattern is None else shaping.filled(pattern, lengths)
        draw = mg.random.normal if self.kind == "normal" else mg.random.uniform
        return draw(shape, dtype=dtype, generator=self.generator)


class RandomStreams:
    """A source of random variables. Each has a stream of its own, and draws new values at every call of a function.

    Streams follow from the seed and the order in which variables are made; they are Philox's, not Theano's Mersenne
    twisters, so the numbers differ from Theano's. ``T.shared_randomstreams.RandomStreams`` and
    ``sandbox.rng_mrg.MRG_RandomStreams`` are this class.

    Args:
        seed: an integer of at least 0; None takes one from the operating system.

    Example:
        >>> from minigrad.dialects import theano
        >>> noise = theano.tensor.shared_randomstreams.RandomStreams(seed=1).uniform((2,))
        >>> draw = theano.function([], noise)
        >>> bool((draw() != draw()).all())
        True
    """

    def __init__(self, seed: int | None = None, use_cuda: Any = None):
        self._generators: list[Any] = []
        self.seed(seed)

    def seed(self, seed: int | None = None) -> None:
        """Begin all streams anew: those that were made, and those to come."""
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0):
            raise ArgumentError(f"RandomStreams: seed is {seed!r}, expected an integer of at least 0, or None")
        self._sequence = np.random.SeedSequence(None if seed is None else int(seed))
        for generator, word in zip(self._generators, self._words(len(self._generators))):
            generator.seed(word)

    def updates(self) -> list[Any]:
        """No updates: the streams move on by themselves."""
        return []

    def uniform(
        self,
        size: Any = None,
        low: Any = 0.0,
        high: Any = 1.0,
        ndim: int | None = None,
        dtype: Any = "floatX",
        **other: Any,
    ) -> Variable:
        """Uniform on [low, high). `size` may hold symbolic integers; None means the shape of `low` and `high`."""
        low, high = as_variable(low), as_variable(high)
        u = self._draw("uniform", size, dtype, ndim, low, high, other)
        if _is(low, 0) and _is(high, 1):
            return u
        return elementwise.cast(low + (high - low) * u, u.dtype)

    def normal(
        self,
        size: Any = None,
        avg: Any = 0.0,
        std: Any = 1.0,
        ndim: int | None = None,
        dtype: Any = "floatX",
        **other: Any,
    ) -> Variable:
        """Normal with this mean and standard deviation."""
        avg, std = as_variable(avg), as_variable(std)
        z = self._draw("normal", size, dtype, ndim, avg, std, other)
        if _is(avg, 0) and _is(std, 1):
            return z
        return elementwise.cast(avg + std * z, z.dtype)

    def binomial(
        self,
        size: Any = None,
        n: int = 1,
        p: Any = 0.5,
        ndim: int | None = None,
        dtype: Any = "int64",
        prob: Any = None,
        **other: Any,
    ) -> Variable:
        """How many of `n` trials succeed, each with probability `p`."""
        if not isinstance(n, (int, np.integer)) or isinstance(n, bool) or n < 0:
            raise ArgumentError(f"binomial: n is {n!r}, expected an integer of at least 0")
        p = as_variable(p if prob is None else prob)
        trials = [elementwise.lt(self._draw("uniform", size, "float64", ndim, p, p, other), p) for _ in range(n)]
        if n == 1:
            return elementwise.cast(trials[0], dtype)
        if not trials:
            return elementwise.cast(self._draw("uniform", size, "float64", ndim, p, p, other) * 0, dtype)
        return elementwise.cast(elementwise.add(*[elementwise.cast(t, "int64") for t in trials]), dtype)

    def random_integers(
        self, size: Any = None, low: Any = 0, high: Any = 1, ndim: int | None = None, dtype: Any = "int64", **other: Any
    ) -> Variable:
        """Integers from `low` to `high`, both included, all equally likely."""
        low, high = as_variable(low), as_variable(high)
        u = self._draw("uniform", size, "float64", ndim, low, high, other)
        return elementwise.cast(low + elementwise.floor(u * (high - low + 1)), dtype)

    def multinomial(
        self,
        size: Any = None,
        n: int = 1,
        pvals: Any = None,
        ndim: int | None = None,
        dtype: Any = "int64",
        **other: Any,
    ) -> Variable:
        """One-hot rows, the place of the one drawn with the probabilities in the rows of `pvals`; n is 1."""
        if n != 1 or size is not None or pvals is None:
            raise ArgumentError("multinomial: takes n=1, pvals, and no size")
        p = as_variable(pvals)
        if p.ndim not in (1, 2):
            raise ShapeError(f"multinomial: pvals has {p.ndim} dimensions, expected rows of probabilities")
        u = self._draw("uniform", shaping.shape(p), "float64", p.ndim, p, p, other)
        # Gumbel's way: the largest of log p plus noise is each class with its probability.
        chosen = reductions.argmax(elementwise.log(p) - elementwise.log(-elementwise.log(u)), axis=-1, keepdims=True)
        classes = joining.arange(shaping.shape(p)[p.ndim - 1])
        return elementwise.cast(elementwise.eq(chosen, classes), dtype)

    def permutation(self, size: Any = None, n: Any = 1, ndim: int | None = None, dtype: Any = "int64") -> Variable:
        """The integers 0 … n - 1 in random order."""
        if size not in (None, ()):
            raise ArgumentError("permutation: takes no size; one permutation is drawn at a time")
        generator = self._stream()
        run = Permutation(generator)
        drawn = apply("Permutation", run, [as_variable(n)], TensorType("int64", [False]), reads=[0], once=True)
        return elementwise.cast(drawn, dtype)

    def choice(
        self,
        size: Any = None,
        a: Any = 2,
        replace: bool = True,
        p: Any = None,
        ndim: int | None = None,
        dtype: Any = "int64",
    ) -> Variable:
        """Integers below `a`, or entries of the vector `a`, all equally likely; without `replace` no two the same."""
        if p is not None:
            raise ArgumentError("choice: p is not offered; use multinomial")
        a = as_variable(a)
        values = a if a.ndim else None
        count = shaping.shape(a)[0] if a.ndim else a
        if replace:
            places = self.random_integers(size, 0, count - 1, ndim, "int64")
        else:
            items = shaping.lengths("choice", size)
            if len(items) != 1:
                raise ShapeError(f"choice: size is {size!r}, expected one length if nothing is replaced")
            places = self.permutation(n=count)[: items[0]]
        return elementwise.cast(places, dtype) if values is None else values[places]

    def shuffle_row_elements(self, input: Any) -> Variable:
        """The entries of a vector in random order."""
        x = as_variable(input)
        if x.ndim != 1:
            raise ShapeError(f"shuffle_row_elements: input has {x.ndim} dimensions, expected a vector")
        return x[self.permutation(n=shaping.shape(x)[0])]

    def _words(self, count: int) -> list[int]:
        return [int(child.generate_state(1, np.uint64)[0]) for child in self._sequence.spawn(count)]

    def _stream(self) -> Any:
        (word,) = self._words(1)
        self._generators.append(mg.random.Generator(word))
        return self._generators[-1]

    def _draw(
        self, kind: str, size: Any, dtype: Any, ndim: int | None, first: Variable, second: Variable, other: dict
    ) -> Variable:
        if other.keys() - {"nstreams"}:
            raise ArgumentTypeError(f"{kind}: got {sorted(other)}, which are no arguments of it")
        dtype = graph.dtype_name(dtype)
        if np.dtype(dtype).kind != "f":
            raise DTypeError(f"{kind}: dtype is {dtype}, expected a floating-point dtype")
        run = Draw(kind, self._stream())
        if size is None:
            size = shaping.shape(first + second)
        if isinstance(size, Variable) and size.ndim == 1 and ndim is not None:
            return apply(
                kind.capitalize(), run, [size], TensorType(dtype, [False] * ndim), reads=[0], once=True, dtype=dtype
            )
        items = shaping.lengths(kind, size)
        pattern, given = shaping.split_lengths(items)
        type, reads = TensorType(dtype, shaping.flags_of(items)), range(len(given))
        return apply(kind.capitalize(), run, given, type, reads=reads, once=True, dtype=dtype, pattern=pattern)


class Permutation:
    """The function of tensors behind a random order, and its generator."""

    __slots__ = ("generator",)

    def __init__(self, generator: Any):
        self.generator = generator

    def __call__(self, n: int) -> Tensor:
        return mg.random.permutation(n, self.generator)


def _is(v: Variable, value: float) -> bool:
    return isinstance(v, graph.Constant) and not v.ndim and v.data.item() == value


MRG_RandomStreams = RandomStreams
