"""Convolution and its transpose against sums written out; derivatives, layouts, chunks, errors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import errors
from minigrad.devices import cpu
from minigrad.devices.vectors import lanes
from minigrad.ops.convolution_primitives import conv2d_kernel_grad_p, conv2d_p, conv2d_transpose_p
from minigrad.ops.convolution_tile import ROWS, tile


def values(*shape, seed=0, dtype=np.float64):
    return np.random.default_rng((seed, *shape)).standard_normal(shape).astype(dtype)


def taps(x_shape, k_shape, s, pads, d):
    """For each tap of the kernel: the pixels of the result that it sees inside the image, and what it sees there."""
    (h, w), (kh, kw) = x_shape[1:3], k_shape[:2]
    rows = (h + sum(pads[0]) - (kh - 1) * d[0] - 1) // s[0] + 1
    columns = (w + sum(pads[1]) - (kw - 1) * d[1] - 1) // s[1] + 1
    for i in range(kh):
        for j in range(kw):
            pixels = [
                (r, q, r * s[0] + i * d[0] - pads[0][0], q * s[1] + j * d[1] - pads[1][0])
                for r in range(rows)
                for q in range(columns)
            ]
            inside = np.array([p for p in pixels if 0 <= p[2] < h and 0 <= p[3] < w], int).reshape(-1, 4).T
            yield i, j, rows, columns, inside


def written_out(x, k, ct=None, *, strides=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), groups=1):
    """The convolution, and with a cotangent the derivatives by x and k, in float64, one tap at a time."""
    x, k = x.astype(np.float64), k.astype(np.float64)
    c, m = k.shape[2], k.shape[3] // groups
    y, dx, dk = None, np.zeros_like(x), np.zeros_like(k)
    for i, j, rows, columns, (r, q, h, w) in taps(x.shape, k.shape, strides, pads, dilation):
        if y is None:
            y = np.zeros((len(x), rows, columns, k.shape[3]))
        for g in range(groups):
            channels, outputs = slice(g * c, (g + 1) * c), slice(g * m, (g + 1) * m)
            weights = k[i, j, :, outputs]
            y[:, r, q, outputs] += x[:, h, w, channels] @ weights
            if ct is not None:
                share = ct[:, r, q, outputs].astype(np.float64)
                np.add.at(dx, (slice(None), h, w, channels), share @ weights.T)
                dk[i, j, :, outputs] += np.einsum("npc,npo->co", x[:, h, w, channels], share)
    return y if ct is None else (y, dx, dk)


def close(got, want, dtype, terms):
    """To the rounding of sums of so many terms."""
    eps = np.finfo(dtype).eps
    scale = np.max(np.abs(want), initial=0.0)
    np.testing.assert_allclose(got, want, rtol=0, atol=float(4 * eps * np.sqrt(max(terms, 1)) * max(scale, 1)))


def agree(x, k, dtype=np.float64, **params):
    """The three primitives against sums written out."""
    x, k = x.astype(dtype), k.astype(dtype)
    full = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1, **params}
    want = written_out(x, k, **params)
    ct = values(*want.shape, seed=3, dtype=dtype)
    y, dx, dk = written_out(x, k, ct, **params)
    got = conv2d_p(x, k, **full)
    assert got.shape == y.shape
    assert got.dtype == dtype
    close(got.numpy(), y, dtype, k[..., 0].size)
    close(conv2d_transpose_p(ct, k, size=x.shape[1:3], **full).numpy(), dx, dtype, k[:, :, 0].size)
    close(conv2d_kernel_grad_p(x, ct, size=k.shape[:2], **full).numpy(), dk, dtype, ct[..., 0].size)


small = st.integers(1, 3)


@st.composite
def problems(draw):
    groups = draw(st.sampled_from([1, 1, 1, 2, 3]))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4), small, small.map(lambda m: m * groups)))
    dilation, strides = draw(st.tuples(small, small)), draw(st.tuples(small, small))
    pads = draw(st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 2))
    least = [max(1, (k - 1) * d + 1 - sum(p)) for k, d, p in zip(kernel, dilation, pads)]
    n = draw(st.sampled_from([1, 2, 9, 17]))
    sizes = [draw(st.integers(m, m + 6)) for m in least]
    params = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups}
    return (n, *sizes, kernel[2] * groups), kernel, params


@settings(max_examples=120, deadline=None)
@given(problems(), st.sampled_from([np.float32, np.float64]))
def test_any_problem(problem, dtype):
    x, k, params = problem
    agree(values(*x), values(*k, seed=1), dtype, **params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("x", "k", "params"),
    [
        ((33, 13, 11, 5), (3, 3, 5, 20), {}),  # several chunks, tasks of several images, the last with fewer
        ((18, 13, 11, 17), (3, 2, 17, 33), {"pads": ((1, 1), (0, 2))}),
        ((1, 70, 60, 8), (5, 3, 8, 9), {"pads": ((2, 2), (1, 1))}),  # one image, cut into rows
        ((2, 90, 40, 16), (3, 3, 16, 16), {"strides": (2, 1), "pads": ((0, 1), (1, 1))}),
        ((3, 200, 100, 20), (1, 5, 20, 4), {"pads": ((0, 0), (2, 2))}),  # rows of which few fit a buffer
        ((16, 12, 12, 40), (5, 5, 40, 24), {}),  # scatters
        ((9, 15, 14, 36), (3, 4, 18, 40), {"groups": 2, "strides": (2, 3), "pads": ((1, 2), (0, 1))}),
        ((32, 20, 20, 1), (3, 3, 1, 10), {}),
        ((40, 9, 9, 64), (1, 1, 64, 33), {}),
        ((12, 21, 20, 24), (3, 3, 1, 24), {"groups": 24, "pads": ((1, 1), (1, 1))}),  # depthwise
        ((5, 60, 50, 8), (4, 4, 8, 8), {"dilation": (3, 2), "pads": ((4, 5), (3, 3))}),
    ],
)
def test_large_problems(x, k, params, dtype):
    agree(values(*x), values(*k, seed=1), dtype, **params)


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_no_elements(lost):
    x = [2, 5, 4, 3]
    if lost != 1:
        x[lost] = 0
    kernel = (3, 2, x[3], 0 if lost == 1 else 4)
    y, pull = mg.vjp(mg.conv2d, values(*x), values(*kernel))
    assert y.shape == (x[0], 3, 3, kernel[3])
    assert not y.numpy().any()
    dx, dk = pull(np.ones(y.shape))
    assert (dx.shape, dk.shape) == (tuple(x), kernel)
    assert not dx.numpy().any()
    assert not dk.numpy().any()


# What users pass


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("s", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_same_is_tensorflows(n, s, k):
    x, kernel = values(1, n, 3, 2), values(k, 1, 2, 1)
    y = mg.conv2d(x, kernel, (s, 1), "same").numpy()
    assert y.shape == (1, -(-n // s), 3, 1)
    total = max((-(-n // s) - 1) * s + k - n, 0)
    pads = ((total // 2, total - total // 2), (0, 0))
    np.testing.assert_allclose(y, written_out(x, kernel, strides=(s, 1), pads=pads), atol=1e-14)


def test_pads_by_number_and_pair():
    x, kernel = values(2, 5, 4, 3), values(3, 2, 3, 4)
    for padding, pads in [(1, ((1, 1), (1, 1))), ((2, 0), ((2, 2), (0, 0))), (((1, 0), (2, 3)), ((1, 0), (2, 3)))]:
        np.testing.assert_allclose(
            mg.conv2d(x, kernel, padding=padding).numpy(), written_out(x, kernel, pads=pads), atol=1e-13
        )


def test_channels_first():
    x, kernel = values(3, 7, 6, 4), values(3, 2, 2, 6)
    options = {"strides": (2, 1), "padding": "SAME", "groups": 2}
    want = mg.conv2d(x, kernel, **options)
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    got, pull = mg.vjp(lambda t, k: mg.conv2d(t, k, data_format="NCHW", **options), first, kernel)
    np.testing.assert_array_equal(got.numpy(), want.numpy().transpose(0, 3, 1, 2))
    ct = values(*got.shape, seed=5)
    dx, dk = pull(ct)
    last = mg.vjp(lambda t, k: mg.conv2d(t, k, **options), x, kernel)[1](ct.transpose(0, 2, 3, 1))
    np.testing.assert_array_equal(dx.numpy(), last[0].numpy().transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dk.numpy(), last[1].numpy())


def test_dtypes():
    x, kernel = np.arange(18).reshape(1, 3, 3, 2), np.ones((2, 2, 2, 1), np.int64)
    y = mg.conv2d(x, kernel)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y.numpy(), written_out(x, kernel))
    assert mg.conv2d(values(1, 3, 3, 2, dtype=np.float32), values(2, 2, 2, 1)).dtype == np.float64
    half = mg.conv2d(values(1, 3, 3, 2, dtype=np.float16), values(2, 2, 2, 1, dtype=np.float16))
    assert half.dtype == np.float16
    exact = written_out(values(1, 3, 3, 2, dtype=np.float16), values(2, 2, 2, 1, dtype=np.float16))
    np.testing.assert_allclose(half.numpy().astype(float), exact, atol=4e-3)


@pytest.mark.parametrize("arrange", ["transposed", "reversed", "read-only", "broadcast"])
def test_layouts(arrange):
    def laid_out(a):
        if arrange == "transposed":
            return np.ascontiguousarray(a.T).T
        if arrange == "reversed":
            return np.ascontiguousarray(a[:, ::-1, :, ::-1])[:, ::-1, :, ::-1]
        if arrange == "broadcast":
            return np.broadcast_to(a[:1], a.shape)
        b = a.copy()
        b.flags.writeable = False
        return b

    x, k = laid_out(values(9, 8, 7, 18, dtype=np.float32)), laid_out(values(3, 2, 18, 5, dtype=np.float32))
    ct = laid_out(values(9, 6, 6, 5, dtype=np.float32))
    plain = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
    for p, inputs, more in [
        (conv2d_p, (x, k), {}),
        (conv2d_transpose_p, (ct, k), {"size": (8, 7)}),
        (conv2d_kernel_grad_p, (x, ct), {"size": (3, 2)}),
    ]:
        got = p(*[mg.Tensor(a) for a in inputs], **plain, **more).numpy()
        want = p(*[mg.Tensor(np.array(a)) for a in inputs], **plain, **more).numpy()
        np.testing.assert_array_equal(got, want)


def test_nan_stays_where_it_belongs():
    """Also in the lanes of vectors that belong to other channels, or to the next pixel."""
    x, k = values(9, 8, 7, 5, dtype=np.float32), values(3, 2, 5, 20, seed=1, dtype=np.float32)
    x[2, 4, 3, 1] = np.nan
    y = mg.conv2d(x, k).numpy()
    bad = np.isnan(y)
    assert bad[2, 2:5, 2:4].all()
    assert bad.sum() == 3 * 2 * 20
    x = values(9, 8, 7, 5, dtype=np.float32)
    _, pull = mg.vjp(mg.conv2d, x, k)
    ct = values(9, 6, 6, 20, dtype=np.float32)
    ct[:, :, :, 3] = np.nan
    ct[:, :, :, 17] = np.inf
    dk = pull(ct)[1].numpy()
    assert np.isnan(dk[..., 3]).all()
    assert not np.isfinite(dk[..., 17]).any()
    assert np.isfinite(np.delete(dk, (3, 17), -1)).all()
    k[:, :, 4] = np.inf
    dx = mg.vjp(mg.conv2d, x, k)[1](np.ones((9, 6, 6, 20), np.float32))[0].numpy()
    assert np.isfinite(dx[..., :4]).all()
    assert not np.isfinite(dx[..., 4]).any()


def test_same_bits_from_serial_and_parallel_kernels(monkeypatch):
    x, k = values(33, 16, 16, 20, dtype=np.float32), values(3, 3, 20, 24, dtype=np.float32)

    def run():
        found = []
        for padding in ("VALID", "SAME"):
            y, pull = mg.vjp(lambda t, w, p=padding: mg.conv2d(t, w, padding=p), x, k)
            found += [np.array(t) for t in (y, *pull(y))]
        return found

    parallel = run()
    monkeypatch.setattr(cpu, "PARALLEL_WORK", 1 << 60)
    for a, b in zip(parallel, run()):
        np.testing.assert_array_equal(a, b)


# Transposed convolution


@pytest.mark.parametrize(("s", "k", "d"), [(1, 3, 1), (2, 3, 1), (3, 2, 1), (2, 2, 2), (2, 4, 1)])
@pytest.mark.parametrize("padding", ["VALID", "same", ((1, 0), (0, 1))])
def test_transpose_is_the_adjoint(s, k, d, padding):
    x, kernel = values(2, 4, 5, 3), values(k, k, 2, 3, seed=1)
    y = mg.conv2d_transpose(x, kernel, s, padding, dilation=d)
    span = (k - 1) * d + 1
    sizes = {"VALID": [(n - 1) * s + max(span, s) for n in (4, 5)], "same": [n * s for n in (4, 5)]}
    want = sizes[padding] if isinstance(padding, str) else [(n - 1) * s + span - 1 for n in (4, 5)]
    assert y.shape == (2, *want, 2)
    probe = values(*y.shape, seed=7)
    back = mg.conv2d(probe, kernel, s, padding, d)
    assert back.shape == x.shape
    np.testing.assert_allclose(np.sum(y.numpy() * probe), np.sum(back.numpy() * x), rtol=1e-12)


def test_output_padding():
    x, kernel = values(1, 4, 5, 3), values(3, 2, 2, 3, seed=1)
    y = mg.conv2d_transpose(x, kernel, 2, "SAME", output_padding=(1, 0))  # Keras: (n - 1)·s + k - 2·(k // 2) + extra
    assert y.shape == (1, 3 * 2 + 3 - 2 + 1, 4 * 2 + 2 - 2, 2)
    y = mg.conv2d_transpose(x, kernel, 2, "VALID", output_padding=1)
    assert y.shape == (1, 3 * 2 + 3 + 1, 4 * 2 + 2 + 1, 2)
    assert not y.numpy()[:, -1].any()
    whole = mg.conv2d_transpose(x, kernel, 2).numpy()
    np.testing.assert_array_equal(y.numpy()[:, :-1, :-1], whole)
    cut = mg.conv2d_transpose(x, kernel, 2, ((1, 2), (0, 1))).numpy()
    np.testing.assert_array_equal(cut, whole[:, 1:-2, :-1])


def test_transposed_channels_first_and_groups():
    x, kernel = values(2, 3, 4, 6), values(2, 3, 5, 6, seed=1)
    want = mg.conv2d_transpose(x, kernel, 2, groups=2).numpy()
    assert want.shape == (2, 6, 9, 10)
    got = mg.conv2d_transpose(x.transpose(0, 3, 1, 2), kernel, 2, groups=2, data_format="NCHW").numpy()
    np.testing.assert_array_equal(got, want.transpose(0, 3, 1, 2))
    for g in range(2):
        part = mg.conv2d_transpose(x[..., 3 * g : 3 * g + 3], kernel[..., 3 * g : 3 * g + 3], 2).numpy()
        np.testing.assert_allclose(want[..., 5 * g : 5 * g + 5], part, atol=1e-13)


# Derivatives


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_derivatives_to_second_order(data_format):
    x, k = values(2, 4, 5, 3), values(2, 3, 3, 2, seed=1)
    x = x if data_format == "NHWC" else x.transpose(0, 3, 1, 2)
    mg.gradcheck.check(lambda a, b: mg.conv2d(a, b, 2, "SAME", data_format=data_format), [x, k]).require()
    mg.gradcheck.check(lambda a, b: mg.conv2d_transpose(a, b, 2, "SAME"), [values(1, 2, 3, 2), k]).require()


def test_third_order():
    """Σ conv(x, k)³ by k, three times in one direction: 6 Σ conv(x, direction)³."""
    x, k, v = values(1, 4, 4, 2), values(2, 2, 2, 3, seed=1), values(2, 2, 2, 3, seed=2)

    def along(f):
        return lambda w: (mg.grad(f)(w) * mg.tensor(v)).sum()

    def cubes(w):
        y = mg.conv2d(x, w)
        return (y * y * y).sum()

    got = along(along(along(cubes)))(mg.tensor(k)).item()
    assert got == pytest.approx(6 * np.sum(written_out(x, v) ** 3), rel=1e-12)


# The tile


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_tile_is_what_its_python_says(dtype):
    @cpu.chunked
    def run(chunk, y, y_at, x, x_at, first, rows, taps, all_taps, terms, step, w, w_step, used, fresh):
        tile(y, y_at, x, x_at, first, rows, taps, all_taps, terms, step, w, w_step, used, fresh)

    width = lanes(np.dtype(dtype))
    rng = np.random.default_rng(0)
    x, w = values(400, dtype=dtype), values(40 * width, dtype=dtype)
    x_at, taps = rng.integers(0, 100, 30), rng.integers(0, 100, 4)
    y_at = rng.permutation(30) * width
    for rows, first in [(30, 0), (30, 24), (5, 0), (1, 0)]:
        for fresh, used in [(0, width), *[(1, n) for n in range(1, width + 3)]]:
            start = values(30 * width, seed=2, dtype=dtype)
            given = (y_at, x, x_at, first, rows, taps, 4, 3, 2, w, width + 1, used, fresh)
            got, want = start.copy(), start.copy()
            run(1, 0, got, *given)
            tile(want, *given)
            np.testing.assert_allclose(got, want, atol=float(30 * np.finfo(dtype).eps))
            untouched = want == start
            np.testing.assert_array_equal(got[untouched], start[untouched])
            assert (~untouched).sum() == min(ROWS, rows - first) * min(used, width)


# Errors


def test_errors():
    x, k = np.ones((2, 5, 6, 3)), np.ones((3, 2, 3, 4))
    for function, name in ((mg.conv2d, "conv2d"), (mg.conv2d_transpose, "conv2d_transpose")):
        with pytest.raises(errors.ShapeError, match=rf"{name}: x has shape \(5, 6, 3\), expected \(batch, rows, col"):
            function(x[0], k)
        with pytest.raises(errors.ShapeError, match=rf"{name}: x has shape \(3,\), expected \(batch, channels, rows"):
            function(np.ones(3), k, data_format="NCHW")
        with pytest.raises(errors.ShapeError, match=rf"{name}: kernel has shape \(2, 3, 4\), expected \(rows"):
            function(x, k[0])
        with pytest.raises(errors.ArgumentError, match="data_format is 'NWHC', expected 'NHWC' or 'NCHW'"):
            function(x, k, data_format="NWHC")
        with pytest.raises(errors.ArgumentError, match="padding is 'FULL', expected 'VALID', 'SAME' or integers"):
            function(x, k, padding="FULL")
        with pytest.raises(errors.ArgumentTypeError, match=r"padding is \(1, 2, 3\), expected a name or"):
            function(x, k, padding=(1, 2, 3))
        with pytest.raises(errors.ArgumentError, match=r"padding is \(0, -1\), expected at least 0"):
            function(x, k, padding=(1, (0, -1)))
        with pytest.raises(errors.ArgumentError, match=f"{name}: strides is 0, expected at least 1"):
            function(x, k, 0)
        with pytest.raises(errors.ArgumentTypeError, match=f"{name}: strides is 1.5, expected an integer or two"):
            function(x, k, 1.5)
        with pytest.raises(errors.ArgumentTypeError, match=r"dilation is \(1, 2, 3\), expected an integer or two"):
            function(x, k, dilation=(1, 2, 3))
        with pytest.raises(errors.ArgumentError, match="groups is 0, expected a positive integer"):
            function(x, k, groups=0)
        with pytest.raises(errors.DTypeError, match="x has dtype complex128, expected a real dtype"):
            function(x + 1j, k)
    with pytest.raises(errors.ShapeError, match=r"kernel has size \(3, 2\), expected at most the \(2, 6\) of x"):
        mg.conv2d(x[:, :2], k)
    with pytest.raises(errors.ShapeError, match=r"kernel has shape \(3, 2, 3, 4\), expected \(rows, columns, 5, out\)"):
        mg.conv2d(np.ones((2, 5, 6, 5)), k)
    with pytest.raises(errors.ShapeError, match=r"expected \(rows, columns, 3 / 2, out\) for 2 groups"):
        mg.conv2d(x, k, groups=2)
    with pytest.raises(errors.ShapeError, match=r"expected \(rows, columns, out / groups, 3\)"):
        mg.conv2d_transpose(x, k)
    with pytest.raises(errors.ArgumentError, match=r"output_padding is 2, expected less than \(2, 2\)"):
        mg.conv2d_transpose(x, np.ones((3, 2, 4, 3)), 2, output_padding=2)
    with pytest.raises(errors.ShapeError, match=r"leave \(-1, 4\), expected at least one of each"):
        mg.conv2d_transpose(x[:, :1], np.ones((3, 2, 4, 3)), padding=((2, 2), (1, 2)))
