"""Shapes: values and views against NumPy, gradients of both orders, errors."""

import numpy as np
import pytest
from numerical_derivatives import check_derivatives

import minigrad as mg
from minigrad import Tensor, Variable, errors, on_device

DTYPES = ["float32", "float64", "int64", "bool"]
LAYOUTS = {
    "plain": lambda a: a,
    "transposed": lambda a: a.T.copy().T,
    "reversed": lambda a: a[::-1, :, ::-1].copy()[::-1, :, ::-1],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "spaced": lambda a: np.repeat(a, 2, axis=2)[:, :, ::2],
}

# By name: ours on a (4, 2, 3) tensor, and NumPy's for the same.
CALLS = {
    "reshape": (lambda x: mg.reshape(x, (3, 8)), lambda x: np.reshape(x, (3, 8))),
    "reshape-1": (lambda x: mg.reshape(x, [2, -1, 3]), lambda x: np.reshape(x, (2, 4, 3))),
    "reshape-int": (lambda x: mg.reshape(x, 24), np.ravel),
    "reshape-method": (lambda x: x.reshape(6, -1), lambda x: np.reshape(x, (6, 4))),
    "ravel": (mg.ravel, np.ravel),
    "transpose": (mg.transpose, np.transpose),
    "transpose-axes": (lambda x: mg.transpose(x, [1, -1, 0]), lambda x: np.transpose(x, (1, 2, 0))),
    "T": (lambda x: x.T, lambda x: x.T),
    "mT": (lambda x: x.mT, lambda x: np.swapaxes(x, -1, -2)),
    "matrix_transpose": (mg.matrix_transpose, lambda x: np.swapaxes(x, 1, 2)),
    "swapaxes": (lambda x: mg.swapaxes(x, 0, -1), lambda x: np.swapaxes(x, 0, 2)),
    "moveaxis": (lambda x: mg.moveaxis(x, 0, -1), lambda x: np.moveaxis(x, 0, -1)),
    "moveaxis-2": (lambda x: mg.moveaxis(x, (0, 1), (2, 0)), lambda x: np.moveaxis(x, (0, 1), (2, 0))),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (5, 4, 2, 3)), lambda x: np.broadcast_to(x, (5, 4, 2, 3))),
    "broadcast_to-1": (lambda x: mg.broadcast_to(x[:, :1], (4, 7, 3)), lambda x: np.broadcast_to(x[:, :1], (4, 7, 3))),
    "squeeze": (lambda x: mg.squeeze(x[:1, :, :1]), lambda x: np.squeeze(x[:1, :, :1])),
    "squeeze-axis": (lambda x: mg.squeeze(x[:1, :, :1], -1), lambda x: np.squeeze(x[:1, :, :1], -1)),
    "squeeze-axes": (lambda x: mg.squeeze(x[:1, :, :1], [0, 2]), lambda x: np.squeeze(x[:1, :, :1], (0, 2))),
    "expand_dims": (lambda x: mg.expand_dims(x, 1), lambda x: np.expand_dims(x, 1)),
    "expand_dims-2": (lambda x: mg.expand_dims(x, (0, -1)), lambda x: np.expand_dims(x, (0, -1))),
    "concatenate": (lambda x: mg.concatenate([x, x[1:], x[:0]]), lambda x: np.concatenate([x, x[1:], x[:0]])),
    "concatenate-1": (lambda x: mg.concatenate((x, x), -1), lambda x: np.concatenate([x, x], -1)),
    "concatenate-flat": (lambda x: mg.concatenate([x, x.T], None), lambda x: np.concatenate([x, x.T], None)),
    "concatenate-tensor": (mg.concatenate, np.concatenate),
    "stack": (lambda x: mg.stack([x, x[::-1]]), lambda x: np.stack([x, x[::-1]])),
    "stack-1": (lambda x: mg.stack([x, x[::-1]], 1), lambda x: np.stack([x, x[::-1]], 1)),
    "stack-last": (lambda x: mg.stack([x, x[::-1]], -1), lambda x: np.stack([x, x[::-1]], -1)),
    "flip": (mg.flip, np.flip),
    "flip-axis": (lambda x: mg.flip(x, 1), lambda x: np.flip(x, 1)),
    "flip-axes": (lambda x: mg.flip(x, (0, -1)), lambda x: np.flip(x, (0, -1))),
    "pad": (lambda x: mg.pad(x, 1), lambda x: np.pad(x, 1)),
    "pad-pair": (lambda x: mg.pad(x, (2, 0), constant_values=1), lambda x: np.pad(x, (2, 0), constant_values=1)),
    "pad-axes": (lambda x: mg.pad(x, ((0, 1), (2, 0), (0, 0))), lambda x: np.pad(x, ((0, 1), (2, 0), (0, 0)))),
    "repeat": (lambda x: mg.repeat(x, 3), lambda x: np.repeat(x, 3)),
    "repeat-axis": (lambda x: mg.repeat(x, 2, axis=-2), lambda x: np.repeat(x, 2, axis=-2)),
    "repeat-often": (lambda x: mg.repeat(x, 40, axis=2), lambda x: np.repeat(x, 40, axis=2)),
    "repeat-each": (lambda x: mg.repeat(x, [2, 0, 1, 3], 0), lambda x: np.repeat(x, [2, 0, 1, 3], 0)),
    "repeat-one": (lambda x: mg.repeat(x, [2], 0), lambda x: np.repeat(x, [2], 0)),
    "tile": (lambda x: mg.tile(x, (2, 1, 3)), lambda x: np.tile(x, (2, 1, 3))),
    "tile-more": (lambda x: mg.tile(x, (2, 2, 1, 2)), lambda x: np.tile(x, (2, 2, 1, 2))),
    "tile-fewer": (lambda x: mg.tile(x, 2), lambda x: np.tile(x, 2)),
}
VIEWS = [
    *("ravel", "transpose", "transpose-axes", "mT", "swapaxes", "moveaxis", "broadcast_to", "squeeze"),
    *("expand_dims", "flip", "flip-axis", "reshape"),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", CALLS)
def test_values_are_numpys(name, layout, dtype):
    ours, numpys = CALLS[name]
    x = LAYOUTS[layout](np.random.default_rng(0).integers(-9, 9, (4, 2, 3)).astype(dtype))
    want = numpys(x)
    for device in ("cpu", "reference"):
        with on_device(device):
            got = ours(Tensor(x)).numpy()
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("name", CALLS)
def test_derivatives(name):
    x = np.random.default_rng(1).standard_normal((4, 2, 3))
    check_derivatives(CALLS[name][0], x)


@pytest.mark.parametrize("name", CALLS)
def test_cotangents_of_any_layout(name):
    ours = CALLS[name][0]
    x = np.random.default_rng(2).standard_normal((4, 2, 3))
    y, pull = mg.vjp(ours, mg.tensor(x))
    ct = np.random.default_rng(3).standard_normal(y.shape)
    (want,) = pull(mg.tensor(ct))
    (backwards,) = pull(Tensor(np.flip(np.flip(ct).copy())))
    (turned,) = pull(Tensor(ct.T.copy().T))
    np.testing.assert_allclose(backwards.numpy(), want.numpy(), rtol=1e-14)
    np.testing.assert_allclose(turned.numpy(), want.numpy(), rtol=1e-14)


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory_and_the_variables_version(name):
    ours = CALLS[name][0]
    v = Variable(np.random.default_rng(4).standard_normal((4, 2, 3)) if name != "squeeze" else np.ones((1, 2, 1)))
    view = ours(v)
    assert np.shares_memory(view.numpy(), v.numpy())
    result = (view * view).sum()
    v.assign(np.zeros(v.shape))
    assert not view.numpy().any()
    with pytest.raises(errors.MutationError, match="assigned to"):
        result.backward()


def test_copies_do_not_follow_the_variable():
    v = Variable(np.ones((2, 3)))
    for y in (mg.concatenate([v, v]), mg.pad(v, 1), mg.repeat(v, 2), mg.stack([v])):
        v.assign(np.ones((2, 3)))
        result = (y * y).sum()
        v.assign(np.zeros((2, 3)))
        assert y.numpy().any()
        result.backward()


def test_reshape_of_what_is_not_contiguous_copies():
    x = np.arange(6.0).reshape(2, 3)
    y = mg.reshape(Tensor(x.T), (6,))
    assert not np.shares_memory(y.numpy(), x)
    np.testing.assert_array_equal(y.numpy(), [0, 3, 1, 4, 2, 5])


def test_broadcast_to_its_own_shape_is_the_tensor_itself():
    x = mg.tensor([1.0, 2.0])
    assert mg.broadcast_to(x, (2,)) is x


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 1)])
def test_broadcast_small_and_empty(shape):
    x = np.arange(np.prod(shape), dtype="float32").reshape(shape)
    for target in [(2, *shape), (2, *shape[:-1], 5) if shape[-1:] == (1,) else shape, (0, *shape)]:
        np.testing.assert_array_equal(mg.broadcast_to(Tensor(x), target).numpy(), np.broadcast_to(x, target))


