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
_TALL = 70  # rows of a heat map that stand in one column
_LEAST = 1e-2  # where 0 stands on a logarithmic axis
_NAMED = ("#d95f02", "#1f78b4", "#1b9e77", "#e7298a", "#7570b3", "#a6761d")


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
    """Primitive × check, coloured by the share of the tolerance that was used; in two columns if there are many."""
    rows, checks = tables.worst_first(study), tables.columns(study)
    if not rows:
        return None
    parts = 1 if len(rows) <= _TALL else 2
    length = math.ceil(len(rows) / parts)
    made = figure(figsize=(12.5, 2.2 + 0.155 * length), layout="constrained")
    panels = made.subplots(1, parts, squeeze=False)[0]
    for k, axes in enumerate(panels):
        image = _heat(axes, rows[k * length : (k + 1) * length], checks, length)
    bar = made.colorbar(image, ax=panels.tolist(), fraction=0.02, aspect=60, pad=0.01, location="right")
    bar.set_label("log₁₀ of the tolerance's share used", fontsize=8)
    return made


def _heat(axes: Any, rows: list[dict[str, Any]], checks: list[str], length: int) -> Any:
    """One column of the heat map, of `length` rows, the last ones of which may be empty."""
    shown = np.full((length, len(checks)), np.nan)
    axes.set_facecolor("#eeeeee")
    for i, p in enumerate(rows):
        for j, c in enumerate(checks):
            if c not in p["checks"]:
                continue
            found = p["checks"][c]
            shown[i, j] = math.log10(min(max(tables.share(found), 1e-6), 10))
            if not found["settled"]:
                sign = "✗" if found["verdict"] == FAILED else "?"
                axes.text(j, i, sign, color="red", ha="center", va="center", fontsize=9, weight="bold")
            elif found["reason"]:
                axes.text(j, i, "●", color="white", ha="center", va="center", fontsize=5)
    image = axes.imshow(shown, aspect="auto", cmap="viridis", vmin=-6, vmax=0, interpolation="nearest")
    axes.set_xticks(range(len(checks)), checks, rotation=90, fontsize=7.5)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(rows)), [p["name"] for p in rows], fontsize=7.5)
    return image


def curves(study: Study, figure: Callable) -> Any:
    """The error of each difference formula against its step, for some primitives, in both dtypes."""
    chosen = _spread([p for p in study["primitives"] if p.get("condition") and (p.get("curves") or {}).get("float64")])
    if not chosen:
        return None
    rows = math.ceil(len(chosen) / 3)
    made = figure(figsize=(12.5, 3.3 * rows + 0.9), layout="constrained")
    panels = made.subplots(rows, 3, squeeze=False, sharex=True, sharey=True).flat
    for axes in panels:
        axes.set_visible(False)
    for axes, p in zip(made.axes, chosen):
        axes.set_visible(True)
        for dtype, style in (("float64", "-"), ("float32", ":")):
            for scheme, found in p["curves"].get(dtype, {}).items():
                errors = np.array([math.nan if e is None else max(e, 1e-17) for e in found["errors"]])
                label = f"{scheme}, {dtype}"
                axes.loglog(p["curves"]["steps"], errors, style, color=_COLOURS[scheme], lw=1.3, label=label)
                if style == "-":
                    axes.plot(found["best_step"], max(found["best_error"], 1e-17), "o", color=_COLOURS[scheme], ms=5)
                    at = max(found["predicted_error"], 1e-17)
                    axes.plot(found["predicted_step"], at, "v", mfc="none", mec=_COLOURS[scheme], ms=8)
        axes.set_title(f"{p['name']}, condition {tables.number(p['condition']['gradient'])}", fontsize=10)
        axes.set_ylim(3e-18, 1e2)
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
    handles, labels = made.axes[0].get_legend_handles_labels()
    made.legend(handles, labels, fontsize=9, loc="outside upper center", ncols=len(labels))
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
    made = figure(figsize=(12.5, 4.8), layout="constrained")
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


