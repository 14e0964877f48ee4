"""Reductions against NumPy, element by element, and against references in extended precision."""

import doctest
import warnings

import numpy as np
import pytest
from numerical_derivatives import check_derivatives

import minigrad as mg
from minigrad import errors
from minigrad.ops import reductions

SHAPES_AND_AXES = [
    ((), None),
    ((1,), 0),
    ((7,), None),
    ((2, 3), None),
    ((2, 3), 0),
    ((2, 3), 1),
    ((2, 3), (0, 1)),
    ((2, 3), ()),
    ((3, 5, 2), 1),
    ((3, 5, 2), (0, 2)),
    ((3, 5, 2), (-1, 0)),
    ((2, 3, 5, 4), (0, 2)),
    ((2, 3, 5, 4), (1, 3)),
    ((2, 3, 5, 4), (0, 2, 3)),
    ((2, 3, 5, 4), (0, 1, 2)),
    ((4, 1, 3), 1),
    ((0, 3), 1),
    ((3, 0, 2), (0,)),
]
# Large enough that work is cut up: over outputs, over what is reduced, and both, with remainders everywhere.
LARGE = [
    ((70001,), None),
    ((20011, 3), 0),
    ((20011, 3), 1),
    ((301, 257), 0),
    ((301, 257), 1),
    ((9, 2500), 0),
    ((3, 30011), 1),
    ((37, 5, 31, 7), (0, 2, 3)),
    ((5, 4099, 6), 1),
    ((2, 17001, 1, 3), (0, 2)),
]


def values(shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def assert_right(got, exact, dtype, scale):
    """Within two units in the last place of the largest thing summed."""
    assert got.dtype == dtype
    assert got.shape == exact.shape
    eps = np.finfo(dtype).eps
    np.testing.assert_array_less(np.abs(got.numpy() - exact), 2 * eps * (np.abs(exact) + scale) + 1e-300)


def exact_var(x, axis, ddof=0, keepdims=False):
    x = x.astype(np.longdouble)
    d = x - x.mean(axis=axis, keepdims=True)
    n = x.size if axis is None else np.prod([x.shape[a] for a in np.atleast_1d(axis).astype(int)])
    return (d * d).sum(axis=axis, keepdims=keepdims) / (n - ddof)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SHAPES_AND_AXES)
def test_values(shape, axis, keepdims, dtype):
    x = values(shape, dtype)
    wide = x.astype(np.longdouble)
    args = {"axis": axis, "keepdims": keepdims}
    small = np.float64(0) if dtype == np.float32 else 20.0  # float32 is carried in float64, float64 in itself
    assert_right(mg.sum(x, **args), wide.sum(**args), dtype, small + 1e-7)
    assert_right(mg.mean(x, **args), wide.mean(**args), dtype, small + 1e-7)
    assert_right(mg.var(x, **args), exact_var(x, axis, keepdims=keepdims), dtype, 1.0)
    assert_right(mg.std(x, **args), np.sqrt(exact_var(x, axis, keepdims=keepdims)), dtype, 1.0)
    for name in ("max", "min"):
        np.testing.assert_array_equal(getattr(mg, name)(x, **args).numpy(), getattr(np, name)(x, **args))
    for name in ("any", "all"):
        signs = np.where(x > 0.5, x, 0)
        result = getattr(mg, name)(signs, **args)
        assert result.dtype == np.bool_
        np.testing.assert_array_equal(result.numpy(), getattr(np, name)(signs, **args))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("shape", "axis"), LARGE)
def test_values_of_large_arrays(shape, axis, dtype):
    x = (values(shape, dtype, 1) + 3).astype(dtype)
    wide = x.astype(np.longdouble)
    scale = 0 if dtype == np.float32 else 40 * np.abs(wide).sum(axis=axis)
    assert_right(mg.sum(x, axis), wide.sum(axis=axis), dtype, scale)
    n = x.size / wide.sum(axis=axis).size
    assert_right(mg.mean(x, axis), wide.mean(axis=axis), dtype, scale / n)
    assert_right(mg.var(x, axis, ddof=1), exact_var(x, axis, 1), dtype, 0 if dtype == np.float32 else 40.0)
    np.testing.assert_array_equal(mg.max(x, axis).numpy(), x.max(axis=axis))
    np.testing.assert_array_equal(mg.min(x, axis).numpy(), x.min(axis=axis))