def test_scalars_and_empty_arrays():
    x = mg.tensor(2.0, requires_grad=True)
    assert mg.reshape(x, ()).shape == mg.transpose(x).shape == mg.flip(x).shape == mg.pad(x, ()).shape == ()
    assert mg.ravel(x).shape == mg.expand_dims(x, 0).shape == mg.repeat(x, 1).shape == mg.stack([x]).shape == (1,)
    empty = Tensor(np.zeros((0, 3)))
    assert mg.reshape(empty, (-1, 3)).shape == (0, 3)
    assert mg.stack([empty, empty], 1).shape == (0, 2, 3)
    assert mg.repeat(empty, 2, 0).shape == (0, 3)
    assert mg.pad(empty, ((1, 0), (0, 0))).tolist() == [[0.0, 0.0, 0.0]]


def test_split_cuts_as_numpy_does():
    x = np.random.default_rng(5).standard_normal((6, 4))
    for places, axis in [(3, 0), (2, 1), (1, 0), ([1, 4], 0), ([2], -1), ([], 0), (np.array([0, 9, 3]), 0)]:
        got, want = mg.split(Tensor(x), places, axis), np.split(x, places, axis)
        assert len(got) == len(want)
        for a, b in zip(got, want):
            np.testing.assert_array_equal(a.numpy(), b)
    check_derivatives(lambda t: tuple(mg.split(t, [1, 4])), x)


