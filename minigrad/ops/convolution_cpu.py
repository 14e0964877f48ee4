"""CPU kernels of convolutions, in the terms of `convolution_plan`: sums over taps, by tiles that stay in registers.

Results are the same bits for any number of threads: what a chunk is depends on the shapes alone, a tile adds its terms
up in the order of the taps, and the chunks' shares of a kernel's gradient are added up in the order of the chunks.
"""

from __future__ import annotations

import numpy as np

from minigrad.devices import cpu
from minigrad.devices.vectors import lanes
from minigrad.ops import convolution_plan as plans
from minigrad.ops.convolution_tile import ROWS, tile


def convolve(
    job: plans.Job, y: np.ndarray, x: np.ndarray, w: np.ndarray, packed: np.ndarray, scratch: np.ndarray
) -> None:
    """y from x and w, the latter contiguous, by way of the job's buffers."""
    y, x, w = y.reshape(-1), flat(x), w.reshape(-1)
    form, width = job.form, lanes(y.dtype)
    _pack(job.panels, job.packed, packed, w, form, job.sources, *job.weight_steps, width)
    chunks, tables = job.chunks, (job.x_at, job.y_at, job.taps)
    if job.scatters:
        _scatter(chunks, job.work, chunks, y, x, scratch, packed, form, *tables, _START, width)
    else:
        source = scratch if job.padded else x
        _gather(chunks, job.work, chunks, y, x, source, scratch, packed, form, *tables, width)


def by_kernel(
    job: plans.Job,
    dw: np.ndarray,
    x: np.ndarray,
    dy: np.ndarray,
    shares: np.ndarray,
    scratch: np.ndarray,
    panels: np.ndarray,
) -> None:
    """dw, the derivative by the kernel, from x and the cotangent dy, by way of the job's buffers."""
    dw, x, dy = dw.reshape(-1), flat(x), flat(dy)
    form, width, chunks = job.form, lanes(dw.dtype), job.chunks
    source, tables = scratch if job.padded else x, (job.x_at, job.y_at, job.taps)
    _by_kernel(chunks, job.work, chunks, shares, x, source, scratch, dy, panels, form, *tables, width)
    _combine(1, 0, dw, shares, chunks, form, width)


def flat(a: np.ndarray) -> np.ndarray:
    """Images as a contiguous array of one dimension: a view, or a copy in memory of the pool."""
    if not a.flags.writeable:  # to compiled kernels, memory that is read-only is another type
        a = a.copy()
    if not a.flags.c_contiguous and a.transpose(0, 3, 1, 2).flags.c_contiguous:
        n, _, _, channels = a.shape  # in memory the channels come first
        copy = cpu.empty((a.size,), a.dtype)
        chunks = max(1, min(n, cpu.chunks_of(a.size)))
        _channels_last(chunks, a.size, chunks, n, channels, copy, a.transpose(0, 3, 1, 2).reshape(-1))
        return copy
    return cpu.contiguous(a).reshape(-1)


_START = np.zeros(1, np.int64)
_BLOCK = 32  # pixels that are transposed at a time: the lines that they lie on stay in the first-level cache

# Every form starts with the weights' groups, blocks (vectors of a group's outputs), outputs (of a group), terms
# (channels of a group) and size (all terms of all taps).


@cpu.chunked
def _channels_last(chunk, chunks, n, channels, out, x):
    pixels = x.size // (n * channels)
    for image in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        start = image * pixels * channels
        for first in range(0, pixels, _BLOCK):
            for c in range(channels):
                given = x[start + c * pixels + first : start + c * pixels + min(first + _BLOCK, pixels)]
                place = out[start + first * channels + c :]
                for p in range(given.size):
                    place[p * channels] = given[p]


@cpu.chunked
def _pack(panel, packed, w, form, sources, term_step, lane_step, group_step, width):
    """The weights of a vector of outputs, one panel for each: term by term, zeros in the lanes that are left over."""
    blocks, outputs, terms, size = form[1], form[2], form[3], form[4]
    group, first = panel // blocks, panel % blocks * width
    used = min(width, outputs - first)
    start = group * group_step + first * lane_step
    to = panel * size * width
    for t in range(sources.size):
        for k in range(terms):
            at = sources[t] + start + k * term_step
            part = packed[to : to + width]
            for lane in range(used):
                part[lane] = w[at + lane * lane_step]
            for lane in range(used, width):
                part[lane] = 0
            to += width


@cpu.jit
def _zero(x):
    for i in range(x.size):
        x[i] = 0


@cpu.jit
def _load(scratch, x, form, image, images, row, rows):
    """Copy what a task takes of x, with zeros where it reaches beyond the image."""
    h, w, channels = form[6], form[7], form[8]
    row_step, rows_from, columns_from, span = form[13], form[14], form[15], form[16]
    pitch, in_rows = form[17], form[18]
    before = max(0, -columns_from) * channels
    skipped = max(0, columns_from) * channels
    line = pitch * channels
    width = max(0, min(w * channels - skipped, line - before))
    for i in range(images):
        for q in range((rows - 1) * row_step + span):
            place = scratch[(i * in_rows + q) * line : (i * in_rows + q + 1) * line]
            at = row * row_step + rows_from + q
            if at < 0 or at >= h:
                _zero(place)
                continue
            _zero(place[:before])
            start = ((image + i) * h + at) * w * channels + skipped
            given, inside = x[start : start + width], place[before : before + width]
            for j in range(width):
                inside[j] = given[j]
            _zero(place[before + width :])


