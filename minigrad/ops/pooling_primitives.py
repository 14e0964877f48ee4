"""The primitives of pooling: two pairs of which each is the other's derivative, and max_pool2d, which picks."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from minigrad import dtypes
from minigrad.devices import cpu
from minigrad.errors import ArgumentError, DTypeError, ShapeError
from minigrad.ops import pooling_cpu, windows
from minigrad.primitive import Abstract, Primitive, Sample

# gather sums windows up and spread adds to windows; pick takes one element of each window and place adds to one.

max_pool2d_p = Primitive("mg::max_pool2d", outputs=("out", "places"))
pick_p = Primitive("mg::pool_pick")
place_p = Primitive("mg::pool_place")
gather_p = Primitive("mg::pool_gather")
spread_p = Primitive("mg::pool_spread")


def _results(operation: str, x: Abstract, size: windows.Pair, strides: windows.Pair, pads: windows.Pads) -> tuple:
    """The shape of a pool of x, once everything fits."""
    windows.require_images(operation, "x", x.shape)
    windows.require_window(operation, size, strides, pads)
    if dtypes.real(x.dtype) == x.dtype and dtypes.kind(x.dtype) != "f":
        raise DTypeError(f"{operation}: x has dtype {x.dtype}, expected a floating-point dtype")
    for length, pad in zip(size, pads):
        if max(pad) >= length:
            raise ArgumentError(f"{operation}: padding is {pads}, expected less than the size {size}")
    rows, columns = windows.results(operation, "window", x.shape, size, size, strides, pads)
    if x.size and not (rows and columns):
        raise ShapeError(f"{operation}: x has shape {x.shape}, expected at least one window")
    if min(x.shape[1:3]) < 1:
        raise ShapeError(f"{operation}: x has shape {x.shape}, expected at least one row and column")
    return x.shape[0], rows, columns, x.shape[3]


def _back_shape(operation: str, ct: Abstract, shape: windows.Pair, params: dict) -> tuple:
    """The shape of images of `shape` rows and columns that have pools like ct."""
    windows.require_images(operation, "ct", ct.shape)
    x = Abstract((ct.shape[0], *shape, ct.shape[3]), ct.dtype)
    expected = _results(operation, x, params["size"], params["strides"], params["pads"])
    if ct.shape != expected:
        raise ShapeError(f"{operation}: ct has shape {ct.shape}, expected {expected} for images of size {shape}")
    return x.shape


def _places_dtype(size: windows.Pair) -> np.dtype:
    return np.dtype(np.uint8 if size[0] * size[1] <= 256 else np.int32)


def _require_places(operation: str, places: Abstract, shape: tuple, size: windows.Pair) -> None:
    if places.shape != shape:
        raise ShapeError(f"{operation}: places has shape {places.shape}, expected {shape}")
    if places.dtype != _places_dtype(size):
        raise DTypeError(f"{operation}: places has dtype {places.dtype}, expected {_places_dtype(size)}")


@lru_cache(maxsize=1024)
def _form(
    x: tuple[int, ...], y: tuple[int, ...], size: windows.Pair, strides: windows.Pair, pads: windows.Pads
) -> np.ndarray:
    return np.array([*x[1:], *y[1:3], *size, *strides, pads[0][0], pads[1][0]], np.int64)


@lru_cache(maxsize=1024)
def _tap_places(size: windows.Pair, columns: int, channels: int) -> np.ndarray:
    """Where each pixel of a window lies from the first one."""
    return np.array([(i * columns + j) * channels for i, j in np.ndindex(size)], np.int64)


def _run(
    kernel: cpu.Kernel, lines: int, x: np.ndarray, y: np.ndarray, arrays: tuple, *more: Any, **params: Any
) -> None:
    """Call a kernel with contiguous `arrays`, its results first; x is the image of them and y its pool."""
    form = _form(x.shape, y.shape, **params)
    size = max(x.size, y.size * params["size"][0] * params["size"][1])
    pooling_cpu.run(kernel, lines, size, *[cpu.contiguous(a).reshape(-1) for a in arrays], form, *more)


def _windows(x: np.ndarray, size: windows.Pair, strides: windows.Pair, pads: windows.Pads, fill: Any) -> np.ndarray:
    """The windows of x as (n, rows, columns, kh·kw, channels), `fill` in the pads."""
    padded = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    every = np.lib.stride_tricks.sliding_window_view(padded, size, (1, 2))[:, :: strides[0], :: strides[1]]
    return np.moveaxis(every.reshape(*every.shape[:4], size[0] * size[1]), 4, 3)


def _unwindow(
    parts: np.ndarray, shape: windows.Pair, size: windows.Pair, strides: windows.Pair, pads: windows.Pads
) -> np.ndarray:
    """The transpose of `_windows`: images that windows have been added to."""
    n, rows, columns, _, channels = parts.shape
    out = np.zeros((n, shape[0] + sum(pads[0]), shape[1] + sum(pads[1]), channels), parts.dtype)
    for k, (i, j) in enumerate(np.ndindex(size)):
        last = i + (rows - 1) * strides[0] + 1, j + (columns - 1) * strides[1] + 1
        out[:, i : last[0] : strides[0], j : last[1] : strides[1]] += parts[:, :, :, k]
    return out[:, pads[0][0] : pads[0][0] + shape[0], pads[1][0] : pads[1][0] + shape[1]]


# max_pool2d


@max_pool2d_p.infer
def _(x, *, size, strides, pads):
    shape = _results("max_pool2d", x, size, strides, pads)
    return Abstract(shape, x.dtype), Abstract(shape, _places_dtype(size))


@max_pool2d_p.kernel("reference")
def _(x, *, size, strides, pads):
    parts = _windows(x, size, strides, pads, -np.inf)
    inside = np.broadcast_to(_windows(np.ones((1, *x.shape[1:3], 1), bool), size, strides, pads, False), parts.shape)
    at = np.argmax(parts.real, 3)[:, :, :, None]
    # Where all pixels are -inf, the largest may be a pad, which equals them.
    at = np.where(np.take_along_axis(inside, at, 3), at, np.argmax(inside, 3)[:, :, :, None])
    return np.take_along_axis(parts, at, 3)[:, :, :, 0], at[:, :, :, 0].astype(_places_dtype(size))


@max_pool2d_p.kernel("cpu")
def _(out, x, **params):
    if not dtypes.has_kernels(x.dtype):
        out[0][...], out[1][...] = max_pool2d_p.reference(x, **params)
    elif x.size:
        y = out[0]
        _run(pooling_cpu.largest, y.shape[0] * y.shape[1], x, y, (*out, x), **params)


@max_pool2d_p.vjp(saves=("places",))
def _(ct, saved, needs, **params):
    return None if ct[0] is None else place_p(ct[0], saved.places, shape=saved.shapes[0][1:3], **params)


@max_pool2d_p.jvp
def _(tangents, primals, outputs, **params):
    return pick_p(tangents[0], outputs[1], **params), None


# pool_pick and pool_place


@pick_p.infer
def _(x, places, *, size, strides, pads):
    shape = _results("pool_pick", x, size, strides, pads)
    _require_places("pool_pick", places, shape, size)
    return Abstract(shape, x.dtype)


@pick_p.kernel("reference")
def _(x, places, *, size, strides, pads):
    parts = _windows(x, size, strides, pads, 0)
    return np.take_along_axis(parts, places[:, :, :, None].astype(np.int64), 3)[:, :, :, 0]


@pick_p.kernel("cpu")
def _(out, x, places, **params):
    if not dtypes.has_kernels(x.dtype):
        out[...] = pick_p.reference(x, places, **params)[0]
    elif x.size:
        taps = _tap_places(params["size"], *x.shape[2:])
        _run(pooling_cpu.pick, out.shape[0] * out.shape[1], x, out, (out, x, places), taps, **params)


@pick_p.vjp(saves=("places",))
def _(ct, saved, needs, **params):
    return place_p(ct, saved.places, shape=saved.shapes[0][1:3], **params), None


@pick_p.jvp
def _(tangents, primals, outputs, **params):
    return pick_p(tangents[0], primals[1], **params)


@place_p.infer
def _(ct, places, *, shape, size, strides, pads):
    found = _back_shape("pool_place", ct, shape, {"size": size, "strides": strides, "pads": pads})
    _require_places("pool_place", places, ct.shape, size)
    return Abstract(found, ct.dtype)


@place_p.kernel("reference")
def _(ct, places, *, shape, size, strides, pads):
    chosen = places[:, :, :, None] == np.arange(size[0] * size[1])[:, None]
    return _unwindow(np.where(chosen, ct[:, :, :, None], 0).astype(ct.dtype), shape, size, strides, pads)


@place_p.kernel("cpu")
def _(out, ct, places, *, shape, **params):
    if not dtypes.has_kernels(ct.dtype):
        out[...] = place_p.reference(ct, places, shape=shape, **params)[0]
    elif out.size:
        taps, apart = _tap_places(params["size"], *out.shape[2:]), params["strides"][0] >= params["size"][0]
        lines = ct.shape[0] * (ct.shape[1] if apart else 1)
        _run(pooling_cpu.place, lines, out, ct, (out, ct, places), taps, **params)


@place_p.vjp(saves=("places",))
def _(g, saved, needs, *, shape, **params):
    return pick_p(g, saved.places, **params), None


@place_p.jvp
def _(tangents, primals, outputs, **params):
    return place_p(tangents[0], primals[1], **params)


# pool_gather and pool_spread


def _sizes(shape: windows.Pair, size: windows.Pair, strides: windows.Pair, pads: windows.Pads) -> np.ndarray:
    """How many pixels of the image each window holds, as (1, rows, columns, 1)."""
    return _windows(np.ones((1, *shape, 1)), size, strides, pads, 0).sum(3)


@gather_p.infer
def _(x, *, size, strides, pads, mean):
    return Abstract(_results("pool_gather", x, size, strides, pads), x.dtype)


@gather_p.kernel("reference")
def _(x, *, size, strides, pads, mean):
    total = _windows(x, size, strides, pads, 0).sum(3)
    return (total / _sizes(x.shape[1:3], size, strides, pads)).astype(x.dtype) if mean else total


@gather_p.kernel("cpu")
def _(out, x, *, mean, **params):
    if not dtypes.has_kernels(x.dtype):
        out[...] = gather_p.reference(x, mean=mean, **params)[0]
    elif x.size:
        _run(pooling_cpu.gather, out.shape[0] * out.shape[1], x, out, (out, x), mean, **params)


@gather_p.vjp()
def _(ct, saved, needs, **params):
    return spread_p(ct, shape=saved.shapes[0][1:3], **params)


@gather_p.jvp
def _(tangents, primals, outputs, **params):
    return gather_p(tangents[0], **params)


@spread_p.infer
def _(ct, *, shape, size, strides, pads, mean):
    found = _back_shape("pool_spread", ct, shape, {"size": size, "strides": strides, "pads": pads})
    return Abstract(found, ct.dtype)


@spread_p.kernel("reference")
def _(ct, *, shape, size, strides, pads, mean):
    share = (ct / _sizes(shape, size, strides, pads)).astype(ct.dtype) if mean else ct
    parts = np.repeat(share[:, :, :, None], size[0] * size[1], 3)
    return _unwindow(parts, shape, size, strides, pads)


@spread_p.kernel("cpu")
def _(out, ct, *, shape, mean, **params):
    if not dtypes.has_kernels(ct.dtype):
        out[...] = spread_p.reference(ct, shape=shape, mean=mean, **params)[0]
    elif out.size:
        _run(pooling_cpu.spread, out.shape[0] * out.shape[1], out, ct, (out, ct), mean, **params)


@spread_p.vjp()
def _(g, saved, needs, *, shape, **params):
    return gather_p(g, **params)


@spread_p.jvp
def _(tangents, primals, outputs, **params):
    return spread_p(tangents[0], **params)


# Samples


def _cases() -> list[tuple[tuple, dict[str, Any], str]]:
    def params(size: windows.Pair, strides: windows.Pair, pads: windows.Pads = windows.NO_PADS) -> dict[str, Any]:
        return {"size": size, "strides": strides, "pads": pads}

    return [
        ((2, 4, 6, 3), params((2, 2), (2, 2)), ""),
        ((2, 5, 7, 3), params((2, 3), (2, 3)), "a rest"),
        ((1, 5, 7, 2), params((3, 2), (2, 1)), "windows that overlap"),
        ((1, 6, 7, 2), params((1, 2), (3, 3)), "windows apart"),
        ((2, 5, 4, 3), params((3, 2), (2, 2), ((1, 2), (0, 1))), "pads"),
        ((1, 1, 1, 1), params((1, 1), (1, 1)), "a single pixel"),
        ((1, 1, 2, 3), params((2, 3), (1, 2), ((1, 1), (2, 2))), "windows larger than the image"),
        ((0, 4, 6, 3), params((2, 2), (2, 2)), "no images"),
        ((2, 4, 6, 0), params((2, 2), (2, 2)), "no channels"),
        ((1, 17, 18, 1), params((17, 16), (1, 2)), "more places than a byte holds"),
    ]


_BAD: list[tuple[tuple, windows.Pair, windows.Pair, windows.Pads, type, str]] = [
    ((4, 6, 3), (2, 2), (2, 2), windows.NO_PADS, ShapeError, r"x has shape \(4, 6, 3\), expected \(batch"),
    ((1, 4, 6, 3), (5, 2), (2, 2), windows.NO_PADS, ShapeError, r"size \(5, 2\), expected at most the \(4, 6\) of x"),
    ((1, 4, 6, 3), (2, 2), (0, 2), windows.NO_PADS, ArgumentError, "strides is .*at least 1"),
    ((1, 4, 6, 3), (2, 2), (2, 2), ((2, 0), (0, 0)), ArgumentError, "expected less than the size"),
    ((1, 4, 6, 3), (2, 2), (2, 2), ((-1, 0), (0, 0)), ArgumentError, "expected at least 0"),
]


def _spaced(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Values no two of which are near: where two are, the largest changes with rounding."""
    count = int(np.prod(shape))
    return (rng.permutation(count) - count / 2 + 0.3 * rng.random(count)).reshape(shape)


