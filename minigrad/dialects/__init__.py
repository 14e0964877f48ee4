"""Other frameworks' words for the same things; each dialect is imported when it is first asked for.

``import minigrad.dialects as tf`` makes a script's ``tf.keras`` the dialect `keras`.
"""

from importlib import import_module as _import_module
from pkgutil import iter_modules as _iter_modules
from typing import Any as _Any

#: The dialects that there are.
__all__ = sorted(_module.name for _module in _iter_modules(__path__) if _module.ispkg)


def __getattr__(name: str) -> _Any:
    if name in __all__:
        return _import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; the dialects are {__all__}")


def __dir__() -> list[str]:
    return __all__
