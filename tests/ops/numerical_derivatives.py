"""Derivatives by central differences in float64 for the tests of operations, apart from the engine's own checks."""

import numpy as np

import minigrad as mg

STEP = 1e-3


def check_derivatives(fn, *arrays, seed=0, signal=True):
    """Compare vjp, jvp and both of the vjp again, cotangents included, with differences, element by element."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(a, np.float64) for a in arrays]
    cotangents = [_zero_mean(rng, y.shape) for y in _values(fn, arrays)]
    _check_once(fn, arrays, cotangents, rng, signal)

    n = len(arrays)

    def gradient(*inputs):
        pull = mg.vjp(fn, *inputs[:n])[1]
        cts = inputs[n:]
        return pull(cts[0] if len(cts) == 1 else tuple(cts))

    inputs = [*arrays, *cotangents]
    # Not of zero mean: that would hide how a gradient depends on the cotangent of a full reduction.
    weights = [rng.standard_normal(a.shape) for a in arrays]
    _check_once(gradient, inputs, weights, rng, signal)


def _check_once(fn, arrays, weights, rng, signal):
    result, pull = mg.vjp(fn, *map(mg.tensor, arrays))
    found = pull(tuple(map(mg.tensor, weights)) if isinstance(result, tuple) else mg.tensor(weights[0]))
    expected = [_difference_gradient(fn, arrays, i, weights) for i in range(len(arrays))]
    for got, want in zip(found, expected):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-7)
    if signal:
        assert max(np.abs(want).max(initial=0) for want in expected) > 1e-2

    tangents = [rng.standard_normal(a.shape) for a in arrays]
    pushed = mg.jvp(fn, tuple(map(mg.tensor, arrays)), tuple(map(mg.tensor, tangents)))[1]
    along = _central(lambda h: _values(fn, [a + h * t for a, t in zip(arrays, tangents)]))
    for got, want in zip(pushed if isinstance(pushed, tuple) else (pushed,), along):
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-7)


def _zero_mean(rng, shape):
    w = rng.standard_normal(shape)
    return w - w.mean() if w.size > 2 else w


def _values(fn, arrays):
    result = fn(*map(mg.tensor, arrays))
    return [np.array(y) for y in (result if isinstance(result, tuple) else (result,))]


def _difference_gradient(fn, arrays, i, weights):
    grad = np.zeros(arrays[i].shape)
    for at in np.ndindex(grad.shape):

        def phi(h, at=at):
            moved = [a.copy() for a in arrays]
            moved[i][at] += h
            return [sum(float((w * y).sum()) for w, y in zip(weights, _values(fn, moved)))]

        grad[at] = _central(phi)[0]
    return grad


def _central(f):
    """(8(f(h) − f(−h)) − (f(2h) − f(−2h)))/12h, of fourth order."""
    values = zip(f(STEP), f(-STEP), f(2 * STEP), f(-2 * STEP))
    return [(8 * (a - b) - (c - d)) / (12 * STEP) for a, b, c, d in values]
