"""Data sets as plain NumPy arrays (mnist, fashion_mnist, cifar10, glyphs drawn on the spot), and minibatches."""

from minigrad.data.batching import Batches, batches, number_of_batches
from minigrad.data.cifar import cifar10
from minigrad.data.dataset import Dataset
from minigrad.data.download import cache_folder
from minigrad.data.drawing import glyph_dataset, glyphs
from minigrad.data.mnist_family import fashion_mnist, mnist

__all__ = [
    "Batches",
    "Dataset",
    "batches",
    "cache_folder",
    "cifar10",
    "fashion_mnist",
    "glyph_dataset",
    "glyphs",
    "mnist",
    "number_of_batches",
]
