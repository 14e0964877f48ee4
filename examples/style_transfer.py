"""One network, many styles: conditional instance norm (Dumoulin, Shlens & Kudlur 2017), trained here from nothing.

    python examples/style_transfer.py --quick             # seconds, on drawn patterns
    python examples/style_transfer.py                     # the images in $MINIGRAD_DATA/images, or drawn ones
    python examples/style_transfer.py --images my_folder  # with sub-folders style/ and content/
    python examples/style_transfer.py --steps 4000 --side 192

A style is a pair of vectors, scale and shift, in each normalization; all else is shared. Content and style are measured
on fixed random filters at several scales, so nothing is downloaded. The last style is left out at first and added to
the trained network by training its vectors alone. Pictures: every image in every style, mixtures of four styles, the
added style, and the losses.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import experiment
import numpy as np
import style_parts as parts
from experiment import COLOURS, Results

import minigrad as mg
from minigrad.errors import DataError


def images(options: argparse.Namespace) -> tuple[str, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Where the images are from, the styles and the contents."""
    folder = options.images
    if folder is None and not options.quick and os.environ.get("MINIGRAD_DATA"):
        folder = Path(os.environ["MINIGRAD_DATA"]) / "images"
        folder = folder if folder.is_dir() else None
    if folder is None:
        return (
            "drawn patterns",
            parts.drawn_styles(options.side, options.seed),
            parts.drawn_contents(options.side, options.seed),
        )
    styles, contents = (parts.pictures(folder / kind, side) for kind, side in
                        (("style", options.style_side), ("content", 2 * options.side)))  # fmt: skip
    if len(styles) < 2:
        raise DataError(f"images: {folder / 'style'} holds one style, expected two or more")
    return str(folder), styles, contents


class Trainer:
    """Trains a network towards the look of styles."""

    def __init__(
        self,
        options: argparse.Namespace,
        features: parts.Features,
        styles: list[np.ndarray],
        contents: list[np.ndarray],
    ):
        self.options, self.contents = options, contents
        self.features = features
        with mg.no_grad():
            grams = [self.features.style(mg.tensor(style[None])) for style in styles]
        self.targets = [mg.concatenate(list(each), 0) for each in zip(*grams)]

    def batch(self, rng: np.random.Generator) -> np.ndarray:
        return parts.crops(self.contents, self.options.batch, self.options.side, rng)

    def train(
        self, network: parts.Transfer, variables: list[Any], steps: int, title: str, only: int | None = None
    ) -> dict[str, Any]:
        """Change these Variables in so many steps, towards all styles by turns or one; the losses, and the pace."""
        options, rng = self.options, np.random.default_rng([self.options.seed, 3])
        # A style's vectors learn faster than what all styles share: they start alike, and see a part of the batches.
        vectors = {id(v) for norm in network.styled for v in (norm.gamma, norm.beta)}
        own = [i for i, v in enumerate(variables) if id(v) in vectors]
        common = [i for i, v in enumerate(variables) if id(v) not in vectors]
        optimizers = [
            (mg.optim.Adam(mg.optim.cosine_decay(rate, steps)), places)
            for rate, places in ((options.style_lr, own), (options.lr, common))
            if places
        ]

        def losses(x: mg.Tensor, weights: mg.Tensor) -> tuple[mg.Tensor, tuple[mg.Tensor, mg.Tensor]]:
            y = network(x, True, weights=weights)
            content = mg.square(self.features.content(y) - self.features.content(x)).mean()
            style = parts.style_loss(self.features.style(y), self.targets, weights)
            total = options.content_weight * content + style + options.smoothness * parts.roughness(y)
            return total, (content, style)

        @mg.jit
        def step(x: mg.Tensor, weights: mg.Tensor) -> tuple[mg.Tensor, mg.Tensor]:
            (_, aux), gradients = mg.value_and_grad(losses, variables=variables, has_aux=True)(x, weights)
            for optimizer, places in optimizers:
                optimizer.update([variables[i] for i in places], [gradients[i] for i in places])
            return aux

        styles = len(self.targets[0].numpy())
        found: dict[str, Any] = {"content": [], "style": []}
        seconds = []
        with experiment.bar(options, steps, title) as shown:
            for i in range(steps):
                chosen = (
                    (np.arange(options.batch) + i * options.batch) % styles if only is None else [only] * options.batch
                )
                weights = np.eye(styles, dtype=np.float32)[chosen]
                x = mg.tensor(self.batch(rng))
                start = time.perf_counter()
                content, style = step(x, mg.tensor(weights))
                found["content"].append(content.item())
                found["style"].append(style.item())
                seconds.append(time.perf_counter() - start)
                shown.update()
        found["milliseconds"] = 1000 * float(np.median(seconds))
        found["seconds"] = float(np.sum(seconds))
        return found