@pytest.mark.parametrize(
    "arrange",
    [lambda x: x.T, lambda x: x[::-1, ::-2], lambda x: np.broadcast_to(x[:, :1], (40, 9)), lambda x: x[3:4].T],
)
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_layouts(arrange, axis):
    x = arrange(values((40, 13), np.float32))
    copy = np.ascontiguousarray(x)
    t = mg.Tensor(x)
    for name in ("sum", "mean", "var", "max", "min", "argmax"):
        got, want = getattr(mg, name)(t, axis=axis).numpy(), getattr(mg, name)(mg.Tensor(copy), axis=axis).numpy()
        np.testing.assert_array_equal(got, want)
    np.testing.assert_allclose(mg.sum(t, axis=axis).numpy(), copy.sum(axis=axis), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), LARGE)
def test_same_bits_from_serial_and_parallel_kernels(shape, axis, monkeypatch):
    import minigrad.devices.cpu as cpu

    x = mg.Tensor(values(shape, np.float32, 2))
    first = [f(x, axis).numpy().copy() for f in (mg.sum, mg.var)]
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1 << 60)
    for before, now in zip(first, [f(x, axis).numpy() for f in (mg.sum, mg.var)]):
        np.testing.assert_array_equal(before, now)


def test_variance_survives_a_large_mean():
    x = (1e4 + values((1000, 5), np.float32)).astype(np.float32)
    assert_right(mg.var(x, 0), exact_var(x, 0), np.float32, 0)
    assert_right(mg.var(x.T.copy(), 1), exact_var(x, 0), np.float32, 0)
    gradient = mg.grad(lambda t: mg.var(t, 0).sum())(mg.tensor(x)).numpy()
    wide = x.astype(np.float64)
    np.testing.assert_allclose(gradient, 2 / 1000 * (wide - wide.mean(0)), rtol=1e-5, atol=1e-8)


def test_a_sum_of_float32_is_carried_in_float64():
    x = np.array([1e8, 1.0, -1e8, 1.0], np.float32)
    assert mg.sum(x).item() == 2.0
    assert mg.sum(np.repeat(x[:, None], 3, 1), 0).tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int32, np.int64])
def test_integers(dtype):
    x = np.random.default_rng(3).integers(0, 2 if dtype == np.bool_ else 100, (4, 5)).astype(dtype)
    for name in ("sum", "max", "min", "argmax", "argmin", "mean", "var", "std", "any", "all"):
        for axis in (None, 0, 1):
            got, want = getattr(mg, name)(x, axis=axis), getattr(np, name)(x, axis=axis)
            assert got.dtype == want.dtype, name
            np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)
    np.testing.assert_array_equal(mg.sum_to(x, (5,)).numpy(), x.sum(axis=0))


def test_float16_and_complex():
    half = values((3, 4)).astype(np.float16)
    wide = half.astype(np.float64)
    for got, want in [(mg.sum(half, 0), wide.sum(0)), (mg.mean(half, 1), wide.mean(1)), (mg.var(half, 1), wide.var(1))]:
        assert got.dtype == np.float16
        np.testing.assert_allclose(got.numpy(), want, rtol=5e-3, atol=5e-3)
    z = values((3, 4)) + 1j * values((3, 4), seed=1)
    np.testing.assert_allclose(mg.sum(z, 0).numpy(), z.sum(0), rtol=1e-14)
    np.testing.assert_allclose(mg.sum_to(z, (3, 1)).numpy(), z.sum(1, keepdims=True), rtol=1e-14)


