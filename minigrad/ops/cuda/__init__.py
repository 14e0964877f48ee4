"""The CUDA kernels of the built-in primitives, a file a family. Importing it registers them, and touches no driver."""

from minigrad.ops.cuda import indexing, linalg, noise, reductions, shaping, softmax, state

__all__ = ["indexing", "linalg", "noise", "reductions", "shaping", "softmax", "state"]
