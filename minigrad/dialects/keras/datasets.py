"""Data sets as Keras gives them: ``(x_train, y_train), (x_test, y_test)``, all uint8."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import data

__all__ = ["cifar10", "fashion_mnist", "mnist"]


class mnist:
    """Handwritten digits: images (N, 28, 28), labels (N,). See `minigrad.data.mnist` for where it looks."""

    @staticmethod
    def load_data(path: Any = None) -> tuple:
        """The four arrays; `path` is a folder to look in first."""
        return _arrays(data.mnist(path))


class fashion_mnist:
    """Clothes: images (N, 28, 28), labels (N,). See `minigrad.data.fashion_mnist`."""

    @staticmethod
    def load_data(path: Any = None) -> tuple:
        """The four arrays; `path` is a folder to look in first."""
        return _arrays(data.fashion_mnist(path))


class cifar10:
    """Photographs: images (N, 32, 32, 3), labels (N, 1). See `minigrad.data.cifar10`."""

    @staticmethod
    def load_data(path: Any = None) -> tuple:
        """The four arrays; `path` is a folder to look in first."""
        (x_train, y_train), (x_test, y_test) = _arrays(data.cifar10(path))
        return (x_train, y_train[:, None]), (x_test, y_test[:, None])


def _arrays(dataset: data.Dataset) -> tuple:
    return tuple((x, y.astype(np.uint8)) for x, y in dataset)
