"""Softmax, its logarithms and cross-entropies against formulas in extended precision."""

import doctest
import importlib

import numpy as np
import pytest
from numerical_derivatives import check_derivatives

import minigrad as mg
from minigrad import errors
from minigrad.primitive import get

SHAPES = [(2, 3), (5,), (1,), (4, 1), (3, 2, 5), (0, 3), (2, 0), (60, 10), (7, 33), (2, 5003), (3001, 10), (1030, 3)]


def values(shape, dtype=np.float64, seed=0):
    return (2 * np.random.default_rng(seed).standard_normal(shape)).astype(dtype)


def exact_softmax(x, axis=-1):
    x = np.asarray(x, np.longdouble)
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=axis, keepdims=True)


def exact_logsumexp(x, axis=-1, keepdims=False):
    x = np.asarray(x, np.longdouble)
    shift = x.max(axis=axis, keepdims=True, initial=-np.inf)
    total = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    return total if keepdims else np.squeeze(total, axis)


def assert_close(got, want, dtype, ulps=3, scale=0.0):
    assert got.dtype == dtype
    assert got.shape == want.shape
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(
        got.numpy().astype(np.longdouble), want, rtol=ulps * eps, atol=ulps * eps * scale + 1e-300
    )


def assert_probabilities(got, want, dtype):
    """A relative error of two roundings, and of half a rounding of x − max x, which is about log p."""
    assert got.dtype == dtype
    assert got.shape == want.shape
    with np.errstate(divide="ignore", invalid="ignore"):
        bound = np.finfo(dtype).eps * want * (2 - 0.6 * np.log(want))
    bound[want == 0] = 0
    np.testing.assert_array_less(np.abs(got.numpy() - want), bound + np.finfo(dtype).smallest_subnormal)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
def test_values(shape, dtype):
    for axis in range(len(shape)):
        x = values(shape, dtype)
        assert_probabilities(mg.softmax(x, axis), exact_softmax(x, axis), dtype)
        if not shape[axis]:
            assert mg.log_softmax(x, axis).shape == shape
            np.testing.assert_array_equal(mg.logsumexp(x, axis).numpy(), np.full(np.delete(shape, axis), -np.inf))
            continue
        assert_close(mg.log_softmax(x, axis), x - exact_logsumexp(x, axis, True), dtype, scale=1.0)
        for keepdims in (False, True):
            assert_close(mg.logsumexp(x, axis, keepdims), exact_logsumexp(x, axis, keepdims), dtype, scale=1.0)
        np.testing.assert_allclose(mg.softmax(x, axis).numpy().sum(axis), 1, rtol=1e-5)


