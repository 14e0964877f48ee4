"""minigrad_entmax: softmax's sparse relatives, as a plugin of minigrad. README.md walks through it."""

from minigrad_entmax.sigmoid import sigmoid15
from minigrad_entmax.sparsemax import Sparsemax, sparsemax, sparsemax_loss

#: The version of the plugin host that this package is written for.
MINIGRAD_API = 1

__all__ = ["MINIGRAD_API", "Sparsemax", "sigmoid15", "sparsemax", "sparsemax_loss"]
