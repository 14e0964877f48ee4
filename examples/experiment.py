"""What the examples share: options, data, tables, pictures, and the files of results that a report is made of."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minigrad import data
from minigrad.data import Dataset
from minigrad.errors import DataError, MinigradError
from minigrad.page import cell

#: Of the lines in pictures.
COLOURS = ("#1f78b4", "#d95f02", "#1b9e77", "#e7298a", "#7570b3", "#66a61e")


@dataclass
class Table:
    """Rows under columns. A cell is text, a number, or None for nothing."""

    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""

    def text(self) -> str:
        """The table for a terminal: the first column to the left, the others to the right."""
        cells = [self.columns, *([cell(v) for v in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        lines = [self.title]
        for row in cells:
            first, *others = (text.rjust(width) for text, width in zip(row, widths))
            lines.append("  ".join([first.strip().ljust(widths[0]), *others]).rstrip())
        return "\n".join([*lines, *([self.note] if self.note else [])])


@dataclass
class Results:
    """What an example came to.

    Attributes:
        title, data: a line about the example, and the name of its data set.
        tables, pictures: in the order in which they are shown; a picture is its file's name and a caption.
        numbers: all else that is worth keeping, for the JSON.
    """

    title: str
    data: str
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, str]] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> None:
        """Add a table."""
        self.tables.append(Table(title, list(columns), [list(row) for row in rows], note))

    def picture(
        self, path: Path, caption: str, draw: Callable[[Any], None], size: tuple[float, float] = (10, 4)
    ) -> None:
        """Add a picture that `draw` draws on a figure of matplotlib; without matplotlib say so and go on."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            print(f"{path.name} needs matplotlib: pip install 'minigrad[plots]'", file=sys.stderr)
            return
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        figure.savefig(path, dpi=110)
        self.pictures.append((path.name, caption))


def parser(name: str, description: str | None, sets: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The options that every example has; `sets` are the data sets that --data chooses from."""
    made = argparse.ArgumentParser(
        prog=f"examples/{name}.py", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--quick", action="store_true", help="a few seconds on drawn images: does it work at all?")
    if sets:
        made.add_argument("--data", choices=("auto", *sets), default="auto")
    made.add_argument("--seed", type=natural, default=0)
    made.add_argument("--out", type=Path, default=Path("out") / name, help="the folder for results and pictures")
    made.add_argument("--quiet", action="store_true", help="no progress bars")
    return made


def add_seeds(parser: argparse.ArgumentParser) -> None:
    """The option that asks for several seeds, from --seed on."""
    parser.add_argument("--seeds", type=positive, default=1, help="from --seed on, for means and spreads (default 1)")


def seeds(options: argparse.Namespace) -> range:
    """The seeds that were asked for."""
    return range(options.seed, options.seed + options.seeds)


def spread(values: Sequence[float]) -> str:
    """The mean of several figures and, after ±, their standard deviation."""
    return f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else f"{values[0]:.4f}"


def positive(text: str) -> int:
    """A whole number from 1 up, for argparse."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def natural(text: str) -> int:
    """A whole number from 0 up, for argparse."""
    if (value := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"{value} is negative")
    return value


def run(options: argparse.Namespace, experiment: Callable[[argparse.Namespace], Results]) -> int:
    """Run an experiment, print its tables, write its results; the result is the exit status."""
    try:
        options.out.mkdir(parents=True, exist_ok=True)
        results = experiment(options)
    except (MinigradError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print("\n\n".join(table.text() for table in results.tables))
    settings = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    content = without_nan({**asdict(results), "options": settings})
    path = options.out / "results.json"
    path.write_text(json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False), encoding="utf-8")
    files = ", ".join(["results.json", *(name for name, _ in results.pictures)])
    print(f"written to {options.out}: {files}", file=sys.stderr)
    return 0


def without_nan(value: Any) -> Any:
    """The same for JSON, which has no NaN, no infinity and no arrays: None and lists in their place."""
    if isinstance(value, dict):
        return {str(name): without_nan(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [without_nan(inner) for inner in value]
    if isinstance(value, np.generic):
        return without_nan(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def digits(options: argparse.Namespace, quick: tuple[int, int] = (1000, 300)) -> Dataset:
    """MNIST, or drawn digits where it can't be had; with --quick so many drawn ones to train on and to test with."""
    name = "fashion_mnist" if options.data == "fashion_mnist" else "mnist"
    draw = lambda n, m: data.glyph_dataset(n, m, seed=options.seed)  # noqa: E731
    return _chosen(options, name, getattr(data, name), draw, quick)


def photographs(options: argparse.Namespace, quick: tuple[int, int] = (600, 200)) -> Dataset:
    """CIFAR-10, or drawn digits in colour of the same size where it can't be had; with --quick so many of those."""
    return _chosen(options, "cifar10", data.cifar10, lambda n, m: coloured_digits(n, m, options.seed), quick)


def _chosen(
    options: argparse.Namespace,
    name: str,
    load: Callable[[], Dataset],
    draw: Callable[[int, int], Dataset],
    quick: tuple[int, int],
) -> Dataset:
    if options.quick and options.data == "auto":
        return draw(*quick)
    if options.data == "glyphs":
        return draw(*quick) if options.quick else draw(20000, 4000)
    try:
        found = load()
    except DataError as error:
        if options.data != "auto":
            raise
        print(f"{name} can't be had ({str(error).splitlines()[0]}); using drawn digits instead", file=sys.stderr)
        return draw(20000, 4000)
    if options.quick:
        train, test = quick
        return Dataset(found.x_train[:train], found.y_train[:train], found.x_test[:test], found.y_test[:test], name)
    return found


def coloured_digits(n_train: int, n_test: int, seed: int = 0) -> Dataset:
    """Drawn digits, uint8 (N, 32, 32, 3), each in an ink and on a paper of colours of its own."""
    images, labels = data.glyphs(n_train + n_test, seed, size=32)
    rng = np.random.default_rng([seed, 10])
    paper = rng.uniform(0, 255, (len(images), 1, 1, 3)).astype(np.float32)
    ink = rng.uniform(0, 255, (len(images), 1, 1, 3)).astype(np.float32)
    ink = np.where(np.abs(ink - paper).max(-1, keepdims=True) < 80, 255 - paper, ink)
    share = images[..., None].astype(np.float32) / 255
    coloured = np.rint(paper + share * (ink - paper)).astype(np.uint8)
    return Dataset(coloured[:n_train], labels[:n_train], coloured[n_train:], labels[n_train:], "coloured glyphs")


def tell(options: argparse.Namespace, text: str) -> None:
    """A line on stderr of what is done, while more is to come; none with --quiet."""
    if not options.quiet:
        print(text, file=sys.stderr)


def bar(options: argparse.Namespace, total: int, title: str) -> Any:
    """A progress bar on stderr; with --quiet one that shows nothing."""
    from tqdm import tqdm

    return tqdm(total=total, desc=title, unit="step", leave=False, file=sys.stderr, disable=options.quiet)
