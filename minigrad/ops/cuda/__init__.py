"""The CUDA kernels of the built-in primitives, a file a family. Importing it registers them, and touches no driver."""

from minigrad.ops.cuda import (
    convolution,
    indexing,
    linalg,
    noise,
    padding,
    pooling,
    reductions,
    shaping,
    softmax,
    state,
    upsampling,
)

__all__ = [
    "convolution",
    "indexing",
    "linalg",
    "noise",
    "padding",
    "pooling",
    "reductions",
    "shaping",
    "softmax",
    "state",
    "upsampling",
]
