"""The Theano dialect's functions of tensors against NumPy, and their gradients against differences."""

import numpy as np
import pytest

import minigrad.dialects.theano.tensor as T
from minigrad import errors
from minigrad.dialects import theano

RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((3, 4)), RNG.standard_normal((4,))
P, Q = RNG.uniform(0.5, 2.0, (3, 4)), RNG.uniform(0.5, 2.0, (3, 1))
C = RNG.standard_normal((2, 3, 4))
M = RNG.standard_normal((4, 5))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


#: name: expression of symbolic variables, the same of arrays, arguments.
SMOOTH = {
    "add": (lambda x, y: x + y, lambda x, y: x + y, (A, B)),
    "add three": (lambda x, y: T.add(x, y, 2), lambda x, y: x + y + 2, (A, B)),
    "radd": (lambda x: 3 + x, lambda x: 3 + x, (A,)),
    "sub": (lambda x, y: x - y, lambda x, y: x - y, (A, B)),
    "rsub": (lambda x: 1 - x, lambda x: 1 - x, (A,)),
    "mul": (lambda x, y: x * y * 0.5, lambda x, y: x * y * 0.5, (A, Q)),
    "div": (lambda x, y: x / y, lambda x, y: x / y, (A, P)),
    "rdiv": (lambda x: 1 / x, lambda x: 1 / x, (P,)),
    "inv": (T.inv, np.reciprocal, (P,)),
    "pow 2": (lambda x: x**2, lambda x: x**2, (A,)),
    "pow 3": (lambda x: x**3, lambda x: x**3, (A,)),
    "pow half": (lambda x: x**0.5, lambda x: x**0.5, (P,)),
    "pow": (lambda x, y: x**y, lambda x, y: x**y, (P, B)),
    "rpow": (lambda x: 2**x, lambda x: 2.0**x, (A,)),
    "neg": (lambda x: -x, np.negative, (A,)),
    "mod": (lambda x: x % 0.75, lambda x: x % 0.75, (A,)),
    "abs": (abs, np.abs, (A,)),
    "sqr": (T.sqr, np.square, (A,)),
    "sqrt": (T.sqrt, np.sqrt, (P,)),
    "exp": (T.exp, np.exp, (A,)),
    "exp2": (T.exp2, np.exp2, (A,)),
    "expm1": (T.expm1, np.expm1, (A,)),
    "log": (T.log, np.log, (P,)),
    "log1p": (T.log1p, np.log1p, (P,)),
    "log2": (T.log2, np.log2, (P,)),
    "log10": (T.log10, np.log10, (P,)),
    "sin": (T.sin, np.sin, (A,)),
    "cos": (T.cos, np.cos, (A,)),
    "tan": (T.tan, np.tan, (0.5 * A,)),
    "sinh": (T.sinh, np.sinh, (A,)),
    "cosh": (T.cosh, np.cosh, (A,)),
    "tanh": (T.tanh, np.tanh, (A,)),
    "sigmoid": (T.nnet.sigmoid, lambda x: 1 / (1 + np.exp(-x)), (A,)),
    "softplus": (T.nnet.softplus, lambda x: np.log1p(np.exp(x)), (A,)),
    "softsign": (T.nnet.softsign, lambda x: x / (1 + abs(x)), (A,)),
    "relu": (T.nnet.relu, lambda x: np.maximum(x, 0), (A,)),
    "leaky relu": (lambda x: T.nnet.relu(x, 0.1), lambda x: np.where(x > 0, x, 0.1 * x), (A,)),
    "elu": (T.nnet.elu, lambda x: np.where(x > 0, x, np.expm1(x)), (A,)),
    "selu": (
        T.nnet.selu,
        lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x)),
        (A,),
    ),
    "hard sigmoid": (T.nnet.hard_sigmoid, lambda x: np.clip(0.2 * x + 0.5, 0, 1), (3 * A,)),
    "softmax": (T.nnet.softmax, softmax, (A,)),
    "logsoftmax": (T.nnet.logsoftmax, lambda x: np.log(softmax(x)), (A,)),
    "log of softmax": (lambda x: T.log(T.nnet.softmax(x)), lambda x: np.log(softmax(x)), (A,)),
    "log of sigmoid": (lambda x: T.log(T.nnet.sigmoid(x)), lambda x: -np.log1p(np.exp(-x)), (A,)),
    "log of 1 - sigmoid": (lambda x: T.log(1 - T.nnet.sigmoid(x)), lambda x: -np.log1p(np.exp(x)), (A,)),
    "log of 2 - sigmoid": (lambda x: T.log(2 - T.nnet.sigmoid(x)), lambda x: np.log(2 - 1 / (1 + np.exp(-x))), (A,)),
    "maximum": (T.maximum, np.maximum, (A, P)),
    "minimum": (T.minimum, np.minimum, (A, B)),
    "clip": (lambda x: T.clip(x, -0.5, 0.7), lambda x: np.clip(x, -0.5, 0.7), (A,)),
    "switch": (lambda x, y: T.switch(x > 0, x * y, y), lambda x, y: np.where(x > 0, x * y, y), (A, B)),
    "sum": (T.sum, np.sum, (A,)),
    "sum 0": (lambda x: x.sum(axis=0), lambda x: x.sum(0), (A,)),
    "sum keep": (lambda x: x.sum(axis=1, keepdims=True) * x, lambda x: x.sum(1, keepdims=True) * x, (A,)),
    "sum axes": (lambda x: x.sum((0, 2)), lambda x: x.sum((0, 2)), (C,)),
    "mean": (lambda x: x.mean((0, -1), keepdims=True), lambda x: x.mean((0, 2), keepdims=True), (C,)),
    "var": (lambda x: x.var((0,), keepdims=True), lambda x: x.var(0, keepdims=True), (C,)),
    "var ddof": (lambda x: T.var(x, 1, ddof=1), lambda x: x.var(1, ddof=1), (C,)),
    "std": (lambda x: x.std(axis=1), lambda x: x.std(1), (A,)),
    "max": (lambda x: x.max(axis=1), lambda x: x.max(1), (A,)),
    "min": (lambda x: x.min(), lambda x: x.min(), (A,)),
    "ptp": (lambda x: x.ptp(axis=0), lambda x: x.max(0) - x.min(0), (A,)),
    "prod": (lambda x: T.prod(x, axis=1), lambda x: x.prod(1), (C,)),
    "prod all": (lambda x: x.prod(), lambda x: x.prod(), (A,)),
    "logsumexp": (lambda x: T.logsumexp(x, axis=1), lambda x: np.log(np.exp(x).sum(1)), (A,)),
    "norm 2": (lambda x: x.norm(2), np.linalg.norm, (A,)),
    "norm 1": (lambda x: x.norm(1, axis=0), lambda x: abs(x).sum(0), (A,)),
    "norm 3": (lambda x: x.norm(3, axis=1), lambda x: (abs(x) ** 3).sum(1) ** (1 / 3), (A,)),
    "norm inf": (lambda x: x.norm(np.inf, axis=1), lambda x: abs(x).max(1), (A,)),
    "dot": (T.dot, np.dot, (A, M)),
    "dot vector": (T.dot, np.dot, (A, B)),
    "vector dot": (lambda x, y: x.dot(y), np.dot, (B, M)),
    "dot inner": (T.dot, np.dot, (B, B + 1)),
    "dot scalar": (T.dot, np.dot, (A, np.array(2.5))),
    "dot 3": (T.dot, np.dot, (C, M)),
    "outer": (T.outer, np.outer, (B, A[0])),
    "tensordot": (lambda x, y: T.tensordot(x, y, [[1, 2], [0, 1]]), lambda x, y: np.tensordot(x, y, 2), (C, A)),
    "tensordot 2": (lambda x, y: T.tensordot(x, y, 2), lambda x, y: np.tensordot(x, y, 2), (C, A)),
    "tensordot 1": (lambda x, y: T.tensordot(x, y, 1), lambda x, y: np.tensordot(x, y, 1), (C, M)),
    "batched_dot": (T.batched_dot, np.matmul, (C, C.transpose(0, 2, 1).copy())),
    "batched_dot vectors": (T.batched_dot, lambda x, y: np.einsum("nik,nk->ni", x, y), (C, C[:, 0])),
    "transpose": (lambda x: x.T, np.transpose, (A,)),
    "transpose axes": (lambda x: x.transpose(1, 2, 0), lambda x: x.transpose(1, 2, 0), (C,)),
    "dimshuffle": (lambda x: x.dimshuffle(1, "x", 0), lambda x: x.T[:, None, :], (A,)),
    "dimshuffle row": (lambda x, y: x * y.dimshuffle("x", 0), lambda x, y: x * y, (A, B)),
    "swapaxes": (lambda x: x.swapaxes(0, 2), lambda x: x.swapaxes(0, 2), (C,)),
    "reshape": (lambda x: x.reshape((4, 3)), lambda x: x.reshape(4, 3), (A,)),
    "reshape -1": (lambda x: x.reshape((x.shape[0], -1)), lambda x: x.reshape(2, -1), (C,)),
    "reshape vector": (lambda x: T.reshape(x, x.shape[::-1], ndim=3), lambda x: x.reshape(4, 3, 2), (C,)),
    "flatten": (lambda x: x.flatten(), np.ravel, (C,)),
    "flatten 2": (lambda x: x.flatten(2), lambda x: x.reshape(2, 12), (C,)),
    "flatten outdim": (lambda x: T.flatten(x, outdim=2), lambda x: x.reshape(2, 12), (C,)),
    "repeat": (lambda x: T.repeat(x, 3), lambda x: np.repeat(x, 3), (A,)),
    "repeat axis": (lambda x: x.repeat(2, axis=1), lambda x: np.repeat(x, 2, 1), (A,)),
    "repeat each": (lambda x: T.repeat(x, [1, 0, 2], axis=0), lambda x: np.repeat(x, [1, 0, 2], 0), (A,)),
    "tile": (lambda x: T.tile(x, (2, 1, 2)), lambda x: np.tile(x, (2, 1, 2)), (A,)),
    "roll": (lambda x: T.roll(x, 1, axis=1), lambda x: np.roll(x, 1, 1), (A,)),
    "roll flat": (lambda x: T.roll(x, -5), lambda x: np.roll(x, -5), (A,)),
    "squeeze": (lambda x: T.squeeze(x.sum(0, keepdims=True)), lambda x: x.sum(0), (A,)),
    "padright": (lambda x: T.shape_padright(x) * x, lambda x: x[:, None] * x, (B,)),
    "padaxis": (lambda x: T.shape_padaxis(x, 1), lambda x: x[:, None], (A,)),
    "concatenate": (lambda x, y: T.concatenate([x, y], axis=1), lambda x, y: np.concatenate([x, y], 1), (A, Q)),
    "stack": (lambda x, y: T.stack([x, y], axis=1), lambda x, y: np.stack([x, y], 1), (A, P)),
    "stack old": (lambda x, y: T.stack(x, y), lambda x, y: np.stack([x, y]), (A, P)),
    "stack scalars": (lambda x, y: T.stack([x.sum(), y[0], 1.5]), lambda x, y: np.stack([x.sum(), y[0], 1.5]), (A, B)),
    "list": (lambda x: T.as_tensor_variable([x[0], 2 * x[1]]) ** 2, lambda x: np.stack([x[0], 2 * x[1]]) ** 2, (A,)),
    "split": (lambda x: T.split(x, [1, 3], 2, axis=1)[1], lambda x: x[:, 1:], (A,)),
    "getitem": (lambda x: x[1], lambda x: x[1], (A,)),
    "slices": (lambda x: x[::-1, 1:3, None], lambda x: x[::-1, 1:3, None], (A,)),
    "ellipsis": (lambda x: x[..., -1], lambda x: x[..., -1], (C,)),
    "rows": (lambda x: x[[0, 0, 2]], lambda x: x[[0, 0, 2]], (A,)),
    "pairs": (lambda x: x[T.arange(x.shape[0]), [3, 0, 0]], lambda x: x[np.arange(3), [3, 0, 0]], (A,)),
    "mask": (lambda x: x[(x > 0).nonzero()], lambda x: x[x > 0], (A,)),
    "bool mask": (lambda x: x[x > 0] ** 2, lambda x: x[x > 0] ** 2, (A,)),
    "take": (lambda x: x.take([1, 1], axis=1), lambda x: x.take([1, 1], 1), (A,)),
    "set": (lambda x, y: T.set_subtensor(x[1:, 0], y[:2]), lambda x, y: replaced(x, y), (A, B)),
    "inc": (lambda x, y: T.inc_subtensor(x[[0, 0], 1], y[:2]), lambda x, y: added(x, y), (A, B)),
    "alloc": (lambda x: T.alloc(x, 2, x.shape[0]), lambda x: np.broadcast_to(x, (2, 4)), (B,)),
    "fill": (lambda x, y: x.fill(y.sum()) * x, lambda x, y: y.sum() * x, (A, B)),
    "ones_like": (lambda x: x.ones_like() * 2 + x - T.zeros_like(x), lambda x: 2 + x, (A,)),
    "eye": (lambda x: T.eye(4) * x, lambda x: np.eye(4) * x, (B,)),
    "crossentropy": (
        lambda x: T.nnet.categorical_crossentropy(x / x.sum(1, keepdims=True), np.array([3, 0, 1])),
        lambda x: -np.log((x / x.sum(1, keepdims=True))[np.arange(3), [3, 0, 1]]),
        (P,),
    ),
    "crossentropy of softmax": (
        lambda x: T.nnet.categorical_crossentropy(T.nnet.softmax(x), np.array([3, 0, 1])),
        lambda x: -np.log(softmax(x)[np.arange(3), [3, 0, 1]]),
        (A,),
    ),
    "crossentropy with targets": (
        lambda x, y: T.nnet.categorical_crossentropy(x / x.sum(1, keepdims=True), y / y.sum(1, keepdims=True)),
        lambda x, y: -(y / y.sum(1, keepdims=True) * np.log(x / x.sum(1, keepdims=True))).sum(1),
        (P, P + 1),
    ),
    "crossentropy of softmax with targets": (
        lambda x, y: T.nnet.categorical_crossentropy(T.nnet.softmax(x), y / y.sum(1, keepdims=True)),
        lambda x, y: -(y / y.sum(1, keepdims=True) * np.log(softmax(x))).sum(1),
        (A, P),
    ),
    "binary crossentropy": (
        lambda x, y: T.nnet.binary_crossentropy(x / 3, y / 3),
        lambda x, y: -(y / 3 * np.log(x / 3) + (1 - y / 3) * np.log(1 - x / 3)),
        (P, P[::-1].copy()),
    ),
    "binary crossentropy of sigmoid": (
        lambda x, y: T.nnet.binary_crossentropy(T.nnet.sigmoid(x), y / 3),
        lambda x, y: -(y / 3 * -np.log1p(np.exp(-x)) - (1 - y / 3) * np.log1p(np.exp(x))),
        (A, P),
    ),
}
#: The same for what has no gradient.
OTHERS = {
    "floordiv": (lambda x: x // 0.75, lambda x: x // 0.75, (A,)),
    "int division": (lambda x: x // 3, lambda x: x // 3, (np.arange(-4, 5),)),
    "int mod": (lambda x: x % 3, lambda x: x % 3, (np.arange(-4, 5),)),
    "sgn": (T.sgn, np.sign, (A,)),
    "floor": (T.floor, np.floor, (A,)),
    "ceil": (T.ceil, np.ceil, (A,)),
    "trunc": (T.trunc, np.trunc, (A,)),
    "round": (T.round, np.round, (np.array([-1.5, -0.5, 0.5, 1.5, 2.5, 0.3, -0.7]),)),
    "round away": (
        lambda x: T.round(x, "half_away_from_zero"),
        lambda x: np.array([-2.0, -1.0, 1.0, 2.0, 3.0]),
        (np.array([-1.5, -0.5, 0.5, 1.5, 2.5]),),
    ),
    "eq": (lambda x: T.eq(x, A[0, 0]), lambda x: x == A[0, 0], (A,)),
    "neq": (lambda x: T.neq(x, A[0, 0]), lambda x: x != A[0, 0], (A,)),
    "compare": (lambda x, y: (x < y) & (x >= -y) | ~(x > 0), lambda x, y: (x < y) & (x >= -y) | ~(x > 0), (A, P)),
    "xor": (lambda x: T.xor(x > 0, x > 1), lambda x: (x > 0) ^ (x > 1), (A,)),
    "isnan": (T.isnan, np.isnan, (np.array([1.0, np.nan, np.inf]),)),
    "isinf": (T.isinf, np.isinf, (np.array([1.0, np.nan, -np.inf]),)),
    "any": (lambda x: T.any(x > 1, axis=1), lambda x: (x > 1).any(1), (A,)),
    "all": (lambda x: T.all(x, axis=0), lambda x: x.all(0), (np.array([[1.0, 0.0], [1.0, 2.0]]),)),
    "argmax": (lambda x: T.argmax(x, axis=1), lambda x: x.argmax(1), (A,)),
    "argmax all": (lambda x: x.argmax(), np.argmax, (A,)),
    "argmin keep": (lambda x: x.argmin(axis=0, keepdims=True), lambda x: x.argmin(0)[None], (A,)),
    "max_and_argmax": (lambda x: T.max_and_argmax(x, axis=1)[1], lambda x: x.argmax(1), (A,)),
    "norm 0": (lambda x: x.norm(0), lambda x: (x != 0).sum(), (np.array([0.0, 2.0, 3.0]),)),
    "shape": (lambda x: x.shape, np.shape, (C,)),
    "shape arithmetic": (lambda x: x.shape * 2 + 1, lambda x: 2 * np.array(x.shape) + 1, (C,)),
    "size": (lambda x: x.size, np.size, (C,)),
    "prod of shape": (lambda x: T.prod(x.shape[1:]), lambda x: 12, (C,)),
    "arange": (lambda x: T.arange(1, x.shape[0] * 4, 3), lambda x: np.arange(1, 8, 3), (C,)),
    "arange floats": (lambda x: T.arange(0, 1, 0.25) + x[0] * 0, lambda x: np.arange(0, 1, 0.25), (B,)),
    "cast": (lambda x: T.cast(x, "int32"), lambda x: x.astype(np.int32), (3 * A,)),
    "astype": (lambda x: x.astype("float32"), lambda x: x.astype(np.float32), (A,)),
    "sum of booleans": (lambda x: T.sum(x > 0), lambda x: (x > 0).sum(), (A,)),
    "mean of booleans": (lambda x: T.mean(T.neq(x, A)), lambda x: 0.0, (A,)),
    "mean of integers": (lambda x: x.mean(), np.mean, (np.arange(4),)),
    "integer division": (lambda x: x / 2, lambda x: x / 2, (np.arange(4),)),
    "matrix of places": (lambda x: T.nonzero(x > 0, True), lambda x: np.array(np.nonzero(x > 0)), (A,)),
}


def replaced(x, y):
    x = x.copy()
    x[1:, 0] = y[:2]
    return x


def added(x, y):
    x = x.copy()
    x[0, 1] += y[:2].sum()
    return x


def inputs_for(arrays):
    return [T.TensorType(a.dtype, [False] * a.ndim)(f"x{i}") for i, a in enumerate(arrays)]


@pytest.mark.parametrize("name", [*SMOOTH, *OTHERS])
def test_values(name):
    expression, reference, arrays = (SMOOTH | OTHERS)[name]
    inputs = inputs_for(arrays)
    output = expression(*inputs)
    want = np.asarray(reference(*arrays))
    got = theano.function(inputs, output)(*arrays)
    assert type(got) is np.ndarray
    assert got.shape == want.shape
    assert output.ndim == want.ndim
    assert got.dtype == output.dtype == want.dtype
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-13)
    assert all(n == 1 for n, flag in zip(got.shape, output.broadcastable) if flag)


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients(name):
    """Element by element, with a random cotangent, against differences of NumPy's values."""
    expression, reference, arrays = SMOOTH[name]
    inputs = inputs_for(arrays)
    weight = np.random.default_rng(1).standard_normal(np.shape(reference(*arrays)))
    found = theano.function(inputs, T.grad((expression(*inputs) * weight).sum(), inputs))(*arrays)
    for i, got in enumerate(found):
        want = np.empty_like(got)
        for place in np.ndindex(got.shape):
            ends = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in arrays]
                moved[i][place] += step
                ends.append((weight * reference(*moved)).sum())
            want[place] = (ends[0] - ends[1]) / 2e-5
        assert np.abs(want).max() > 0.01
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes(dtype):
    with theano.config.change_flags(floatX=dtype):
        x, i = T.matrix("x"), T.ivector("i")
        assert x.dtype == (x * 0.5).dtype == (x + 1).dtype == T.exp(x).dtype == x.mean().dtype == dtype
        assert (x * 0.1).dtype == dtype
        assert (i / 2).dtype == dtype
        assert (x * i).dtype == "float64"  # an int32 and a float32 meet there, as in NumPy
        assert T.exp(i).dtype == "float64"
        assert (i + 1).dtype == "int32"
        assert i.sum().dtype == "int64"
        assert T.eq(i, 1).dtype == "bool"
        value = theano.function([x], [x * 0.1, T.nnet.softmax(x).max()])([[1.0, 2.0]])
        assert [v.dtype for v in value] == [dtype, dtype]


