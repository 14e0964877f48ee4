"""The Theano dialect's convolution, pooling, batch normalization and random streams, against loops in NumPy."""

import warnings

import numpy as np
import pytest

import minigrad.dialects.theano.tensor as T
from minigrad import errors
from minigrad.dialects import theano
from minigrad.dialects.theano.sandbox.rng_mrg import MRG_RandomStreams
from minigrad.dialects.theano.tensor.shared_randomstreams import RandomStreams
from minigrad.dialects.theano.tensor.signal import downsample, pool

RNG = np.random.default_rng(0)


def convolved(x, w, border=(0, 0), strides=(1, 1), dilation=(1, 1), flip=True, groups=1):
    """The convolution by its definition, pixel by pixel."""
    if flip:
        w = w[:, :, ::-1, ::-1]
    x = np.pad(x, ((0, 0), (0, 0), (border[0],) * 2, (border[1],) * 2))
    extent = [(n - 1) * d + 1 for n, d in zip(w.shape[2:], dilation)]
    rows, columns = ((x.shape[2 + i] - extent[i]) // strides[i] + 1 for i in range(2))
    out = np.zeros((x.shape[0], w.shape[0], rows, columns))
    per, outs = w.shape[1], w.shape[0] // groups
    for k in range(w.shape[0]):
        part = x[:, k // outs * per : (k // outs + 1) * per]
        for i in range(rows):
            for j in range(columns):
                top, left = i * strides[0], j * strides[1]
                window = part[:, :, top : top + extent[0] : dilation[0], left : left + extent[1] : dilation[1]]
                out[:, k, i, j] = (window * w[k]).sum((1, 2, 3))
    return out


CONVOLUTIONS = [
    ((2, 3, 7, 8), (4, 3, 3, 2), {}, {}),
    ((2, 3, 7, 8), (4, 3, 3, 5), {"border_mode": "half"}, {"border": (1, 2)}),
    ((2, 3, 7, 8), (4, 3, 3, 2), {"border_mode": "full"}, {"border": (2, 1)}),
    ((1, 1, 5, 6), (1, 1, 5, 1), {"border_mode": 2, "filter_flip": False}, {"border": (2, 2), "flip": False}),
    ((2, 1, 9, 8), (3, 1, 2, 3), {"border_mode": (0, 1), "subsample": (2, 3)}, {"border": (0, 1), "strides": (2, 3)}),
    ((1, 2, 9, 8), (3, 2, 3, 2), {"filter_dilation": (2, 3)}, {"dilation": (2, 3)}),
    ((1, 4, 5, 6), (6, 2, 3, 2), {"num_groups": 2}, {"groups": 2}),
    ((2, 3, 4, 5), (4, 3, 1, 1), {}, {}),
]


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d(case):
    x_shape, w_shape, options, reference = case
    a, b = RNG.standard_normal(x_shape), RNG.standard_normal(w_shape)
    x, w = T.tensor4("x"), T.tensor4("w")
    out = T.nnet.conv2d(x, w, input_shape=x_shape, filter_shape=(None, *w_shape[1:]), **options)
    want = convolved(a, b, **reference)
    weight = RNG.standard_normal(want.shape)
    value, gx, gw = theano.function([x, w], [out, *T.grad((out * weight).sum(), [x, w])])(a, b)
    np.testing.assert_allclose(value, want, rtol=1e-12, atol=1e-12)
    # The output is linear in each: its derivative in a direction is the output for that direction.
    for got, direction, moved in [
        (gx, d := RNG.standard_normal(x_shape), lambda d: convolved(d, b, **reference)),
        (gw, e := RNG.standard_normal(w_shape), lambda e: convolved(a, e, **reference)),
    ]:
        assert d.size
        assert e.size
        np.testing.assert_allclose((got * direction).sum(), (weight * moved(direction)).sum(), rtol=1e-10)


def test_conv2d_under_its_older_names():
    from minigrad.dialects.theano.tensor.nnet import conv

    x, w = T.tensor4("x"), T.tensor4("w")
    a, b = RNG.standard_normal((2, 1, 6, 6)), RNG.standard_normal((3, 1, 5, 5))
    out = conv.conv2d(input=x, filters=w, filter_shape=(3, 1, 5, 5), image_shape=(2, 1, 6, 6))
    np.testing.assert_allclose(out.eval({x: a, w: b}), convolved(a, b), rtol=1e-12)
    with pytest.raises(ValueError, match=r"conv2d: input has shape \(1, 1, 6, 6\), expected \(2, 1, 6, 6\)"):
        out.eval({x: a[:1], w: b})
    for options, kind, message in [
        ({"border_mode": "same"}, ValueError, "border_mode is 'same'"),
        ({"subsample": (0, 1)}, ValueError, "subsample is"),
        ({"input_shape": (2, 3, 6, 6), "filter_shape": (3, 1, 5, 5)}, ValueError, "as many channels in both"),
        ({"filter_shape": (5, 5)}, ValueError, "expected 4 lengths"),
        ({"imshp": (5, 5)}, TypeError, r"got \['imshp'\]"),
        ({"unshared": True}, ValueError, "unshared"),
    ]:
        with pytest.raises(kind, match=message):
            T.nnet.conv2d(x, w, **options)


def pooled(x, size, strides, ignore_border, pad=(0, 0), mode="max"):
    """Pooling by its definition: windows, clipped to the image unless they are left out."""
    fill = -np.inf if mode == "max" else np.nan if mode != "average_inc_pad" else 0.0
    x = np.pad(x, ((0, 0), (0, 0), (pad[0],) * 2, (pad[1],) * 2), constant_values=fill)
    counts = []
    for n, k, s in zip(x.shape[2:], size, strides):
        if ignore_border:
            counts.append((n - k) // s + 1)
        elif s >= k:
            counts.append((n - 1) // s + 1)
        else:
            counts.append(max(0, (n - 1 - k + s) // s) + 1)
    reduce = {"max": np.max, "sum": np.nansum, "average_inc_pad": np.mean, "average_exc_pad": np.nanmean}[mode]
    out = np.empty((*x.shape[:2], *counts))
    for i in range(counts[0]):
        for j in range(counts[1]):
            top, left = i * strides[0], j * strides[1]
            out[:, :, i, j] = reduce(x[:, :, top : top + size[0], left : left + size[1]], axis=(2, 3))
    return out


@pytest.mark.parametrize("mode", ["max", "sum", "average_inc_pad", "average_exc_pad"])
@pytest.mark.parametrize("size", [(2, 2), (3, 2), (1, 4)])
@pytest.mark.parametrize("strides", [None, (1, 2), (3, 3), (2, 1)])
def test_pool_2d(mode, size, strides):
    a = RNG.standard_normal((2, 3, 7, 8))
    x = T.tensor4("x")
    for ignore_border, pad in [(True, (0, 0)), (False, (0, 0)), (True, (size[0] // 2, size[1] // 2))]:
        out = pool.pool_2d(x, size, ignore_border, stride=strides, pad=pad, mode=mode)
        want = pooled(a, size, strides or size, ignore_border, pad, mode)
        np.testing.assert_allclose(out.eval({x: a}), want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", ["max", "sum", "average_inc_pad", "average_exc_pad"])
def test_gradient_of_pool_2d(mode):
    a = RNG.standard_normal((1, 2, 5, 5))
    x = T.tensor4("x")
    out = pool.pool_2d(x, (2, 2), False, mode=mode)
    weight = RNG.standard_normal((1, 2, 3, 3))
    got = T.grad((out * weight).sum(), x).eval({x: a})
    want = np.empty_like(a)
    for place in np.ndindex(a.shape):
        ends = []
        for step in (1e-6, -1e-6):
            moved = a.copy()
            moved[place] += step
            ends.append((weight * pooled(moved, (2, 2), (2, 2), False, mode=mode)).sum())
        want[place] = (ends[0] - ends[1]) / 2e-6
    np.testing.assert_allclose(got, want, rtol=1e-7, atol=1e-8)


def test_pool_2d_arguments():
    x, m = T.tensor4("x"), T.matrix("m")
    a = RNG.standard_normal((2, 3, 6, 6))
    want = pooled(a, (2, 2), (2, 2), True)
    np.testing.assert_array_equal(downsample.max_pool_2d(x, ds=(2, 2), ignore_border=True).eval({x: a}), want)
    np.testing.assert_array_equal(T.signal.pool.pool_2d(x, ws=2, st=(2, 2), ignore_border=True).eval({x: a}), want)
    np.testing.assert_array_equal(pool.pool_2d(m, (2, 2), True).eval({m: a[0, 0]}), want[0, 0])
    same = pool.max_pool_2d_same_size(m, (2, 2)).eval({m: a[0, 0]})
    assert (same != 0).sum() == 9
    np.testing.assert_array_equal(same.reshape(3, 2, 3, 2).sum((1, 3)), want[0, 0])
    clipped = pooled(a[..., 1:, :], (2, 2), (2, 2), False)
    np.testing.assert_array_equal(downsample.max_pool_2d(x, (2, 2)).eval({x: a[..., 1:, :]}), clipped)
    with pytest.warns(UserWarning, match="ignore_border is not given"):
        pool.pool_2d(x, (2, 2))
    for arguments, options, message in [
        ((x, (2, 2), True), {"ds": (2, 2)}, "ws and ds are the same"),
        ((x, None, True), {}, "takes ws"),
        ((x, (2, 0), True), {}, "ws is"),
        ((x, (2, 2), True), {"mode": "mean"}, "mode is 'mean'"),
        ((x, (2, 2), False), {"pad": (1, 1)}, "takes ignore_border=True"),
        ((x, (2, 2), True), {"pad": (2, 1)}, "expected less than the window"),
        ((T.vector(), (2, 2), True), {}, "input has 1 dimensions"),
    ]:
        with pytest.raises(ValueError, match=message):
            pool.pool_2d(*arguments, **options)
    with pytest.raises(TypeError, match="dtype int64"):
        pool.pool_2d(T.lmatrix(), (2, 2), True)


BATCHES = [
    ("per-activation", (5, 3), (0,)),
    ("per-activation", (5, 2, 3, 4), (0,)),
    ("spatial", (5, 2, 3, 4), (0, 2, 3)),
]
BATCHES += [((0, 1), (5, 2, 3), (0, 1))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("case", BATCHES)
def test_batch_normalization_train(case, full, dtype):
    axes, shape, over = case
    a = (RNG.standard_normal(shape) * 3 + 1).astype(dtype)
    lengths = tuple(1 if i in over else n for i, n in enumerate(shape))
    if not full:
        lengths = tuple(n for i, n in enumerate(shape) if i not in over)
    gamma, beta = (RNG.uniform(0.5, 2, lengths).astype(dtype) for _ in range(2))
    old_mean, old_var = (RNG.uniform(0.5, 2, lengths).astype(dtype) for _ in range(2))
    flags = [full and i in over for i in range(len(lengths))]
    x = T.TensorType(dtype, [False] * len(shape))("x")
    g, b, rm, rv = (theano.shared(v, broadcastable=flags) for v in (gamma, beta, old_mean, old_var))
    found = T.nnet.bn.batch_normalization_train(x, g, b, axes, 1e-3, 0.25, rm, rv)
    assert len(found) == 5
    out, mean, invstd, new_mean, new_var = theano.function([x], list(found))(a)
    wide = a.astype(np.float64)
    m, v = wide.mean(over, keepdims=True), wide.var(over, keepdims=True)
    spread = gamma.reshape(m.shape), beta.reshape(m.shape)
    tolerance = {"rtol": 1e-5 if dtype == "float32" else 1e-12, "atol": 1e-5 if dtype == "float32" else 1e-12}
    np.testing.assert_allclose(out, (wide - m) / np.sqrt(v + 1e-3) * spread[0] + spread[1], **tolerance)
    count = a.size / m.size
    for got, want in [
        (mean, m),
        (invstd, 1 / np.sqrt(v + 1e-3)),
        (new_mean, old_mean.reshape(m.shape) * 0.75 + 0.25 * m),
        (new_var, old_var.reshape(m.shape) * 0.75 + 0.25 * v * count / (count - 1)),
    ]:
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want.reshape(lengths), **tolerance)
    short = T.nnet.batch_normalization_train(x, g, b, axes, epsilon=1e-3)
    assert len(short) == 3
    test = T.nnet.batch_normalization_test(x, g, b, rm, rv, axes, epsilon=1e-3).eval({x: a})
    deviation = np.sqrt(old_var.reshape(m.shape) + 1e-3)
    np.testing.assert_allclose(
        test, (wide - old_mean.reshape(m.shape)) / deviation * spread[0] + spread[1], **tolerance
    )


def test_gradients_of_batch_normalization():
    """Those of all outputs, statistics too, are those of the formula written out."""
    a, gamma, beta = RNG.standard_normal((5, 2, 3)), RNG.standard_normal((1, 2, 1)), RNG.standard_normal((1, 2, 1))
    x = T.tensor3("x")
    g, b = (theano.shared(v, broadcastable=(True, False, True)) for v in (gamma, beta))
    fused = T.nnet.bn.batch_normalization_train(x, g, b, "spatial", 1e-3)
    mean, var = x.mean((0, 2), keepdims=True), x.var((0, 2), keepdims=True)
    invstd = 1 / T.sqrt(var + 1e-3)
    plain = (x - mean) * invstd * g + b, mean, invstd
    weights = [RNG.standard_normal(s) for s in ((5, 2, 3), (1, 2, 1), (1, 2, 1))]
    found = []
    for outputs in (fused, plain):
        cost = sum(((o * w).sum() for o, w in zip(outputs, weights)), T.constant(0.0))
        first = T.grad(cost, [x, g, b])
        second = T.grad((first[0] * a**2).sum(), [x, g])
        found.append(theano.function([x], [*first, *second])(a))
    for got, want in zip(*found):
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)


def test_running_statistics_survive_bad_batches():
    x = T.matrix("x")
    g, b = np.ones((1, 2)), np.zeros((1, 2))
    m, v = theano.shared(np.full((1, 2), 3.0)), theano.shared(np.full((1, 2), 4.0))
    _, _, _, new_m, new_v = T.nnet.bn.batch_normalization_train(x, g, b, running_mean=m, running_var=v)
    f = theano.function([x], [], updates=[(m, new_m), (v, new_v)])
    f([[np.nan, 1.0], [0.0, 5.0]])
    np.testing.assert_allclose(m.get_value(), [[3.0, 3.0]])
    np.testing.assert_allclose(v.get_value(), [[4.0, 4.0 * 0.9 + 0.8]])
    f(np.zeros((0, 2)))
    np.testing.assert_allclose(v.get_value(), [[4.0, 4.4]])
    with pytest.raises(errors.ArgumentError, match=r"inputs has shape \(1, 2\), one value a statistic"):
        f([[1.0, 2.0]])


def test_batch_normalization_arguments():
    x = T.matrix("x")
    one = np.ones((1, 3))
    train = T.nnet.bn.batch_normalization_train
    for arguments, options, kind, message in [
        ((x, one, one), {"epsilon": 1e-6}, ValueError, "epsilon is 1e-06, expected at least 1e-05"),
        ((x, one, one), {"axes": "channels"}, ValueError, "axes is 'channels'"),
        ((x, one, one), {"running_mean": one}, ValueError, "both, or none"),
        ((x, one[None], one), {}, ValueError, "gamma has 3 dimensions, expected 2"),
        ((x, one, one[0]), {}, ValueError, "gamma and beta differ"),
        ((T.lmatrix(), one, one), {}, TypeError, "dtype int64"),
    ]:
        with pytest.raises(kind, match=message):
            train(*arguments, **options)
    train(x, one, one, epsilon=1e-5)
    with pytest.raises(ValueError, match=r"gamma has shape \(1, 3\), expected \(1, 4\)"):
        train(x, one, one)[0].eval({x: np.ones((2, 4))})
    old = T.nnet.bn.batch_normalization(x, 2 * one, one, 0.5 * one, 4 * one).eval({x: np.full((2, 3), 2.5)})
    np.testing.assert_allclose(old, 2.0)


def test_a_constant_batch_gives_beta():
    x = T.matrix("x")
    out = T.nnet.bn.batch_normalization_train(x, np.full((1, 2), 3.0), np.array([[0.1, 0.7]]))[0]
    np.testing.assert_array_equal(out.eval({x: np.full((4, 2), 1e6 / 3)}), np.tile([0.1, 0.7], (4, 1)))


@pytest.mark.parametrize("streams", [RandomStreams, MRG_RandomStreams])
def test_random_variables(streams):
    srng = streams(seed=234)
    n = 40_000
    x = T.matrix("x")
    draws = {
        "uniform": (srng.uniform((n,), low=-1, high=3), 1.0, 4 / np.sqrt(12)),
        "normal": (srng.normal((n,), avg=2.0, std=0.5), 2.0, 0.5),
        "binomial": (srng.binomial((n,), n=1, p=0.3), 0.3, np.sqrt(0.21)),
        "trials": (srng.binomial((n,), n=5, p=0.3), 1.5, np.sqrt(5 * 0.21)),
        "integers": (srng.random_integers((n,), 1, 6), 3.5, np.sqrt(35 / 12)),
        "choice": (srng.choice((n,), a=T.constant([10.0, 20.0])), 15.0, 5.0),
    }
    f = theano.function([], [d for d, _, _ in draws.values()])
    first, second = f(), f()
    for (name, (v, mean, std)), a, b in zip(draws.items(), first, second):
        assert a.shape == (n,), name
        assert a.dtype == v.dtype, name
        assert abs(a.mean() - mean) < 5 * std / np.sqrt(n), name
        assert abs(a.std() - std) < 0.02 * std + 5 * std / np.sqrt(n), name
        assert (a != b).any(), name
    assert draws["binomial"][0].dtype == "int64"
    assert set(first[4].tolist()) == {1, 2, 3, 4, 5, 6}
    rows = theano.function([x], srng.multinomial(pvals=x))(np.tile([0.2, 0.0, 0.8], (n, 1)))
    np.testing.assert_array_equal(rows.sum(1), np.ones(n))
    np.testing.assert_allclose(rows.mean(0), [0.2, 0.0, 0.8], atol=0.015)
    order = theano.function([], srng.permutation(n=50))()
    assert sorted(order.tolist()) == list(range(50))
    some = theano.function([], srng.choice((5,), a=8, replace=False))()
    assert len(set(some.tolist())) == 5
    assert max(some) < 8
    shuffled = srng.shuffle_row_elements(T.constant(np.arange(30.0))).eval()
    assert sorted(shuffled.tolist()) == list(range(30))


def test_random_streams_follow_the_seed():
    def drawn(seed):
        srng = RandomStreams(seed)
        one, two = srng.uniform((3,)), srng.uniform((3,))
        return theano.function([], [one, two, one])

    a, b = drawn(1), drawn(1)
    one, two, again = a()
    np.testing.assert_array_equal(one, again)  # a variable has one value a call
    assert (one != two).all()
    np.testing.assert_array_equal(b(), [one, two, again])
    assert (a()[0] != one).all()
    assert (drawn(2)()[0] != one).all()
    srng = RandomStreams(7)
    v = srng.normal((2, 2))
    f = theano.function([], v)
    kept = theano.function([], v, no_default_updates=True)
    np.testing.assert_array_equal(kept(), kept())
    first = f()
    srng.seed(7)
    np.testing.assert_array_equal(f(), first)
    with pytest.raises(errors.ArgumentError, match="seed is 'x'"):
        RandomStreams("x")


def test_the_shape_of_random_variables():
    srng, x, n = RandomStreams(1), T.matrix("x"), T.iscalar("n")
    a = np.zeros((3, 4))
    assert srng.normal(x.shape).eval({x: a}).shape == (3, 4)
    assert srng.normal((n, x.shape[1], 2)).eval({x: a, n: 5}).shape == (5, 4, 2)
    assert srng.uniform(low=x, high=x + 1).eval({x: a}).shape == (3, 4)
    assert srng.uniform(T.stack([n, n]) * 2, ndim=2).eval({n: 2}).shape == (4, 4)
    assert srng.uniform(()).eval().shape == ()
    with pytest.raises(TypeError, match="dtype is int64"):
        srng.normal((2,), dtype="int64")
    with pytest.raises(TypeError, match=r"got \['rate'\]"):
        srng.normal((2,), rate=1)


def test_dropout():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        srng = RandomStreams(np.random.RandomState(0).randint(999999))
    x = T.matrix("x")
    mask = srng.binomial(n=1, p=0.75, size=x.shape)
    dropped = x * T.cast(mask, theano.config.floatX)
    value, slope = theano.function([x], [dropped, T.grad(dropped.sum(), x)])(np.full((200, 50), 3.0))
    np.testing.assert_array_equal(value, 3 * slope)
    assert set(np.unique(slope)) == {0.0, 1.0}
    assert abs(slope.mean() - 0.75) < 0.03
