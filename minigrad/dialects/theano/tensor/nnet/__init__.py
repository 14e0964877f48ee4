"""tensor.nnet: activations, losses, convolution and batch normalization."""

from minigrad.dialects.theano.tensor.elementwise import sigmoid, softplus
from minigrad.dialects.theano.tensor.nnet import bn, conv, nnet
from minigrad.dialects.theano.tensor.nnet.bn import batch_normalization_test, batch_normalization_train
from minigrad.dialects.theano.tensor.nnet.conv import conv2d
from minigrad.dialects.theano.tensor.nnet.nnet import (
    binary_crossentropy,
    categorical_crossentropy,
    crossentropy_categorical_1hot,
    elu,
    hard_sigmoid,
    logsoftmax,
    relu,
    selu,
    sigmoid_binary_crossentropy,
    softmax,
    softsign,
    ultra_fast_sigmoid,
)

__all__ = [
    "batch_normalization_test",
    "batch_normalization_train",
    "binary_crossentropy",
    "bn",
    "categorical_crossentropy",
    "conv",
    "conv2d",
    "crossentropy_categorical_1hot",
    "elu",
    "hard_sigmoid",
    "logsoftmax",
    "nnet",
    "relu",
    "selu",
    "sigmoid",
    "sigmoid_binary_crossentropy",
    "softmax",
    "softplus",
    "softsign",
    "ultra_fast_sigmoid",
]
