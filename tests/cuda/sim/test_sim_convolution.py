"""Convolutions on the simulator, where the samples that all devices share don't lead: around borders of tiles."""

import numpy as np
import pytest

from minigrad import dtypes
from minigrad.gradcheck import gpu, kernels
from minigrad.gradcheck.result import PASSED
from minigrad.ops.convolution_plan import Problem
from minigrad.ops.convolution_primitives import _PLAIN, _cases, conv2d_kernel_grad_p, conv2d_p, conv2d_transpose_p
from minigrad.ops.cuda import convolution
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
