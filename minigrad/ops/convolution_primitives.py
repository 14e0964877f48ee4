"""The primitives of convolution over images: each one's derivatives are the other two."""

from __future__ import annotations

from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.devices.vectors import lanes
from minigrad.errors import ArgumentError, ShapeError
from minigrad.ops import convolution_cpu, windows
from minigrad.ops import convolution_plan as plans
from minigrad.primitive import Abstract, Primitive, Sample
from minigrad.tensor import Tensor

# Primitives. With y = conv(x, k): ⟨ct, conv(x, k)⟩ = ⟨transpose(ct, k), x⟩ = ⟨kernel_grad(x, ct), k⟩, and each of the
# three is linear in both its inputs, so these two equations are all rules of all three.

conv2d_p = Primitive("mg::conv2d")
conv2d_transpose_p = Primitive("mg::conv2d_transpose")
conv2d_kernel_grad_p = Primitive("mg::conv2d_kernel_grad")


def spans_of(kernel: tuple[int, ...], dilation: windows.Pair) -> windows.Pair:
    """What a kernel of this shape spans."""
    return windows.extent(kernel[0], dilation[0]), windows.extent(kernel[1], dilation[1])


def _problem(
    operation: str,
    x: tuple[int, ...],
    kernel: tuple[int, ...],
    strides: windows.Pair,
    pads: windows.Pads,
    dilation: windows.Pair,
    groups: int,
) -> plans.Problem:
    """The convolution of x by kernel, once everything fits."""
    windows.require_images(operation, "x", x)
    windows.require_window(operation, (1, 1), strides, pads, dilation)
    if len(kernel) != 4 or min(kernel[:2]) < 1:
        raise ShapeError(f"{operation}: kernel has shape {kernel}, expected (rows, columns, channels / groups, out)")
    if groups < 1 or kernel[3] % groups:
        raise ArgumentError(f"{operation}: groups is {groups}, expected a divisor of the {kernel[3]} outputs of kernel")
    if kernel[2] * groups != x[3]:
        expected = f"{x[3]} / {groups}" if x[3] % groups else str(x[3] // groups)
        raise ShapeError(
            f"{operation}: kernel has shape {kernel}, expected (rows, columns, {expected}, out) for {groups} groups of "
            f"the channels of x with shape {x}"
        )
    windows.results(operation, "kernel", x, kernel[:2], spans_of(kernel, dilation), strides, pads)
    return plans.Problem(x, kernel, strides, pads, dilation, groups)  # type: ignore[arg-type]


def _buffers(jobs: Any, dtype: np.dtype) -> tuple[Abstract, ...]:
    """Workspaces as long as the longest of each that the jobs want."""
    jobs = jobs if isinstance(jobs, tuple) and not isinstance(jobs, plans.Job) else (jobs,)
    longest = [max([getattr(job, name) for job in jobs], default=0) for name in ("packed", "scratch", "spare")]
    return tuple([Abstract((n,), dtype) for n in longest])


@conv2d_p.infer
def _(x, kernel, *, strides, pads, dilation, groups):
    dtype = dtypes.require_same("conv2d", x=x.dtype, kernel=kernel.dtype)
    dtypes.require_floating("conv2d", "x", dtype)
    return Abstract(_problem("conv2d", x.shape, kernel.shape, strides, pads, dilation, groups).out, dtype)


@conv2d_p.workspace
def _(x, kernel, **params):
    return _buffers(plans.forward(plans.Problem(x.shape, kernel.shape, **params), *_sizes(x.dtype)), x.dtype)


@conv2d_p.kernel("reference")
def _(x, kernel, *, strides, pads, dilation, groups):
    _, rows, columns, out = plans.Problem(x.shape, kernel.shape, strides, pads, dilation, groups).out
    y = np.zeros((len(x), rows, columns, groups, out // groups), np.result_type(x.dtype, np.float32))
    for x_part, k_part in _taps(x, kernel, strides, pads, dilation, groups, (rows, columns)):
        y += np.einsum("nrqgc,cgo->nrqgo", x_part, k_part)
    return y.reshape(len(x), rows, columns, out).astype(x.dtype)


@conv2d_p.kernel("cpu")
def _(buffers, x, kernel, **params):
    y, packed, scratch, _ = buffers
    if not dtypes.has_kernels(x.dtype):
        y[...] = conv2d_p.reference(x, kernel, **params)[0]
    elif y.size:
        job = plans.forward(plans.Problem(x.shape, kernel.shape, **params), *_sizes(x.dtype))
        convolution_cpu.convolve(job, y, x, cpu.contiguous(kernel), packed, scratch)


@conv2d_p.vjp(saves=("x", "kernel"))
def _(ct, saved, needs, **params):
    x, kernel = saved.shapes
    dx = conv2d_transpose_p(ct, saved.kernel, size=x[1:3], **params) if needs[0] else None
    return dx, conv2d_kernel_grad_p(saved.x, ct, size=kernel[:2], **params) if needs[1] else None


@conv2d_p.jvp
def _(tangents, primals, outputs, **params):
    return _bilinear(conv2d_p, tangents, primals, params)


def _taps(x, kernel, strides, pads, dilation, groups, sizes):
    """What each tap of the window sees of x, with its weights: (n, rows, columns, groups, c) and (c, groups, out)."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)))
    for i, j in np.ndindex(kernel.shape[:2]):
        part = x[(slice(None), *_seen((i, j), strides, dilation, sizes))]
        part = part.reshape(*part.shape[:3], groups, kernel.shape[2])
        yield part, kernel[i, j].reshape(kernel.shape[2], groups, kernel.shape[3] // groups)


def _seen(tap: windows.Pair, strides: windows.Pair, dilation: windows.Pair, sizes: windows.Pair) -> tuple[slice, ...]:
    """The rows and columns of the padded image that a tap sees."""
    return tuple([slice(t * d, t * d + (n - 1) * s + 1, s) for t, s, d, n in zip(tap, strides, dilation, sizes)])


def _sizes(dtype: np.dtype) -> tuple[int, int]:
    """A vector's lanes and an element's bytes; any number for dtypes without kernels."""
    return (lanes(dtype), dtype.itemsize) if dtypes.has_kernels(dtype) else (1, 1)


def _bilinear(primitive: Primitive, tangents: Any, primals: Any, params: dict) -> Tensor:
    left = None if tangents[0] is None else primitive(tangents[0], primals[1], **params)
    right = None if tangents[1] is None else primitive(primals[0], tangents[1], **params)
    return left if right is None else right if left is None else left + right  # type: ignore[return-value]


# conv2d_transpose: from a cotangent of the convolution's result to one of its input, which has `size`


def _transposed(operation: str, y: tuple[int, ...], kernel: tuple[int, ...], size: windows.Pair, **params: Any):
    windows.require_images(operation, "x", y)
    if len(kernel) != 4:
        raise ShapeError(f"{operation}: kernel has shape {kernel}, expected (rows, columns, out / groups, channels)")
    if kernel[3] != y[3]:
        raise ShapeError(
            f"{operation}: kernel has shape {kernel}, expected (rows, columns, out / groups, {y[3]}) as x has shape {y}"
        )
    problem = _problem(operation, (y[0], *size, kernel[2] * params["groups"]), kernel, **params)
    if problem.out != y:
        raise ShapeError(f"{operation}: x has shape {y}, expected {problem.out} for a result of size {size}")
    return problem


@conv2d_transpose_p.infer
def _(x, kernel, *, size, strides, pads, dilation, groups):
    dtype = dtypes.require_same("conv2d_transpose", x=x.dtype, kernel=kernel.dtype)
    dtypes.require_floating("conv2d_transpose", "x", dtype)
    params = {"strides": strides, "pads": pads, "dilation": dilation, "groups": groups}
    return Abstract(_transposed("conv2d_transpose", x.shape, kernel.shape, size, **params).x, dtype)


def _problem_of(x: Any, kernel: Any, size: windows.Pair, params: dict) -> plans.Problem:
    """The convolution that this is the transpose of."""
    return plans.Problem((x.shape[0], *size, kernel.shape[2] * params["groups"]), kernel.shape, **params)


@conv2d_transpose_p.workspace
def _(x, kernel, *, size, **params):
    return _buffers(plans.transposed(_problem_of(x, kernel, size, params), *_sizes(x.dtype)), x.dtype)


@conv2d_transpose_p.kernel("reference")
def _(x, kernel, *, size, strides, pads, dilation, groups):
    n, rows, columns, channels = x.shape
    dtype = np.result_type(x.dtype, np.float32)
    y = np.zeros((n, size[0] + sum(pads[0]), size[1] + sum(pads[1]), groups, kernel.shape[2]), dtype)
    x = x.reshape(n, rows, columns, groups, channels // groups)
    for i, j in np.ndindex(kernel.shape[:2]):
        weights = kernel[i, j].reshape(kernel.shape[2], groups, channels // groups)
        place = _seen((i, j), strides, dilation, (rows, columns))
        y[(slice(None), *place)] += np.einsum("nrqgo,cgo->nrqgc", x, weights)
    inside = y[:, pads[0][0] : pads[0][0] + size[0], pads[1][0] : pads[1][0] + size[1]]
    return inside.reshape(n, *size, groups * kernel.shape[2]).astype(x.dtype)


@conv2d_transpose_p.kernel("cpu")
def _(buffers, x, kernel, *, size, **params):
    y, packed, scratch, _ = buffers
    if not dtypes.has_kernels(x.dtype):
        y[...] = conv2d_transpose_p.reference(x, kernel, size=size, **params)[0]
    elif y.size:
        kernel = cpu.contiguous(kernel)
        for job in plans.transposed(_problem_of(x, kernel, size, params), *_sizes(x.dtype)):
            convolution_cpu.convolve(job, y, x, kernel, packed, scratch)


@conv2d_transpose_p.vjp(saves=("x", "kernel"))
def _(ct, saved, needs, *, size, **params):
    dx = conv2d_p(ct, saved.kernel, **params) if needs[0] else None
    return dx, conv2d_kernel_grad_p(ct, saved.x, size=saved.shapes[1][:2], **params) if needs[1] else None


@conv2d_transpose_p.jvp
def _(tangents, primals, outputs, **params):
    return _bilinear(conv2d_transpose_p, tangents, primals, params)


# conv2d_kernel_grad: from the convolution's input and a cotangent of its result to one of its kernel, which has `size`


@conv2d_kernel_grad_p.infer
def _(x, ct, *, size, strides, pads, dilation, groups):
    dtype = dtypes.require_same("conv2d_kernel_grad", x=x.dtype, ct=ct.dtype)
    dtypes.require_floating("conv2d_kernel_grad", "x", dtype)
    windows.require_images("conv2d_kernel_grad", "x", x.shape)
    windows.require_images("conv2d_kernel_grad", "ct", ct.shape)
    if groups < 1 or x.shape[3] % groups:
        raise ArgumentError(
            f"conv2d_kernel_grad: groups is {groups}, expected a divisor of the {x.shape[3]} channels of x"
        )
    kernel = (*size, x.shape[3] // groups, ct.shape[3])
    problem = _problem("conv2d_kernel_grad", x.shape, kernel, strides, pads, dilation, groups)
    if problem.out != ct.shape:
        raise ShapeError(f"conv2d_kernel_grad: ct has shape {ct.shape}, expected {problem.out} as x has {x.shape}")
    return Abstract(kernel, dtype)


def _problem_from(x: Any, ct: Any, size: windows.Pair, params: dict) -> plans.Problem:
    return plans.Problem(x.shape, (*size, x.shape[3] // params["groups"], ct.shape[3]), **params)


@conv2d_kernel_grad_p.workspace
def _(x, ct, *, size, **params):
    return _buffers(plans.by_kernel(_problem_from(x, ct, size, params), *_sizes(x.dtype)), x.dtype)


@conv2d_kernel_grad_p.kernel("reference")
def _(x, ct, *, size, strides, pads, dilation, groups):
    n, rows, columns, out = ct.shape
    c = x.shape[3] // groups
    dk = np.zeros((*size, c, groups, out // groups), np.result_type(x.dtype, np.float32))
    ct = ct.reshape(n, rows, columns, groups, out // groups)
    shape = np.broadcast_to(np.zeros((), x.dtype), (*size, c, out))
    for at, (part, _) in zip(np.ndindex(*size), _taps(x, shape, strides, pads, dilation, groups, (rows, columns))):
        dk[at] = np.einsum("nrqgc,nrqgo->cgo", part, ct)
    return dk.reshape(*size, c, out).astype(x.dtype)


@conv2d_kernel_grad_p.kernel("cpu")
def _(buffers, x, ct, *, size, **params):
    dk, shares, scratch, panels = buffers
    if not dtypes.has_kernels(x.dtype):
        dk[...] = conv2d_kernel_grad_p.reference(x, ct, size=size, **params)[0]
    elif dk.size:
        job = plans.by_kernel(_problem_from(x, ct, size, params), *_sizes(x.dtype))
        convolution_cpu.by_kernel(job, dk, x, ct, shares, scratch, panels)


@conv2d_kernel_grad_p.vjp(saves=("x", "ct"))
def _(g, saved, needs, *, size, **params):
    dx = conv2d_transpose_p(saved.ct, g, size=saved.shapes[0][1:3], **params) if needs[0] else None
    return dx, conv2d_p(saved.x, g, **params) if needs[1] else None


@conv2d_kernel_grad_p.jvp
def _(tangents, primals, outputs, **params):
    return _bilinear(conv2d_kernel_grad_p, tangents, primals, params)


# Samples: of the convolution; the other two take a cotangent in place of kernel or image


def _cases() -> list[tuple[tuple, tuple, dict, str]]:
    """Shapes of x and of the kernel, what differs from a plain convolution, and why it is here."""
    return [
        ((2, 5, 6, 3), (3, 2, 3, 4), {}, ""),
        ((2, 5, 4, 3), (1, 1, 3, 5), {}, "1x1"),
        ((1, 1, 1, 1), (1, 1, 1, 1), {}, "a single pixel"),
        ((1, 1, 1, 2), (3, 3, 2, 3), {"pads": ((1, 1), (1, 1))}, "a single pixel with pads"),
        ((2, 7, 6, 2), (3, 2, 2, 3), {"strides": (2, 3)}, "strides that leave a rest"),
        ((1, 6, 8, 2), (1, 2, 2, 3), {"strides": (3, 3)}, "strides longer than the kernel"),
        ((2, 4, 5, 2), (3, 2, 2, 3), {"pads": ((2, 0), (1, 3))}, "pads that differ"),
        ((1, 7, 8, 2), (3, 2, 2, 3), {"dilation": (2, 3)}, "dilation"),
        (
            (1, 6, 7, 2),
            (3, 2, 2, 3),
            {"dilation": (2, 3), "strides": (3, 2), "pads": ((1, 2), (3, 0))},
            "all of it",
        ),
        ((2, 5, 4, 6), (2, 3, 2, 9), {"groups": 3, "pads": ((1, 0), (0, 1))}, "groups"),
        ((2, 4, 5, 3), (2, 3, 1, 6), {"groups": 3, "strides": (1, 2)}, "depthwise, two outputs a channel"),
        ((0, 4, 5, 2), (2, 3, 2, 3), {"pads": ((1, 0), (0, 1))}, "no images"),
        ((2, 4, 5, 0), (2, 3, 0, 3), {}, "no channels"),
        ((2, 4, 5, 2), (2, 3, 2, 0), {}, "no outputs"),
        ((1, 3, 17, 3), (2, 2, 3, 35), {}, "more outputs than vectors hold"),
        ((1, 2, 4, 35), (2, 1, 35, 3), {"strides": (1, 2), "pads": ((0, 1), (0, 0))}, "more channels"),
        ((1, 4, 5, 18), (2, 2, 9, 24), {"groups": 2, "strides": (3, 2)}, "wide groups"),
    ]


_PLAIN: dict[str, Any] = {"strides": (1, 1), "pads": ((0, 0), (0, 0)), "dilation": (1, 1), "groups": 1}
_BAD: list[tuple[tuple, tuple, dict, type, str]] = [
    ((5, 6, 3), (3, 2, 3, 4), {}, ShapeError, r"x has shape \(5, 6, 3\), expected \(batch, rows"),
    ((2, 5, 6, 3), (3, 2, 2, 4), {}, ShapeError, r"kernel has shape \(3, 2, 2, 4\), expected \(rows, columns, 3, out"),
    ((2, 5, 6, 3), (6, 2, 3, 4), {}, ShapeError, r"size \(6, 2\), expected at most the \(5, 6\) of x"),
    ((2, 5, 6, 3), (3, 2, 3, 4), {"dilation": (3, 1)}, ShapeError, r"which spans \(7, 2\) by dilation"),
    ((2, 5, 6, 4), (3, 2, 2, 3), {"groups": 2}, ArgumentError, "groups is 2, expected a divisor of the 3 outputs"),
    ((2, 5, 6, 3), (3, 2, 3, 4), {"strides": (0, 1)}, ArgumentError, r"strides is \(0, 1\), expected at least 1"),
    ((2, 5, 6, 3), (3, 2, 3, 4), {"pads": ((0, 0), (-1, 0))}, ArgumentError, "expected at least 0"),
]


@conv2d_p.samples
def _(rng):
    for x, k, params, note in _cases():
        yield Sample((rng.standard_normal(x), rng.standard_normal(k)), {**_PLAIN, **params}, note=note)
    strided = rng.standard_normal((3, 5, 6, 2)).transpose(3, 2, 1, 0)[::-1], rng.standard_normal((4, 3, 3, 6))[::-2]
    yield Sample((strided[0], strided[1][..., ::-1]), _PLAIN, note="strided")
    for x, k, params, error, match in _BAD:
        yield Sample((np.ones(x), np.ones(k)), {**_PLAIN, **params}, error=error, match=match)


@conv2d_transpose_p.samples
def _(rng):
    for x, k, params, note in _cases():
        problem = plans.Problem(x, k, **{**_PLAIN, **params})
        inputs = rng.standard_normal(problem.out), rng.standard_normal(k)
        yield Sample(inputs, {**_PLAIN, **params, "size": x[1:3]}, note=note)
    bad = {**_PLAIN, "size": (4, 6)}
    yield Sample(
        (np.ones((2, 3, 5, 4)), np.ones((3, 2, 3, 4))),
        bad,
        error=ShapeError,
        match=r"x has shape \(2, 3, 5, 4\), expected \(2, 2, 5, 4\)",
    )
    yield Sample(
        (np.ones((2, 2, 5, 5)), np.ones((3, 2, 3, 4))), bad, error=ShapeError, match=r"expected \(.*, 5\) as x has"
    )


@conv2d_kernel_grad_p.samples
def _(rng):
    for x, k, params, note in _cases():
        problem = plans.Problem(x, k, **{**_PLAIN, **params})
        inputs = rng.standard_normal(x), rng.standard_normal(problem.out)
        yield Sample(inputs, {**_PLAIN, **params, "size": k[:2]}, note=note)
    bad = {**_PLAIN, "size": (3, 2)}
    yield Sample(
        (np.ones((2, 5, 6, 3)), np.ones((2, 3, 4, 4))), bad, error=ShapeError, match=r"ct has shape .*\(2, 3, 5, 4\)"
    )
    grouped = {**bad, "groups": 2}
    yield Sample(
        (np.ones((2, 5, 6, 3)), np.ones((2, 3, 5, 4))), grouped, error=ArgumentError, match="divisor of the 3 channels"
    )
