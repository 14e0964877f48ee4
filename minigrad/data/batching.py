"""batches: minibatches in an order that a seed and an epoch fix, resumable at any position."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from minigrad.data._arguments import flag, integer
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def number_of_batches(n: int, batch_size: int, *, drop_last: bool = False) -> int:
    """The number of minibatches in one epoch over `n` examples.

    Arguments:
        n: the number of examples, at least 0.
        batch_size: examples in a batch, at least 1.
        drop_last: leave out a last batch that is smaller than the others.

    Raises ArgumentError or ArgumentTypeError for arguments that are not such numbers.

    >>> from minigrad.data import number_of_batches
    >>> number_of_batches(10, 4), number_of_batches(10, 4, drop_last=True)
    (3, 2)
    """
    n = integer("number_of_batches", "n", n, 0)
    batch_size = integer("number_of_batches", "batch_size", batch_size, 1)
    return _count(n, batch_size, flag("number_of_batches", "drop_last", drop_last))


def batches(
    x: Any,
    y: Any,
    batch_size: int,
    *,
    seed: int,
    epoch: int = 0,
    shuffle: bool = True,
    drop_last: bool = False,
    start: int = 0,
) -> "Batches":
    """One epoch of minibatches ``(x_batch, y_batch)``, in an order that is a pure function of (seed, epoch).

    Arguments:
        x: the inputs, an array of shape (N, ...).
        y: the targets, an array of shape (N, ...).
        batch_size: examples in a batch, at least 1; the last batch may be smaller.
        seed: an integer of at least 0 that, with `epoch`, fixes the order.
        epoch: the number of the epoch, at least 0; each has an order of its own.
        shuffle: False keeps the order of the data.
        drop_last: leave out a last batch that is smaller than the others.
        start: how many batches to skip, for taking up an epoch where it was left; those that follow are the same,
            bit for bit, as without the pause.

    What it gives can be iterated any number of times, each time from `start`; its `len` is the number of batches
    that an iteration yields. Every batch is a copy of its own: writing to one changes neither the data nor
    another batch. The order comes from the raw words of NumPy's Philox generator, which NumPy keeps the same from
    version to version, so it is the same on every machine.

    Raises ShapeError when x and y differ in length or have no axis to take batches along, ArgumentError for a
    number out of range, ArgumentTypeError for an argument of the wrong kind.

    >>> import numpy as np
    >>> from minigrad.data import batches
    >>> x, y = np.arange(10) / 10, np.arange(10)
    >>> epoch = batches(x, y, 4, seed=1, epoch=3)
    >>> len(epoch), [len(labels) for _, labels in epoch]
    (3, [4, 4, 2])
    >>> rest = batches(x, y, 4, seed=1, epoch=3, start=2)
    >>> len(rest), bool((list(rest)[0][1] == list(epoch)[2][1]).all())
    (1, True)
    """
    x, y = _array("x", x), _array("y", y)
    if x.shape[0] != y.shape[0]:
        raise ShapeError(
            f"batches: y has {y.shape[0]} examples (shape {y.shape}), expected {x.shape[0]} as in x (shape {x.shape})"
        )
    batch_size = integer("batches", "batch_size", batch_size, 1)
    seed = integer("batches", "seed", seed, 0)
    epoch = integer("batches", "epoch", epoch, 0)
    shuffle = flag("batches", "shuffle", shuffle)
    drop_last = flag("batches", "drop_last", drop_last)
    start = integer("batches", "start", start, 0)
    total = _count(x.shape[0], batch_size, drop_last)
    if start > total:
        raise ArgumentError(f"batches: start is {start}, wanted at most {total}, the number of batches in the epoch")
    return Batches(x, y, batch_size, (seed, epoch) if shuffle else None, start, total)


class Batches:
    """What `batches` returns: an iterable of known length over the minibatches of one epoch."""

    def __init__(
        self, x: np.ndarray, y: np.ndarray, batch_size: int, key: tuple[int, int] | None, start: int, total: int
    ):
        self._x, self._y = x, y
        self._batch_size = batch_size
        self._key = key
        self._start, self._total = start, total

    def __len__(self) -> int:
        return self._total - self._start

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        n, size = self._x.shape[0], self._batch_size
        order = None if self._key is None else _order(n, *self._key)
        for first in range(self._start * size, min(self._total * size, n), size):
            if order is None:
                yield self._x[first : first + size].copy(), self._y[first : first + size].copy()
            else:
                chosen = order[first : first + size]
                yield self._x.take(chosen, axis=0), self._y.take(chosen, axis=0)

    def __repr__(self) -> str:
        return f"Batches({len(self)} of {self._batch_size}, x {self._x.shape[1:]}, y {self._y.shape[1:]})"


def _count(n: int, batch_size: int, drop_last: bool) -> int:
    return n // batch_size if drop_last else -(-n // batch_size)


def _order(n: int, seed: int, epoch: int) -> np.ndarray:
    # The epoch is a spawn key and not a second word of entropy: (2**32, 0) and (0, 1) would be one seed otherwise.
    generator = np.random.Philox(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    # Sorting raw words, not Generator.permutation: NumPy promises never to change the former only.
    return np.argsort(generator.random_raw(n), kind="stable")


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ArgumentTypeError(f"batches: {name} does not convert to an array ({error})") from error
    if array.ndim == 0:
        raise ShapeError(f"batches: {name} has shape (), expected at least one axis to take batches along")
    return array
