"""HTML pages that stand alone: tables as tables, pictures inside, nothing to load from anywhere."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

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
th.text, td.text { text-align: left; } td:not(.text) { white-space: nowrap; } code { font-size: .85em; }
td.good { background: #2a25; } td.bad { background: #d325; } td.open { background: #da15; }
""".strip()


def document(title: str, sections: dict[str, str], opening: str = "", width: str = "66rem") -> str:
    """A page of sections, each with its heading, and links to them below the title and the `opening`, which is HTML."""
    links = " · ".join(f'<a href="#{escape(_id(name), quote=True)}">{escape(name)}</a>' for name in sections)
    body = "\n".join(
        f'<section id="{escape(_id(name), quote=True)}">\n<h2>{escape(name)}</h2>\n{html}\n</section>'
        for name, html in sections.items()
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_STYLE.replace('66rem', width)}\n</style>\n</head>\n<body>\n"
        f"<h1>{escape(title)}</h1>\n{opening}<p>{links}</p>\n{body}\n</body>\n</html>\n"
    )


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[Any]], note: str = "") -> str:
    """A table. A value is text, a number, None for nothing, or a `Cell`."""
    rows = list(rows)
    heads = [Cell(column, _kind(row)) for column, row in zip(columns, rows[0])] if rows else columns
    head = "".join(_cell("th", column) for column in heads)
    body = "\n".join("<tr>" + "".join(_cell("td", value) for value in row) + "</tr>" for row in rows)
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return (
        f'<div class="wide"><table>\n<caption>{escape(title)}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>\n{below}"
    )


class Cell:
    """A value, of a kind that has a colour, ``"good"``, ``"bad"``, ``"open"``, or stands to the left, ``"text"``.

    The title shows when the cell is pointed at.
    """

    def __init__(self, value: Any, kind: str = "", title: str = ""):
        self.value, self.kind, self.title = value, kind, title


def picture(png: bytes, caption: str) -> str:
    """A picture, inside the page."""
    data = base64.b64encode(png).decode("ascii")
    text = escape(caption, quote=True)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of text; `kind` is ``"note"`` for small print."""
    return f"<p{f' class={kind!r}' if kind else ''}>{escape(text)}</p>"


def cell(value: Any) -> str:
    """A value as a table shows it: four decimals up to 1, four digits up to 1000, and nothing for None."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.4f}" if abs(value) <= 1 else f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"


def _kind(value: Any) -> str:
    """Of the head of a column with such values: those of text stand to the left."""
    return "text" if isinstance(value, Cell) and value.kind == "text" else ""


def _cell(tag: str, value: Any) -> str:
    if not isinstance(value, Cell):
        return f"<{tag}>{escape(cell(value))}</{tag}>"
    kind = f' class="{value.kind}"' if value.kind else ""
    title = f' title="{escape(value.title, quote=True)}"' if value.title else ""
    return f"<{tag}{kind}{title}>{escape(cell(value.value))}</{tag}>"


def _id(name: str) -> str:
    return name.replace(" ", "-")