@cpu.chunked
def _gather(chunk, chunks, y, x, source, scratch, packed, form, x_at, y_at, taps, width):
    """Each result adds up what its taps hold."""
    groups, blocks, outputs, terms, size = form[0], form[1], form[2], form[3], form[4]
    n, rows, columns, images, task_rows, buffer = form[5], form[9], form[10], form[11], form[12], form[19]
    all_taps, terms_a_tap, y_image, y_row, y_start = form[20], form[21], form[22], form[23], form[24]
    row_tasks = -(-rows // task_rows)
    tasks = -(-n // images) * row_tasks
    for task in range(chunk * tasks // chunks, (chunk + 1) * tasks // chunks):
        image, row = task // row_tasks * images, task % row_tasks * task_rows
        some, some_rows = min(images, n - image), min(task_rows, rows - row)
        if buffer:
            start = chunk * buffer
            _load(scratch[start : start + buffer], x, form, image, some, row, some_rows)
        else:
            start = ((image * form[6] + row * form[13] + form[14]) * form[7] + form[15]) * form[8]
        to = image * y_image + row * y_row + y_start
        pixels = some * some_rows * columns
        for group in range(groups):
            given = source[start + group * terms :]
            for block in range(blocks):
                weights = packed[(group * blocks + block) * size * width :]
                place = y[to + group * outputs + block * width :]
                left = outputs - block * width
                for p in range(0, pixels, ROWS):
                    tile(place, y_at, given, x_at, p, pixels, taps, all_taps, terms_a_tap, 1, weights, width, left, 1)


@cpu.chunked
def _scatter(chunk, chunks, y, x, scratch, packed, form, x_at, y_at, taps, start, width):
    """Each element of x is added to the results of all its taps, in a buffer for one vector of one image's outputs."""
    groups, blocks, outputs, terms, size = form[0], form[1], form[2], form[3], form[4]
    n, h, w, top, left, rows, pitch, x_image = (
        form[5], form[6], form[7], form[8], form[9], form[10], form[11], form[12],
    )  # fmt: skip
    channels = groups * outputs
    plane = rows * pitch * width
    buffer = scratch[chunk * plane : (chunk + 1) * plane]
    for image in range(chunk * n // chunks, (chunk + 1) * n // chunks):
        for group in range(groups):
            given = x[image * x_image + group * terms :]
            for block in range(blocks):
                _zero(buffer)
                panel = (group * blocks + block) * size * width
                for t in range(taps.size):
                    place, weights = buffer[taps[t] :], packed[panel + t * terms * width :]
                    for p in range(0, x_at.size, ROWS):
                        tile(place, y_at, given, x_at, p, x_at.size, start, 1, terms, 1, weights, width, width, 0)
                used = min(width, outputs - block * width)
                first = group * outputs + block * width
                for r in range(h):
                    for q in range(w):
                        at = ((r + top) * pitch + q + left) * width
                        to = ((image * h + r) * w + q) * channels + first
                        inside = r + top < rows and q + left < pitch
                        for lane in range(used):
                            y[to + lane] = buffer[at + lane] if inside else 0


@cpu.chunked
def _by_kernel(chunk, chunks, shares, x, source, scratch, dy, panels, form, k_at, share_at, taps, width):
    groups, blocks, outputs, terms, size = form[0], form[1], form[2], form[3], form[4]
    n, rows, columns, images, task_rows, buffer = form[5], form[9], form[10], form[11], form[12], form[19]
    step, panel = form[20], form[21]
    all_outputs = groups * outputs
    share = shares[chunk * blocks * groups * size * width : (chunk + 1) * blocks * groups * size * width]
    _zero(share)
    part = panels[chunk * panel : (chunk + 1) * panel]
    row_tasks = -(-rows // task_rows)
    tasks = -(-n // images) * row_tasks
    for task in range(chunk * tasks // chunks, (chunk + 1) * tasks // chunks):
        image, row = task // row_tasks * images, task % row_tasks * task_rows
        some, some_rows = min(images, n - image), min(task_rows, rows - row)
        if buffer:
            start = chunk * buffer
            _load(scratch[start : start + buffer], x, form, image, some, row, some_rows)
        else:
            start = ((image * form[6] + row * form[13] + form[14]) * form[7] + form[15]) * form[8]
        pixels = some * some_rows * columns
        for group in range(groups):
            given = source[start + group * terms :]
            for block in range(blocks):
                at = ((image * rows + row) * columns * groups + group) * outputs + block * width
                cotangents, dy_step = dy[at:], all_outputs
                if at + (pixels - 1) * all_outputs + width > dy.size:  # the last vector would reach beyond the end
                    used = min(width, outputs - block * width)
                    for p in range(pixels):
                        for lane in range(used):
                            part[p * width + lane] = dy[at + p * all_outputs + lane]
                        for lane in range(used, width):
                            part[p * width + lane] = 0
                    cotangents, dy_step = part, width
                place = share[(group * blocks + block) * size * width :]
                for k in range(0, size, ROWS):
                    tile(
                        place, share_at, given, k_at, k, size, taps, some * some_rows, columns, step,
                        cotangents, dy_step, width, 0,
                    )  # fmt: skip


@cpu.chunked
def _combine(chunk, dw, shares, chunks, form, width):
    """The sum of the chunks' shares, in their order."""
    groups, blocks, outputs, size = form[0], form[1], form[2], form[4]
    share = groups * blocks * size * width
    for group in range(groups):
        for block in range(blocks):
            left = min(width, outputs - block * width)
            for k in range(size):
                at = ((group * blocks + block) * size + k) * width
                line = shares[at : at + width]
                for c in range(1, chunks):
                    other = shares[c * share + at : c * share + at + width]
                    for lane in range(width):
                        line[lane] += other[lane]
                to = (k * groups + group) * outputs + block * width
                place = dw[to : to + left]
                for lane in range(left):
                    place[lane] = line[lane]
