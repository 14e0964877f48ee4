"""Convolutions on a GPU: what is computed from what, and by which of the kernels in `convolution_kernels`.

Images are read with their channels last; what lies otherwise is copied first.
"""

from __future__ import annotations

from math import gcd
from typing import Any

from minigrad import dtypes
from minigrad.devices import cuda
from minigrad.devices.cuda import DeviceArray
from minigrad.devices.cuda.copies import fill
from minigrad.devices.cuda.reduction import reduce_into
from minigrad.errors import DTypeError
from minigrad.ops import windows
from minigrad.ops.convolution_primitives import conv2d_kernel_grad_p, conv2d_p, conv2d_transpose_p
from minigrad.ops.cuda import convolution_kernels as kernels
from minigrad.ops.cuda.reductions import _sum

_FEW = 8  # outputs of a group up to which a thread makes each result by itself
_BLOCKS = 512  # wanted, before the sum over pixels is no longer cut
_THREADS = 1 << 17  # wanted likewise, where a thread makes each result by itself
_PIECE = 256  # pixels that a piece of that sum has at least


@conv2d_p.kernel("cuda")
def _(out, x, kernel, *, strides, pads, dilation, groups):
    _require("conv2d", out)
    channels, outputs = kernel.shape[2], out.shape[3] // groups
    axes = _axes(out.shape, x.shape, kernel.shape, strides, pads, dilation)
    steps = channels * out.shape[3], outputs, out.shape[3]
    _convolve(out, x, kernel, axes, False, groups, channels, outputs, steps)


@conv2d_transpose_p.kernel("cuda")
def _(out, x, kernel, *, size, strides, pads, dilation, groups):
    _require("conv2d_transpose", out)
    channels, outputs = x.shape[3] // groups, kernel.shape[2]
    axes = _axes(out.shape, x.shape, kernel.shape, strides, pads, dilation)
    steps = x.shape[3] * outputs, channels * outputs, outputs
    _convolve(out, x, kernel.transpose((0, 1, 3, 2)), axes, True, groups, channels, outputs, steps)


@conv2d_kernel_grad_p.kernel("cuda")
def _(out, x, ct, *, size, strides, pads, dilation, groups):
    _require("conv2d_kernel_grad", out)
    if not ct.size or not out.size:
        fill(out, 0)
        return
    terms, outputs = out.shape[2], out.shape[3] // groups
    rows, columns = _axes(ct.shape, x.shape, out.shape, strides, pads, dilation)
    pixels, entries = ct.shape[0] * ct.shape[1] * ct.shape[2], size[0] * size[1] * terms
    direct = min(outputs, entries) <= _FEW
    wide = kernels.wide(outputs)
    tiles = groups * cuda.blocks_of(entries, kernels.HEIGHT) * cuda.blocks_of(outputs, wide * kernels.SIDE)
    wanted = cuda.blocks_of(_THREADS, out.size) if direct else cuda.blocks_of(_BLOCKS, tiles)
    pieces = max(1, min(wanted, pixels // _PIECE))
    shape = (pieces, *out.shape)
    dtype = dtypes.arithmetic(out.dtype)
    shares = out if pieces == 1 else cuda.empty(shape, dtype, out.lease.stream.device)
    arguments = shares, cuda.contiguous(x), cuda.contiguous(ct), rows, columns, pixels, pieces, groups, terms, outputs
    if direct:
        kernels.by_kernel_direct(dtype)(cuda.blocks_of(shares.size), cuda.THREADS, *arguments)
    else:
        kernels.by_kernel_tiled(dtype, wide)(tiles * pieces, (kernels.SIDE, kernels.SIDE), *arguments)
    if pieces > 1:
        reduce_into(out, shares, (0,), _sum("f"))


def _require(operation: str, out: DeviceArray) -> None:
    if not dtypes.has_gpu_kernels(out.dtype):
        raise DTypeError(f"{operation}: has no CUDA kernel for {out.dtype}, only for real floats of at most 64 bits")


def _axes(
    out: tuple, x: tuple, kernel: tuple, strides: windows.Pair, pads: windows.Pads, dilation: windows.Pair
) -> list[kernels.Axis]:
    """What the kernels are told of rows and of columns."""
    return [
        (out[a + 1], x[a + 1], strides[a], pads[a][0], dilation[a], kernel[a], gcd(strides[a], dilation[a]))
        for a in (0, 1)
    ]


def _convolve(
    out: DeviceArray,
    x: DeviceArray,
    weights: DeviceArray,
    axes: list[kernels.Axis],
    transposed: bool,
    groups: int,
    terms: int,
    outputs: int,
    steps: tuple[int, int, int],
) -> None:
    """A convolution or its transpose, with weights that have the outputs last."""
    if not out.size:
        return
    if not x.size or not terms:
        fill(out, 0)
        return
    rows, columns = axes
    dtype = dtypes.arithmetic(out.dtype)
    phases, pixels = 1, out.shape[0]
    for n, stride in ((rows[0], rows[2]), (columns[0], columns[2])):
        phases *= stride if transposed else 1
        pixels *= -(-n // stride) if transposed else n
    arguments: tuple[Any, ...] = (
        out, cuda.contiguous(x), cuda.contiguous(weights), rows, columns, out.shape[0], groups, terms, outputs, *steps,
    )  # fmt: skip
    if outputs <= _FEW:
        blocks = cuda.blocks_of(pixels * groups * outputs)
        kernels.convolve_direct(dtype, transposed)((blocks, phases), cuda.THREADS, *arguments)
    else:
        wide = kernels.wide(outputs)
        blocks = groups * cuda.blocks_of(outputs, wide * kernels.SIDE) * cuda.blocks_of(pixels, kernels.HEIGHT)
        made = kernels.convolve_tiled(dtype, transposed, wide)
        made((blocks, phases), (kernels.SIDE, kernels.SIDE), *arguments)
