"""Layers, activations, initializers, regularizers, constraints, losses and metrics."""

from minigrad.nn import activations, constraints, initializers, losses, metrics, regularizers
from minigrad.nn.activations import get as activation
from minigrad.nn.convolution import Conv2D, Conv2DTranspose, DepthwiseConv2D
from minigrad.nn.images import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    ReflectionPadding2D,
    UpSampling2D,
    ZeroPadding2D,
)
from minigrad.nn.layer import Layer, Sequential
from minigrad.nn.layers import (
    Activation,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    GaussianNoise,
    Lambda,
    Permute,
    RepeatVector,
    Reshape,
)

__all__ = [
    "Activation",
    "AveragePooling2D",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Lambda",
    "Layer",
    "MaxPooling2D",
    "Permute",
    "ReflectionPadding2D",
    "RepeatVector",
    "Reshape",
    "Sequential",
    "UpSampling2D",
    "ZeroPadding2D",
    "activation",
    "activations",
    "constraints",
    "initializers",
    "losses",
    "metrics",
    "regularizers",
]
