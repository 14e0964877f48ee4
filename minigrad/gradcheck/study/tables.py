"""The numbers of the study as rows: what the page shows, the terminal prints, and tests compare."""

from __future__ import annotations

import math
from typing import Any

from minigrad.gradcheck.primitives import CHECKS as BATTERY
from minigrad.gradcheck.result import FAILED, INCONCLUSIVE, PASSED

Study = dict[str, Any]


def columns(study: Study) -> list[str]:
    """The checks that were run, in the order of the battery."""
    found: dict[str, None] = {}
    for primitive in study["primitives"]:
        found.update(dict.fromkeys(primitive["checks"]))
    return sorted(found, key=lambda c: BATTERY.index(c) if c in BATTERY else len(BATTERY))


def share(result: dict[str, Any]) -> float:
    """How much of what was allowed was used: above 1 is a failure."""
    if result["verdict"] == FAILED:
        return math.inf
    return float(result["error"])


def worst_first(study: Study) -> list[dict[str, Any]]:
    """The primitives: those with failures, then those undecided, then by the largest share of a tolerance."""

    def key(p: dict[str, Any]) -> tuple:
        results = p["checks"].values()
        open_ = sum(not r["settled"] for r in results)
        return (-sum(r["verdict"] == FAILED for r in results), -open_, -worst(p)[1], p["name"])

    return sorted(study["primitives"], key=key)


def worst(primitive: dict[str, Any]) -> tuple[str, float]:
    """The check that used most of its tolerance, and how much. Kinks reach their bound by definition."""
    shares = {c: share(r) for c, r in primitive["checks"].items() if "kink" not in r["detail"]}
    return max(shares.items(), key=lambda item: item[1], default=("", 0.0))


def verdicts(study: Study) -> dict[str, int]:
    """How many primitives there are of each verdict."""
    return {v: sum(p["verdict"] == v for p in study["primitives"]) for v in (PASSED, FAILED, INCONCLUSIVE)}


def largest(primitive: dict[str, Any], dtype: str, which: str) -> float | None:
    """The largest rounding of a primitive's reverse rule over its samples."""
    values = [r[dtype][which] for r in primitive.get("roundings", [])]
    return max(values) if values else None


def explained(primitive: dict[str, Any]) -> float:
    """What random rounding explains of the largest rounding in float32."""
    return float(max((r["float32"] for r in primitive["roundings"]), key=lambda r: r["largest"])["explained"])


def growth(primitive: dict[str, Any], dtype: str = "float32") -> float | None:
    """The exponent by which the roundings grow with the elements: the slope of a line through them, log on log."""
    points = [
        (math.log(s["elements"]), math.log(e)) for s in primitive.get("sizes", []) if (e := s[dtype]["largest"]) > 0
    ]
    if len(points) < 3:
        return None
    middle = sum(x for x, _ in points) / len(points)
    return sum((x - middle) * y for x, y in points) / sum((x - middle) ** 2 for x, _ in points)


def grown_worst_first(study: Study) -> list[dict[str, Any]]:
    """The primitives of which a sample was made longer, by the rounding of the longest."""
    some = [p for p in study["primitives"] if p.get("sizes")]
    return sorted(some, key=lambda p: -p["sizes"][-1]["float32"]["largest"])


def score(library: dict[str, Any]) -> tuple[int, int]:
    """How many faults a library's check catches with every seed, of those that exist in it."""
    found = [f for f in library["faults"].values() if f is not None]
    return sum(f["caught"] == f["seeds"] for f in found), len(found)


def present(study: Study) -> dict[str, dict[str, Any]]:
    """The libraries that were there."""
    return {name: found for name, found in study["libraries"].items() if "faults" in found}


def missed(library: dict[str, Any]) -> list[str]:
    """The faults that a library's check lets pass with some seed."""
    return [name for name, f in library["faults"].items() if f is not None and f["caught"] < f["seeds"]]


def number(value: float | None) -> str:
    """A number as the page shows it."""
    if value is None:
        return ""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞"
    return f"{value:.3g}"
