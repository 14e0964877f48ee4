"""Data sets as plain NumPy arrays (mnist, fashion_mnist, glyphs drawn on the spot) and minibatches over them."""

from minigrad.data.batching import Batches, batches, number_of_batches
from minigrad.data.dataset import Dataset
from minigrad.data.download import cache_folder
from minigrad.data.drawing import glyph_dataset, glyphs
from minigrad.data.mnist_family import fashion_mnist, mnist

__all__ = [
    "Batches",
    "Dataset",
    "batches",
    "cache_folder",
    "fashion_mnist",
    "glyph_dataset",
    "glyphs",
    "mnist",
    "number_of_batches",
]
