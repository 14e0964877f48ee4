"""The study's pictures, drawn with matplotlib, as PNG."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.gradcheck.result import FAILED
from minigrad.gradcheck.study import tables
from minigrad.gradcheck.study.tables import Study

_COLOURS = {"forward": "#d95f02", "central": "#1f78b4", "fourth-order": "#1b9e77"}
_PANELS = 6


def draw(study: Study) -> list[tuple[str, bytes, str]]:
    """The pictures: a name, PNG, and a caption each; none without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    found = []
    for name, paint, caption in PICTURES:
        made = paint(study, Figure)
        if made is not None:
            file = io.BytesIO()
            made.savefig(file, format="png", dpi=110)
            found.append((name, file.getvalue(), caption))
    return found


def heat_map(study: Study, figure: Callable) -> Any:
    """Primitive × check, coloured by the share of the tolerance that was used."""
    rows, checks = tables.worst_first(study), tables.columns(study)
    if not rows:
        return None
    shown = np.full((len(rows), len(checks)), np.nan)
    for i, p in enumerate(rows):
        for j, c in enumerate(checks):
            if c in p["checks"]:
                shown[i, j] = math.log10(min(max(tables.share(p["checks"][c]), 1e-6), 10))
    made = figure(figsize=(11, 2.4 + 0.135 * len(rows)), layout="constrained")
    axes = made.subplots()
    axes.set_facecolor("#eeeeee")
    image = axes.imshow(shown, aspect="auto", cmap="viridis", vmin=-6, vmax=0, interpolation="nearest")
    axes.set_xticks(range(len(checks)), checks, rotation=60, ha="left", rotation_mode="anchor", fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [p["name"] for p in rows], fontsize=6.5)
    for i, p in enumerate(rows):
        for j, c in enumerate(checks):
            if c in p["checks"] and not p["checks"][c]["settled"]:
                sign = "✗" if p["checks"][c]["verdict"] == FAILED else "?"
                axes.text(j, i, sign, color="red", ha="center", va="center", fontsize=8, weight="bold")
            elif c in p["checks"] and p["checks"][c]["reason"]:
                axes.text(j, i, "·", color="white", ha="center", va="center", fontsize=8)
    bar = made.colorbar(image, ax=axes, shrink=min(1.0, 12 / (2 + 0.135 * len(rows))), pad=0.01, location="right")
    bar.set_label("log₁₀ of the share of the tolerance that was used (0: all of it)")
    return made


def curves(study: Study, figure: Callable) -> Any:
    """The error of each difference formula against its step, for some primitives, in both dtypes."""
    chosen = _spread([p for p in study["primitives"] if p.get("condition") and (p.get("curves") or {}).get("float64")])
    if not chosen:
        return None
    rows = math.ceil(len(chosen) / 3)
    made = figure(figsize=(11, 3.3 * rows + 0.6), layout="constrained")
    panels = made.subplots(rows, 3, squeeze=False, sharex=True, sharey=True).flat
    for axes in panels:
        axes.set_visible(False)
    for axes, p in zip(made.axes, chosen):
        axes.set_visible(True)
        for dtype, style in (("float64", "-"), ("float32", ":")):
            for scheme, found in p["curves"].get(dtype, {}).items():
                errors = np.array([math.nan if e is None else max(e, 1e-17) for e in found["errors"]])
                label = scheme if style == "-" else None
                axes.loglog(p["curves"]["steps"], errors, style, color=_COLOURS[scheme], lw=1.3, label=label)
                if style == "-":
                    axes.plot(found["best_step"], max(found["best_error"], 1e-17), "o", color=_COLOURS[scheme], ms=5)
                    at = max(found["predicted_error"], 1e-17)
                    axes.plot(found["predicted_step"], at, "v", mfc="none", mec=_COLOURS[scheme], ms=8)
        axes.set_title(p["name"], fontsize=10)
        axes.set_ylim(1e-17, 1e2)
        axes.grid(alpha=0.3)
    made.axes[0].legend(fontsize=8, loc="lower right")
    made.supxlabel("step")
    made.supylabel("error over the size of the derivative's terms")
    return made


