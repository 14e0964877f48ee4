"""The built-in primitives, a file a family, and the functions that users call."""

from minigrad.ops.activations import (
    elu,
    gelu,
    leaky_relu,
    relu,
    relu6,
    sigmoid,
    silu,
    softplus,
    tanh,
)
from minigrad.ops.arithmetic import (
    absolute,
    add,
    clip,
    cos,
    divide,
    equal,
    erf,
    exp,
    expm1,
    floor,
    greater,
    greater_equal,
    less,
    less_equal,
    log,
    log1p,
    maximum,
    minimum,
    multiply,
    negative,
    not_equal,
    power,
    rsqrt,
    sign,
    sin,
    sqrt,
    square,
    subtract,
    where,
)
from minigrad.ops.cast import astype, copy, stop_gradient
from minigrad.ops.cross_entropy import softmax_cross_entropy
from minigrad.ops.indexing import at_add, at_set, getitem, one_hot, take, take_along_axis
from minigrad.ops.linalg import dot, matmul
from minigrad.ops.masking import dropout
from minigrad.ops.reductions import all, any, argmax, argmin, max, mean, min, std, sum, sum_to, var
from minigrad.ops.shaping import (
    broadcast_to,
    concatenate,
    expand_dims,
    flip,
    matrix_transpose,
    moveaxis,
    pad,
    ravel,
    repeat,
    reshape,
    split,
    squeeze,
    stack,
    swapaxes,
    tile,
    transpose,
)
from minigrad.ops.softmax import log_softmax, logsumexp, softmax
from minigrad.ops.state import assign

__all__ = [name for name in dir() if not name.startswith("_")]
