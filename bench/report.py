"""Results as text and as JSON."""

from __future__ import annotations

import datetime
import json
import math
import os
import platform
from pathlib import Path
from typing import Any

_LONGEST = 200  # characters of an error in a file
BUSY = 0.75  # processes ready to run for each core, before the benchmark begins, that spoil its numbers


def table(name: str, result: dict[str, Any]) -> str:
    """A suite's result for people; the last lines are the mean and the worst ratio."""
    peers, rows = result["peers"], result["rows"]
    columns = _columns(rows)
    head = ["", *[n for peer in peers for n in [peer, *[f"{peer} {c}" for c in columns.get(peer, [])]]]]
    body = [_line(row, peers, columns) for row in rows]
    where = f" ({result['device']})" if "device" in result else ""
    lines = [f"{name}: {result['title']}{where}", *_aligned([[*head, "ratio", "best peer", "target"], *body]), ""]
    if result["load"] > BUSY:
        lines += [
            f"The machine was busy ({result['load']:.1f} waiting for each core): compare nothing but rough sizes.",
            "",
        ]
    for peer, state in peers.items():
        if state["status"] != "ready":
            lines += [f"{peer} is {state['status']}: {state['why']}", ""]
    lines += _failures(rows, [state["why"] for state in peers.values()])
    for row in rows:
        if row["differ"]:
            lines += [f"{row['case']}: the results of {', '.join(row['differ'])} differ from ours", ""]
    return "\n".join(lines + _conclusion(result["summary"]))


def write(path: Path, results: dict[str, dict[str, Any]], options: dict[str, Any]) -> None:
    """The results of one or more suites as a JSON file."""
    content = {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "options": options,
        "benchmarks": {
            name: {**result, "rows": list(map(_with_brief_errors, result["rows"]))} for name, result in results.items()
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_spelled(content), indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _with_brief_errors(row: dict[str, Any]) -> dict[str, Any]:
    """A row in which errors are told without their tracebacks, whose paths are those of one machine."""
    peers = {
        name: {**m, "error": _last_words(m["error"])} if "error" in m else m for name, m in row.get("peers", {}).items()
    }
    return {**row, "peers": peers} if peers else row


def _last_words(error: str) -> str:
    lines = error.strip().splitlines()
    behind = max((i for i, line in enumerate(lines) if line.startswith((" ", "Traceback"))), default=-1) + 1
    return " ".join(" ".join(lines[behind:]).split())[:_LONGEST]


def load() -> float:
    """How many processes are ready to run for each core, on average over the last minute."""
    return os.getloadavg()[0] / (os.cpu_count() or 1) if hasattr(os, "getloadavg") else 0.0


def machine() -> dict[str, Any]:
    """The processor's name, the number of cores that may be used, and the system."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _processor(), "cores": allowed, "system": f"{platform.system()} {platform.machine()}"}


def readable(number: float | None, unit: str) -> str:
    """A number with its unit: seconds as µs, ms or s."""
    if number is None:
        return ""
    if unit != "s":
        return f"{number:.{2 if not unit else 4}g} {unit}".rstrip()
    for factor, name in ((1e6, "µs"), (1e3, "ms")):
        if number * factor < 999.5:
            return f"{_three_digits(number * factor)} {name}"
    return f"{_three_digits(number)} s"


def _three_digits(number: float) -> str:
    return f"{number:.{0 if number >= 99.5 else 1 if number >= 9.95 else 2}f}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(reversed([(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]))
    family = f"family {fields['cpu family']}, model {fields['model']}" if "cpu family" in fields else ""
    return " ".join(filter(None, [fields.get("model name", platform.machine()), f"({family})" if family else ""]))


def _columns(rows: list[dict]) -> dict[str, list[str]]:
    """The further columns of each peer, in the order of their first appearance."""
    found: dict[str, list[str]] = {}
    for row in rows:
        for peer, measured in row["peers"].items():
            names = found.setdefault(peer, [])
            names += [n for n in measured.get("columns", {}) if n not in names]
    return found


def _line(row: dict, peers: dict, columns: dict[str, list[str]]) -> list[str]:
    cells = [row["case"]]
    for peer, state in peers.items():
        measured = row["peers"].get(peer)
        if measured is None:
            cells.append(state["status"] if state["status"] != "ready" else "")
        else:
            cells.append("failed" if "error" in measured else readable(measured["median"], row["unit"]))
        more = (measured or {}).get("columns", {})
        cells += [readable(more.get(c), _unit(c) or row["unit"]) for c in columns.get(peer, [])]
    verdict = {True: "met", False: "MISSED", None: ""}[row["met"]]
    ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}x"
    return [*cells, ratio, row["best"] or "", f"{row['target']} {verdict}".strip()]


def _spelled(value: Any) -> Any:
    """The value with its infinities as text: JSON has none."""
    if isinstance(value, dict):
        return {key: _spelled(v) for key, v in value.items()}
    if isinstance(value, list):
        return [_spelled(v) for v in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _unit(column: str) -> str:
    """The unit that a column's name ends with, in brackets."""
    return column[column.rindex("[") + 1 : -1] if column.endswith("]") else ""


def _failures(rows: list[dict], known: list[str]) -> list[str]:
    """What went wrong in rows, each text once, with the rows that it befell."""
    found: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        for peer, measured in row["peers"].items():
            if measured.get("error", known[0]) not in known:
                found.setdefault((peer, measured["error"].rstrip()), []).append(row["case"])
    return [
        line for (peer, text), names in found.items() for line in (f"{peer} failed at {', '.join(names)}:", text, "")
    ]


def _aligned(lines: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines)]
    words = (0, len(widths) - 2, len(widths) - 1)  # columns that are no numbers

    def padded(line: list[str]) -> str:
        return "  ".join(c.ljust(w) if i in words else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths)))

    return [padded(line).rstrip() for line in lines]


def _conclusion(summary: dict) -> list[str]:
    missed = [f"targets missed: {', '.join(summary['missed'])}"] if summary["missed"] else []
    if summary["worst"] is None:
        return [*missed, "no peer to compare with"]
    return [
        *missed,
        f"geometric mean: {summary['geometric_mean']:.2f}x as fast as the best peer",
        f"worst: {summary['worst']['ratio']:.2f}x, {summary['worst']['case']}",
    ]
