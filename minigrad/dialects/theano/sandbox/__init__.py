"""sandbox: where scripts find rng_mrg."""

from minigrad.dialects.theano.sandbox import rng_mrg

__all__ = ["rng_mrg"]
