"""Which elements share statistics, as labels and as the cube picture of the group normalization paper."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

import minigrad as mg
from minigrad.errors import ArgumentError, ShapeError


def sharing(layer: Any, shape: Sequence[int], seed: int = 0) -> np.ndarray:
    """For each element of an input the number of the set that it is normalized with, counted from 0.

    The sets are found, not looked up: element j belongs with element i if ∂y_i/∂x_j ≠ 0 in training. So it holds for
    any layer or function, a user's own included. The layer itself is left as it is; a copy of it runs.

    Args:
        layer: a layer, or a function of a tensor, whose output has the input's shape.
        shape: of an input, small: there is a backward pass for each set.
        seed: of the input's random values.

    Returns:
        integers of that shape.

    Raises:
        ShapeError: if the output has another shape.
        ArgumentError: if the sets overlap without being equal, as those of local response normalization do.

    Example:
        >>> import minigrad_norms as norms
        >>> norms.sharing(norms.LayerNormalization(), (2, 3))
        array([[0, 0, 0],
               [1, 1, 1]])
        >>> norms.sharing(norms.GroupNormalization(groups=2), (1, 1, 4))
        array([[[0, 0, 1, 1]]])
    """
    shape = tuple(shape)
    rng = np.random.default_rng(seed)
    is_layer = isinstance(layer, mg.nn.Layer)
    x = mg.tensor(rng.standard_normal(shape), layer.dtype if is_layer else "float64", requires_grad=True)
    run = copy.deepcopy(layer)
    y = run(x, training=True) if is_layer else run(x)
    if y.shape != shape:
        raise ShapeError(f"sharing: {_name_of(layer)} gives shape {y.shape} for {shape}, expected the same")
    labels = np.full(prod(shape), -1)
    for i in range(labels.size):
        if labels[i] >= 0:
            continue
        probe = np.zeros(shape, y.dtype)
        probe.flat[i] = 1.0
        x.grad = None
        y.backward(mg.tensor(probe), retain_graph=True)
        together = np.zeros(labels.size, bool) if x.grad is None else x.grad.numpy().reshape(-1) != 0
        together[i] = True
        if (labels[together] >= 0).any():
            raise ArgumentError(
                f"sharing: the sets of {_name_of(layer)} overlap, so that elements have no one set each"
            )
        labels[together] = labels.max() + 1
    return labels.reshape(shape)


def draw(layers: Mapping[str, Any], path: str | Path, shape: Sequence[int] = (4, 3, 3, 6), axis: int = -1) -> Path:
    """Save a picture of cubes, one a layer: samples, channels and positions, a colour for each set that shares.

    Args:
        layers: what to draw, by title; see `sharing`.
        path: of the image; its ending chooses the format (png, svg, pdf ...).
        shape: of an input: samples, positions and channels, the latter along `axis`.
        axis: the channels' axis.

    Returns:
        the path.

    Raises:
        ArgumentError: if there is nothing to draw, or matplotlib is not installed (``pip install minigrad[plots]``).
        ShapeError: if the shape has no axes for samples, channels and positions.
    """
    shape = tuple(shape)
    if len(shape) < 3:
        raise ShapeError(f"draw: shape is {shape}, expected samples, positions and channels")
    if not layers:
        raise ArgumentError("draw: there are no layers to draw")
    (channels,) = mg.axes.normalize("draw", axis, len(shape))
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ArgumentError("draw: needs matplotlib: pip install 'minigrad[plots]'") from None
    figure = Figure(figsize=(3.1 * len(layers), 3.4))
    FigureCanvasAgg(figure)
    for i, (title, layer) in enumerate(layers.items()):
        labels = np.moveaxis(sharing(layer, shape), channels, 1).reshape(shape[0], shape[channels], -1)
        _draw_cube(figure.add_subplot(1, len(layers), i + 1, projection="3d"), title, labels)
    figure.subplots_adjust(left=0.02, right=0.97, bottom=0.04, top=0.9, wspace=0.08)
    path = Path(path)
    beside = path.with_name(f".{path.name}.partial{path.suffix}")
    figure.savefig(beside, dpi=130)
    beside.replace(path)
    return path


def _draw_cube(axes: Any, title: str, labels: np.ndarray) -> None:
    """One cube: x counts channels, y samples, z positions; faces in the colour of their set."""
    from matplotlib.colors import LightSource

    sets = int(labels.max()) + 1
    colours = _colours(sets)[labels].transpose(1, 0, 2, 3)
    light = LightSource(azdeg=280, altdeg=45)
    full = np.ones(colours.shape[:3], bool)
    axes.voxels(full, facecolors=colours, edgecolor="#ffffff", linewidth=0.4, lightsource=light)
    axes.set_title(f"{title}: {sets} {'set' if sets == 1 else 'sets'}", fontsize=10)
    axes.set_xlabel("channels", labelpad=-12, fontsize=8)
    axes.set_ylabel("samples", labelpad=-12, fontsize=8)
    axes.set_zlabel("positions", labelpad=-12, fontsize=8)
    for each in (axes.xaxis, axes.yaxis, axes.zaxis):
        each.set_ticks([])
    axes.view_init(elev=24, azim=-52)
    axes.set_box_aspect((1, 1, 1))


def _colours(count: int) -> np.ndarray:
    """So many colours, neighbours far apart: hues by the golden ratio, lightness in turns."""
    from matplotlib.colors import hsv_to_rgb

    i = np.arange(count)
    hues = (0.58 + i * 0.6180339887) % 1.0
    return hsv_to_rgb(np.stack([hues, 0.45 + 0.25 * (i % 2), 0.92 - 0.12 * (i % 3)], axis=-1))


def _name_of(layer: Any) -> str:
    return str(getattr(layer, "name", None) or getattr(layer, "__name__", type(layer).__name__))
