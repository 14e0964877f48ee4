"""Matrix products against NumPy: shapes, layouts, empty axes, gradients."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.devices import cpu, threads
from minigrad.errors import ShapeError
from minigrad.ops import linalg_cpu

RNG = np.random.default_rng(0)


def normal(shape, dtype="float64"):
    return RNG.standard_normal(shape).astype(dtype)


SHAPES = [
    ((2, 3), (3, 5)),
    ((1, 1), (1, 1)),
    ((7,), (7,)),
    ((7,), (7, 3)),
    ((3, 7), (7,)),
    ((4, 2, 3), (3, 5)),
    ((4, 2, 3), (3,)),
    ((3,), (4, 3, 2)),
    ((2, 3), (4, 3, 5)),
    ((4, 2, 3), (4, 3, 5)),
    ((4, 1, 2, 3), (6, 3, 5)),
    ((1, 4, 2, 3), (7, 1, 3, 2)),
    ((0, 3), (3, 2)),
    ((2, 0), (0, 3)),
    ((2, 3), (3, 0)),
    ((4, 2, 0), (0, 3)),
    ((4, 0, 3), (3, 2)),
    ((4, 2, 3), (3, 0)),
    ((0, 2, 3), (3, 4)),
    ((0,), (0,)),
    ((0,), (0, 3)),
    ((3, 0), (0,)),
    ((5, 2, 0), (5, 0, 3)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_numpys(a, b, dtype):
    x, y = normal(a, dtype), normal(b, dtype)
    got = mg.matmul(mg.tensor(x), mg.tensor(y))
    expected = np.matmul(x, y)
    assert got.dtype == dtype
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-5 if dtype == "float32" else 1e-13)
    np.testing.assert_array_equal((mg.tensor(x) @ mg.tensor(y)).numpy(), got.numpy())


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_gradients(a, b):
    x, y = normal(a), normal(b)
    tx, ty = mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)
    out = mg.matmul(tx, ty)
    w = normal(out.shape)
    out.backward(mg.tensor(w))
    # The derivative in a random direction, which is exact for a function linear in each argument.
    for leaf, value, product in ((tx, x, lambda d: np.matmul(d, y)), (ty, y, lambda d: np.matmul(x, d))):
        assert leaf.grad.shape == value.shape
        for _ in range(3):
            direction = normal(value.shape)
            np.testing.assert_allclose(
                (leaf.grad.numpy() * direction).sum(), (w * product(direction)).sum(), rtol=1e-10, atol=1e-10
            )


def layouts(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    yield a
    yield a.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    yield wide[..., ::2]
    yield a[..., ::-1].copy()[..., ::-1]
    yield np.asfortranarray(a)


@pytest.mark.parametrize(
    ("a", "b"), [((5, 3), (3, 4)), ((2, 5, 3), (3, 4)), ((2, 5, 3), (2, 3, 4)), ((5, 3), (2, 3, 4))]
)
def test_layouts(a, b):
    x, y = normal(a), normal(b)
    expected = np.matmul(x, y)
    for u in layouts(x):
        for v in layouts(y):
            np.testing.assert_allclose(mg.matmul(mg.Tensor(u), mg.Tensor(v)).numpy(), expected, rtol=1e-13, atol=1e-13)
    row, number = np.broadcast_to(x[..., :1, :], x.shape), np.broadcast_to(2.0, y.shape)
    np.testing.assert_allclose(mg.matmul(mg.Tensor(row), mg.Tensor(number)).numpy(), np.matmul(row, number), rtol=1e-13)


def test_gradients_through_transposes_and_broadcast_cotangents():
    x, y = normal((4, 3)), normal((5, 3))
    tx, ty = mg.tensor(x, requires_grad=True), mg.tensor(y, requires_grad=True)
    mg.matmul(tx, ty.T).sum().backward()
    np.testing.assert_allclose(tx.grad.numpy(), np.ones((4, 5)) @ y, rtol=1e-13)
    np.testing.assert_allclose(ty.grad.numpy(), np.ones((5, 4)) @ x, rtol=1e-13)


@pytest.fixture
def small_blocks(monkeypatch):
    """Products that are cut as large ones are."""
    linalg_cpu._form.cache_clear()
    monkeypatch.setattr(linalg_cpu, "_ALONE", 1 << 10)
    monkeypatch.setattr(linalg_cpu, "_BLOCK", 1 << 13)
    yield
    linalg_cpu._form.cache_clear()


@pytest.mark.parametrize(("a", "b"), [((70, 20), (20, 50)), ((3, 17, 20), (20, 33)), ((5, 33, 9), (5, 9, 40))])
@pytest.mark.parametrize(("m", "n"), [("m", "n"), (1, "n"), ("m", 1)])
def test_products_in_blocks(monkeypatch, small_blocks, a, b, m, n):
    a, b = (*a[:-2], a[-2] if m == "m" else 1, a[-1]), (*b[:-1], b[-1] if n == "n" else 1)
    x, y = normal(a, "float32"), normal(b, "float32")
    want, found = np.matmul(x, y), []
    for tx in (False, True):
        for ty in (False, True):
            left, right = (np.ascontiguousarray(v.swapaxes(-1, -2)) if t else v for v, t in ((x, tx), (y, ty)))
            fill = linalg_cpu.products(left, right, tx, ty)
            for parallel in (True, False):
                monkeypatch.setattr(threads, "count", lambda parallel=parallel: 1 + parallel)
                found.append(np.full(want.shape, np.nan, np.float32))
                fill(found[-1], left, right)
            np.testing.assert_array_equal(found[-2], found[-1], err_msg=f"{tx} {ty}")
            np.testing.assert_allclose(found[-1], want, rtol=1e-5, atol=1e-5, err_msg=f"{tx} {ty}")


def test_the_cut_depends_on_the_shape_alone():
    def cut(m, k, n):
        return linalg_cpu._cut_into(m, n, k)

    assert cut(60, 100, 100) == (1, 1)  # too small
    assert cut(128, 512, 512) == (1, 2)
    assert cut(512, 128, 512) == (2, 1)
    assert cut(6760, 32, 128) == (2, 1)
    assert cut(1024, 1024, 1024) == (4, 4)
    assert cut(1, 1 << 20, 8) == (1, 1)  # never along the sum


def test_every_row_and_column_is_in_one_block():
    for length in (1, 16, 17, 100, 1000):
        for parts in (1, 2, 4, 16):
            if parts <= -(-length // 16):
                cuts = [linalg_cpu._cut.python(i, parts, length) for i in range(parts + 1)]
                assert cuts[0] == 0
                assert cuts[-1] == length
                assert cuts == sorted(set(cuts))
                assert all(c % 16 == 0 for c in cuts[:-1])


def test_integers_and_booleans():
    a, b = np.array([[1, 2], [3, 2**53 + 1]]), np.array([[1, 0], [5, 1]])
    np.testing.assert_array_equal(mg.matmul(mg.tensor(a), mg.tensor(b)).numpy(), a @ b)
    p, q = a > 1, b > 0
    np.testing.assert_array_equal(mg.matmul(mg.tensor(p), mg.tensor(q)).numpy(), p @ q)


def test_promotion():
    assert mg.matmul(mg.tensor(np.ones((2, 2), "float32")), mg.tensor(np.ones((2, 2)))).dtype == np.float64
    assert mg.matmul(mg.tensor(np.ones((2, 2), "int64")), mg.tensor(np.ones((2, 2), "float64"))).dtype == np.float64


@pytest.mark.parametrize("seed", [0, 1])
def test_nan_and_infinity_pass_through(seed):
    x, y = normal((4, 3)), normal((3, 2))
    x[seed, 1] = np.nan
    got = mg.matmul(mg.tensor(x), mg.tensor(y)).numpy()
    assert np.isnan(got[seed]).all()
    assert not np.isnan(np.delete(got, seed, 0)).any()


@pytest.mark.parametrize(
    ("a", "b", "match"),
    [
        ((2, 3), (2, 3), r"x has shape \(2, 3\) and y \(2, 3\)"),
        ((3,), (4,), "expected"),
        ((), (2, 2), r"matmul: x has shape \(\) and y \(2, 2\), expected at least one dimension"),
        ((2, 2), (), "at least one dimension"),
        ((4, 2, 3), (5, 3, 2), "leading axes .* do not broadcast"),
    ],
)
def test_shapes_that_do_not_fit(a, b, match):
    with pytest.raises(ShapeError, match=match):
        mg.matmul(mg.tensor(np.ones(a)), mg.tensor(np.ones(b)))


def test_dot():
    x, y = normal((4, 3)), normal((3, 2))
    np.testing.assert_allclose(mg.dot(mg.tensor(x), mg.tensor(y)).numpy(), x.dot(y), rtol=1e-13)
    np.testing.assert_allclose(mg.dot(mg.tensor(x), 2.0).numpy(), np.dot(x, 2.0))
    np.testing.assert_allclose(mg.dot(mg.tensor(x[0]), mg.tensor(x[1])).numpy(), x[0].dot(x[1]))


def test_large_products_fill_memory_of_the_pool():
    x = normal((400, 50), "float32")
    a = mg.matmul(mg.tensor(x), mg.tensor(x.T))
    place = a._data.__array_interface__["data"][0]
    del a
    assert cpu.pool.free_bytes() > 0
    b = mg.matmul(mg.tensor(x), mg.tensor(x.T))
    assert b._data.__array_interface__["data"][0] == place
