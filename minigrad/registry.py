"""The registry: every primitive of the process by its name, the engine's own and the plugins'."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from minigrad.errors import ArgumentError, RegistrationError

if TYPE_CHECKING:
    from minigrad.primitive import Primitive

_registry: dict[str, Primitive] = {}
_lock = threading.Lock()


def add(primitive: Primitive, override: bool = False) -> None:
    """Register a primitive under its name.

    Raises:
        RegistrationError: if the name is malformed, or taken and not to be overridden.
    """
    name = primitive.name
    namespace, separator, short = name.partition("::")
    if not (separator and namespace and short):
        raise RegistrationError(f"Primitive: {name!r} is not of the form 'namespace::name'")
    with _lock:
        if name in _registry and not override:
            raise RegistrationError(f"Primitive: {name!r} is registered already; override=True replaces it")
        _registry[name] = primitive


def get(name: str) -> Primitive:
    """The primitive of that name.

    Raises:
        ArgumentError: if there is none; the message lists the namespace's.
    """
    try:
        return _registry[name]
    except KeyError:
        namespace = name.partition("::")[0]
        raise ArgumentError(
            f"no primitive {name!r}; {namespace!r} has {[p.name for p in primitives(namespace)]}"
        ) from None


def primitives(namespace: str | None = None) -> list[Primitive]:
    """All registered primitives, or those of a namespace, by name."""
    with _lock:
        found = [p for p in _registry.values() if not p.derived]
    return sorted((p for p in found if namespace is None or p.name.startswith(f"{namespace}::")), key=lambda p: p.name)


def registered() -> dict[str, Primitive]:
    """A copy of the registry, for `restore`."""
    with _lock:
        return dict(_registry)


def restore(registry: dict[str, Primitive]) -> None:
    """Make the registry what it was, after a plugin that failed half way; derivatives made meanwhile stay."""
    with _lock:
        _registry.clear()
        for primitive in registry.values():
            _registry.update({derived.name: derived for derived in _derivatives(primitive)})
        _registry.update(registry)


def _derivatives(primitive: Primitive) -> Iterator[Primitive]:
    """The primitives that were made for a primitive's derivatives, of every order."""
    for derived in list(getattr(primitive, "_derivatives", {}).values()):
        yield derived
        yield from _derivatives(derived)


def namespaces() -> list[str]:
    """The namespaces that have primitives."""
    return sorted({p.name.partition("::")[0] for p in primitives()})
