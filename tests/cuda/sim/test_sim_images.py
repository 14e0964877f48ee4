"""Images on the simulator, where the samples that all devices share don't lead: borders of tiles, data formats."""

import numpy as np
import pytest

import minigrad as mg
from minigrad import dtypes
from minigrad.errors import DTypeError
from minigrad.gradcheck import gpu, kernels
from minigrad.gradcheck.result import PASSED
from minigrad.ops.convolution_plan import Problem
from minigrad.ops.convolution_primitives import _PLAIN, _cases, conv2d_kernel_grad_p, conv2d_p, conv2d_transpose_p
from minigrad.ops.cuda import convolution
from minigrad.ops.pooling_primitives import gather_p, max_pool2d_p
from minigrad.primitive import Sample


def samples(x, kernel, params):
    """The three primitives on one problem."""
    rng = np.random.default_rng(0)
    params = {**_PLAIN, **params}
    x, kernel, y = (rng.standard_normal(s) for s in (x, kernel, Problem(x, kernel, **params).out))
    return [
        (conv2d_p, Sample((x, kernel), params)),
        (conv2d_transpose_p, Sample((y, kernel), {**params, "size": x.shape[1:3]})),
        (conv2d_kernel_grad_p, Sample((x, y), {**params, "size": kernel.shape[:2]})),
    ]


def check(p, sample):
    result = kernels.against_reference(p, sample, "cuda", dtypes.float32, seed=0)
    assert result.verdict == PASSED, f"{p.name}: {result}"


@pytest.mark.parametrize(("x", "kernel", "params", "note"), _cases(), ids=[c[-1] or "plain" for c in _cases()])
def test_tiles_compute_what_few_outputs_have_threads_for(x, kernel, params, note, monkeypatch):
    monkeypatch.setattr(convolution, "_FEW", -1)
    for p, sample in samples(x, kernel, params):
        check(p, sample)


@pytest.mark.parametrize(
    ("pixels", "channels", "outputs"), [(63, 15, 31), (64, 16, 32), (65, 17, 33), (129, 33, 64), (1, 64, 65)]
)
def test_borders_of_tiles(pixels, channels, outputs):
    for p, sample in samples((1, 1, pixels, channels), (1, 1, channels, outputs), {}):
        check(p, sample)


@pytest.mark.parametrize("channels", [2, 9])
def test_a_sum_over_pixels_in_pieces(channels):
    p, sample = samples((3, 14, 14, channels), (1, 1, channels, 9), {"pads": ((1, 0), (0, 1))})[2]
    check(p, sample)
    assert gpu.orders(p, sample, 0, gpu.driver.get()).verdict == PASSED


@pytest.mark.parametrize("width", [31, 33, 255, 257, 1025])
@pytest.mark.parametrize("p", [max_pool2d_p, gather_p], ids=lambda p: p.name)
def test_pools_around_borders_of_blocks(p, width):
    params = {
        "size": (2, 2),
        "strides": (1, 1),
        "pads": ((0, 0), (1, 0)),
        **({} if p is max_pool2d_p else {"mean": True}),
    }
    sample = Sample((np.random.default_rng(0).standard_normal((1, 2, width, 1)),), params)
    check(p, sample)
    assert gpu.derivative(p, sample, 0).verdict == PASSED


def network(x, kernel, data_format):
    y = mg.conv2d(x, kernel, strides=(2, 1), padding="SAME", groups=2, data_format=data_format)
    y = mg.max_pool2d(mg.upsample2d(y, 2, "bilinear", data_format), (3, 2), (2, 1), data_format=data_format)
    y = mg.avg_pool2d(mg.upsample2d(y, (1, 2), data_format=data_format), 2, 1, "SAME", data_format)
    y = mg.pad(y, ((0, 0), (1, 1), (1, 1), (1, 0)), mode="reflect")
    return (y * y).sum()


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_gradients_of_gradients_are_those_of_the_cpu(data_format):
    rng = np.random.default_rng(0)
    shape = (2, 5, 4, 4) if data_format == "NHWC" else (2, 4, 5, 4)
    values = rng.standard_normal(shape), rng.standard_normal((3, 2, 2, 6))
    found = []
    for device in ("cpu", "cuda"):
        x, kernel = (mg.tensor(v, device=device) for v in values)
        first = mg.grad(network, argnums=(0, 1))(x, kernel, data_format)
        second = mg.grad(lambda k, x=x: (mg.grad(network)(x, k, data_format) ** 2).sum())(kernel)
        assert second.device == device
        found.append([t.numpy() for t in (*first, second)])
    for expected, got in zip(*found):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-10 * np.abs(expected).max())


@pytest.mark.parametrize(
    "call", [lambda x: mg.max_pool2d(x), lambda x: mg.conv2d(x, x[:1, :1, :1].reshape(1, 1, 2, 1))]
)
def test_longer_floats_are_refused_by_name(call):
    x = mg.tensor(np.ones((1, 2, 2, 2), np.longdouble), device="cuda")
    with pytest.raises(DTypeError, match=rf"has no CUDA kernel for {x.dtype}, only for real floats of at most 64 bits"):
        call(x)
