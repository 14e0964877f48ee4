"""One HTML page of the examples' results: tables as tables, pictures inside it, nothing to load from anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from minigrad import page


def write(folder: Path, examples: dict[str, str]) -> Path:
    """Write report.html of what these examples, with a line about each, left in their folders; the page's path."""
    parts = {name: _section(folder / name, line) for name, line in examples.items()}
    path = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(page.document("minigrad: the examples", parts), encoding="utf-8")
    return path


def _section(folder: Path, line: str) -> str:
    """An example's part of the page."""
    found = _results(folder)
    if found is None:
        return page.paragraph(line) + page.paragraph("There are no results: it did not run, or failed.", "note")
    options = " ".join(f"{key}={value}" for key, value in found["options"].items() if value not in (None, False, ""))
    tables = [page.table(**table) for table in found["tables"]]
    images = [page.picture((folder / file).read_bytes(), caption) for file, caption in found["pictures"]]
    foot = page.paragraph(f"Data: {found['data']}. Options: {options}", "note")
    return "\n".join([page.paragraph(line), *tables, *images, foot])


def _results(folder: Path) -> dict[str, Any] | None:
    """What an example left, those of mlp10 brought into the form of the others."""
    if (folder / "results.json").is_file():
        found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
        return found
    if not (folder / "history.json").is_file():
        return None
    kept = json.loads((folder / "history.json").read_text(encoding="utf-8"))
    names = ("name", "steps", "accuracy", "loss", "seconds", "steps_per_second", "note")
    columns = ["network", "steps", "test accuracy", "test loss", "seconds", "steps/s", ""]
    table = {
        "title": f"{kept['data']}, 10 layers of width {kept['options']['width']}",
        "columns": columns,
        "rows": [[outcome[name] for name in names] for outcome in kept["outcomes"]],
        "note": "",
    }
    pictures = [("curves.png", "With and without batch norm")] if (folder / "curves.png").is_file() else []
    return {"data": kept["data"], "options": kept["options"], "tables": [table], "pictures": pictures}