def test_joining_promotes_dtypes_and_sends_each_its_gradient():
    a, b = mg.tensor([1.0, 2.0], requires_grad=True), mg.tensor([3.0], dtype="float64", requires_grad=True)
    y = mg.concatenate([a, b, np.array([4])])
    assert y.dtype == np.float64
    y.backward(mg.tensor([5.0, 6.0, 7.0, 8.0], dtype="float64"))
    assert a.grad.dtype == np.float32
    assert (a.grad.tolist(), b.grad.tolist()) == ([5.0, 6.0], [7.0])
    rng = np.random.default_rng(6)
    check_derivatives(
        lambda p, q, r: mg.concatenate([p, q * q, r], 1), *(rng.standard_normal((2, n)) for n in (1, 3, 2))
    )
    check_derivatives(lambda p, q: mg.stack([p, q * p], -1), *(rng.standard_normal((2, 3)) for _ in range(2)))


def test_integers_are_not_recorded():
    x = mg.tensor([[1, 2], [3, 4]])
    for y in (x.reshape(4), x.T, mg.pad(x, 1), mg.concatenate([x, x]), mg.repeat(x, 2), mg.flip(x)):
        assert y.dtype == np.int64
        assert not y.requires_grad


def test_pad_with_nan_and_infinity():
    got = mg.pad(mg.tensor([1.0]), (1, 0), constant_values=np.nan)
    assert np.isnan(got.numpy()[0])
    assert mg.pad(mg.tensor([1.0]), (0, 1), constant_values=-np.inf).tolist() == [1.0, -np.inf]
    assert mg.pad(mg.tensor([2**53 + 1]), 1, constant_values=2**53 + 1).tolist() == [2**53 + 1] * 3