def optimum(study: Study, figure: Callable) -> Any:
    """For every primitive the step that was predicted beside the best one, and the errors that they give."""
    found = [
        (dtype, scheme, c)
        for p in study["primitives"]
        for dtype in ("float64", "float32")
        for scheme, c in ((p.get("curves") or {}).get(dtype) or {}).items()
    ]
    if not found:
        return None
    made = figure(figsize=(11, 4.6), layout="constrained")
    left, right = made.subplots(1, 2)
    for scheme, colour in _COLOURS.items():
        for dtype, marker in (("float64", "o"), ("float32", "^")):
            some = [c for d, s, c in found if (d, s) == (dtype, scheme)]
            words = f"{scheme}, {dtype}"
            style = {"marker": marker, "ls": "", "ms": 4, "color": colour, "alpha": 0.6, "label": words}
            left.loglog([c["best_step"] for c in some], [c["predicted_step"] for c in some], **style)
            right.loglog(
                [max(c["best_error"], 1e-17) for c in some], [max(c["predicted_error"], 1e-17) for c in some], **style
            )
    for axes, words in ((left, "step"), (right, "error")):
        ends = axes.get_xlim()
        axes.plot(ends, ends, color="#888888", lw=1)
        axes.set_xlabel(f"{words}: the best of the curve")
        axes.set_ylabel(f"{words}: predicted")
        axes.grid(alpha=0.3)
    left.legend(fontsize=7)
    return made


def roundings(study: Study, figure: Callable) -> Any:
    """Roundings of every reverse rule against size and against condition."""
    if not any(p.get("roundings") for p in study["primitives"]):
        return None
    made = figure(figsize=(11, 4.6), layout="constrained")
    left, right = made.subplots(1, 2, sharey=True)
    for dtype, colour in (("float32", "#1f78b4"), ("float64", "#d95f02")):
        points = [(r["elements"], r[dtype]["largest"]) for p in study["primitives"] for r in p.get("roundings", [])]
        style = {"ls": "", "marker": "o", "ms": 3.5, "alpha": 0.5, "color": colour, "label": dtype}
        left.loglog([n for n, _ in points], [max(e, 1e-2) for _, e in points], **style)
        some = [p for p in study["primitives"] if p.get("roundings") and p.get("condition")]
        conditions = [max(p["condition"]["gradient"], 1e-2) for p in some]
        right.loglog(conditions, [max(tables.largest(p, dtype, "largest") or 0, 1e-2) for p in some], **style)
    left.set_xlabel("elements of the inputs, each sample a point")
    right.set_xlabel("condition of the gradient, each primitive a point")
    left.set_ylabel("error of the reverse rule [ulp of the largest]")
    for axes in (left, right):
        axes.axhline(1, color="#888888", lw=1)
        axes.grid(alpha=0.3)
    left.legend()
    return made


def times(study: Study, figure: Callable) -> Any:
    """The time of the checks against that of one gradient."""
    some = [p["time"] for p in study["primitives"] if p.get("time")]
    if not some:
        return None
    made = figure(figsize=(11, 4.2), layout="constrained")
    axes = made.subplots()
    for key, words, colour in (
        ("first_order", "usual checks of the first order", "#1b9e77"),
        ("second_order", "with the second", "#7570b3"),
    ):
        xs, ys = [t["gradient"] for t in some], [t[key] for t in some]
        axes.loglog(xs, ys, "o", ms=4, alpha=0.6, color=colour, label=words)
    ends = np.array(axes.get_xlim())
    for factor in (100, 1000, 10000):
        axes.plot(ends, factor * ends, color="#bbbbbb", lw=0.8)
        axes.annotate(f"{factor} gradients", (ends[1], factor * ends[1]), fontsize=7, color="#777777", ha="right")
    axes.set_xlabel("seconds of one gradient")
    axes.set_ylabel("seconds of a check")
    axes.grid(alpha=0.3)
    axes.legend()
    return made


def _spread(primitives: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Some primitives, from the best conditioned to the worst."""
    ordered = sorted(primitives, key=lambda p: (p["condition"]["gradient"], p["name"]))
    if len(ordered) <= _PANELS:
        return ordered
    return [ordered[round(k * (len(ordered) - 1) / (_PANELS - 1))] for k in range(_PANELS)]


PICTURES: tuple[tuple[str, Callable, str], ...] = (
    (
        "heat map",
        heat_map,
        "Primitive × check, worst first. Yellow: near the tolerance; ✗ failed; ? undecided; · undecided for a reason; "
        "grey: nothing to check",
    ),
    (
        "curves",
        curves,
        "Error against step, from the best conditioned to the worst: float64 solid, float32 dotted; ● the best step, "
        "▽ the predicted one",
    ),
    ("optimum", optimum, "Predicted against measured: every primitive, formula and dtype"),
    (
        "roundings",
        roundings,
        "Roundings of the reverse rules against size and condition; the line is one unit in the last place",
    ),
    ("times", times, "What a check costs"),
)
