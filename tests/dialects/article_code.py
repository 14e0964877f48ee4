"""Reads the Python out of articles that lie beside the data, where they are there; nothing of them is kept here."""

import ast
import os
import re
from pathlib import Path

_STARTS = re.compile(r"(import |from |\(?[A-Za-z_][\w.,\s()]*[/+*-]?=[^=]|[A-Za-z_][\w.]*\()")


def folder():
    """Where the articles are: $MINIGRAD_ARTICLES, or the folder ``articles`` beside $MINIGRAD_DATA; None if nowhere."""
    data = os.environ.get("MINIGRAD_DATA")
    place = os.environ.get("MINIGRAD_ARTICLES") or (data and Path(data).parent / "articles")
    return Path(place) if place and Path(place).is_dir() else None


def articles(*words):
    """The texts of the articles that have all these words in them, by file name."""
    place = folder()
    texts = {} if place is None else {p.name: p.read_text(encoding="utf-8") for p in sorted(place.glob("*.txt"))}
    return {name: text for name, text in texts.items() if all(word in text for word in words)}


def code(text):
    """The statements among the lines of an article: each from a line that looks like one to where it is complete."""
    lines, found, i = text.split("\n"), [], 0
    while i < len(lines):
        stop = next((k for k in range(i + 1, min(i + 40, len(lines)) + 1) if _complete(lines[i:k])), None)
        if stop is not None and _STARTS.match(lines[i]):
            found.append("\n".join(lines[i:stop]))
            i = stop
        else:
            i += 1
    return found


def _complete(lines):
    try:
        return bool(ast.parse("\n".join(lines)).body)
    except SyntaxError:
        return False
