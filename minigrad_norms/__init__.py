"""minigrad_norms: normalizations as differentiable primitives, functions and layers. A plugin of minigrad."""

from minigrad_norms import samples as _samples  # noqa: F401  (registers them)
from minigrad_norms.batch import BatchNormalization
from minigrad_norms.moments import batch_normalization, moments, standardize

#: The version of the plugin host that this package is written for.
MINIGRAD_API = 1

__all__ = ["MINIGRAD_API", "BatchNormalization", "batch_normalization", "moments", "standardize"]
