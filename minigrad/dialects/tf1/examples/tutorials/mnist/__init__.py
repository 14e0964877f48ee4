"""MNIST as the tutorials of TensorFlow 1 read it."""

from minigrad.dialects.tf1.examples.tutorials.mnist import input_data

__all__ = ["input_data"]
