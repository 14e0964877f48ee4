"""Dropout: values, the mask it draws again for its gradients, and its errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import Tensor, errors
from minigrad.devices.philox_reference import words
from minigrad.ops.masking import dropout_p

START = np.array([21, 2**32 - 2], np.uint64)


def mask_of(shape, rate, start=START):
    return (words(start, int(np.prod(shape))) >= np.uint64(round(rate * 2**32))).reshape(shape)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (5,), (3, 1, 7), (40_003,)])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.999])
def test_values(shape, rate, dtype):
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    want = np.where(mask_of(shape, rate), x * np.dtype(dtype).type(1 / (1 - rate)), np.dtype(dtype).type(0))
    got = dropout_p(Tensor(x), Tensor(START), rate=rate).numpy()
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    "view",
    [lambda a: a.T, lambda a: a[::-1, ::-2], lambda a: a[:, 1:4], lambda a: np.broadcast_to(a[:1], a.shape)],
    ids=["transposed", "reversed", "sliced", "broadcast"],
)
def test_strided_inputs_and_cotangents(view):
    x = view(np.random.default_rng(1).standard_normal((6, 11)))
    got = dropout_p(Tensor(x), Tensor(START), rate=0.4).numpy()
    np.testing.assert_array_equal(got, np.where(mask_of(x.shape, 0.4), x * (1 / 0.6), 0))
    leaf = mg.tensor(np.ones(x.shape), requires_grad=True)
    dropout_p(leaf, Tensor(START), rate=0.4).backward(Tensor(x))
    np.testing.assert_array_equal(leaf.grad.numpy(), got)


def test_the_mask_does_not_depend_on_the_dtype():
    drawn = [dropout_p(mg.tensor(np.ones(99, d)), Tensor(START), rate=0.3).numpy() != 0 for d in ("f4", "f8", "f2")]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])


def test_kept_nan_is_nan_and_dropped_nan_is_zero():
    got = dropout_p(mg.tensor(np.full(64, np.nan)), Tensor(START), rate=0.5).numpy()
    np.testing.assert_array_equal(np.isnan(got), mask_of((64,), 0.5))
    assert np.all(got[~mask_of((64,), 0.5)] == 0)


def test_gradient_uses_the_mask_of_the_call_though_the_generator_moved_on():
    g = mg.random.Generator(5)
    x = mg.tensor(np.random.default_rng(2).standard_normal((7, 9)), requires_grad=True)
    y = mg.dropout(x, 0.25, g)
    mg.dropout(x, 0.25, g)
    g.seed(99)
    ct = np.random.default_rng(3).standard_normal((7, 9))
    y.backward(mg.tensor(ct))
    mask = y.numpy() != 0
    assert 0 < mask.sum() < 63
    np.testing.assert_array_equal(x.grad.numpy(), np.where(mask, ct * (1 / 0.75), 0))


def test_first_and_second_derivatives_against_differences():
    rng = np.random.default_rng(4)
    x, u, ct = (rng.standard_normal((4, 5)) for _ in range(3))
    start, h = Tensor(START), 1e-6

    def f(values):
        y = dropout_p(values, start, rate=0.5)
        return (y * y * y * mg.tensor(ct)).sum()

    def along(function, direction):
        return (function(x + h * direction) - function(x - h * direction)) / (2 * h)

    gradient = mg.grad(f)
    slope = float((gradient(mg.tensor(x)).numpy() * u).sum())
    assert abs(slope) > 0.1
    assert slope == pytest.approx(along(lambda a: float(f(mg.tensor(a))), u), rel=1e-6)
    second = mg.grad(lambda a: (gradient(a) * mg.tensor(u)).sum())(mg.tensor(x)).numpy()
    assert np.abs(second).max() > 0.1
    np.testing.assert_allclose(second, along(lambda a: gradient(mg.tensor(a)).numpy(), u), rtol=1e-6, atol=1e-7)


def test_forward_mode_pushes_the_tangent_through_the_same_mask():
    rng = np.random.default_rng(5)
    x, v = rng.standard_normal((3, 8)), rng.standard_normal((3, 8))
    _, tangent = mg.jvp(lambda a: dropout_p(a, Tensor(START), rate=0.5), (mg.tensor(x),), (mg.tensor(v),))
    np.testing.assert_array_equal(tangent.numpy(), np.where(mask_of((3, 8), 0.5), 2 * v, 0))


def test_nothing_of_the_size_of_the_input_is_saved():
    x = mg.tensor(np.ones(1000), requires_grad=True)
    saved = mg.dropout(x, 0.5)._node.saved
    assert sum(t.size for t in saved if isinstance(t, Tensor)) == 2
    assert saved[-1] == ((1000,), (2,))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_expectation_is_kept(rate):
    n = 1_000_000
    y = mg.dropout(mg.tensor(np.ones(n, np.float32)), rate, mg.random.Generator(6)).numpy()
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / (1 - rate))}
    dropped = (y == 0).mean()
    assert abs(dropped - rate) < 4 * np.sqrt(rate * (1 - rate) / n)


def test_rate_zero_is_the_identity_and_draws_nothing():
    g = mg.random.Generator(5)
    x = mg.tensor([1.0, 2.0])
    assert mg.dropout(x, 0, g).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("rate", [1, 1.0, -0.1, 1.5, float("nan")])
def test_bad_rates_raise_and_leave_the_generator_alone(rate):
    g = mg.random.Generator(5)
    with pytest.raises(errors.ArgumentError, match=r"dropout: rate is .*, expected a probability in \[0, 1\)"):
        mg.dropout(mg.tensor([1.0]), rate, g)
    assert g.get_state() == (5, 0)


def test_other_bad_arguments_raise():
    x = mg.tensor([1.0, 2.0])
    with pytest.raises(errors.DTypeError, match="dropout: x has dtype int64, expected a floating-point dtype"):
        mg.dropout(mg.tensor([1, 2]), 0.5)
    with pytest.raises(errors.ArgumentTypeError, match="dropout: rate is 'a', expected a number"):
        mg.dropout(x, "a")
    with pytest.raises(errors.ArgumentTypeError, match="dropout: rate is tensor"):
        mg.dropout(x, mg.tensor(0.5))
    with pytest.raises(errors.ArgumentTypeError, match="generator is 3, expected a minigrad"):
        mg.dropout(x, 0.5, 3)


def test_samples():
    for sample in dropout_p.draw_samples():
        inputs = [Tensor(np.asarray(a)) for a in sample.inputs]
        if sample.error is None:
            want = dropout_p.reference(*sample.inputs, **sample.params)[0]
            np.testing.assert_array_equal(dropout_p(*inputs, **sample.params).numpy(), want)
        else:
            with pytest.raises(sample.error, match=sample.match):
                dropout_p(*inputs, **sample.params)
