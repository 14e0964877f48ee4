"""sandbox.rng_mrg: where scripts find MRG_RandomStreams."""

from minigrad.dialects.theano.tensor.shared_randomstreams import MRG_RandomStreams

__all__ = ["MRG_RandomStreams"]
