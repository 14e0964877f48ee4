"""The plugin host: packages that announce themselves in the entry-point group ``minigrad.plugins``.

An entry point's name is the namespace of the plugin's primitives, its value the module to import. The module states
the host's version that it was written for, ``MINIGRAD_API = 1``. Nothing is imported before it is asked for, and a
plugin that fails to import leaves no trace but its error in the report.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Collection
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from minigrad import primitive
from minigrad.errors import ArgumentError, PluginError
from minigrad.primitive import Primitive

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "minigrad.plugins"

#: The version of what plugins build on. It rises when a plugin would have to change.
API = 1

_lock = threading.RLock()
_loaded: dict[str, ModuleType] = {}


@dataclass(frozen=True)
class Plugin:
    """What is known of a plugin: its namespace, module, distribution, and its primitives or why it has none."""

    name: str
    module: str
    distribution: str
    primitives: tuple[str, ...] = ()
    error: PluginError | None = None


def names() -> list[str]:
    """The namespaces of all plugins that are installed; none is imported for this.

    Example:
        >>> import minigrad as mg
        >>> "norms" in mg.plugins.names()
        True
    """
    return sorted(_found())


def load(name: str) -> ModuleType:
    """Import a plugin, once, and return its module. One that failed is tried again when it is asked for again.

    Raises:
        ArgumentError: if no plugin of that name is installed.
        PluginError: if it fails to import, was written for another version, calls itself ``mg``, or if two
            distributions announce different modules under that name; an error of its own is the cause.

    Example:
        >>> import minigrad as mg
        >>> mg.plugins.load("norms").__name__
        'minigrad_norms'
    """
    with _lock:
        if name not in _loaded:
            found = _found()
            if name not in found:
                raise ArgumentError(f"plugins.load: {name!r} is not installed, there are {sorted(found)}")
            _loaded[name] = _import(name, found[name])
        return _loaded[name]


def find(name: str) -> Primitive:
    """The primitive ``namespace::name``; its plugin is loaded if it has to be.

    Raises:
        ArgumentError: if there is no such primitive.
        PluginError: if the namespace is that of a plugin that can't be loaded.

    Example:
        >>> import minigrad as mg
        >>> mg.plugins.find("mg::exp")
        <Primitive mg::exp(x)>
    """
    if name not in primitive.registered():
        namespace = name.partition("::")[0]
        if namespace in _found():
            load(namespace)
    return primitive.get(name)


def report(name: str) -> Plugin:
    """Load a plugin and say what came of it; a broken one is a report with an error.

    Raises:
        ArgumentError: if no plugin of that name is installed.
    """
    entries = _found().get(name, [])
    module = " and ".join(e.value for e in entries)
    distribution = " and ".join(map(_distribution, entries))
    try:
        load(name)
    except PluginError as error:
        return Plugin(name, module, distribution, error=error)
    return Plugin(name, module, distribution, tuple(p.name for p in primitive.primitives(name)))


def load_all() -> list[Plugin]:
    """Load every plugin that is installed, and report on each."""
    return [report(name) for name in names()]


def _found() -> dict[str, list[EntryPoint]]:
    """The entry points by name: one each, or several where distributions disagree on the module."""
    from importlib.metadata import entry_points  # takes longer to import than most of this package

    found: dict[str, list[EntryPoint]] = {}
    for entry in entry_points(group=GROUP):
        others = found.setdefault(entry.name, [])
        if entry.value not in [e.value for e in others]:
            others.append(entry)
    return found


def _import(name: str, entries: list[EntryPoint]) -> ModuleType:
    if name == "mg":
        raise PluginError(f"plugin 'mg' of {_distribution(entries[0])}: that namespace is minigrad's own")
    if len(entries) > 1:
        claims = " and ".join(f"{_distribution(e)} ({e.value})" for e in entries)
        raise PluginError(f"plugin {name!r}: the name is claimed by {claims}; uninstall all but one")
    target = entries[0].value
    package, modules, primitives = target.partition(".")[0], set(sys.modules), primitive.registered()
    try:
        module = importlib.import_module(target)
    except BaseException as error:
        _undo(package, modules, primitives)
        if not isinstance(error, (Exception, SystemExit)):
            raise
        words = f"plugin {name!r}: importing {target!r} failed: {type(error).__name__}: {error}"
        raise PluginError(words) from error
    stated = getattr(module, "MINIGRAD_API", None)
    if stated != API:
        _undo(package, modules, primitives)
        version = "no MINIGRAD_API" if stated is None else f"MINIGRAD_API = {stated!r}"
        raise PluginError(f"plugin {name!r}: {target} states {version}, this minigrad has version {API}")
    return module


def _undo(package: str, modules: Collection[str], primitives: dict[str, Primitive]) -> None:
    """Forget the package's modules that were imported since, and the primitives registered since.

    Other packages that it imported on the way stay imported, and so do their primitives: Python would not run these
    modules again for whoever needs them next.
    """
    fresh = [m for m in sys.modules if m not in modules]
    for m in fresh:
        if m == package or m.startswith(f"{package}."):
            del sys.modules[m]
    others = [sys.modules[m] for m in fresh if m in sys.modules]
    values = [v for m in others for v in list(getattr(m, "__dict__", {}).values())]
    kept = {v.name: v for v in values if issubclass(type(v), Primitive)}
    primitive.restore({**primitives, **kept})


def _distribution(entry: EntryPoint) -> str:
    metadata: Any = (entry.dist and entry.dist.metadata) or {}
    return f"{metadata.get('Name') or 'unknown distribution'} {metadata.get('Version') or ''}".strip()