X = np.ones((3, 4))
ERRORS = [
    (lambda: mg.reshape(X, (5, 3)), errors.ShapeError, r"reshape: x has shape \(3, 4\), whose 12 elements .* \(5, 3\)"),
    (lambda: mg.reshape(X, (-1, -1)), errors.ShapeError, "at most one -1"),
    (lambda: mg.reshape(X, (-2, 6)), errors.ShapeError, "at least 0, or -1"),
    (lambda: mg.reshape(X, (2.0, 6)), errors.ArgumentTypeError, "reshape: shape is .*2.0"),
    (lambda: [mg.reshape(X, s) for s in ((2, 6), (2.0, 6))], errors.ArgumentTypeError, "reshape: shape is .*2.0"),
    (lambda: mg.reshape(X, None), errors.ArgumentTypeError, "reshape: shape is None"),
    (lambda: mg.transpose(X, (0,)), errors.ShapeError, r"axes is \(0,\), expected the 2 axes"),
    (lambda: mg.transpose(X, (0, 2)), errors.ShapeError, "axis 2 is out of range"),
    (lambda: mg.transpose(X, (1, 1)), errors.ArgumentError, "twice"),
    (lambda: [mg.transpose(X, s) for s in ((1, 0), (1.0, 0))], errors.ArgumentTypeError, "transpose: axes is .*1.0"),
    (lambda: mg.matrix_transpose(np.ones(3)), errors.ShapeError, r"shape \(3,\), expected at least two"),
    (lambda: mg.swapaxes(X, 0, 2), errors.ShapeError, "swapaxes: axis2 2 is out of range for 2"),
    (lambda: mg.moveaxis(X, [0, 0], [0, 1]), errors.ArgumentError, "source .* twice"),
    (lambda: mg.moveaxis(X, 0, [0, 1]), errors.ArgumentError, "1 axes and destination 2"),
    (lambda: mg.moveaxis(X, 0, 2), errors.ShapeError, "moveaxis: destination 2 is out of range"),
    (lambda: mg.broadcast_to(X, (4,)), errors.ShapeError, r"x has shape \(3, 4\), which does not broadcast to \(4,\)"),
    (lambda: mg.broadcast_to(X, (6, 4)), errors.ShapeError, "does not broadcast"),
    (lambda: mg.squeeze(X, 1), errors.ShapeError, "squeeze: axis 1 .* has length 4, expected 1"),
    (lambda: mg.expand_dims(X, 3), errors.ShapeError, "expand_dims: axis 3 is out of range for 3"),
    (lambda: mg.expand_dims(X, None), errors.ArgumentTypeError, "axis is None"),
    (lambda: mg.concatenate([]), errors.ArgumentError, "concatenate: there are no arrays"),
    (lambda: mg.concatenate(3), errors.ArgumentTypeError, "takes a sequence of arrays, got int"),
    (lambda: mg.concatenate([X, X.T]), errors.ShapeError, r"array 1 has shape \(4, 3\), expected \(3, 4\)"),
    (lambda: mg.concatenate([X, X], 2), errors.ShapeError, "axis 2 is out of range"),
    (lambda: mg.concatenate([X, None]), errors.ArgumentTypeError, "got None"),
    (lambda: mg.stack([X, X.T]), errors.ShapeError, r"stack: array 1 has shape \(4, 3\), expected \(3, 4\)"),
    (lambda: mg.stack([X], 3), errors.ShapeError, "stack: axis 3 is out of range for 3"),
    (lambda: mg.split(X, 5, 1), errors.ArgumentError, "axis 1 of length 4 can't be cut into 5"),
    (lambda: mg.split(X, 0), errors.ArgumentError, "into 0 equal parts"),
    (lambda: mg.split(X, 1.5), errors.ArgumentTypeError, "indices_or_sections is 1.5"),
    (lambda: mg.flip(X, 2), errors.ShapeError, "flip: axis 2 is out of range"),
    (lambda: mg.pad(X, ((1, 1),) * 3), errors.ShapeError, "3 pairs, expected 2"),
    (lambda: mg.pad(X, (1, 2, 3)), errors.ShapeError, "expected an integer or pairs"),
    (lambda: mg.pad(X, -1), errors.ArgumentError, "widths of at least 0"),
    (lambda: mg.pad(X, 1.5), errors.ArgumentTypeError, "pad_width is 1.5"),
    (lambda: mg.pad(X, 1, "wrap"), errors.ArgumentError, "mode is 'wrap'"),
    (lambda: mg.pad(X, 1, constant_values="a"), errors.ArgumentTypeError, "constant_values is 'a'"),
    (lambda: mg.pad(np.ones(2, int), 1, constant_values=0.5), errors.DTypeError, "0.5, which x's dtype int64"),
    (lambda: mg.pad(np.ones(2, int), 1, constant_values=np.nan), errors.DTypeError, "nan, which x's dtype int64"),
    (lambda: mg.pad(np.ones(2, "u1"), 1, constant_values=256), errors.DTypeError, "256, which x's dtype uint8"),
    (lambda: mg.repeat(X, -1), errors.ArgumentError, "repeats is -1"),
    (lambda: mg.repeat(X, [1, 2], 0), errors.ShapeError, r"repeats has shape \(2,\), expected \(3,\) as of axis 0"),
    (lambda: mg.repeat(X, [1, -2, 3], 0), errors.ArgumentError, "repeats has -2"),
    (lambda: mg.repeat(X, 1.5), errors.DTypeError, "repeats has dtype float64"),
    (lambda: mg.repeat(X, 2, 2), errors.ShapeError, "repeat: axis 2 is out of range"),
    (lambda: mg.tile(X, -1), errors.ArgumentError, "reps is"),
]


@pytest.mark.parametrize("i", range(len(ERRORS)))
def test_errors(i):
    call, kind, match = ERRORS[i]
    with pytest.raises(kind, match=match):
        call()
