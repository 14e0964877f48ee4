"""Reflection on a GPU: copies of the pads, axis by axis, and sums of them for the transpose."""

from __future__ import annotations

from minigrad import dtypes, scalar
from minigrad.devices import cuda
from minigrad.devices.cuda.copies import copy_into
from minigrad.devices.cuda.loops import Loop
from minigrad.ops.padding import _inside, _mirrors, fold_p, reflect_p

_add = Loop(scalar.variable("x") + scalar.variable("y"), ("x", "y"))


@reflect_p.kernel("cuda")
def _(out, x, *, widths):
    copy_into(out[_inside(x.shape, widths)], x)
    for axis, (n, pair) in enumerate(zip(x.shape, widths)):
        for pad, mirrored in _mirrors(axis, n, pair):  # along axes that are yet to come, what lies outside is no value
            copy_into(out[pad], out[mirrored])


@fold_p.kernel("cuda")
def _(out, ct, *, widths):
    total = cuda.empty(ct.shape, dtypes.arithmetic(ct.dtype), out.lease.stream.device)
    copy_into(total, ct)
    for axis, (n, pair) in reversed(list(enumerate(zip(out.shape, widths)))):
        for pad, mirrored in _mirrors(axis, n, pair):
            _add(total[mirrored], total[mirrored], total[pad])
    copy_into(out, total[_inside(out.shape, widths)])
