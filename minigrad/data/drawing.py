"""glyphs: handwritten-like digits drawn by code, for demos and tests on a machine without data."""

from typing import Any

import numpy as np

from minigrad.data._arguments import flag, integer
from minigrad.data.dataset import Dataset
from minigrad.data.strokes import hands, most_points
from minigrad.errors import ArgumentError

_WORK = 1 << 20  # pixels drawn at once: a few dozen MiB of work space, whatever the number of glyphs
_LONG = 20_000  # glyphs from which a progress bar is worth showing
_SMALLEST, _LARGEST = 8, 256  # pixels a side

# What varies from glyph to glyph. Lengths are in heights of the digit's square.
_HEIGHT = 0.80  # of the square, in heights of the image
_ROTATION = 0.13  # radians, one standard deviation
_SLANT = 0.20  # shear, one standard deviation
_JITTER = 0.024  # of each control point, one standard deviation
_WOBBLE = 0.035  # largest sideways swing of the slow wave that bends the whole digit
_SHIFT = 0.07  # largest shift, in heights of the image
_THICKNESS = (0.026, 0.068)  # half the width of the pen
_PRESSURE = 0.30  # how much of its width the pen loses towards one end, at most


def glyphs(n: int, seed: int = 0, *, size: int = 28, progress: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Images of digits in many hands, uint8 (n, size, size), and their labels 0..9, int64 (n,).

    Each digit is a set of strokes through control points, in two or three hands; the points are jittered, the whole
    is bent, slanted, turned, scaled and shifted, and drawn with a pen of random width, pressure and ink: the ink at a
    pixel is a soft step of its distance to the nearest stroke. Grain and speckle come last. Labels are drawn uniformly.

    Arguments:
        n: how many, at least 0.
        seed: an integer of at least 0 that fixes all of them.
        size: pixels a side, from 8 to 256. The same glyphs are drawn at every size, with other noise.
        progress: show a bar on a terminal when `n` is large.

    Pixels go from 0 (paper) to 255 (ink), as in MNIST. Glyph i depends on seed, size and i alone: a longer draw
    begins with the shorter one.

    Raises ArgumentError for a number out of range, ArgumentTypeError for one that is not an integer.

    >>> from minigrad.data import glyphs
    >>> images, labels = glyphs(5, seed=1)
    >>> images.shape, images.dtype, labels.shape, labels.dtype
    ((5, 28, 28), dtype('uint8'), (5,), dtype('int64'))
    >>> bool((glyphs(3, seed=1)[0] == images[:3]).all())
    True
    """
    n = integer("glyphs", "n", n, 0)
    seed = integer("glyphs", "seed", seed, 0)
    size = integer("glyphs", "size", size, _SMALLEST)
    if size > _LARGEST:
        raise ArgumentError(f"glyphs: size is {size}, wanted an integer of at most {_LARGEST}")
    return _draw(n, seed, 0, size, flag("glyphs", "progress", progress))


def glyph_dataset(n_train: int, n_test: int, seed: int = 0) -> Dataset:
    """A Dataset of glyphs, named "glyphs": images uint8 (N, 28, 28), labels int64 (N,) in both parts.

    Arguments:
        n_train: training glyphs, at least 0; they are ``glyphs(n_train, seed)``.
        n_test: test glyphs, at least 0; drawn from a stream of their own, so they do not change with `n_train`.
        seed: an integer of at least 0 that fixes all of them.

    Raises ArgumentError for a number out of range, ArgumentTypeError for one that is not an integer.

    >>> from minigrad.data import glyph_dataset
    >>> glyph_dataset(100, 20, seed=7)
    Dataset('glyphs': train 100, test 20, images (28, 28) uint8, labels int64)
    """
    n_train = integer("glyph_dataset", "n_train", n_train, 0)
    n_test = integer("glyph_dataset", "n_test", n_test, 0)
    seed = integer("glyph_dataset", "seed", seed, 0)
    return Dataset(*_draw(n_train, seed, 0, 28, False), *_draw(n_test, seed, 1, 28, False), name="glyphs")


def _draw(n: int, seed: int, stream: int, size: int, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    # Shapes and noise have streams of their own, each with a fixed number of words a glyph: the glyph of number i
    # gets the same words whatever n and the chunks are, and the same shape whatever the size is.
    shape_seed, noise_seed = np.random.SeedSequence(seed, spawn_key=(stream,)).spawn(2)
    shape_words, noise_words = np.random.Philox(shape_seed), np.random.Philox(noise_seed)
    images = np.empty((n, size, size), np.uint8)
    labels = np.empty(n, np.int64)
    chunk = max(1, _WORK // size**2)
    for first in _chunks(n, chunk, progress):
        count = min(chunk, n - first)
        uniform = _Uniform(shape_words, count)
        label, ink = _shapes(uniform, size)
        labels[first : first + count] = label
        images[first : first + count] = _with_noise(ink, uniform, noise_words)
    return images, labels


def _chunks(n: int, chunk: int, progress: bool) -> Any:
    steps = range(0, n, chunk)
    if not progress or n < _LONG:
        return steps
    from tqdm import tqdm

    return tqdm(steps, desc="glyphs", unit=f" x {chunk}", leave=False, disable=None)


class _Uniform:
    """Random numbers for a chunk of glyphs: every column has one number in [0, 1) a glyph, and is used once."""

    def __init__(self, words: np.random.Philox, count: int):
        columns = 17 + 4 * most_points()  # as many as are drawn below: two a normal number, two of those a point
        # The raw words, not Generator's methods: NumPy promises never to change these only.
        raw = words.random_raw(count * columns).reshape(count, columns)
        self._numbers = (raw >> np.uint64(11)) * 2.0**-53
        self._used = 0

    def __call__(self, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """One number a glyph, uniform between low and high, (count,)."""
        column = self._numbers[:, self._used]
        self._used += 1
        return low + (high - low) * column

    def normal(self) -> np.ndarray:
        """One standard normal number a glyph, (count,), by Box and Muller."""
        radius = np.sqrt(-2 * np.log1p(-self()))
        return radius * np.cos(2 * np.pi * self())


def _shapes(uniform: _Uniform, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The labels (count,) and the ink (count, size, size), float32 from 0 to 1."""
    label = np.floor(uniform(0, 10)).astype(np.int64)
    variant = uniform()
    jitter = np.stack([np.stack([uniform.normal(), uniform.normal()], -1) for _ in range(most_points())], 1)
    pose = _Pose(uniform)
    pen = uniform(*_THICKNESS)
    pressure = uniform(-_PRESSURE, _PRESSURE)
    ink = np.empty((len(label), size, size), np.float32)
    for digit, variants in enumerate(hands()):
        choice = np.floor(variant * len(variants)).astype(np.int64)
        for number, hand in enumerate(variants):
            which = np.flatnonzero((label == digit) & (choice == number))
            if which.size:
                points = hand.points + _JITTER * jitter[which, : len(hand.points)]
                starts = pose.place(_mix(hand.starts, points), which)
                ends = pose.place(_mix(hand.ends, points), which)
                ink[which] = _ink(starts, ends, pen[which], pressure[which], size)
    return label, ink


def _mix(weights: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The ends of segments, (count, S, 2), for weights (S, P) and points (count, P, 2)."""
    # Point by point and not through BLAS, whose order of summing may depend on how many glyphs there are.
    total = np.zeros((points.shape[0], weights.shape[0], 2))
    for column, point in zip(weights.T, points.transpose(1, 0, 2)):
        total += column[:, None] * point[:, None, :]
    return total


class _Pose:
    """How each digit of a chunk is bent, slanted, scaled, turned and shifted, from its own square into the image."""

    def __init__(self, uniform: _Uniform):
        self._swing, self._phase = uniform(-_WOBBLE, _WOBBLE), uniform(0, 2 * np.pi)
        self._slant = _SLANT * uniform.normal()
        self._width, self._height = uniform(0.80, 1.20), uniform(0.85, 1.05)
        angle = _ROTATION * uniform.normal()
        self._cos, self._sin = np.cos(angle), np.sin(angle)
        self._right, self._down = uniform(-_SHIFT, _SHIFT), uniform(-_SHIFT, _SHIFT)

    def place(self, points: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Points (count, S, 2) in the squares of the glyphs `which`, brought into images one unit high, centred."""
        x, y = points[..., 0], points[..., 1]
        x = x + _of(self._swing, which) * np.sin(2 * np.pi * y + _of(self._phase, which))
        x = (x - _of(self._slant, which) * y) * _of(self._width, which) * _HEIGHT
        y = y * _of(self._height, which) * _HEIGHT
        cos, sin = _of(self._cos, which), _of(self._sin, which)
        right, down = _of(self._right, which), _of(self._down, which)
        return np.stack([cos * x - sin * y + right, sin * x + cos * y + down], -1)


def _of(values: np.ndarray, which: np.ndarray) -> np.ndarray:
    return values[which][:, None]


def _ink(starts: np.ndarray, ends: np.ndarray, pen: np.ndarray, pressure: np.ndarray, size: int) -> np.ndarray:
    """The ink (count, size, size) that a pen leaves along segments (count, S, 2)."""
    count, segments = starts.shape[:2]
    # Along a segment of half length h, with e its direction and m its middle, the square of the distance from p is
    # c² + max(|s| - h, 0)², where s = (p - m)·e and c = (p - m)×e. Both are a function of the column plus one of
    # the row. All is measured in widths of the pen, which changes from segment to segment with the pressure.
    along = np.linspace(0.5, -0.5, segments)
    pen_here = pen[:, None] * (1 - np.abs(pressure)[:, None] / 2 + pressure[:, None] * along)
    middle, half = (starts + ends) / 2, (ends - starts) / 2
    length = np.sqrt(half[..., 0] ** 2 + half[..., 1] ** 2)
    direction = half / np.maximum(length, 1e-9)[..., None]
    grid = (np.arange(size) + 0.5) / size - 0.5
    x = (grid - middle[..., 0, None]) / pen_here[..., None]
    y = (grid - middle[..., 1, None]) / pen_here[..., None]
    ex, ey = direction[..., 0, None], direction[..., 1, None]
    s_column, s_row = (x * ex).astype(np.float32), (y * ey).astype(np.float32)
    c_column, c_row = (x * ey).astype(np.float32), (-y * ex).astype(np.float32)
    reach = (length / pen_here).astype(np.float32)

    nearest = np.full((count, size, size), np.inf, np.float32)
    s, c = np.empty_like(nearest), np.empty_like(nearest)
    for segment in range(segments):
        np.add(s_column[:, segment, None, :], s_row[:, segment, :, None], out=s)
        np.add(c_column[:, segment, None, :], c_row[:, segment, :, None], out=c)
        np.abs(s, out=s)
        s -= reach[:, segment, None, None]
        np.maximum(s, 0, out=s)
        s *= s
        c *= c
        s += c
        np.minimum(nearest, s, out=nearest)
    # A soft edge, one pixel and a little more wide, centred where the distance is the width of the pen.
    np.sqrt(nearest, out=nearest)
    edge = (pen * size / 1.3).astype(np.float32)[:, None, None]
    return np.clip((1 - nearest) * edge + np.float32(0.5), 0, 1)


def _with_noise(ink: np.ndarray, uniform: _Uniform, words: np.random.Philox) -> np.ndarray:
    """The images, uint8: the ink with its strength, the grain of the paper in it and some speckle everywhere."""
    count, size = ink.shape[:2]
    strength = uniform(0.72, 1.0).astype(np.float32)[:, None, None]
    grain = uniform(0.0, 0.30).astype(np.float32)[:, None, None]
    speckle = uniform(0.0, 0.10).astype(np.float32)[:, None, None]
    per_glyph = -(-size * size // 8)
    # Bytes are taken from the words in little-endian order, whatever the machine's is.
    raw = words.random_raw(count * per_glyph).astype("<u8", copy=False).view(np.uint8)
    noise = raw.reshape(count, per_glyph * 8)[:, : size * size].reshape(ink.shape) * np.float32(1 / 255)
    value = ink * (strength - grain * noise)
    # The fourth power leaves most of the paper clean.
    noise *= noise
    noise *= noise
    value += speckle * noise
    return np.rint(np.clip(value, 0, 1) * 255).astype(np.uint8)