def test_empty_axes():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for dtype in (np.float32, np.float64, np.float16):
            x = np.zeros((0, 3), dtype)
            np.testing.assert_array_equal(mg.sum(x, 0).numpy(), np.zeros(3))
            assert mg.sum(x).item() == 0
            np.testing.assert_array_equal(mg.mean(x, 0).numpy(), np.full(3, np.nan))
            assert np.isnan(mg.mean(x).item())
            np.testing.assert_array_equal(mg.var(x, 0).numpy(), np.full(3, np.nan))
            np.testing.assert_array_equal(mg.sum_to(x, (1, 3)).numpy(), np.zeros((1, 3)))
        assert mg.mean(np.zeros((3, 0), np.float32), 1).shape == (3,)
    for f in (mg.max, mg.min):
        assert f(np.zeros((0, 3)), 1).shape == (0,)
        with pytest.raises(
            errors.ArgumentError, match=r"shape \(2, 0, 3\), expected elements along the reduced axis 1"
        ):
            f(np.zeros((2, 0, 3)), (0, 1))
    for f in (mg.argmax, mg.argmin):
        assert f(np.zeros((0, 3)), 1).shape == (0,)
        with pytest.raises(errors.ArgumentError, match=r"arg.*: x has shape \(0, 3\), expected elements along axis 0"):
            f(np.zeros((0, 3)), 0)


def test_degrees_of_freedom():
    x = np.array([1.0, 3.0])
    assert mg.var(x, ddof=1).item() == 2.0
    assert mg.var(x, ddof=0.5).item() == pytest.approx(2 / 1.5)
    assert mg.var(x, ddof=2).item() == np.inf
    assert np.isnan(mg.var(np.array([1.0]), ddof=1).item())


@pytest.mark.parametrize("shape", [(11,), (5, 3), (2000, 3)])
def test_nan_and_infinities_propagate(shape):
    for dtype in (np.float32, np.float64):
        x = values(shape, dtype)
        x[..., 1] = np.nan
        for name in ("sum", "mean", "var", "max", "min"):
            np.testing.assert_array_equal(np.isnan(getattr(mg, name)(x, -1).numpy()), np.ones(shape[:-1], bool))
        np.testing.assert_array_equal(mg.argmax(x, -1).numpy(), np.argmax(x, -1))
        np.testing.assert_array_equal(mg.argmin(x, -1).numpy(), np.ones(shape[:-1]))
        x[..., 1] = np.inf
        np.testing.assert_array_equal(mg.sum(x, -1).numpy(), np.full(shape[:-1], np.inf))
        np.testing.assert_array_equal(mg.max(x, -1).numpy(), np.full(shape[:-1], np.inf))


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("keepdims", [False, True])
def test_argmax_takes_the_first(axis, keepdims):
    x = np.array([[1, 3, 3], [3, 0, 0]], np.float32)
    for name in ("argmax", "argmin"):
        got, want = getattr(mg, name)(x, axis, keepdims=keepdims), getattr(np, name)(x, axis, keepdims=keepdims)
        assert got.dtype == np.int64
        np.testing.assert_array_equal(got.numpy(), want)
    assert not mg.argmax(mg.tensor(x, requires_grad=True)).requires_grad


@pytest.mark.parametrize(
    ("shape", "target"),
    [
        ((2, 3), (2, 3)),
        ((2, 3), (3,)),
        ((2, 3), (1, 3)),
        ((2, 3), (2, 1)),
        ((2, 3), ()),
        ((4, 2, 3, 5), (2, 1, 5)),
        ((4, 2, 3, 5), (1, 2, 3, 1)),
        ((1, 3), (3,)),
        ((0, 3), (3,)),
        ((0, 3), (1, 1)),
        ((60, 100), (100,)),
        ((300, 200), (200,)),
    ],
)
def test_sum_to(shape, target):
    x = values(shape, np.float32)
    got = mg.sum_to(x, target)
    # The transpose of broadcasting: ⟨sum_to(x), e⟩ = ⟨x, broadcast(e)⟩ for every unit vector e.
    assert got.shape == target
    for at in list(np.ndindex(target))[:20]:
        unit = np.zeros(target)
        unit[at] = 1
        want = (x.astype(np.float64) * np.broadcast_to(unit, shape)).sum()
        assert got.numpy()[at] == pytest.approx(want, rel=1e-6, abs=1e-6)


