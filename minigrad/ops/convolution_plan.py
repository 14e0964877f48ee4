"""How the CPU's convolution kernels go about a problem: tables of places, and the cut into tasks and chunks.

A convolution, its transpose and its derivative by the kernel are all sums over taps: the result at (r, q) adds up what
the input holds at (r·step + e, q·step + f), for the (e, f) of the taps. Where inputs outside the image take part, a
task first copies what it needs into a scratch buffer with zeros around it. A task is some images, or some rows of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minigrad.ops.windows import Pads, Pair, extent

_CHUNKS = 16  # at most; each has scratch buffers of its own
_FEW = 8  # images that are cut, so that there are chunks enough
_PIXELS = 512  # of a task, where images are small
_SERIAL = 1 << 20  # multiplications below which one chunk does it all
_PER_ELEMENT = 12  # multiplications that take as long as touching an element
_ADDING = 8  # terms that take as long as a tap that is added to memory
_SCRATCH = 1 << 18  # bytes of a task's input that stay in the second-level cache
_PANEL = 1 << 14  # bytes of a task's cotangents that stay in the first-level cache


class Problem(NamedTuple):
    """A convolution: the shapes of x (n, h, w, c), of the kernel (kh, kw, c / groups, out), and the parameters."""

    x: tuple[int, int, int, int]
    kernel: tuple[int, int, int, int]
    strides: Pair
    pads: Pads
    dilation: Pair
    groups: int

    @property
    def out(self) -> tuple[int, int, int, int]:
        """The result's shape."""
        sizes = [
            (n + sum(p) - extent(k, d)) // s + 1
            for n, p, k, d, s in zip(self.x[1:3], self.pads, self.kernel[:2], self.dilation, self.strides)
        ]
        return self.x[0], sizes[0], sizes[1], self.kernel[3]


class Job(NamedTuple):
    """One call of a kernel.

    Attributes:
        form: the numbers that `convolution_cpu` unpacks, in the order given there.
        x_at, y_at: places of the rows of a task's result, from the task's first, in input and output.
        taps: places of the taps, from the first one's; the `terms` elements from there on take part.
        sources: the places in the kernel that the taps' weights come from.
        weight_steps: the steps in the kernel from one term, one lane, one group to the next.
        panels: how many panels the packed weights have, one for each vector of a group's outputs.
        packed, scratch, spare: the elements of the buffers.
        padded: whether tasks copy their input.
        scatters: whether inputs are added to results, instead of results adding up inputs.
        chunks, work: for the kernel's call.
    """

    form: np.ndarray
    x_at: np.ndarray
    y_at: np.ndarray
    taps: np.ndarray
    sources: np.ndarray
    weight_steps: tuple[int, int, int]
    panels: int
    packed: int
    scratch: int
    spare: int
    padded: bool
    scatters: bool
    chunks: int
    work: int


class _Axis(NamedTuple):
    """Rows or columns of a job, whose results lie `out_step` apart from `out_first` on."""

    size: int  # of the input
    results: int
    step: int
    taps: list[int]  # ascending
    order: list[int]  # the kernel's row or column of each tap
    out_first: int = 0
    out_step: int = 1

    @property
    def low(self) -> int:
        return self.taps[0] if self.taps else 0

    @property
    def span(self) -> int:
        """From the first tap to the last, both included."""
        return self.taps[-1] - self.taps[0] + 1 if self.taps else 0

    @property
    def padded(self) -> bool:
        return bool(self.taps) and (self.low < 0 or (self.results - 1) * self.step + self.taps[-1] >= self.size)

    def reach(self, count: int) -> int:
        """How much of the input `count` results take part in."""
        return (count - 1) * self.step + self.span