def test_overflow_free_forms():
    x = T.matrix("x")
    big = np.array([[0.0, 1000.0], [-2000.0, 0.0]])
    p = T.nnet.softmax(x)
    with np.errstate(all="raise"):
        np.testing.assert_allclose(T.log(p).eval({x: big}), [[-1000, 0], [-2000, 0]])
        loss = T.nnet.categorical_crossentropy(p, np.array([0, 0]))
        np.testing.assert_allclose(loss.eval({x: big}), [1000, 2000])
        np.testing.assert_allclose(T.grad(loss.sum(), x).eval({x: big}), [[-1, 1], [-1, 1]])
        binary = T.nnet.binary_crossentropy(T.nnet.sigmoid(x), np.array([[1.0, 0.0]]))
        np.testing.assert_allclose(binary.eval({x: big}), [[np.log(2), 1000], [2000, np.log(2)]])
        one = T.log(1 - T.nnet.sigmoid(x))
        np.testing.assert_allclose(one.eval({x: big})[0, 1], -1000)


def test_gradient_by_what_a_stable_form_would_leave_out():
    x = T.matrix("x")
    p = T.nnet.softmax(x)
    loss = -T.log(p)[:, 0].sum()
    value, found = theano.function([x], [p, T.grad(loss, p)])(A)
    want = np.zeros_like(value)
    want[:, 0] = -1 / value[:, 0]
    np.testing.assert_allclose(found, want)


