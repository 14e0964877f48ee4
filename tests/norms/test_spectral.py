"""Spectral norm: the power iteration, the division, its gradient with held vectors, and the wrapper."""

import copy

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

LAYOUTS = {
    "dense": ((5, 3), -1),
    "convolution": ((2, 3, 4, 5), -1),
    "outputs first": ((5, 2, 3, 4), 0),
    "outputs in the middle": ((2, 5, 3), 1),
    "a vector": ((4,), 0),
}


def matrix_of(w, axis):
    """(outputs, others), as the paper has it."""
    moved = np.moveaxis(w, axis, 0)
    return moved.reshape(len(moved), -1)


def draw(layout, seed=0):
    shape, axis = LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    w = 3 * rng.standard_normal(shape)
    rows, columns = matrix_of(w, axis).shape
    u, v = rng.standard_normal(rows), rng.standard_normal(columns)
    return w, u / np.linalg.norm(u), v / np.linalg.norm(v), axis


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_power_iteration_as_in_algorithm_1(layout, iterations, dtype):
    w, u, _, axis = draw(layout)
    matrix = matrix_of(w, axis)
    got_u, got_v = norms.power_iteration(w.astype(dtype), u, axis=axis, iterations=iterations)
    for _ in range(iterations):
        v = matrix.T @ u
        v /= np.linalg.norm(v)
        u = matrix @ v
        u /= np.linalg.norm(u)
    tight = {"rtol": 1e-4, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-11, "atol": 1e-13}
    np.testing.assert_allclose(got_u.numpy(), u, **tight)
    np.testing.assert_allclose(got_v.numpy(), v, **tight)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_division_element_by_element(layout, dtype):
    w, u, v, axis = draw(layout)
    sigma = u @ matrix_of(w, axis) @ v
    got = norms.spectral_norm(w.astype(dtype), u, v, axis)
    assert got.dtype == dtype
    np.testing.assert_allclose(got.numpy(), w / sigma, rtol=1e-11 if dtype == "float64" else 1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradient_holds_the_vectors(layout):
    w, u, v, axis = draw(layout, 1)
    mg.gradcheck.check(lambda w: norms.spectral_norm(w, u, v, axis), [w]).require()
    dy = np.random.default_rng(2).standard_normal(w.shape)
    _, pull = mg.vjp(lambda w: norms.spectral_norm(w, u, v, axis), w)
    sigma = u @ matrix_of(w, axis) @ v
    outer = np.moveaxis(np.outer(u, v).reshape(np.moveaxis(w, axis, 0).shape), 0, axis)
    want = dy / sigma - (dy * w).sum() / sigma**2 * outer  # equation 12 of the paper
    np.testing.assert_allclose(pull(mg.tensor(dy))[0].numpy(), want, rtol=1e-10, atol=1e-12)


def test_no_gradient_reaches_the_vectors():
    w, u, v, _ = draw("dense")
    leaves = [mg.tensor(a, requires_grad=True) for a in (w, u, v)]
    new_u, new_v = norms.power_iteration(leaves[0], leaves[1])
    assert not new_u.requires_grad
    assert not new_v.requires_grad
    norms.spectral_norm(*leaves).sum().backward()
    assert leaves[0].grad is not None
    assert leaves[1].grad is None
    assert leaves[2].grad is None


def test_many_iterations_find_the_largest_singular_value():
    w, u, _, _ = draw("dense", 4)
    u, v = norms.power_iteration(w, u, iterations=200)
    y = norms.spectral_norm(w, u, v).numpy()
    np.testing.assert_allclose(np.linalg.svd(y)[1][0], 1, rtol=1e-12)


def test_products_without_a_direction_leave_the_vectors():
    u, v = np.array([0.6, 0.8]), np.array([0.0, 1.0, 0.0])
    for value in (0.0, np.nan):
        got = norms.power_iteration(np.full((3, 2), value), u, v, iterations=2)
        np.testing.assert_array_equal(got[0].numpy(), u)
        np.testing.assert_array_equal(got[1].numpy(), v)
    zero = norms.spectral_norm(np.zeros((3, 2)), u, v)
    np.testing.assert_array_equal(zero.numpy(), 0)


def test_bad_arguments_are_named():
    w = np.ones((4, 3))
    with pytest.raises(ShapeError, match=r"spectral_norm: u has shape \(4,\), expected \(3,\)"):
        norms.spectral_norm(w, np.ones(4), np.ones(3))
    with pytest.raises(ShapeError, match=r"power_iteration: v has shape \(3,\), expected \(4,\)"):
        norms.power_iteration(w, np.ones(3), np.ones(3))
    with pytest.raises(ShapeError, match=r"axis is \(0, 1\), expected one axis of w with shape \(4, 3\)"):
        norms.spectral_norm(w, np.ones(4), np.ones(3), axis=(0, 1))
    with pytest.raises(ShapeError, match="spectral_norm: axis 2 is out of range"):
        norms.spectral_norm(w, np.ones(4), np.ones(3), axis=2)
    with pytest.raises(ArgumentError, match="iterations is 0, expected a positive integer"):
        norms.power_iteration(w, np.ones(3), iterations=0)
    with pytest.raises(ArgumentError, match="power_iterations is 0"):
        norms.SpectralNormalization(mg.nn.Dense(2), power_iterations=0)
    with pytest.raises(ArgumentTypeError, match="SpectralNormalization: layer is None"):
        norms.SpectralNormalization(None)


# The wrapper


def batch(seed=0, rows=7):
    return mg.tensor(np.random.default_rng(seed).standard_normal((rows, 5)))


def wrapped(iterations=1):
    inner = mg.nn.Dense(
        3, kernel_initializer=lambda s, d, g: np.random.default_rng(5).standard_normal(s), dtype="float64"
    )
    return norms.SpectralNormalization(inner, power_iterations=iterations)


@pytest.mark.parametrize("iterations", [1, 2])
def test_training_iterates_and_inference_does_not(iterations):
    layer = wrapped(iterations)
    x = batch()
    layer(x)
    layer.kernel.assign(3 * np.random.default_rng(6).standard_normal((5, 3)))
    w, u, v = (t.numpy().copy() for t in (layer.kernel, layer.u, layer.v))
    for _ in range(3):
        np.testing.assert_allclose(layer(x).numpy(), x.numpy() @ (w / (u @ w.T @ v)), rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(layer.u.numpy(), u)
    y = layer(x, training=True).numpy()
    for _ in range(iterations):
        v = w @ u / np.linalg.norm(w @ u)
        u = w.T @ v / np.linalg.norm(w.T @ v)
    np.testing.assert_allclose(layer.u.numpy(), u, rtol=1e-12)
    np.testing.assert_allclose(layer.v.numpy(), v, rtol=1e-12)
    np.testing.assert_allclose(y, x.numpy() @ (w / (u @ w.T @ v)), rtol=1e-12, atol=1e-13)


def test_sigma_is_near_from_the_start_and_the_kernel_alone_is_trained():
    layer = wrapped()
    x = batch()
    layer(x)
    assert abs(np.linalg.svd(layer.effective().numpy())[1][0] - 1) < 0.05
    assert list(layer.variables) == ["kernel", "u", "v", "layer/bias"]
    assert {id(t) for t in layer.trainable_variables} == {id(layer.kernel), id(layer.layer.bias)}


def test_two_batches_before_one_backward():
    layer = wrapped()
    layer(batch())
    start = copy.deepcopy(layer)
    losses = [mg.mean(mg.square(layer(batch(seed), training=True))) for seed in (1, 2)]
    (losses[0] + losses[1]).backward()
    total = np.zeros((5, 3))
    for seed in (1, 2):
        start.kernel.grad = None
        mg.mean(mg.square(start(batch(seed), training=True))).backward()
        total += start.kernel.grad.numpy()
    np.testing.assert_allclose(layer.kernel.grad.numpy(), total, rtol=1e-12)


def test_gradients_of_the_wrapped_layer_in_training():
    layer = wrapped()
    x = batch()
    layer(x)
    w = 2 * np.random.default_rng(8).standard_normal((5, 3))
    u, v = layer.u.numpy().copy(), layer.v.numpy().copy()
    v = w @ u / np.linalg.norm(w @ u)
    u = w.T @ v / np.linalg.norm(w.T @ v)
    layer.kernel.assign(w)
    dy = np.random.default_rng(9).standard_normal((7, 3))
    layer(x, training=True).backward(mg.tensor(dy))
    sigma, dw = u @ w.T @ v, x.numpy().T @ dy
    want = dw / sigma - (dw * w).sum() / sigma**2 * np.outer(v, u)
    np.testing.assert_allclose(layer.kernel.grad.numpy(), want, rtol=1e-10, atol=1e-12)


def test_a_nan_in_the_kernel_does_not_ruin_the_vectors():
    layer = wrapped()
    layer(batch())
    kernel, u, v = (t.numpy().copy() for t in (layer.kernel, layer.u, layer.v))
    layer.kernel.assign(np.where(np.arange(15).reshape(5, 3) == 4, np.nan, kernel))
    assert np.isnan(layer(batch(), training=True).numpy()).any()
    np.testing.assert_array_equal(layer.v.numpy(), v)
    np.testing.assert_array_equal(layer.u.numpy(), u)
    layer.kernel.assign(kernel)
    assert np.isfinite(layer(batch(), training=True).numpy()).all()


def test_generators_make_the_start_reproducible():
    def start(seed):
        layer = wrapped()
        layer.set_generator(mg.random.Generator(seed))
        layer.build_once((None, 5))
        layer.kernel.assign(np.eye(5, 3))  # every u is a fixed point of one iteration
        return layer.u.numpy()

    np.testing.assert_array_equal(start(1), start(1))
    assert np.abs(start(1) - start(2)).max() > 1e-9


def test_remove_keeps_the_outputs_of_inference_bit_for_bit():
    layer = wrapped()
    x = batch()
    for seed in range(3):
        layer(batch(seed), training=True)
    want, kernel = layer(x).numpy(), layer.kernel
    plain = layer.remove()
    np.testing.assert_array_equal(plain(x).numpy(), want)
    assert plain.kernel is kernel
    assert list(plain.variables) == ["kernel", "bias"]


def test_bits_do_not_depend_on_threads():
    import numba

    rng = np.random.default_rng(0)
    w, dy = rng.standard_normal((784, 1024)).astype("f4"), rng.standard_normal((784, 1024)).astype("f4")
    u, v = rng.standard_normal(1024).astype("f4"), rng.standard_normal(784).astype("f4")
    before, results = numba.get_num_threads(), set()
    try:
        for threads in range(1, before + 1):
            numba.set_num_threads(threads)
            y, pull = mg.vjp(lambda w: norms.spectral_norm(w, u, v), mg.Tensor(w))
            results.add((y.numpy().tobytes(), pull(mg.Tensor(dy))[0].numpy().tobytes()))
    finally:
        numba.set_num_threads(before)
    assert len(results) == 1
