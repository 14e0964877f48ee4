"""read_data_sets: MNIST in three parts that hand out batches."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from minigrad import data
from minigrad.errors import ArgumentError


class DataSet:
    """Images and labels, handed out in batches.

    Attributes:
        images: float32 in [0, 1], (n, 784), or (n, 28, 28, 1) if they were not to be reshaped.
        labels: integers, or one-hot rows of float64.
        epochs_completed: how often all of them were handed out.
    """

    def __init__(self, images: np.ndarray, labels: np.ndarray, seed: int | None = None):
        self.images, self.labels = images, labels
        self.epochs_completed = 0
        self._order = np.arange(len(images))
        self._at = 0
        self._rng = np.random.default_rng(seed)

    @property
    def num_examples(self) -> int:
        return len(self.images)

    def next_batch(
        self, batch_size: int, fake_data: bool = False, shuffle: bool = True
    ) -> tuple[np.ndarray, np.ndarray]:
        """The next images and labels, in an order that is drawn anew each time that all were handed out."""
        if shuffle and not self._at and not self.epochs_completed:
            self._rng.shuffle(self._order)
        chosen = self._order[self._at : self._at + batch_size]
        self._at += batch_size
        if self._at > len(self._order):
            self.epochs_completed += 1
            if shuffle:
                self._order = self._rng.permutation(len(self._order))
            self._at = batch_size - len(chosen)
            chosen = np.concatenate([chosen, self._order[: self._at]])
        return self.images[chosen], self.labels[chosen]


class Datasets(NamedTuple):
    """The three parts."""

    train: DataSet
    validation: DataSet
    test: DataSet


def read_data_sets(
    train_dir: str,
    fake_data: bool = False,
    one_hot: bool = False,
    dtype: Any = "float32",
    reshape: bool = True,
    validation_size: int = 5000,
    seed: int | None = None,
    **ignored: Any,
) -> Datasets:
    """MNIST: 55,000 images to train on, 5000 to validate with, 10,000 to test with.

    It is looked for where `minigrad.data.mnist` does, and downloaded to the user's cache, never to `train_dir`.

    Raises:
        DataError: if it can't be had.
        ArgumentError: for a validation_size out of range; also a ValueError.
    """
    found = data.mnist()
    if not 0 <= validation_size <= len(found.x_train):
        raise ArgumentError(
            f"Validation size should be between 0 and {len(found.x_train)}. Received: {validation_size}."
        )
    parts = []
    for x, y in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        images = x.reshape(len(x), -1) if reshape else x.reshape(len(x), 28, 28, 1)
        labels = np.eye(10)[y] if one_hot else y.astype(np.uint8)
        parts.append((images.astype(np.float32) / np.float32(255), labels))
    (x, y), test = parts
    held, rest = slice(None, validation_size), slice(validation_size, None)
    return Datasets(DataSet(x[rest], y[rest], seed), DataSet(x[held], y[held], seed), DataSet(*test, seed))