@lru_cache(maxsize=1024)
def forward(p: Problem, width: int, itemsize: int) -> Job:
    """The job of a convolution; `width` is the number of lanes of a vector."""
    rows, columns = _forward_axis(p, 0), _forward_axis(p, 1)
    _, _, terms, out = p.kernel
    return _gathering(p, p.x, p.out, rows, columns, terms, out // p.groups, (out, 1, out // p.groups), width, itemsize)


@lru_cache(maxsize=1024)
def transposed(p: Problem, width: int, itemsize: int) -> tuple[Job, ...]:
    """The jobs of its derivative by x, from the cotangent of its result: one for each phase of the strides.

    Or a single one that scatters: it does not compute what a convolution would of the zeros around the cotangent, but
    adds to memory at each tap.
    """
    n, h, w, _ = p.x
    _, rows, columns, out = p.out
    terms = out // p.groups
    plane = _scatter_size(p, 0) * _scatter_size(p, 1) * width
    by_taps = rows * columns * (terms + _ADDING)
    by_results = -(-h // p.strides[0]) * -(-w // p.strides[1]) * terms
    if n >= _FEW and plane * itemsize <= _SCRATCH and by_taps < by_results:
        return (_scattering(p, plane, width),)
    jobs = []
    for i in range(min(p.strides[0], h)):
        for j in range(min(p.strides[1], w)):
            phase = _phase(p, 0, i), _phase(p, 1, j)
            jobs.append(_gathering(p, p.out, p.x, *phase, terms, p.kernel[2], (1, out, terms), width, itemsize))
    return tuple(jobs)


@lru_cache(maxsize=1024)
def by_kernel(p: Problem, width: int, itemsize: int) -> Job:
    """The job of its derivative by the kernel; here x_at are the places of the kernel's elements in x."""
    rows, columns = _forward_axis(p, 0), _forward_axis(p, 1)
    n, channels = p.x[0], p.x[3]
    kh, kw, terms, out = p.kernel
    pixels = max(1, _PANEL // (width * itemsize))
    images, task_rows = _tasks(n, rows, columns, pixels // max(1, columns.results), pixels)
    source = _source(p.x, rows, columns, images, task_rows)
    line = source.pitch * channels
    outputs, size = out // p.groups, kh * kw * terms
    panels = p.groups * -(-outputs // width)
    work = n * rows.results * columns.results * size * out
    chunks = _chunk_count(n, rows, images, task_rows, work)
    spare = images * task_rows * columns.results * width
    form = [p.groups, panels // p.groups, outputs, terms, size, *source.form, columns.step * channels, spare]
    return Job(
        form=np.array(form, np.int64),
        x_at=_grid([kh, kw, terms], [p.dilation[0] * line, p.dilation[1] * channels, 1]),
        y_at=np.arange(size, dtype=np.int64) * width,
        taps=_grid([images, task_rows], [source.rows * line, rows.step * line]),
        sources=np.zeros(0, np.int64),
        weight_steps=(0, 0, 0),
        panels=panels,
        packed=chunks * panels * size * width,
        scratch=chunks * source.scratch,
        spare=chunks * spare,
        padded=source.padded,
        scatters=False,
        chunks=chunks,
        work=work // _PER_ELEMENT,
    )


def _gathering(
    p: Problem,
    x: tuple[int, int, int, int],
    y: tuple[int, int, int, int],
    rows: _Axis,
    columns: _Axis,
    terms: int,
    outputs: int,
    steps: tuple[int, int, int],
    width: int,
    itemsize: int,
) -> Job:
    """The job that convolves x to y; `terms` channels of a group become `outputs` ones."""
    n, channels = x[0], x[3]
    out_row, out_channels = y[2] * y[3], y[3]
    in_row = (columns.results * columns.step + columns.span) * channels * rows.step * itemsize
    images, task_rows = _tasks(n, rows, columns, _SCRATCH // max(1, in_row), _PIXELS)
    source = _source(x, rows, columns, images, task_rows)
    line = source.pitch * channels
    sizes = [images, task_rows, columns.results]
    tap_rows = [(e - rows.low) * line for e in rows.taps]
    tap_columns = [(f - columns.low) * channels for f in columns.taps]
    sources = [(i * p.kernel[1] + j) * p.kernel[2] * p.kernel[3] for i in rows.order for j in columns.order]
    terms_a_tap = terms
    if p.groups == 1 and tap_columns and columns.span == len(tap_columns):  # they lie side by side
        tap_columns, terms_a_tap = tap_columns[:1], terms * len(tap_columns)
    taps = [e + f for e in tap_rows for f in tap_columns]
    panels, size = p.groups * -(-outputs // width), len(sources) * terms
    work = n * rows.results * columns.results * size * outputs * p.groups
    chunks = _chunk_count(n, rows, images, task_rows, work)
    form = [
        *(p.groups, panels // p.groups, outputs, terms, size, *source.form, len(taps), terms_a_tap),
        *(y[1] * out_row, rows.out_step * out_row, rows.out_first * out_row + columns.out_first * out_channels),
    ]
    return Job(
        form=np.array(form, np.int64),
        x_at=_grid(sizes, [source.rows * line, rows.step * line, columns.step * channels]),
        y_at=_grid(sizes, [y[1] * out_row, rows.out_step * out_row, columns.out_step * out_channels]),
        taps=np.array(taps, np.int64),
        sources=np.array(sources, np.int64),
        weight_steps=steps,
        panels=panels,
        packed=panels * size * width,
        scratch=chunks * source.scratch,
        spare=0,
        padded=source.padded,
        scatters=False,
        chunks=chunks,
        work=work // _PER_ELEMENT,
    )


def _scattering(p: Problem, plane: int, width: int) -> Job:
    """The job that adds each cotangent to what it came from, in a buffer of an image with its pads."""
    n, h, w, _ = p.x
    _, rows, columns, out = p.out
    kh, kw, outputs, _ = p.kernel
    pitch, terms = _scatter_size(p, 1), out // p.groups
    panels, size = p.groups * -(-outputs // width), kh * kw * terms
    work = n * rows * columns * size * outputs * p.groups
    chunks = _chunk_count(n, _forward_axis(p, 0), 1, rows, work)
    form = [p.groups, panels // p.groups, outputs, terms, size, n, h, w, p.pads[0][0], p.pads[1][0]]
    return Job(
        form=np.array([*form, _scatter_size(p, 0), pitch, rows * columns * out], np.int64),
        x_at=_grid([rows, columns], [columns * out, out]),
        y_at=_grid([rows, columns], [p.strides[0] * pitch * width, p.strides[1] * width]),
        taps=_grid([kh, kw], [p.dilation[0] * pitch * width, p.dilation[1] * width]),
        sources=_grid([kh, kw], [kw * outputs * out, outputs * out]),
        weight_steps=(1, out, terms),
        panels=panels,
        packed=panels * size * width,
        scratch=chunks * plane,
        spare=0,
        padded=False,
        scatters=True,
        chunks=chunks,
        work=work // _PER_ELEMENT,
    )


def _scatter_size(p: Problem, axis: int) -> int:
    """The rows or columns of an image with its pads, as far as windows reach."""
    return (p.out[1 + axis] - 1) * p.strides[axis] + extent(p.kernel[axis], p.dilation[axis])


def _forward_axis(p: Problem, axis: int) -> _Axis:
    taps = [i * p.dilation[axis] - p.pads[axis][0] for i in range(p.kernel[axis])]
    return _Axis(p.x[1 + axis], p.out[1 + axis], p.strides[axis], taps, list(range(p.kernel[axis])))


def _phase(p: Problem, axis: int, phase: int) -> _Axis:
    """Results at phase, phase + stride, ...: row r of them adds up what the cotangent holds at r + each tap."""
    stride, dilation, before = p.strides[axis], p.dilation[axis], p.pads[axis][0]
    order = [i for i in reversed(range(p.kernel[axis])) if (phase + before - i * dilation) % stride == 0]
    taps = [(phase + before - i * dilation) // stride for i in order]
    return _Axis(p.out[1 + axis], -(-(p.x[1 + axis] - phase) // stride), 1, taps, order, phase, stride)


class _Source(NamedTuple):
    """Where tasks read their input: in a buffer with zeros around it, or where that is not needed, in the image.

    Attributes:
        pitch: columns from one row to the next.
        rows: rows from one image to the next.
        scratch: the elements of a task's buffer, 0 if there is none.
        form: n, h, w, channels; rows and columns of results; images and rows of a task; the step and first tap of
            rows, the first tap of columns, what the taps of a column span; then the numbers above.
    """

    pitch: int
    rows: int
    scratch: int
    form: list[int]

    @property
    def padded(self) -> bool:
        return self.scratch > 0


def _source(x: tuple[int, int, int, int], rows: _Axis, columns: _Axis, images: int, task_rows: int) -> _Source:
    n, h, w, channels = x
    padded = rows.padded or columns.padded
    pitch = columns.reach(columns.results) if padded else w
    in_rows = rows.reach(task_rows) if padded else h
    scratch = images * in_rows * pitch * channels if padded else 0
    form = [n, h, w, channels, rows.results, columns.results, images, task_rows, rows.step, rows.low, columns.low]
    return _Source(pitch, in_rows, scratch, [*form, rows.span, pitch, in_rows, scratch])


def _tasks(n: int, rows: _Axis, columns: _Axis, most_rows: int, pixels: int) -> Pair:
    """Images and rows of a task: all rows of some images, or if that is too much, some rows of one."""
    if n < _FEW:  # so that there are some tasks to share
        most_rows = min(most_rows, -(-rows.results * n // _FEW))
    if most_rows < rows.results:
        return 1, max(1, most_rows)
    most_images = min(most_rows // max(1, rows.results), pixels // max(1, rows.results * columns.results), n // _CHUNKS)
    return max(1, most_images), max(1, rows.results)


def _chunk_count(n: int, rows: _Axis, images: int, task_rows: int, work: int) -> int:
    tasks = -(-n // images) * -(-rows.results // task_rows)
    return max(1, min(tasks, _CHUNKS)) if work >= _SERIAL else 1


def _grid(sizes: Sequence[int], steps: Sequence[int]) -> np.ndarray:
    """The sums of i·step over all indices of an array of these sizes, in order."""
    total = np.zeros(1, np.int64)
    for size, step in zip(sizes, steps):
        total = (total[:, None] + np.arange(size, dtype=np.int64) * step).reshape(-1)
    return total
