"""python -m minigrad_norms: draw which elements share statistics, for each kind of normalization.

python -m minigrad_norms                                  # normalizations.png
python -m minigrad_norms --out groups.svg GroupNormalization InstanceNormalization --groups 3
"""

from __future__ import annotations

import argparse
import sys

import minigrad_norms as norms
from minigrad.errors import MinigradError
from minigrad_norms.picture import draw

_TITLES = {
    "BatchNormalization": "batch norm",
    "LayerNormalization": "layer norm",
    "InstanceNormalization": "instance norm",
    "GroupNormalization": "group norm",
}


def main(arguments: list[str] | None = None) -> int:
    """Run the command; the exit status is 2 for bad arguments."""
    parser = argparse.ArgumentParser(
        prog="python -m minigrad_norms", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("layers", nargs="*", metavar="LAYER", help="names of layers; by default the paper's four")
    parser.add_argument("--out", default="normalizations.png", metavar="FILE", help="the image (default %(default)s)")
    parser.add_argument("--shape", default="4,3,3,6", help="samples, positions, channels (default %(default)s)")
    parser.add_argument("--groups", type=int, default=2, help="groups of group normalization (default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        shape = tuple(int(n) for n in options.shape.split(","))
    except ValueError:
        parser.error(f"--shape is {options.shape!r}, expected integers with commas between")
    layers = {}
    for name in options.layers or _TITLES:
        kind = getattr(norms, name, None)
        if not (isinstance(kind, type) and name.endswith("Normalization")):
            known = [n for n in norms.__all__ if n.endswith("Normalization")]
            parser.error(f"no layer {name!r}, expected some of {', '.join(known)}")
        title = _TITLES.get(name, name)
        try:
            if name == "GroupNormalization":
                layers[f"{title} in {options.groups}"] = kind(groups=options.groups)
            elif name == "LayerNormalization":
                layers[title] = kind(axis=tuple(range(1, len(shape))))  # over all of a sample, as the paper has it
            else:
                layers[title] = kind()
        except TypeError as error:
            parser.error(f"{name}: {error}")
    try:
        print(f"saved {draw(layers, options.out, shape)}")
    except (MinigradError, OSError) as error:
        print(f"python -m minigrad_norms: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
