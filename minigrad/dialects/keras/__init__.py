"""Keras's words: Sequential, layers, optimizers, callbacks and what goes with them, on `minigrad.nn` and `training`.

Names, arguments and defaults are those of Keras. What normalizes comes from plugins: any layer that one of them offers
is found in `layers` under its name, those that TensorFlow Addons had among them, so ``import minigrad.dialects.keras as
tfa`` serves scripts that import these.

Deliberate differences: a loss that is not finite raises; weights are kept in minigrad's own format; what is drawn is
fixed by `utils.set_random_seed`; ``Layer.variables`` is a dict; there is no functional API.
"""

from minigrad.dialects.keras import (
    activations,
    callbacks,
    constraints,
    datasets,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    utils,
)
from minigrad.dialects.keras.layers import Input
from minigrad.dialects.keras.models import Model, Sequential

__all__ = [
    "Input",
    "Model",
    "Sequential",
    "activations",
    "callbacks",
    "constraints",
    "datasets",
    "initializers",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
    "regularizers",
    "utils",
]
