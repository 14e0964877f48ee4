"""Activations and losses."""

from __future__ import annotations

from typing import Any

import numpy as np

import minigrad as mg
from minigrad import Tensor
from minigrad.dialects.theano.graph import TensorType, Variable, apply, as_variable
from minigrad.dialects.theano.rewriting import sigmoid_crossentropy
from minigrad.dialects.theano.tensor import elementwise, shaping
from minigrad.dialects.theano.tensor.elementwise import cast, sigmoid, softplus
from minigrad.errors import DTypeError, ShapeError

__all__ = ["sigmoid", "softplus"]


def softmax(c: Any) -> Variable:
    """exp(c) / Σ exp(c) over the last axis. A vector becomes a matrix of one row, as in Theano.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.nnet.softmax(T.as_tensor_variable([[0.0, 0.0]])).eval()
        array([[0.5, 0.5]])
    """
    return _rows("Softmax", mg.softmax, c)


def logsoftmax(c: Any) -> Variable:
    """log(softmax(c)), computed as c - log Σ exp(c)."""
    return _rows("LogSoftmax", mg.log_softmax, c)


def _rows(name: str, run: Any, c: Any) -> Variable:
    x = as_variable(c)
    if not x.ndim:
        raise ShapeError(f"{name.lower()}: got a scalar, expected a matrix, or a vector for one row")
    x = cast(x, elementwise.floating(x.dtype))
    x = shaping.shape_padleft(x) if x.ndim == 1 else x
    return apply(name, run, [x], x.type)


def relu(x: Any, alpha: Any = 0) -> Variable:
    """x where it is positive, alpha·x elsewhere."""
    if isinstance(alpha, (int, float)) and alpha == 0:
        return elementwise.elementwise("Relu", mg.relu, [x], floats=True)
    x = as_variable(x)
    return elementwise.switch(elementwise.gt(x, 0), x, alpha * x)


def elu(x: Any, alpha: Any = 1) -> Variable:
    """x where it is positive, alpha·(exp(x) - 1) elsewhere (Clevert, Unterthiner & Hochreiter 2015)."""
    return elementwise.elementwise("Elu", mg.elu, [x, alpha], floats=True)


def selu(x: Any) -> Variable:
    """Scaled elu, which keeps mean 0 and variance 1 (Klambauer et al. 2017)."""
    return 1.0507009873554805 * elu(x, 1.6732632423543772)


def softsign(x: Any) -> Variable:
    """x / (1 + \\|x\\|)."""
    x = as_variable(x)
    return x / (1 + elementwise.abs_(x))


def hard_sigmoid(x: Any) -> Variable:
    """A sigmoid of three straight parts: 0.2·x + 0.5, clipped to [0, 1]."""
    return elementwise.clip(as_variable(x) * 0.2 + 0.5, 0.0, 1.0)


def ultra_fast_sigmoid(x: Any) -> Variable:
    """The sigmoid. Theano's approximation by straight parts is no quicker here, so this is the exact one."""
    return sigmoid(x)


def categorical_crossentropy(coding_dist: Any, true_dist: Any) -> Variable:
    """-Σ true·log(coding) over the last axis: a loss for each row.

    What is coded by `softmax` is computed from the logits, without overflow.

    Args:
        coding_dist: probabilities, shape (rows, classes).
        true_dist: integer labels, shape (rows,); or probabilities, one-hot for one, of the shape of `coding_dist`.

    Raises:
        ShapeError: for another number of dimensions.
        DTypeError: for labels that are no integers.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> p, y = T.matrix("p"), T.lvector("y")
        >>> T.nnet.categorical_crossentropy(p, y).eval({p: [[0.5, 0.5], [0.0, 1.0]], y: [0, 1]}) + 0.0
        array([0.69314718, 0.        ])
    """
    p, y = as_variable(coding_dist), as_variable(true_dist)
    p = cast(p, elementwise.floating(p.dtype))
    if y.ndim not in (p.ndim - 1, p.ndim) or not p.ndim:
        raise ShapeError(
            f"categorical_crossentropy: true_dist has {y.ndim} dimensions, expected {p.ndim - 1} or {p.ndim}, as "
            f"coding_dist has {p.ndim}"
        )
    if y.ndim < p.ndim and np.dtype(y.dtype).kind not in "iu":
        raise DTypeError(f"categorical_crossentropy: labels have dtype {y.dtype}, expected an integer dtype")
    y = y if y.ndim < p.ndim else cast(y, p.dtype)
    return apply("Crossentropy", _crossentropy, [p, y], TensorType(p.dtype, p.broadcastable[:-1]))


def crossentropy_categorical_1hot(coding_dist: Any, true_one_of_n: Any) -> Variable:
    """`categorical_crossentropy` with integer labels."""
    return categorical_crossentropy(coding_dist, true_one_of_n)


def _crossentropy(p: Tensor, y: Tensor) -> Tensor:
    if y.ndim == p.ndim:
        # Where nothing is true nothing is lost, however improbable it was.
        return -mg.sum(mg.where(y != 0, y * mg.log(p), mg.as_tensor(np.zeros((), p.dtype))), -1)
    return -mg.squeeze(mg.log(mg.take_along_axis(p, mg.expand_dims(y, -1), -1)), -1)


def binary_crossentropy(output: Any, target: Any) -> Variable:
    """-t·log(o) - (1 - t)·log(1 - o), element by element. That of `sigmoid` is computed from its argument.

    Example:
        >>> import minigrad.dialects.theano.tensor as T
        >>> T.nnet.binary_crossentropy(T.as_tensor_variable([0.5]), T.as_tensor_variable([1.0])).eval()
        array([0.69314718])
    """
    return elementwise.elementwise("BinaryCrossentropy", _binary_crossentropy, [output, target], floats=True)


def sigmoid_binary_crossentropy(output: Any, target: Any) -> Variable:
    """`binary_crossentropy` of sigmoid(output), computed from `output`."""
    return elementwise.elementwise("SigmoidCrossentropy", sigmoid_crossentropy, [output, target], floats=True)


def _binary_crossentropy(output: Tensor, target: Tensor) -> Tensor:
    return -(target * mg.log(output) + (1.0 - target) * mg.log1p(-output))
