"""The CUDA kernels of the built-in primitives, a file a family. Importing it registers them, and touches no driver."""

from minigrad.ops.cuda import reductions, shaping, state

__all__ = ["reductions", "shaping", "state"]
