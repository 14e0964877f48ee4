"""Where minigrad keeps files that it can make again: the user's cache folder."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


def user_cache(*parts: str) -> Path:
    """The folder ``minigrad/<parts>`` in the user's cache, by the platform's custom. Nothing is created.

    Raises:
        OSError: if the user's home folder can't be told.
    """
    return _base(sys.platform, os.environ).joinpath("minigrad", *parts)


def _base(platform: str, environment: Mapping[str, str]) -> Path:
    if platform == "win32":
        variable, below_home = "LOCALAPPDATA", "AppData/Local"
    elif platform == "darwin":
        variable, below_home = "", "Library/Caches"
    else:
        variable, below_home = "XDG_CACHE_HOME", ".cache"
    given = environment.get(variable, "")
    if given and Path(given).is_absolute():  # the XDG specification has relative ones ignored
        return Path(given)
    try:
        return Path.home() / below_home
    except RuntimeError as error:
        raise OSError(f"the user's home folder can't be told: {error}") from error