def test_sum_to_the_same_shape_is_x_itself():
    x = mg.tensor([[1.0, 2.0]])
    assert mg.sum_to(x, (1, 2)) is x
    assert x.sum_to((1, 2)) is x


AXES = [None, 0, 1, (0, 2)]
DIFFERENTIABLE = [(n, a) for n in ("sum", "mean", "var", "std", "max", "min") for a in AXES]
# Of single elements the variance is 0, where its root has no derivative.
DIFFERENTIABLE += [(n, ()) for n in ("sum", "mean", "var", "max", "min")]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("name", "axis"), DIFFERENTIABLE)
def test_derivatives(name, axis, keepdims):
    rng = np.random.default_rng(4)
    x = rng.permutation(12).reshape(2, 3, 2) / 4.0 + 0.01 * rng.standard_normal((2, 3, 2))  # no two within a step
    check_derivatives(
        lambda t: getattr(mg, name)(t, axis=axis, keepdims=keepdims), x, signal=(name, axis) != ("var", ())
    )


@pytest.mark.parametrize("target", [(3, 2), (1, 2), (2, 1, 2), (), (3, 1)])
def test_derivatives_of_sum_to(target):
    check_derivatives(lambda t: mg.sum_to(t * t, target), values((2, 3, 2)))


def test_derivatives_inside_nonlinear_functions():
    check_derivatives(lambda t: mg.sum(t * t, 0) * mg.mean(t, 1, keepdims=True) / (1 + mg.var(t)), values((2, 3)))


def test_derivatives_of_strided_inputs_and_cotangents():
    x, w = values((6, 8))[::-2, ::2].T, values((2, 3))
    check_derivatives(
        lambda t: mg.var(t.T, 1, ddof=1) + mg.max(t, 0) * mg.sum(mg.broadcast_to(mg.mean(t, 0), (2, 3))), x
    )
    gradient = mg.grad(lambda t: (mg.sum(t, 1) * mg.Tensor(w[:, ::-1][0])).sum())(mg.tensor(values((3, 4))))
    np.testing.assert_array_equal(gradient.numpy(), np.broadcast_to(w[0, ::-1, None], (3, 4)))


def test_ties_share_the_gradient():
    x = mg.tensor([[2.0, 5.0, 5.0, 1.0], [0.0, 0.0, 0.0, 0.0]])
    gradient = mg.grad(lambda t: (mg.max(t, 1) * mg.tensor([1.0, 8.0])).sum())(x)
    np.testing.assert_array_equal(gradient.numpy(), [[0, 0.5, 0.5, 0], [2, 2, 2, 2]])
    gradient = mg.grad(lambda t: mg.min(t, (0, 1)))(x)
    np.testing.assert_array_equal(gradient.numpy(), [[0, 0, 0, 0], [0.25] * 4])
    _, tangent = mg.jvp(lambda t: mg.max(t, 1), (x,), (mg.tensor([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 3.0, 6.0]]),))
    np.testing.assert_array_equal(tangent.numpy(), [3, 3])


@pytest.mark.parametrize("name", ["sum", "mean", "var", "std", "max", "min", "any", "all", "argmax", "argmin"])
def test_errors(name):
    f = getattr(mg, name)
    said = "var" if name == "std" else name
    with pytest.raises(errors.ShapeError, match=f"{said}: axis 2 is out of range for 2 dimensions"):
        f(np.ones((2, 3)), 2)
    with pytest.raises(errors.ShapeError, match=f"{said}: axis -3 is out of range"):
        f(np.ones((2, 3)), -3)
    with pytest.raises(errors.ArgumentTypeError, match=f"{said}: axis is 1.5, expected"):
        f(np.ones((2, 3)), 1.5)
    if name.startswith("arg"):
        with pytest.raises(errors.ArgumentTypeError, match=r"axis is \(0, 1\), expected one integer"):
            f(np.ones((2, 3)), (0, 1))
    else:
        with pytest.raises(errors.ArgumentError, match="names an axis twice"):
            f(np.ones((2, 3)), (1, -1))


