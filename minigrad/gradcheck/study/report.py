"""The study as a page that stands alone, and as JSON: the same numbers, each with the command that brings it back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from minigrad import page
from minigrad.gradcheck.result import FAILED
from minigrad.gradcheck.study import pictures, tables
from minigrad.gradcheck.study.tables import Study, number
from minigrad.page import Cell

_OFFENDERS = 25


def write(study: Study, folder: Path) -> tuple[Path, Path]:
    """Write study.html and study.json into a folder, each aside first and then renamed; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    shown, numbers = folder / "study.html", folder / "study.json"
    _place(numbers, json.dumps(finite(study), indent=1, allow_nan=False, ensure_ascii=False) + "\n")
    _place(shown, html(study))
    return shown, numbers


def _place(path: Path, content: str) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(content, encoding="utf-8")
    os.replace(aside, path)


def finite(value: Any) -> Any:
    """The same for JSON, which has no words for infinities and NaN: they become strings."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def html(study: Study) -> str:
    """The page."""
    drawn = {name: page.picture(png, caption) for name, png, caption in pictures.draw(study)}
    missing = "" if drawn else page.paragraph("Pictures need matplotlib: pip install 'minigrad[plots]'", "note")
    sections = {
        "Planted faults": _faults(study),
        "Worst offenders": _offenders(study) + missing,
        "Every check": drawn.get("heat map", "") + _undecided(study),
        "Steps": drawn.get("curves", "") + drawn.get("optimum", "") + _steps(study),
        "Sizes": drawn.get("sizes", "") + _sizes(study),
        "Roundings": drawn.get("roundings", "") + _roundings(study),
        "Time": drawn.get("times", "") + _times(study),
        "How to see it again": _commands(study),
    }
    return page.document(
        "The gradient-check study",
        {name: body for name, body in sections.items() if body},
        _opening(study),
        width="86rem",
    )


def _opening(study: Study) -> str:
    counts = tables.verdicts(study)
    words = ", ".join(f"{n} {verdict.lower()}" for verdict, n in counts.items() if n)
    took = f"{study['seconds']:.0f} seconds on {study['processes']} processes"
    lines = [f"{len(study['primitives'])} primitives: {words}. {took}."]
    for name, found in tables.present(study).items():
        caught, count = tables.score(found)
        lines.append(f"{name} catches {caught} of {count} planted faults.")
    versions = ", ".join(f"{name} {v}" for name, v in study["versions"].items())
    return page.paragraph(" ".join(lines)) + page.paragraph(versions, "note")  # fmt: skip


def _faults(study: Study) -> str:
    """Fault classes × libraries."""
    if not study["libraries"]:
        return ""
    there = tables.present(study)
    rows: list[list[Any]] = []
    for fault in study["faults"]:
        row: list[Any] = [Cell(fault["name"], title=fault["words"])]
        for found in there.values():
            one = found["faults"].get(fault["name"])
            if one is None:
                row.append(Cell("–", title="can't exist in this library"))
                continue
            kind = "good" if one["caught"] == one["seeds"] else "bad" if one["caught"] == 0 else "open"
            row.append(Cell(f"{one['caught']}/{one['seeds']}", kind, one["says"]))
        rows.append([*row, Cell(fault["words"], "text")])
    total: list[Any] = ["caught with every seed"]
    alarms: list[Any] = ["false alarms, float64"]
    check: list[Any] = ["a check [ms]"]
    ratio: list[Any] = ["a check in gradients of its own"]
    for found in there.values():
        caught, count = tables.score(found)
        total.append(Cell(f"{caught}/{count}", "good" if caught == count else "bad"))
        count = found["false_alarms"]["float64"]
        alarms.append(Cell(f"{count}/{found['seeds']}", "bad" if count else "good"))
        check.append(number(1e3 * found["check_seconds"]))
        ratio.append(number(found["check_seconds"] / found["gradient_seconds"]))
    rows += [[*line, ""] for line in (total, alarms, check, ratio)]
    note = (
        "Seeds caught of seeds tried; point at a cell for what the check says. Every library is given the same "
        "function with a gradient of one's own, at the same arguments, and its check is asked to second order at its "
        "own tolerances, in float64 and in float32; either may catch. A check in float32 that refuses the sound "
        "function too has caught nothing."
    )
    text = page.table("Faults caught", ["fault", *there, "what is wrong"], rows, note)
    for name, found in there.items():
        if lost := tables.missed(found):
            text += page.paragraph(f"{name} {found['version']} misses: {', '.join(lost)}.")
    for name, found in study["libraries"].items():
        if name not in there:
            text += page.paragraph(f"{name} is not compared: {found.get('absent') or found.get('error')}", "note")
    return text


def _offenders(study: Study) -> str:
    """The primitives nearest to their tolerances."""
    rows = []
    for p in tables.worst_first(study)[:_OFFENDERS]:
        check, used = tables.worst(p)
        condition = p.get("condition") or {}
        spent = p.get("time")
        kind = "good" if p["verdict"] == "passed" else "bad" if p["verdict"] == FAILED else "open"
        rows.append([
            p["name"], Cell(p["verdict"], kind), check, number(used),
            number(tables.largest(p, "float32", "largest")), number(tables.largest(p, "float32", "element")),
            number(tables.largest(p, "float64", "largest")), number((p.get("second_order") or {}).get("largest")),
            number(condition.get("value")), number(condition.get("gradient")),
            number(spent and spent["second_order"] / spent["gradient"]),
        ])  # fmt: skip
    head = [
        "primitive", "verdict", "worst check", "share of tolerance", "float32 [ulp]", "element's ulp", "float64 [ulp]",
        "2nd order [ulp]", "κ value", "κ gradient", "check/gradient",
    ]  # fmt: skip
    note = (
        "Share: of what the check allowed in its worst place. Roundings of the reverse rule by the compiled kernels, "
        "float32 against float64 and float64 against extended precision, in units in the last place of the largest "
        "element, and of each element's own. κ: how much relative changes of inputs are enlarged."
    )
    return page.table(f"The {len(rows)} nearest to their tolerances", head, rows, note)


def _undecided(study: Study) -> str:
    """Every result that is not a plain pass, and what could not be measured."""
    rows: list[list[Any]] = []
    for p in tables.worst_first(study):
        for check, r in p["checks"].items():
            if r["verdict"] != "passed":
                kind = "bad" if r["verdict"] == FAILED else "open"
                words = Cell(r["reason"] or r["detail"], "text")
                rows.append([p["name"], check, Cell(r["verdict"], kind), r["where"], number(tables.share(r)), words])
        for key, words in p.get("not_measured", {}).items():
            rows.append([p["name"], key, Cell("not measured", "open"), "", "", Cell(words, "text")])
    if not rows:
        return ""
    head = ["primitive", "check", "verdict", "where", "error", "why"]
    return page.table("Results that are not a plain pass", head, rows)


def _steps(study: Study) -> str:
    """Predicted and best steps, in the middle and at the worst."""
    rows = []
    for dtype in ("float64", "float32"):
        for scheme in ("forward", "central", "fourth-order"):
            found = [
                (p["name"], c[dtype][scheme]) for p in study["primitives"] if (c := p.get("curves")) and c.get(dtype)
            ]
            if not found:
                continue
            errors = sorted(c["predicted_error"] for _, c in found)
            best = sorted(c["best_error"] for _, c in found)
            worst = max(found, key=lambda item: item[1]["predicted_error"])
            held = sum(c["predicted_error"] <= c["bound"] for _, c in found)
            middle = len(found) // 2
            rows.append([
                f"{scheme}, {dtype}", number(errors[middle]), number(best[middle]),
                number(worst[1]["predicted_error"]), worst[0], f"{held}/{len(found)}",
            ])  # fmt: skip
    head = ["formula", "error, predicted step (median)", "error, best step (median)", "worst", "of", "bound held"]
    return page.table("Steps chosen by their error", head, rows) if rows else ""


def _sizes(study: Study) -> str:
    """How roundings grow with size."""
    rows = []
    for p in tables.grown_worst_first(study)[:_OFFENDERS]:
        first, last = p["sizes"][0], p["sizes"][-1]
        rows.append([
            p["name"], f"{first['length']} to {last['length']}", f"{first['elements']} to {last['elements']}",
            *(number(s[dtype]["largest"]) for dtype in ("float32", "float64") for s in (first, last)),
            number(tables.growth(p)), number(last["float32"]["explained"]),
        ])  # fmt: skip
    if not rows:
        return ""
    head = [
        "primitive", "axis", "elements", "float32, shortest", "longest", "float64, shortest", "longest", "growth",
        "explained",
    ]  # fmt: skip
    note = (
        "A sample's longest axis that can grow is made 4, 16, 64 ... times as long, up to 65,536 elements in all, and "
        "the error of the reverse rule is measured as below, in ulp of the largest element. Growth: the exponent k of "
        "error ~ elements^k in float32; sums that carry their rounding along would have 1, random walks 1/2. "
        "Explained: what random rounding of inputs and results brings at the longest."
    )
    return page.table("Error against size, worst first", head, rows, note)


def _roundings(study: Study) -> str:
    some = [p for p in study["primitives"] if p.get("roundings")]
    rows = []
    for p in sorted(some, key=lambda p: -(tables.largest(p, "float32", "largest") or 0))[:_OFFENDERS]:
        ulps = [tables.largest(p, dtype, which) for dtype in ("float32", "float64") for which in ("largest", "element")]
        explained, condition = tables.explained(p), (p.get("condition") or {}).get("gradient")
        rows.append([p["name"], *map(number, (*ulps, explained, condition)), str(len(p["roundings"]))])
    if not rows:
        return ""
    head = [
        "primitive",
        "float32 [ulp]",
        "element's",
        "float64 [ulp]",
        "element's",
        "explained",
        "κ gradient",
        "samples",
    ]
    note = (
        "Explained: how far rounding every input and result at random moves the gradient in float32, in the same unit."
    )
    return page.table("The largest roundings of reverse rules", head, rows, note)  # fmt: skip


def _times(study: Study) -> str:
    some = [p for p in study["primitives"] if p.get("time")]
    if not some:
        return ""
    ratios = {k: sorted(p["time"][k] / p["time"]["gradient"] for p in some) for k in ("first_order", "second_order")}
    rows = [
        [words, number(r[0]), number(r[len(r) // 2]), number(r[-1])]
        for words, r in (("first order", ratios["first_order"]), ("both orders", ratios["second_order"]))
    ]
    return page.table("The time of the usual checks, in gradients", ["checks", "least", "median", "most"], rows)


def _commands(study: Study) -> str:
    rows = [["the whole", command(study)]]
    rows += [[name, found["command"]] for name, found in study["libraries"].items()]
    first = study["primitives"][0]["name"] if study["primitives"] else "mg::exp"
    rows += [
        ["one primitive's numbers", f"python -m minigrad study {first} --seed {study['seed']} --seeds 0 --out DIR"],
        ["one primitive's verdicts", f"python -m minigrad check {first} --seed {study['seed']}"],
        ["one fault", "python -m minigrad.gradcheck.study.peers torch --fault 'factor 1 + 1e-3' --seeds 1"],
    ]
    lines = "".join(f"<tr><td>{escape(a)}</td><td><code>{escape(b)}</code></td></tr>" for a, b in rows)
    words = "All numbers of this page stand in study.json beside it, unrounded. Only times differ from run to run."
    return f"<table>{lines}</table>{page.paragraph(words, 'note')}"


def command(study: Study, names: Sequence[str] = ()) -> str:
    """The command line that brings the study back."""
    return str(study.get("command") or f"python -m minigrad study {' '.join(names)} --seed {study['seed']} --out DIR")
