"""One HTML page of the examples' results: tables as tables, pictures inside it, nothing to load from anywhere."""

from __future__ import annotations

import base64
import json
from html import escape
from pathlib import Path
from typing import Any

from experiment import cell

_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid #8886; padding-top: 1rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; margin: 1rem 0; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid #8884; text-align: right; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; background: white; }
figcaption, .note { font-size: .9rem; opacity: .8; }
""".strip()


def write(folder: Path, examples: dict[str, str]) -> Path:
    """Write report.html of what these examples, with a line about each, left in their folders; the page's path."""
    parts = [_section(folder / name, name, line) for name, line in examples.items()]
    links = " · ".join(f'<a href="#{name}">{name}</a>' for name in examples)
    path = folder / "report.html"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>minigrad: the examples</title>\n<style>\n{_STYLE}\n</style>\n</head>\n<body>\n"
        f"<h1>minigrad: the examples</h1>\n<p>{links}</p>\n" + "\n".join(parts) + "\n</body>\n</html>\n",
        encoding="utf-8",
    )
    return path


def _section(folder: Path, name: str, line: str) -> str:
    """An example's part of the page."""
    found = _results(folder)
    head = f'<section id="{name}">\n<h2>{escape(name)}</h2>\n<p>{escape(line)}</p>\n'
    if found is None:
        return head + '<p class="note">There are no results: it did not run, or failed.</p>\n</section>'
    options = " ".join(f"{key}={value}" for key, value in found["options"].items() if value not in (None, False, ""))
    tables = [_table(table) for table in found["tables"]]
    images = [_picture(folder / file, caption) for file, caption in found["pictures"]]
    foot = f'<p class="note">Data: {escape(found["data"])}. Options: {escape(options)}</p>\n</section>'
    return head + "\n".join([*tables, *images, foot])


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


def _table(table: dict[str, Any]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table["columns"])
    rows = "\n".join("<tr>" + "".join(f"<td>{escape(cell(v))}</td>" for v in row) + "</tr>" for row in table["rows"])
    note = f'<p class="note">{escape(table["note"])}</p>' if table["note"] else ""
    return (
        f'<div class="wide"><table>\n<caption>{escape(table["title"])}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table></div>\n{note}"
    )


def _picture(path: Path, caption: str) -> str:
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    text = escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