def test_softmax_of_a_vector_is_a_row():
    v = T.vector("v")
    np.testing.assert_allclose(T.nnet.softmax(v).eval({v: B}), softmax(B)[None])


BAD = {
    "axis": (lambda x: x.sum(axis=2), ValueError, r"Sum: axis 2 is out of range for 2 dimensions"),
    "dimshuffle": (lambda x: x.dimshuffle(0), ValueError, r"drops dimension 1"),
    "dimshuffle range": (lambda x: x.dimshuffle(0, 2, 1), ValueError, r"2 is no dimension of x, which has 2"),
    "index count": (lambda x: x[0, 0, 0], IndexError, r"3 indices for x with 2 dimensions"),
    "float index": (lambda x: x[0.5], TypeError, r"expected integers or masks|expected integers, slices"),
    "float slice": (lambda x: x[: x[0, 0]], TypeError, r"expected integers or masks"),
    "truth": (lambda x: 1 if x > 0 else 2, TypeError, r"no truth value"),
    "length": (len, TypeError, r"no length"),
    "iteration": (list, TypeError, r"can't be iterated"),
    "array": (np.asarray, TypeError, r"has no values"),
    "concatenate": (lambda x: T.concatenate([x, x[0]]), ValueError, r"\[2, 1\] dimensions"),
    "reshape": (lambda x: x.reshape(x.shape * 2), ValueError, r"unknown length"),
    "reshape item": (lambda x: x.reshape((2.5, 2)), TypeError, r"the shape has 2.5"),
    "flatten": (lambda x: x.flatten(3), ValueError, r"ndim is 3, expected 1 to 2"),
    "string": (lambda x: x + "one", TypeError, r"expected numbers"),
    "set": (lambda x: T.set_subtensor(x, 0), TypeError, r"expected the result of indexing"),
    "labels": (lambda x: T.nnet.categorical_crossentropy(x, x[0]), TypeError, r"expected an integer dtype"),
    "targets": (lambda x: T.nnet.categorical_crossentropy(x, x.sum()), ValueError, r"true_dist has 0 dimensions"),
    "conv": (lambda x: T.nnet.conv2d(x, x), ValueError, r"input has 2 dimensions, expected 4"),
    "name": (lambda x: T.argsort(x), AttributeError, r"has no 'argsort'"),
    "cost": (lambda x: T.grad(x, x), ValueError, r"the cost x has 2 dimensions, expected a scalar"),
    "wrt": (lambda x: T.grad(x.sum(), T.matrix("z")), ValueError, r"does not depend on z"),
    "wrt dtype": (lambda x: T.grad(x.sum(), T.lvector("z")), TypeError, r"z of dtype int64"),
}


@pytest.mark.parametrize("name", BAD)
def test_errors_come_where_the_expression_is_built(name):
    build, kind, message = BAD[name]
    with pytest.raises(kind, match=message) as caught:
        build(T.matrix("x"))
    assert isinstance(caught.value, (errors.MinigradError, AttributeError))


@pytest.mark.parametrize("dtype", ["float16x", object])
def test_bad_dtypes(dtype):
    with pytest.raises(errors.DTypeError):
        T.matrix("x", dtype=dtype)


def test_makers():
    assert T.fmatrix("x").dtype == "float32"
    assert [v.name for v in T.dmatrices("x", "y")] == ["x", "y"]
    assert T.row().broadcastable == (True, False)
    assert T.col().broadcastable == (False, True)
    assert (T.lscalar().ndim, T.ivector().ndim, T.tensor3().ndim, T.tensor4().ndim) == (0, 1, 3, 4)
    assert len(T.scalars(3)) == 3
    assert T.tensor("int8", (False, True)).type == T.TensorType("int8", (0, 1))
    assert repr(T.row("r", dtype="float32").type) == "TensorType(float32, row)"
