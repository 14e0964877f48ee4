"""CUDA kernels over rows at lengths around those of warps, blocks and loads, wherever their memory begins."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad import nn, primitive
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray
from minigrad.devices.cuda.rows import grid_over, moves_of, width_of

SIZES = (1, 31, 32, 33, 255, 257, 1025, 2, 36, 1028)  # the last ones by twos and fours


def placed(a, start=0):
    """The array on the GPU, `start` elements into its memory."""
    flat = np.zeros(a.size + start, a.dtype)
    flat[start:] = a.ravel()
    return mg.tensor(flat, device="cuda")[start:].reshape(a.shape)


def close(got, want):
    tolerance = 2e-5 if want.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


def cross_entropy(x, labels, **where):
    return nn.losses.softmax_cross_entropy(x, mg.tensor(labels % x.shape[1], **where))


def soft_cross_entropy(x, targets):
    return nn.losses.softmax_cross_entropy(x, mg.softmax(targets, 1))


def added(two):
    return two[0] + two[1]


LOSSES = {
    "softmax": lambda x, ct: (mg.softmax(x, 1) * ct).sum(),
    "log_softmax": lambda x, ct: (mg.log_softmax(x, 1) * ct).sum(),
    "logsumexp": lambda x, ct: (mg.logsumexp(x, axis=1) * ct[:, 0]).sum(),
    "cross-entropy": lambda x, ct: cross_entropy(x, np.arange(len(ct)) * 7, device=x.device),
    "soft cross-entropy": lambda x, ct: soft_cross_entropy(x, ct),
    "Lp, p = 1": lambda x, ct: (norms.lp_normalize(x, 1, 1) * ct).sum(),
    "Lp, p = 2": lambda x, ct: (norms.lp_normalize(x, 2, 1) * ct).sum(),
    "Lp, p = inf": lambda x, ct: (norms.lp_normalize(x, np.inf, 1) * ct).sum(),
    "Lp, p = 3": lambda x, ct: (norms.lp_normalize(x, 3, 1) * ct).sum(),
    "weighted moments": lambda x, ct: added([(m * ct[:, 0]).sum() for m in norms.weighted_moments(x, 1, ct * ct + 1)]),
}


#: Those of which a kernel is like another one's, at fewer lengths.
ALIKE = {"log_softmax", "logsumexp", "Lp, p = 1", "Lp, p = inf", "Lp, p = 3"}


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_those_of_the_definitions(name):
    f = mg.value_and_grad(LOSSES[name])
    for n in (1, 33, 36, 257) if name in ALIKE else SIZES:
        rng = np.random.default_rng(n)
        x, ct = rng.standard_normal((2, 2 + (n < 256), n)).astype("f8" if n in (33, 36) else "f4")
        with primitive.on_device("reference"):
            wanted = f(mg.tensor(x), mg.tensor(ct))
        for got, want in zip(f(placed(x), placed(ct)), wanted):
            close(got.numpy(), want.numpy())


def test_the_largest_of_neighbours_may_be_any_of_them():
    x = placed(1000 * np.eye(8, dtype="f4"))  # whose exponential is out of range
    np.testing.assert_array_equal(mg.softmax(x, 1).numpy(), np.eye(8))
    np.testing.assert_array_equal(mg.logsumexp(x, axis=1).numpy(), np.full(8, 1000))


@pytest.mark.parametrize("name", ["cross-entropy", "soft cross-entropy", "Lp, p = 2", "weighted moments", "softmax"])
def test_bits_do_not_depend_on_where_memory_begins(name):
    f = mg.value_and_grad(LOSSES[name])
    x, ct = np.random.default_rng(0).standard_normal((2, 3, 132)).astype("f4")
    whole, shifted, strided = (
        [t.numpy() for t in f(*args)]
        for args in (
            (placed(x), placed(ct)),
            (placed(x, 1), placed(ct, 3)),
            (placed(x.T.copy()).T, placed(np.repeat(ct, 2, 1))[:, ::2]),
        )
    )
    for a, b, c in zip(whole, shifted, strided):
        np.testing.assert_array_equal(b, a)
        np.testing.assert_array_equal(c, a)


@pytest.mark.parametrize("shape", [(1, 1), (3, 31), (33, 32), (5, 36), (36, 260), (2, 1025)], ids=str)
def test_spectral_norm(shape):
    rng = np.random.default_rng(0)
    for kind, start in (("f4", 0), ("f4", 1), ("f8", 0)) if shape[1] == 36 else (("f4", 0),):
        w, dy, left, right = (rng.standard_normal(s).astype(kind) for s in (shape, shape, shape[:1], shape[1:]))
        power, divide = (primitive.get(f"norms::{name}") for name in ("power_iteration", "spectral_norm"))

        def results(w, dy, u, v, power=power, divide=divide):
            u, v = power(w, u, v, iterations=2, right_first=True)

            def loss(w):
                y, sigma = divide(w, u, v)
                return (y * dy).sum() + sigma.sum().astype(y.dtype)

            return u, v, *mg.value_and_grad(loss)(w)

        with primitive.on_device("reference"):
            wanted = results(*[mg.tensor(a) for a in (w, dy, left, right)])
        for got, want in zip(results(*[placed(a, start) for a in (w, dy, left, right)]), wanted):
            close(got.numpy(), want.numpy())


@pytest.mark.parametrize("name", ["layer norm", "sum", "max", "moments"])
def test_bits_of_lines_do_not_depend_on_where_memory_begins(name):
    f = {
        "layer norm": lambda x: mg.vjp(lambda x: norms.layer_norm(x, axis=-1), x)[1](x * x)[0],
        "sum": lambda x: mg.sum(x, 1),
        "max": lambda x: mg.argmax(x, 1),
        "moments": lambda x: norms.moments(x, 1)[1],
    }[name]
    x = np.random.default_rng(0).standard_normal((2, 264)).astype("f4")
    np.testing.assert_array_equal(f(placed(x, 1)).numpy(), f(placed(x)).numpy())


@pytest.mark.parametrize("start", [0, 1])
@pytest.mark.parametrize("inner", [1, 4, 6, 33])
def test_rows_by_index(inner, start):
    rng = np.random.default_rng(inner)
    for kind in ("f4", "i8", "?"):
        x, new = ((10 * rng.standard_normal((n, inner))).astype(kind) for n in (5, 3))
        index, wanted = np.array([3, -5, 3]), x.copy()
        there = placed(x, start)
        np.testing.assert_array_equal(there[mg.tensor(index, device="cuda")].numpy(), x[index])
        wanted[index] = new
        put = primitive.get("mg::put")(there, mg.tensor(index, device="cuda"), placed(new, start), axis=0)
        np.testing.assert_array_equal(put.numpy(), wanted)


def test_how_rows_are_moved():
    assert [width_of(n, 4) for n in (1, 2, 6, 12, 33, 64)] == [1, 2, 2, 4, 1, 4]
    assert [width_of(12, size) for size in (1, 2, 4, 8)] == [4, 4, 4, 2]
    assert width_of(64, 1, most=4) == 4
    a, b = (cuda.to_device(np.arange(70, dtype=kind)) for kind in ("f4", "f8"))
    shifted = DeviceArray(a.lease, (66,), a.dtype, None, 4)
    assert [moves_of(64, *arrays).width for arrays in ((a,), (a, b), (shifted,))] == [4, 2, 4]
    assert moves_of(64, a) == moves_of(32, a)
    assert moves_of(64, a).load is not moves_of(64, shifted).load
    assert [grid_over(*shape) for shape in ((1, 5), (20, 5), (20, 1024), (20, 1025))] == [
        (1, (32, 1)), (3, (32, 8)), (3, (32, 8)), (20, (256, 1)),
    ]  # fmt: skip
