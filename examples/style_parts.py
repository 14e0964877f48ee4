"""The parts of style_transfer.py: its images, the transfer network, and what measures content and style."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
import minigrad_norms as norms
from minigrad import data, nn
from minigrad.errors import DataError

# Images: float32 (height, width, 3) in [0, 1].


def pictures(folder: Path, side: int) -> dict[str, np.ndarray]:
    """The images of a folder by name, scaled so that the shorter side has so many pixels. Needs Pillow."""
    try:
        from PIL import Image
    except ImportError:
        raise DataError("images: reading files needs Pillow: pip install 'minigrad[plots]'") from None
    found = {}
    for path in sorted(p for p in folder.glob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        with Image.open(path) as opened:
            scale = side / min(opened.size)
            size = [max(side, round(n * scale)) for n in opened.size]
            found[path.stem] = (
                np.asarray(opened.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.float32) / 255
            )
    if not found:
        raise DataError(f"images: {folder} holds no .jpg and no .png")
    return found


def drawn_styles(side: int, seed: int) -> dict[str, np.ndarray]:
    """Five patterns in a few colours each: where there are no paintings."""
    rng = np.random.default_rng([seed, 1])
    y, x = np.mgrid[:side, :side].astype(np.float32)
    waves = np.sin(x / 4 + 3 * np.sin(y / 9)) > 0
    fields = {
        "stripes": (x + y) % 12 < 6,
        "dots": ((x % 12 - 6) ** 2 + (y % 12 - 6) ** 2) < 14,
        "checks": (x // 8 + y // 8) % 2 > 0,
        "waves": waves,
        "bricks": (y % 8 < 2) | ((x + 8 * (y // 8 % 2)) % 16 < 2),
    }
    found = {}
    for name, field in fields.items():
        ink, paper = rng.uniform(0, 1, (2, 3)).astype(np.float32)
        noise = rng.normal(0, 0.03, (side, side, 3)).astype(np.float32)
        found[name] = np.clip(np.where(field[..., None], ink, paper) + noise, 0, 1)
    return found


def drawn_contents(side: int, seed: int) -> dict[str, np.ndarray]:
    """Three drawn digits: where there are no photographs."""
    images, labels = data.glyphs(3, seed, size=side)
    return {
        f"digit {label}": np.repeat(image[..., None].astype(np.float32) / 255, 3, -1)
        for image, label in zip(images, labels)
    }


def crops(
    images: Sequence[np.ndarray], count: int, side: int, rng: np.random.Generator, varied: bool = True
) -> np.ndarray:
    """Random squares of the images, (count, side, side, 3); varied ones are of several scales, some mirrored."""
    batch = np.empty((count, side, side, 3), np.float32)
    for i in range(count):
        image = images[int(rng.integers(len(images)))]
        step = 1 + varied * rng.integers(max(1, min(image.shape[:2]) // side))  # every pixel, every second one ...
        top, left = (rng.integers(n - side * step + 1) for n in image.shape[:2])
        piece = image[top : top + side * step, left : left + side * step]
        piece = piece.reshape(side, step, side, step, 3).mean((1, 3))
        batch[i] = piece[:, ::-1] if varied and rng.random() < 0.5 else piece
    return batch


def square(image: np.ndarray) -> np.ndarray:
    """The largest square in an image's middle, of a side that the network can halve twice."""
    side = min(image.shape[:2]) // 4 * 4
    top, left = ((n - side) // 2 for n in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


# The network


class Block(nn.Layer):
    """Reflection padding, convolution, conditional instance norm, and relu if wanted."""

    def __init__(self, filters: int, size: int, styles: int, strides: int = 1, relu: bool = True):
        super().__init__()
        before = (size - strides + 1) // 2
        self.pad = nn.ReflectionPadding2D(((before, size - strides - before),) * 2)
        self.convolution = nn.Conv2D(filters, size, strides, use_bias=False)
        self.norm = norms.ConditionalInstanceNormalization(styles)
        self.relu = relu

    def call(self, x: mg.Tensor, training: bool, weights: Any = None) -> mg.Tensor:
        y = self.norm(self.convolution(self.pad(x)), weights=weights)
        return mg.relu(y) if self.relu else y


class Transfer(nn.Layer):
    """Dumoulin et al.'s network: down by strides, residual blocks, up by bilinear interpolation, which leaves no grid.

    A style is a row of scale and a row of shift in each layer. It is called with the weights of the styles:
    ``network(x, weights=w)``, w of shape (n, styles); one-hot for one.
    """

    def __init__(self, styles: int, width: int = 16, residuals: int = 3):
        super().__init__()
        self.down = [Block(width, 5, styles), Block(2 * width, 3, styles, 2), Block(4 * width, 3, styles, 2)]
        self.middle = [Block(4 * width, 3, styles, relu=i % 2 == 0) for i in range(2 * residuals)]
        self.up = [Block(2 * width, 3, styles), Block(width, 3, styles)]
        self.larger = nn.UpSampling2D(2, interpolation="bilinear")
        self.last = Block(3, 5, styles, relu=False)

    def call(self, x: mg.Tensor, training: bool, weights: Any = None) -> mg.Tensor:
        y = x * 2.0 - 1.0
        for block in self.down:
            y = block(y, weights=weights)
        for first, second in zip(self.middle[::2], self.middle[1::2]):
            y = y + second(first(y, weights=weights), weights=weights)
        for block in self.up:
            y = block(self.larger(y), weights=weights)
        return mg.sigmoid(self.last(y, weights=weights))

    @property
    def styled(self) -> list[norms.ConditionalInstanceNormalization]:
        """The layers that hold the styles."""
        return [block.norm for block in (*self.down, *self.middle, *self.up, self.last)]

    def make(self, side: int) -> None:
        """Make the Variables, by passing an image of zeros through."""
        styles = self.styled[0].styles
        with mg.no_grad():
            self(np.zeros((1, side, side, 3), np.float32), weights=np.ones((1, styles), np.float32) / styles)

    def with_style(self, side: int) -> Transfer:
        """A network with one style more, whose scales and shifts start as the means of the others'."""
        wider = Transfer(self.styled[0].styles + 1, self.down[0].convolution.filters, len(self.middle) // 2)
        wider.make(side)
        for name, variable in wider.variables.items():
            values = self.variables[name].numpy()
            if values.shape != variable.shape:
                values = np.concatenate([values, values.mean(0, keepdims=True)])
            variable.assign(values)
        return wider


# The losses


class Features:
    """Fixed random filters at several scales: what a trained network's features stand for, without training one.

    At each level of a pyramid of averages, 5×5 filters and relu, and on these 3×3 filters and relu at half the size.
    Random filters of many sizes are enough to tell textures apart (Ustyuzhaninov et al. 2017; He et al. 2016). They are
    random where the patches of the given images are white, so that fine detail and colour count as much as brightness.
    """

    def __init__(self, images: Sequence[np.ndarray], levels: int = 3, filters: int = 24, seed: int = 0):
        rng = np.random.default_rng([seed, 2])
        self.levels = levels
        white = _whitening(images, 5, rng)
        first = rng.normal(size=(75, filters))
        self.first = mg.tensor((white @ (first / np.sqrt((first**2).sum(0)))).reshape(5, 5, 3, filters), "float32")
        second = rng.normal(size=(3, 3, filters, filters * 3 // 2))
        second -= second.mean((0, 1, 2))
        self.second = mg.tensor(second * np.sqrt(2 / (second**2).sum((0, 1, 2))), "float32")
        edges = rng.normal(size=(5, 5, 1, filters // 2))
        self.edges = mg.tensor(edges - edges.mean((0, 1, 2)), "float32")

    def style(self, x: mg.Tensor) -> list[mg.Tensor]:
        """Means and covariances, of the colours and of the filters' responses at each level: (n, c) and (n, c, c)."""
        found = _moments(x)
        for _ in range(self.levels):
            one = mg.relu(mg.conv2d(x, self.first))
            two = mg.relu(mg.conv2d(mg.avg_pool2d(one, 2), self.second))
            found += [*_moments(one), *_moments(two)]
            x = mg.avg_pool2d(x, 2)
        return found

    def content(self, x: mg.Tensor) -> mg.Tensor:
        """Responses to edges and blobs of the brightness, four pixels wide and up, with the contrast divided out."""
        grey = mg.avg_pool2d(x.mean(-1, keepdims=True), 4)
        return norms.instance_norm(mg.conv2d(grey, self.edges), epsilon=1e-4)


def _whitening(images: Sequence[np.ndarray], size: int, rng: np.random.Generator) -> np.ndarray:
    """The symmetric matrix that makes patches of these images white, but for what is hardly there."""
    patches = np.concatenate([crops([image], 1000, size, rng, False) for image in images]).reshape(-1, size * size * 3)
    values, vectors = np.linalg.eigh(np.cov(patches.astype(np.float64).T))
    return (vectors / np.sqrt(values + 0.01 * values.mean())) @ vectors.T


def _moments(features: mg.Tensor) -> list[mg.Tensor]:
    n, h, w, c = features.shape
    flat = features.reshape(n, h * w, c)
    mean = flat.mean(1, keepdims=True)
    centred = flat - mean
    return [mean.reshape(n, c), mg.matmul(mg.swapaxes(centred, 1, 2), centred) * (1.0 / (h * w))]


def style_loss(found: list[mg.Tensor], targets: list[mg.Tensor], weights: mg.Tensor) -> mg.Tensor:
    """‖m − mₛ‖²/‖mₛ‖², averaged over the moments m and the batch; mₛ are those of each sample's style."""
    total = mg.tensor(0.0)
    for moment, target in zip(found, targets):
        flat = moment.reshape(moment.shape[0], -1)
        wanted = mg.matmul(weights, target.reshape(target.shape[0], -1))
        total = total + (mg.square(flat - wanted).sum(1) / mg.square(wanted).sum(1)).mean()
    return total * (1.0 / len(found))


def roughness(x: mg.Tensor) -> mg.Tensor:
    """The mean squared difference of neighbouring pixels."""
    return mg.square(x[:, 1:] - x[:, :-1]).mean() + mg.square(x[:, :, 1:] - x[:, :, :-1]).mean()


if __name__ == "__main__":
    sys.exit("run style_transfer.py")
