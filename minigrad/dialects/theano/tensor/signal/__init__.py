"""tensor.signal: pooling."""

from minigrad.dialects.theano.tensor.signal import downsample, pool

__all__ = ["downsample", "pool"]