def _bad_samples(more: dict[str, Any]) -> Any:
    for shape, size, strides, pads, error, match in _BAD:
        params = {"size": size, "strides": strides, "pads": pads, **more}
        yield Sample((np.ones(shape),), params, error=error, match=match)


@max_pool2d_p.samples
def _(rng):
    for shape, params, note in _cases():
        yield Sample((_spaced(rng, shape),), params, note=note)
    plain = {"size": (2, 2), "strides": (2, 2), "pads": ((0, 1), (1, 0))}
    yield Sample((_spaced(rng, (3, 6, 5, 4)).transpose(3, 2, 1, 0)[::-1, ::2],), plain, note="strided")
    yield Sample((rng.integers(0, 2, (2, 4, 6, 3)).astype(float),), plain, note="ties", differentiable=False)
    holes = rng.choice([np.nan, -np.inf, 1.0], (2, 4, 6, 3), p=[0.1, 0.7, 0.2])
    yield Sample((holes,), plain, note="NaN and -inf", differentiable=False)
    yield from _bad_samples({})
    yield Sample((np.ones((1, 4, 6, 3), int),), plain, error=DTypeError, match="dtype int64, expected a floating")


def _drawn(rng: np.random.Generator, shape: tuple[int, ...], params: dict[str, Any]) -> np.ndarray:
    """Places as a pool of random numbers gives them."""
    return max_pool2d_p.reference(rng.standard_normal(shape), **params)[1]


