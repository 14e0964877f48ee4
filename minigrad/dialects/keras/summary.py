"""The table that `summary` prints of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from minigrad.nn import Layer


def summary_lines(model: Any, layers: Sequence[Any], shapes: Sequence[Any], line_length: int | None) -> list[str]:
    """A line for each layer: its name and kind, the shape of its output, and how many parameters it has."""
    rows = [("Layer (type)", "Output Shape", "Param #")]
    for layer, shape in zip(layers, shapes):
        name = getattr(layer, "name", getattr(layer, "__name__", "function"))
        count = sum(v.size for v in layer.variables.values()) if isinstance(layer, Layer) else 0
        shown = "?" if shape is None else str((None, *shape))
        rows.append((f"{name} ({type(layer).__name__})", shown, f"{count:,}"))
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(3)]
    if line_length is not None:
        widths[0] = max(widths[0], line_length - widths[1] - widths[2])
    head, *body = ["".join(f"{cell:<{width}}" for cell, width in zip(row, widths)).rstrip() for row in rows]
    rule = "=" * sum(widths)
    total, trained = model.count_params(), sum(v.size for v in model.trainable_weights)
    counts = (("Total", total), ("Trainable", trained), ("Non-trainable", total - trained))
    tail = [f"{kind} params: {count:,}" for kind, count in counts]
    return [f'Model: "{model.name}"', rule, head, rule, *body, rule, *tail]