def painted(network: parts.Transfer, image: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """An image in a mixture of styles."""
    with mg.no_grad():
        return network(mg.tensor(image[None]), weights=mg.tensor(weights[None].astype(np.float32))).numpy()[0]


def show(figure: Any, grid: list[list[np.ndarray | None]], columns: list[str], rows: list[str]) -> None:
    """Images in rows and columns with names at the edges; None is left empty."""
    places = figure.subplots(len(grid), len(grid[0]), squeeze=False)
    for r, (line, row) in enumerate(zip(places, grid)):
        for c, (axes, image) in enumerate(zip(line, row)):
            axes.set(xticks=[], yticks=[])
            axes.axis("off" if image is None else "on")
            if image is not None:
                axes.imshow(image)
            if r == 0 and columns:
                axes.set_title(columns[c], fontsize=7)
            if c == 0 and rows:
                axes.set_ylabel(rows[r], fontsize=7)


def mixtures(network: parts.Transfer, image: np.ndarray, styles: int, cells: int) -> list[list[np.ndarray | None]]:
    """A square of convex combinations, with up to four styles in its corners."""
    grid: list[list[np.ndarray | None]] = []
    for down in np.linspace(0, 1, cells):
        row: list[np.ndarray | None] = []
        for right in np.linspace(0, 1, cells):
            weights = np.zeros(styles)
            shares = ((1 - down) * (1 - right), (1 - down) * right, down * (1 - right), down * right)
            for k, share in enumerate(shares):
                weights[k % styles] += share
            row.append(painted(network, image, weights))
        grid.append(row)
    return grid


def curves(figure: Any, first: dict[str, Any], added: dict[str, Any]) -> None:
    """The losses of both trainings, smoothed."""
    for axes, losses, title in zip(figure.subplots(1, 2), (first, added), ("the whole network", "the added style")):
        for name, colour in zip(("content", "style"), COLOURS):
            values = np.asarray(losses[name])
            window = max(1, len(values) // 40)
            axes.plot(np.convolve(values, np.ones(window) / window, "valid"), color=colour, label=name)
        axes.set(xlabel="step", yscale="log", title=title)
        axes.grid(alpha=0.3)
        axes.legend()


def transfer(options: argparse.Namespace) -> Results:
    """Train, add a style, and draw."""
    source, styles, contents = images(options)
    names, paintings, photographs = list(styles), list(styles.values()), list(contents.values())
    network = parts.Transfer(len(names) - 1, options.width)
    network.set_generator(mg.random.Generator(options.seed))
    network.make(options.side)
    features = parts.Features(paintings[:-1], options.levels, options.filters, options.seed)
    trainer = Trainer(options, features, paintings[:-1], photographs)
    first = trainer.train(network, network.trainable_variables, options.steps, f"{len(names) - 1} styles")

    wider = network.with_style(options.side)
    vectors = [v for norm in wider.styled for v in (norm.gamma, norm.beta)]
    trainer = Trainer(options, features, paintings, photographs)
    added = trainer.train(wider, vectors, options.added_steps, f"adding {names[-1]}", only=len(names) - 1)

    results = Results(f"One network, {len(names)} styles: conditional instance norm", source)
    results.numbers = {"styles": names, "first": first, "added": added}
    trained = (sum(v.size for v in network.trainable_variables), sum(v.size for v in vectors) // len(names))
    results.table(
        f"{source}: {options.side}×{options.side}, batches of {options.batch}",
        ["styles", "numbers trained", "steps", "content first", "last", "style first", "last", "ms/step", "seconds"],
        [
            [title, count, len(run["style"]), *ends(run), run["milliseconds"], run["seconds"]]
            for title, count, run in zip((", ".join(names[:-1]), f"{names[-1]}, added"), trained, (first, added))
        ],
        "First and last: the means of the first and the last twentieth of the steps.",
    )
    illustrate(options, results, wider, styles, contents)
    results.picture(options.out / "losses.png", "The losses over the steps", lambda f: curves(f, first, added))
    return results


def ends(run: dict[str, Any]) -> list[float]:
    """The means of the first and of the last losses, of content and of style."""
    n = max(1, len(run["style"]) // 20)
    return [float(np.mean(part)) for name in ("content", "style") for part in (run[name][:n], run[name][-n:])]


def illustrate(
    options: argparse.Namespace,
    results: Results,
    network: parts.Transfer,
    styles: dict[str, np.ndarray],
    contents: dict[str, np.ndarray],
) -> None:
    """The pictures of what the network paints."""
    names = list(styles)
    squares = {name: parts.square(image) for name, image in contents.items()}
    grid: list[list[np.ndarray | None]] = [[None, *map(parts.square, styles.values())]]
    grid += [[image, *(painted(network, image, w) for w in np.eye(len(names)))] for image in squares.values()]
    head, size = ["", *names[:-1], f"{names[-1]} (added)"], (1.9 * (len(names) + 1), 1.9 * len(grid))
    rows, caption = ["", *squares], "Every image in every style; the styles above"
    results.picture(options.out / "styles.png", caption, lambda f: show(f, grid, head, rows), size)

    cells = mixtures(network, next(iter(squares.values())), len(names), 3 if options.quick else 5)
    caption = f"Convex combinations, with {', '.join(names[:4])} in the corners"
    results.picture(options.out / "mixtures.png", caption, lambda f: show(f, cells, [], []), (8, 8))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = experiment.parser("style_transfer", __doc__)
    parser.add_argument("--images", type=Path, help="a folder with style/ and content/ (default $MINIGRAD_DATA/images)")
    parser.add_argument("--side", type=experiment.positive, help="pixels a side in training (default 128)")
    parser.add_argument("--style-side", type=experiment.positive, default=256, help="the paintings' shorter side")
    parser.add_argument("--steps", type=experiment.positive, help="of the whole network (default 2000)")
    parser.add_argument("--added-steps", type=experiment.positive, help="of the added style (default a quarter)")
    parser.add_argument("--batch", type=experiment.positive, default=4)
    parser.add_argument("--width", type=experiment.positive, help="channels of the first layer (default 16)")
    parser.add_argument("--levels", type=experiment.positive, default=3, help="of the pyramid that measures styles")
    parser.add_argument("--filters", type=experiment.positive, default=24, help="at each level")
    parser.add_argument("--content-weight", type=float, default=0.15)
    parser.add_argument("--smoothness", type=float, default=0.5, help="weight of the roughness")
    parser.add_argument("--lr", type=float, default=0.003, help="of what all styles share")
    parser.add_argument("--style-lr", type=float, default=0.02, help="of the vectors of a style")
    options = parser.parse_args(arguments)
    small = (48, 8, 4) if options.quick else (128, 2000, 16)
    options.side, options.steps, options.width = (
        given or default for given, default in zip((options.side, options.steps, options.width), small)
    )
    options.side = -(-options.side // 8) * 8  # halved three times by the filters' pyramid
    options.added_steps = options.added_steps or max(4, options.steps // 4)
    return options


def main(arguments: list[str] | None = None) -> int:
    """Train and draw; the result is the exit status."""
    return experiment.run(parse(arguments), transfer)


if __name__ == "__main__":
    sys.exit(main())