@pytest.mark.parametrize("axis", [None, 0, (0, 2), (2, 0), (1, 2), (), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
def test_logsumexp_over_several_axes(axis, keepdims):
    x = values((3, 4, 5))
    want = np.log(np.exp(x).sum(axis=axis, keepdims=keepdims))
    np.testing.assert_allclose(mg.logsumexp(x, axis, keepdims).numpy(), want, rtol=1e-14)
    check_derivatives(lambda t: mg.logsumexp(t, axis, keepdims), x[:2, :2, :3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_huge_values(dtype):
    x = np.array([[1e4, 1e4 - 1, -1e4], [-3e38, 3e38, 0], [1e4, 1e4, 1e4]], dtype)
    assert_probabilities(mg.softmax(x), exact_softmax(x), dtype)
    assert_close(mg.log_softmax(x)[::2], (x - exact_logsumexp(x, -1, True))[::2], dtype, scale=1.0)
    assert_close(mg.logsumexp(x, 1), exact_logsumexp(x), dtype)
    loss = mg.softmax_cross_entropy(x, np.array([1, 1, 0]))
    assert_close(loss, np.array([1 + np.log1p(np.exp(np.longdouble(-1))), 0, np.log(np.longdouble(3))]), dtype)


def test_near_logits_of_large_size_keep_their_difference():
    x = 1e8 + values((4, 6))
    for got in (
        mg.log_softmax(x).numpy(),
        -mg.softmax_cross_entropy(np.repeat(x, 6, 0), np.tile(np.arange(6), 4)).numpy(),
    ):
        y = x - x.max(-1, keepdims=True)
        np.testing.assert_allclose(got.reshape(4, 6), y - exact_logsumexp(y, -1, True), rtol=1e-14)


@pytest.mark.parametrize("n", [3, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_infinities_and_nan(n, dtype):
    x = values((6, n), dtype)
    x[0, 1] = -np.inf
    x[1] = -np.inf
    x[2, 2] = np.inf
    x[3, 0] = np.nan
    x[4, 2] = -np.nan  # with the sign bit, as ∞ − ∞ gives it
    x[5] = -np.nan
    p, log_p, total = mg.softmax(x).numpy(), mg.log_softmax(x).numpy(), mg.logsumexp(x, 1).numpy()
    assert p[0, 1] == 0
    assert log_p[0, 1] == -np.inf
    np.testing.assert_allclose(p[0], exact_softmax(x[0]), rtol=1e-6)
    assert np.isnan(p[1:]).all()
    assert np.isnan(log_p[[1, 3, 4, 5]]).all()
    assert total[1] == -np.inf
    assert total[2] == np.inf
    assert np.isnan(total[3:]).all()
    loss = mg.softmax_cross_entropy(x, np.ones(6, int)).numpy()
    assert loss[0] == np.inf
    assert np.isnan(loss[1:]).all()
    one_hot = np.eye(n)[[2]].astype(dtype)
    assert np.isfinite(mg.softmax_cross_entropy(x[:1], one_hot).numpy()).all()


def test_gradients_with_infinities():
    x = mg.tensor([[0.0, -np.inf, 1.0], [-np.inf, -np.inf, -np.inf]], "float64")
    gradient = mg.grad(lambda t: mg.logsumexp(t, 1)[0] + 3 * mg.logsumexp(t, 1)[1])(x).numpy()
    np.testing.assert_allclose(gradient, [exact_softmax(x.numpy()[0]).astype(float), [0, 0, 0]], rtol=1e-15)
    for labels in (np.array([2]), np.array([[0.0, 0.0, 1.0]])):
        gradient = mg.grad(lambda t, y=labels: mg.softmax_cross_entropy(t, y).sum())(x[:1]).numpy()
        np.testing.assert_allclose(gradient, [exact_softmax(x.numpy()[0]).astype(float) - [0, 0, 1]], rtol=1e-15)
    gradient = mg.grad(lambda t: mg.softmax_cross_entropy(t, np.array([1])).sum())(x[:1]).numpy()
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("label_dtype", [np.uint8, np.int8, np.int32, np.int64, np.uint64])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1]])
def test_cross_entropy_with_classes(shape, dtype, label_dtype):
    x = values(shape, dtype)
    labels = np.random.default_rng(1).integers(0, min(shape[-1], 100), shape[:-1]).astype(label_dtype)
    got = mg.softmax_cross_entropy(x, labels)
    at = labels[..., None].astype(int)
    want = exact_logsumexp(x) - np.take_along_axis(x, at, -1)[..., 0]
    assert_close(got, want, dtype, scale=1.0)

    # dx = softmax − one-hot, against a cotangent
    ct = values(shape[:-1], dtype, 2)
    gradient = mg.vjp(lambda t: mg.softmax_cross_entropy(t, labels), x)[1](ct)[0].numpy()
    slope = exact_softmax(x)
    np.put_along_axis(slope, at, np.take_along_axis(slope, at, -1) - 1, -1)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(gradient.astype(np.longdouble), ct[..., None] * slope, rtol=4 * eps, atol=8 * eps)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1]])
