"""CPU kernels of pooling, over images with their channels last.

Forward ones work on rows of the result, backward ones on rows of the image, so that no two chunks write to one place.
`form` holds h, w, channels, rows, columns, window rows and columns, strides, and the pads above and to the left.
"""

from __future__ import annotations

from minigrad.devices import cpu

_LEAST = 1 << 13  # elements of a chunk


def run(kernel: cpu.Kernel, lines: int, elements: int, *arguments: object) -> None:
    """Call a kernel for all lines of all images, in chunks of some."""
    chunks = max(1, min(cpu.chunks_of(elements, _LEAST), lines))
    kernel(chunks, elements, chunks, lines, *arguments)


@cpu.jit
def _zero(x):
    for i in range(x.size):
        x[i] = 0


@cpu.jit(inline=True)
def _better(best, place, x, tap):
    """Take x where it is larger, or NaN; the first of equals stays, and the first NaN."""
    for c in range(best.size):
        value, known, where = x[c], best[c], place[c]
        take = (value > known) | ((value != value) & (known == known))
        best[c] = value if take else known
        place[c] = where ^ ((where ^ tap) * place.dtype.type(take))  # a select would become a branch


@cpu.chunked
def largest(chunk, chunks, lines, y, places, x, form):
    h, w, channels, rows, columns = form[0], form[1], form[2], form[3], form[4]
    kh, kw, sh, sw, top, left = form[5], form[6], form[7], form[8], form[9], form[10]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, row = line // rows, line % rows * sh - top
        for q in range(columns):
            column = q * sw - left
            to = (line * columns + q) * channels
            best, place = y[to : to + channels], places[to : to + channels]
            low, first = max(0, -row), max(0, -column)
            at = ((image * h + row + low) * w + column + first) * channels
            given = x[at : at + channels]
            for c in range(channels):
                best[c] = given[c]
                place[c] = low * kw + first
            for i in range(low, min(kh, h - row)):
                for j in range(first, min(kw, w - column)):
                    at = ((image * h + row + i) * w + column + j) * channels
                    _better(best, place, x[at : at + channels], place.dtype.type(i * kw + j))


@cpu.chunked
def pick(chunk, chunks, lines, y, x, places, form, taps):
    h, w, channels, rows, columns = form[0], form[1], form[2], form[3], form[4]
    sh, sw, top, left = form[7], form[8], form[9], form[10]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        at = ((line // rows * h + line % rows * sh - top) * w - left) * channels
        for q in range(columns):
            to = (line * columns + q) * channels
            for c in range(channels):
                y[to + c] = x[at + q * sw * channels + taps[places[to + c]] + c]


@cpu.chunked
def place(chunk, chunks, lines, dx, ct, places, form, taps):
    """A line is what belongs to one row of the result, or a whole image where its rows overlap in the image."""
    h, w, channels, rows, columns = form[0], form[1], form[2], form[3], form[4]
    kh, kw, sh, sw, top, left = form[5], form[6], form[7], form[8], form[9], form[10]
    together, apart = rows if sh < kh else 1, sh >= kh and sw >= kw
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, row = line * together // rows, line * together % rows
        first = 0 if row == 0 else row * sh - top
        end = h if row + together == rows else (row + together) * sh - top
        _zero(dx[(image * h + first) * w * channels : (image * h + end) * w * channels])
        for r in range(row, row + together):
            start = ((image * h + r * sh - top) * w - left) * channels
            for q in range(columns):
                at = ((image * rows + r) * columns + q) * channels
                to = start + q * sw * channels
                for c in range(channels):
                    if apart:
                        dx[to + taps[places[at + c]] + c] = ct[at + c]
                    else:
                        dx[to + taps[places[at + c]] + c] += ct[at + c]


@cpu.jit(inline=True)
def _add(x, given, factor):
    for c in range(x.size):
        x[c] += given[c] * factor


@cpu.chunked
def gather(chunk, chunks, lines, y, x, form, mean):
    h, w, channels, rows, columns = form[0], form[1], form[2], form[3], form[4]
    kh, kw, sh, sw, top, left = form[5], form[6], form[7], form[8], form[9], form[10]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, row = line // rows, line % rows * sh - top
        low, high = max(0, -row), min(kh, h - row)
        for q in range(columns):
            column, to = q * sw - left, (line * columns + q) * channels
            first, last = max(0, -column), min(kw, w - column)
            total = y[to : to + channels]
            _zero(total)
            for i in range(low, high):
                for j in range(first, last):
                    at = ((image * h + row + i) * w + column + j) * channels
                    _add(total, x[at : at + channels], total.dtype.type(1))
            if mean:
                size = total.dtype.type((high - low) * (last - first))
                for c in range(channels):
                    total[c] = total[c] / size


@cpu.chunked
def spread(chunk, chunks, lines, dx, ct, form, mean):
    h, w, channels, rows, columns = form[0], form[1], form[2], form[3], form[4]
    kh, kw, sh, sw, top, left = form[5], form[6], form[7], form[8], form[9], form[10]
    for line in range(chunk * lines // chunks, (chunk + 1) * lines // chunks):
        image, h_at = line // h, line % h + top
        _zero(dx[line * w * channels : (line + 1) * w * channels])
        for row in range(max(0, (h_at - kh) // sh + 1), min(rows, h_at // sh + 1)):
            start = row * sh - top
            high = min(kh, h - start) - max(0, -start)
            for q in range(columns):
                column, at = q * sw - left, ((image * rows + row) * columns + q) * channels
                first, last = max(0, -column), min(kw, w - column)
                given = ct[at : at + channels]
                size = high * (last - first) if mean else 1
                factor = given.dtype.type(1) / given.dtype.type(size)
                for j in range(first, last):
                    to = (line * w + column + j) * channels
                    _add(dx[to : to + channels], given, factor)
