"""CUDA kernels of running statistics, of batch renorm's correction, and of labels: a thread for each element."""

from __future__ import annotations

import numpy as np

from minigrad.devices import cuda
from minigrad.devices.cuda import faults, gpu
from minigrad.devices.cuda import math as cuda_math
from minigrad.devices.cuda.faults import report
from minigrad.devices.cuda.rows import lanes_on
from minigrad.errors import IndexRangeError
from minigrad_norms.conditional import labels_p
from minigrad_norms.kernels.plain_cuda import largest_of, require_kernels
from minigrad_norms.renorm import correction, renorm_correction_p
from minigrad_norms.running import move_averages_p, update_debiased_p, update_renorm_p, update_statistics_p

_root, _power = (vars(cuda_math)[f"{name}_f64"] for name in ("sqrt", "pow"))


@cuda.jit
def _finite(value):
    return value - value == 0.0


@cuda.kernel
def _update(moving_mean, moving_var, mean, var, keep, correction):
    i = gpu.grid(1)
    if i < mean.size and _finite(mean[i]) and _finite(var[i]):
        spread = correction * var[i]
        moving_mean[i] = mean[i] + keep * (moving_mean[i] - mean[i])
        moving_var[i] = spread + keep * (moving_var[i] - spread)


@update_statistics_p.kernel("cuda")
def _(out, moving_mean, moving_var, mean, var, *, momentum, correction):
    batch = cuda.contiguous(mean), cuda.contiguous(var)
    _update(cuda.blocks_of(mean.size), cuda.THREADS, *out, *batch, float(momentum), float(correction))


@cuda.kernel
def _debias(moving_mean, biased, local_step, mean, keep):
    """In one block, whose threads all need to know whether anything is finite."""
    found = (np.float64(0.0),)
    for i in range(gpu.threadIdx.x, mean.size, gpu.blockDim.x):
        if _finite(mean[i]):
            found = (np.float64(1.0),)
    step = local_step[0] + 1.0
    found = largest_of(found)
    if found[0] > 0.0:
        whole = 1.0 - _power(np.float64(keep), step)
        if gpu.threadIdx.x == 0:
            local_step[0] = step
        for i in range(gpu.threadIdx.x, mean.size, gpu.blockDim.x):
            value = mean[i] if _finite(mean[i]) else moving_mean[i]
            biased[i] = keep * biased[i] + (1.0 - keep) * value  # over `whole` it is the value, in the first step
            if whole > 0.0:
                moving_mean[i] = biased[i] / whole


@update_debiased_p.kernel("cuda")
def _(out, moving_mean, biased, local_step, mean, *, momentum):
    _debias(1, lanes_on(mean.size), *out, cuda.contiguous(mean), float(momentum))


@cuda.kernel
def _renorm(moving_mean, moving_var, r_mean, r_stddev, weight, mean, var, keep, r_keep, epsilon):
    i = gpu.grid(1)
    if i < mean.size and _finite(mean[i]) and _finite(var[i]):
        s = _root(var[i] + epsilon)
        r_mean[i] = mean[i] + r_keep * (r_mean[i] - mean[i])
        r_stddev[i] = s + r_keep * (r_stddev[i] - s)
        weight[i] = 1.0 + r_keep * (weight[i] - 1.0)
        m, v = moving_mean[i], moving_var[i]
        if weight[i] > 0.0:
            s = r_stddev[i] / weight[i]
            m, v = r_mean[i] / weight[i], max(np.float64(0.0), s * s - epsilon)
        moving_mean[i] = m + keep * (moving_mean[i] - m)
        moving_var[i] = v + keep * (moving_var[i] - v)


@update_renorm_p.kernel("cuda")
def _(
    out, moving_mean, moving_var, renorm_mean, renorm_stddev, renorm_weight, mean, var,
    *, momentum, renorm_momentum, epsilon,
):  # fmt: skip
    numbers = float(momentum), float(renorm_momentum), float(epsilon)
    batch = cuda.contiguous(mean), cuda.contiguous(var)
    _renorm(cuda.blocks_of(mean.size), cuda.THREADS, *out, *batch, *numbers)


@cuda.kernel
def _move(average, value, keep):
    i = gpu.grid(1)
    if i < average.size:
        new = np.float64(value[i])
        if _finite(new):
            average[i] = new + keep[0] * (np.float64(average[i]) - new)


@move_averages_p.kernel("cuda")
def _(out, keep, *pairs):
    for average, value in zip(out, pairs[1::2]):
        require_kernels("move_averages", average.dtype)
        _move(cuda.blocks_of(average.size), cuda.THREADS, average, cuda.contiguous(value), keep)


_correction = cuda.jit(correction)


@cuda.kernel
def _correct(r, d, mean, var, r_mean, r_stddev, weight, rmin, rmax, dmax, epsilon):
    i = gpu.grid(1)
    if i < mean.size:
        s = _root(var[i] + epsilon)
        r[i], d[i] = _correction(s, mean[i], r_mean[i], r_stddev[i], weight[i], rmin[0], rmax[0], dmax[0])


@renorm_correction_p.kernel("cuda")
def _(out, *arrays, epsilon):
    packed = [cuda.contiguous(a) for a in arrays]
    _correct(cuda.blocks_of(packed[0].size), cuda.THREADS, *out, *packed, float(epsilon))


@cuda.kernel
def _labels(out, labels, styles, words, number):
    i = gpu.grid(1)
    if i < out.size:
        label = np.int64(labels[i])
        if label < 0 or label >= styles:
            report(words, number, label)
            label = np.int64(0)
        out[i] = label


@labels_p.kernel("cuda")
def _(out, labels, *, styles, operation="labels"):
    words = faults.watch(
        out.lease.stream.device,
        lambda label: IndexRangeError(
            f"{operation}: label {label} is out of range for {styles} styles, expected 0 to {styles - 1}"
        ),
    )
    _labels(cuda.blocks_of(out.size), cuda.THREADS, out, cuda.contiguous(labels), int(styles), *words)
