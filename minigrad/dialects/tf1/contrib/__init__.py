"""tf.contrib, of which `layers` is here."""

from minigrad.dialects.tf1.contrib import layers

__all__ = ["layers"]