def test_cross_entropy_with_probabilities(shape, dtype):
    x, labels = values(shape, dtype), np.abs(values(shape, dtype, 1))
    labels[..., 0] = 0
    want = (labels * (exact_logsumexp(x, -1, True) - x)).sum(-1)
    assert_close(mg.softmax_cross_entropy(x, labels), want, dtype, ulps=40)
    ct = values(shape[:-1], dtype, 2)
    gradient = mg.vjp(lambda t: mg.softmax_cross_entropy(t, labels), x)[1](ct)[0].numpy()
    mass = labels.astype(np.longdouble).sum(-1, keepdims=True)
    want = ct[..., None] * (exact_softmax(x) * mass - labels)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(
        gradient.astype(np.longdouble), want, rtol=4 * eps, atol=8 * eps * np.max(mass, initial=1)
    )


def test_one_hot_labels_are_classes():
    x, labels = values((5, 4), np.float32), np.array([0, 3, 1, 1, 2])
    want = mg.softmax_cross_entropy(x, labels).numpy()
    for dtype in (np.float32, np.float64, np.int64, np.bool_):
        got = mg.softmax_cross_entropy(x, np.eye(4)[labels].astype(dtype))
        assert got.dtype == np.float32
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_classes_in_another_axis(axis):
    x = values((3, 4, 5))
    labels = np.random.default_rng(1).integers(0, 3, np.delete(x.shape, axis))
    moved = np.moveaxis(x, axis, -1)
    want = mg.softmax_cross_entropy(moved, labels).numpy()
    np.testing.assert_array_equal(mg.softmax_cross_entropy(x, labels, axis).numpy(), want)
    probabilities = np.abs(values((3, 4, 5), seed=2))
    want = mg.softmax_cross_entropy(moved, np.moveaxis(probabilities, axis, -1)).numpy()
    np.testing.assert_array_equal(mg.softmax_cross_entropy(x, probabilities, axis).numpy(), want)
    gradient = mg.grad(lambda t: mg.softmax_cross_entropy(t, labels, axis).sum())(x).numpy()
    one_hot = np.moveaxis(np.eye(x.shape[axis])[labels], -1, axis)
    np.testing.assert_allclose(gradient, (exact_softmax(x, axis) - one_hot).astype(float), rtol=1e-13, atol=1e-15)


def test_edge_shapes():
    assert mg.softmax_cross_entropy(np.zeros((0, 10), np.float32), np.zeros(0, int)).shape == (0,)
    assert mg.grad(lambda t: mg.softmax_cross_entropy(t, np.zeros(0, int)).sum())(np.zeros((0, 10))).shape == (0, 10)
    one = values((3, 1), np.float32)
    assert mg.softmax_cross_entropy(one, np.zeros(3, int)).tolist() == [0, 0, 0]
    assert mg.softmax(one).tolist() == [[1]] * 3
    assert mg.softmax_cross_entropy(values((4,)), np.array(2)).shape == ()
    assert mg.softmax_cross_entropy(values((4,)), 2).shape == ()


