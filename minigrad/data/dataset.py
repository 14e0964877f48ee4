"""Dataset: a training and a test part, as plain NumPy arrays."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from minigrad.errors import ShapeError


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """A labelled data set in two parts: images uint8 (N, height, width, ...) and labels int64 (N,) in each.

    Arguments:
        x_train, y_train: the training images and their labels.
        x_test, y_test: the images and labels held back for testing.
        name: what the set is called.

    It unpacks as ``(x_train, y_train), (x_test, y_test)``.

    Raises ShapeError when a part has not one label an image.

    >>> import minigrad.data
    >>> digits = minigrad.data.glyph_dataset(30, 10, seed=0)
    >>> digits
    Dataset('glyphs': train 30, test 10, images (28, 28) uint8, labels int64)
    >>> (x_train, y_train), (x_test, y_test) = digits
    >>> x_train.shape, y_test.shape
    ((30, 28, 28), (10,))
    """

    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray
    name: str

    def __post_init__(self) -> None:
        for part, x, y in (("train", self.x_train, self.y_train), ("test", self.x_test, self.y_test)):
            if x.ndim == 0 or y.ndim == 0 or x.shape[0] != y.shape[0]:
                raise ShapeError(
                    f"Dataset: y_{part} has shape {y.shape}, expected one label for each image of x_{part}"
                    f" with shape {x.shape}"
                )

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield self.x_train, self.y_train
        yield self.x_test, self.y_test

    def __repr__(self) -> str:
        return (
            f"Dataset({self.name!r}: train {len(self.x_train)}, test {len(self.x_test)}, "
            f"images {self.x_train.shape[1:]} {self.x_train.dtype}, labels {self.y_train.dtype})"
        )