@pick_p.samples
def _(rng):
    for shape, params, note in _cases():
        yield Sample((rng.standard_normal(shape), _drawn(rng, shape, params)), params, note=note)
    params = {"size": (2, 2), "strides": (2, 2), "pads": windows.NO_PADS}
    x = rng.standard_normal((2, 4, 6, 3))
    places = np.zeros((2, 2, 3, 3), np.uint8)
    yield Sample((x, places[1:]), params, error=ShapeError, match=r"places has shape \(1, 2, 3, 3\)")
    yield Sample((x, places.astype(int)), params, error=DTypeError, match="places has dtype int64, expected uint8")


@place_p.samples
def _(rng):
    for shape, params, note in _cases():
        places = _drawn(rng, shape, params)
        more = {**params, "shape": shape[1:3]}
        yield Sample((rng.standard_normal(places.shape), places), more, note=note)
    params = {"size": (2, 2), "strides": (2, 2), "pads": windows.NO_PADS, "shape": (4, 7)}
    ct, places = rng.standard_normal((2, 2, 3, 3)), np.zeros((2, 2, 3, 3), np.uint8)
    yield Sample((ct[:, 1:], places), params, error=ShapeError, match=r"ct has shape .*, expected \(2, 2, 3, 3\)")
    yield Sample((ct, places[1:]), params, error=ShapeError, match=r"places has shape \(1, 2, 3, 3\)")


@gather_p.samples
def _(rng):
    for i, (shape, params, note) in enumerate(_cases()):
        yield Sample((rng.standard_normal(shape),), {**params, "mean": i % 3 != 1}, note=note)
    plain = {"size": (2, 2), "strides": (1, 2), "pads": ((0, 1), (1, 0)), "mean": True}
    yield Sample((rng.standard_normal((3, 6, 5, 4)).transpose(3, 2, 1, 0)[::-1, ::2],), plain, note="strided")
    yield from _bad_samples({"mean": True})


@spread_p.samples
def _(rng):
    for i, (shape, params, note) in enumerate(_cases()):
        ct = rng.standard_normal(_results("", Abstract(shape, dtypes.float64), **params))
        yield Sample((ct,), {**params, "shape": shape[1:3], "mean": i % 3 != 1}, note=note)
    params = {"size": (2, 2), "strides": (2, 2), "pads": windows.NO_PADS, "shape": (4, 7), "mean": True}
    ct = rng.standard_normal((2, 2, 2, 3))
    yield Sample((ct,), params, error=ShapeError, match=r"ct has shape .*, expected \(2, 2, 3, 3\)")