@pytest.mark.parametrize("rows", [4, 5000])
@pytest.mark.parametrize("dtype", [np.uint8, np.int64])
def test_the_first_bad_label_is_named(rows, dtype):
    x, labels = values((rows, 10), np.float32), np.zeros(rows, dtype)
    labels[[rows // 2, rows - 1]] = 10, 77
    with pytest.raises(
        errors.IndexRangeError, match=rf"softmax_cross_entropy: labels\[{rows // 2}\] is 10, expected 0 to 9"
    ):
        mg.softmax_cross_entropy(x, labels)
    with pytest.raises(IndexError, match="for 10 classes"), mg.on_device("reference"):
        mg.softmax_cross_entropy(x, labels)
    gradient = get("mg::softmax_cross_entropy_grad")
    with pytest.raises(errors.IndexRangeError, match=rf"labels\[{rows // 2}\] is 10"):
        gradient(np.ones(rows, np.float32), x, labels)
    assert mg.softmax_cross_entropy(x, np.zeros(rows, dtype)).shape == (rows,)  # and nothing of it lingers


def test_bad_labels_of_several_axes():
    labels = np.zeros((2, 3), np.int32)
    labels[1, 2] = -1
    with pytest.raises(errors.IndexRangeError, match=r"labels\[1, 2\] is -1, expected 0 to 3 for 4 classes"):
        mg.softmax_cross_entropy(values((2, 3, 4)), labels)
    with pytest.raises(errors.IndexRangeError, match=r"labels is 4, expected 0 to 3"):
        mg.softmax_cross_entropy(values((4,)), 4)
    huge = np.array([2**63 + 1], np.uint64)
    with pytest.raises(errors.IndexRangeError, match=r"labels\[0\] is 9223372036854775809"):
        mg.softmax_cross_entropy(values((1, 4)), huge)


def test_errors():
    x = values((2, 3))
    for f in (mg.softmax, mg.log_softmax, mg.logsumexp):
        name = f.__name__
        with pytest.raises(errors.ShapeError, match=f"{name}: axis 2 is out of range for 2 dimensions"):
            f(x, 2)
        with pytest.raises(errors.DTypeError, match=f"{name}: x has dtype complex128, expected a real dtype"):
            f(x + 1j)
    for f in (mg.softmax, mg.log_softmax):
        with pytest.raises(errors.ShapeError, match="out of range for 0 dimensions"):
            f(1.0)
        with pytest.raises(errors.ArgumentTypeError, match="axis is None, expected one integer"):
            f(x, None)
        with pytest.raises(errors.ArgumentTypeError, match=r"axis is \(0, 1\), expected one integer"):
            f(x, (0, 1))
    entropy = mg.softmax_cross_entropy
    with pytest.raises(
        errors.ShapeError, match=r"labels has shape \(3,\), expected \(2,\), or \(2, 3\) for probabilities"
    ):
        entropy(x, np.zeros(3, int))
    with pytest.raises(errors.ShapeError, match=r"labels has shape \(3, 2\)"):
        entropy(x, np.zeros((3, 2)))
    with pytest.raises(errors.ShapeError, match=r"labels has shape \(1, 2, 3\)"):
        entropy(x, np.zeros((1, 2, 3)))
    with pytest.raises(errors.DTypeError, match=r"labels has dtype float64, expected integers in the shape \(2,\)"):
        entropy(x, np.zeros(2))
    with pytest.raises(errors.ArgumentError, match="expected at least one class"):
        entropy(np.zeros((2, 0)), np.zeros(2, int))
    with pytest.raises(errors.ShapeError, match="axis 2 is out of range"):
        entropy(x, np.zeros(2, int), axis=2)


def test_integers_become_floats():
    np.testing.assert_allclose(mg.softmax(np.array([0, 1])).numpy(), exact_softmax([0, 1]).astype(float), rtol=1e-15)
    assert mg.softmax(np.array([0, 1])).dtype == np.float64
    half = values((3, 4)).astype(np.float16)
    assert mg.softmax(half).dtype == np.float16
    np.testing.assert_allclose(mg.softmax(half).numpy(), exact_softmax(half).astype(float), rtol=5e-3)
    loss = mg.softmax_cross_entropy(half, np.array([0, 1, 2]))
    np.testing.assert_allclose(
        loss.numpy(), (exact_logsumexp(half) - half[range(3), range(3)]).astype(float), rtol=1e-2
    )


@pytest.mark.parametrize("arrange", [lambda x: x.T, lambda x: x[::-1, ::-2], lambda x: np.broadcast_to(x[:1], (6, 9))])
def test_layouts(arrange):
    x = arrange(values((9, 9), np.float32))
    copy = np.ascontiguousarray(x)
    labels = np.arange(2 * len(x))[::-2] % x.shape[1]
    ct = np.broadcast_to(np.float32(1.5), labels.shape)
    for f in (mg.softmax, mg.log_softmax, lambda t: mg.logsumexp(t, 1), lambda t: mg.softmax_cross_entropy(t, labels)):
        np.testing.assert_array_equal(f(mg.Tensor(x)).numpy(), f(mg.Tensor(copy)).numpy())
    pull = mg.vjp(lambda t: mg.softmax_cross_entropy(t, labels), mg.Tensor(x))[1]
    np.testing.assert_array_equal(
        pull(mg.Tensor(ct))[0].numpy(), pull(np.full(labels.shape, 1.5, np.float32))[0].numpy()
    )


def test_same_bits_from_serial_and_parallel_kernels(monkeypatch):
    import minigrad.devices.cpu as cpu

    x, labels = mg.Tensor(values((5003, 10), np.float32)), np.arange(5003) % 10

    def run():
        results = [mg.softmax(x), mg.log_softmax(x), mg.logsumexp(x, 1), mg.softmax_cross_entropy(x, labels)]
        return [np.array(r) for r in (*results, mg.grad(lambda t: mg.softmax_cross_entropy(t, labels).sum())(x))]

    before = run()
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1 << 60)
    for a, b in zip(before, run()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("f", [mg.softmax, mg.log_softmax])
def test_derivatives(f, axis):
    check_derivatives(lambda t: f(t, axis), values((2, 3)))


def test_derivatives_of_softmax_grad():
    check_derivatives(get("mg::softmax_grad"), values((2, 3)), values((2, 3), seed=1))


LABELS = np.array([2, 0])


def test_derivatives_with_classes():
    check_derivatives(lambda t: mg.softmax_cross_entropy(t, LABELS), values((2, 3)))
    check_derivatives(lambda t: mg.softmax_cross_entropy(t, LABELS, 0), values((3, 2)))


def test_derivatives_of_all_outputs_with_classes():
    """The probabilities are an output with a cotangent, alone and beside that of the loss."""
    primitive = get("mg::softmax_cross_entropy")
    check_derivatives(lambda t: primitive(t, mg.tensor(LABELS)), values((2, 3)))
    check_derivatives(lambda t: primitive(t, mg.tensor(LABELS))[1], values((2, 3)))


def test_derivatives_with_probabilities():
    labels = np.abs(values((2, 3), seed=1))
    check_derivatives(mg.softmax_cross_entropy, values((2, 3)), labels)
    check_derivatives(get("mg::soft_cross_entropy"), values((2, 3)), labels)
    check_derivatives(lambda t: get("mg::soft_cross_entropy")(t, mg.tensor(labels))[1], values((2, 3)))


def test_derivatives_of_the_gradient_primitives():
    ct, p, t = values((2,)), np.abs(values((2, 3), seed=1)), np.abs(values((2, 3), seed=2))
    check_derivatives(lambda ct, p: get("mg::softmax_cross_entropy_grad")(ct, p, mg.tensor(LABELS)), ct, p)
    check_derivatives(get("mg::soft_cross_entropy_grad"), ct, p, t)


def test_third_order():
    """d³/dx³ of log(1 + eˣ), the loss of two classes: s(1−s)(1−2s)."""

    def loss(x):
        return mg.softmax_cross_entropy(mg.concatenate([x.reshape(1), mg.tensor([0.0], "float64")]), 1)

    third = mg.grad(mg.grad(mg.grad(loss)))
    for x in (-1.5, 0.3, 2.0):
        s = 1 / (1 + np.exp(-x))
        assert third(mg.tensor(x, "float64")).item() == pytest.approx(s * (1 - s) * (1 - 2 * s), rel=1e-12)


@pytest.mark.parametrize("name", ["softmax", "cross_entropy"])
def test_examples(name):
    assert doctest.testmod(importlib.import_module(f"minigrad.ops.{name}")).failed == 0