def sizes(study: Study, figure: Callable) -> Any:
    """The roundings of every reverse rule as an axis of a sample grows; those that end highest by name."""
    ordered = tables.grown_worst_first(study)
    if not ordered:
        return None
    made = figure(figsize=(12.5, 4.9), layout="constrained")
    highest = sorted(ordered, key=lambda p: -max(s[d]["largest"] for s in p["sizes"] for d in ("float32", "float64")))
    colours = dict(zip((p["name"] for p in highest), _NAMED))
    for axes, dtype in zip(made.subplots(1, 2, sharey=True), ("float32", "float64")):
        for p in reversed(highest):
            name, elements = p["name"], [s["elements"] for s in p["sizes"]]
            errors = np.maximum([s[dtype]["largest"] for s in p["sizes"]], _LEAST)
            if name in colours:
                axes.loglog(elements, errors, color=colours[name], lw=1.6, label=name)
            else:
                axes.loglog(elements, errors, color="#bbbbbb", lw=0.7)
        axes.axhline(1, color="black", lw=0.8, ls="--")
        axes.set_title(dtype)
        axes.set_xlabel("elements of the inputs")
        axes.grid(alpha=0.3)
    handles, labels = made.axes[0].get_legend_handles_labels()
    made.legend(handles[::-1], labels[::-1], fontsize=9, loc="outside upper center", ncols=len(labels))
    made.axes[0].set_ylabel("error of the reverse rule [ulp of the largest]")
    return made


def roundings(study: Study, figure: Callable) -> Any:
    """Roundings of every reverse rule against the condition of the gradient, and against what rounding explains."""
    some = [p for p in study["primitives"] if p.get("roundings")]
    if not some:
        return None
    made = figure(figsize=(12.5, 4.6), layout="constrained")
    left, right = made.subplots(1, 2, sharey=True)
    for dtype, colour in (("float32", "#1f78b4"), ("float64", "#d95f02")):
        points = [p for p in some if p.get("condition")]
        style = {"ls": "", "marker": "o", "ms": 4, "alpha": 0.6, "color": colour, "label": dtype}
        conditions = [max(p["condition"]["gradient"], _LEAST) for p in points]
        left.loglog(conditions, [max(tables.largest(p, dtype, "largest") or 0, _LEAST) for p in points], **style)
    found = [(r["float32"]["explained"], r["float32"]["largest"]) for p in some for r in p["roundings"]]
    style = {"ls": "", "marker": "o", "ms": 3.5, "alpha": 0.4, "color": "#1f78b4"}
    right.loglog([max(a, _LEAST) for a, _ in found], [max(b, _LEAST) for _, b in found], **style)
    ends = np.array(right.get_xlim())
    right.plot(ends, ends, color="#888888", lw=1)
    left.set_xlabel(f"condition of the gradient, each primitive a point (at {_LEAST}: none)")
    right.set_xlabel("what random rounding explains in float32, each sample a point")
    left.set_ylabel("error of the reverse rule [ulp of the largest]")
    left.axhline(1, color="#888888", lw=1)
    for axes in (left, right):
        axes.grid(alpha=0.3)
    left.legend()
    return made


def times(study: Study, figure: Callable) -> Any:
    """The time of the checks against that of one gradient."""
    some = [p["time"] for p in study["primitives"] if p.get("time")]
    if not some:
        return None
    made = figure(figsize=(12.5, 4.4), layout="constrained")
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
    """Some primitives, from the best conditioned to the worst; of those of condition 0, which are linear, one."""
    ordered = sorted(primitives, key=lambda p: (p["condition"]["gradient"], p["name"]))
    curved = [p for p in ordered if p["condition"]["gradient"] > _LEAST]
    ordered = [p for p in ordered if p not in curved][:1] + curved
    if len(ordered) <= _PANELS:
        return ordered
    return [ordered[round(k * (len(ordered) - 1) / (_PANELS - 1))] for k in range(_PANELS)]


PICTURES: tuple[tuple[str, Callable, str], ...] = (
    (
        "heat map",
        heat_map,
        "Primitive × check, worst first. Yellow: near the tolerance; ✗ failed; ? undecided; ● undecided for a reason; "
        "grey: nothing to check",
    ),
    (
        "curves",
        curves,
        "Error against step, first of a linear function, then from the best conditioned to the worst. In float64: "
        "● the best step, ▽ the predicted one",
    ),
    ("optimum", optimum, "Predicted against measured: every primitive, formula and dtype"),
    (
        "sizes",
        sizes,
        "Error against size: an axis of a sample grows. Every line is a primitive, those that rise highest have names; "
        "dashed: one unit in the last place",
    ),
    (
        "roundings",
        roundings,
        "Roundings of the reverse rules on the samples, against condition, and against what rounding explains",
    ),
    ("times", times, "What a check costs"),
)
