"""Where minigrad keeps files that it can make again: the user's cache folder."""

import os
import sys
from pathlib import Path


def user_cache(*parts: str) -> Path:
    """The folder ``minigrad/<parts>`` in the user's cache, by the platform's custom. Nothing is created."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "darwin":
        base = home / "Library" / "Caches"
    elif os.name == "nt":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or home / ".cache")
    return base.joinpath("minigrad", *parts)
