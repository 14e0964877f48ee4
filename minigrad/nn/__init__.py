"""Layers, initializers, losses and metrics."""

from minigrad.nn import initializers, losses, metrics
from minigrad.nn.layer import Layer, Sequential
from minigrad.nn.layers import Activation, Dense, Dropout, Flatten, Reshape, activation

__all__ = [
    "Activation",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "Reshape",
    "Sequential",
    "activation",
    "initializers",
    "losses",
    "metrics",
]
