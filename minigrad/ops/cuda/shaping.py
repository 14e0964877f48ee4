"""CUDA kernels that move elements and compute nothing: views, copies, casts, slices."""

from __future__ import annotations

from minigrad.devices import cuda
from minigrad.devices.cuda.copies import copy_into, fill
from minigrad.errors import ArgumentTypeError, DTypeError
from minigrad.ops.cast import cast_p, copy_p, identity_p
from minigrad.ops.indexing_slices import _decoded, set_slice_p, slice_p, unslice_p
from minigrad.ops.shaping_copies import _inside, concatenate_p, pad_p, repeat_p
from minigrad.ops.shaping_views import (
    _resolved,
    _reversing,
    broadcast_to_p,
    flip_p,
    matrix_transpose_p,
    permutation,
    reshape_p,
    transpose_p,
)


@reshape_p.kernel("cuda", returns=True)
def _(x, *, shape):
    if any(n.__class__ is float for n in shape):  # 2.0 equals 2, so that a plan is found for it
        raise ArgumentTypeError(f"reshape: shape is {shape}, expected integers")
    target = _resolved(x.shape, shape)
    view = x.reshaped(target)
    return view if view is not None else cuda.contiguous(x).reshaped(target)


@transpose_p.kernel("cuda", returns=True)
def _(x, *, axes):
    return x.transpose(None if axes is None else permutation(x.ndim, axes))


@matrix_transpose_p.kernel("cuda", returns=True)
def _(x):
    return x.transpose((*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


@broadcast_to_p.kernel("cuda", returns=True)
def _(x, *, shape):
    return x.broadcast_to(shape)


@flip_p.kernel("cuda", returns=True)
def _(x, *, axes):
    return x[_reversing(x.ndim, axes)]


@slice_p.kernel("cuda", returns=True)
def _(x, *, key):
    return x[_decoded(key)]


@identity_p.kernel("cuda", returns=True)
def _(x):
    return x.view()


@copy_p.kernel("cuda")
def _(out, x):
    copy_into(out, x)


@cast_p.kernel("cuda")
def _(out, x, *, dtype, source):
    if "c" in (x.dtype.kind, out.dtype.kind):
        raise DTypeError(f"cast: {source} to {dtype} has no kernel for CUDA; cast on the CPU")
    copy_into(out, x)


@unslice_p.kernel("cuda")
def _(out, x, *, shape, key):
    fill(out, 0)
    copy_into(out[_decoded(key)], x)


@set_slice_p.kernel("cuda")
def _(out, x, values, *, key):
    copy_into(out, x)
    copy_into(out[_decoded(key)], values)


@concatenate_p.kernel("cuda")
def _(out, *xs, axis):
    axis %= out.ndim
    low = 0
    for x in xs:
        high = low + x.shape[axis]
        copy_into(out[(*(slice(None),) * axis, slice(low, high))], x)
        low = high


@pad_p.kernel("cuda")
def _(out, x, *, widths, value):
    fill(out, value)
    copy_into(out[_inside(x.shape, widths)], x)


@repeat_p.kernel("cuda")
def _(out, x, *, repeats, axis):
    axis %= x.ndim
    head, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
    wide = out.reshaped((*head, repeats, *tail))
    copy_into(wide, x[(*(slice(None),) * len(head), None)])