def test_sum_to_errors():
    for target in [(2,), (2, 3, 1), (1, 2, 3), (3, 3)]:
        with pytest.raises(errors.ShapeError, match=r"sum_to: shape is .*, expected one that broadcasts to x's shape"):
            mg.sum_to(np.ones((2, 3)), target)


def test_methods():
    x = mg.tensor([[1.0, 2.0], [3.0, 7.0]])
    assert x.sum(axis=0).tolist() == [4.0, 9.0]
    assert x.mean(1, keepdims=True).tolist() == [[1.5], [5.0]]
    assert x.var(0).tolist() == [1.0, 6.25]
    assert x.max().item() == 7.0
    assert x.min(1).tolist() == [1.0, 3.0]
    assert x.argmax(1).tolist() == [1, 1]


def test_examples():
    assert doctest.testmod(reductions).failed == 0


EXTREME_FORMS = [
    ((300, 900), 1),
    ((300, 900), 0),
    ((300, 901), (0, 1)),
    ((90_000, 3), 0),
    ((90_000, 3), 1),
    ((20, 30, 50, 3), (1, 3)),
    ((20, 30, 50, 3), (0, 2)),
    ((40, 20, 5), (0, 2)),
    ((12, 9), 1),
    # of NumPy's loops
    ((40, 6), 1),
    ((8, 50), 0),
    ((3, 100), 1),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_extremes_equal_those_of_numpy(dtype):
    rng = np.random.default_rng(20)
    for shape, axes in EXTREME_FORMS:
        x = np.round(rng.standard_normal(shape), 2).astype(dtype)
        flat = x.reshape(-1)
        for value, n in ((np.inf, 3), (-np.inf, 4), (np.nan, 2)):
            np.testing.assert_array_equal(mg.max(x, axes).numpy(), x.max(axis=axes))
            np.testing.assert_array_equal(mg.min(x, axes).numpy(), x.min(axis=axes))
            flat[rng.integers(0, flat.size, n)] = value
        flat[-1] = np.nan
        for y in (x, np.full_like(x, -np.inf), np.full_like(x, np.inf), np.full_like(x, np.nan)):
            np.testing.assert_array_equal(mg.max(y, axes).numpy(), y.max(axis=axes))
            np.testing.assert_array_equal(mg.min(y, axes, keepdims=True).numpy(), y.min(axis=axes, keepdims=True))


def test_extremes_of_strided_arrays_and_one_thread(monkeypatch):
    from minigrad.devices import threads

    x = np.random.default_rng(21).standard_normal((700, 600))
    for y in (x.T, x[::-2, ::2], np.broadcast_to(x[:1], (700, 600)), x.reshape(70, 10, 600).transpose(1, 0, 2)):
        for axis in range(y.ndim):
            found = mg.max(mg.tensor(y), axis).numpy()
            np.testing.assert_array_equal(found, y.max(axis))
            with monkeypatch.context() as patch:
                patch.setattr(threads, "count", lambda: 1)
                assert mg.max(mg.tensor(y), axis).numpy().tobytes() == found.tobytes()


def test_a_nan_in_any_place_arrives():
    x = np.zeros((64, 64))
    np.fill_diagonal(x[:40, :40], np.nan)
    for axis in (0, 1):
        assert np.isnan(mg.max(x, axis).numpy()).tolist() == [True] * 40 + [False] * 24
        assert np.isnan(mg.min(x, axis).numpy()).tolist() == [True] * 40 + [False] * 24
