"""config: the settings that scripts read and set, of which floatX matters here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from minigrad.errors import ArgumentError

_FLOATS = ("float32", "float64")
#: Settings of machinery that does not exist here: kept for scripts that set or read them, and nothing else.
_KEPT = {
    "allow_gc": True,
    "cast_policy": "custom",
    "compute_test_value": "off",
    "cxx": "",
    "device": "cpu",
    "exception_verbosity": "low",
    "force_device": False,
    "linker": "cvm",
    "mode": "FAST_RUN",
    "openmp": False,
    "optimizer": "fast_run",
    "optimizer_including": "",
    "optimizer_excluding": "",
    "profile": False,
    "scan.allow_gc": False,
    "traceback.limit": 8,
    "warn_float64": "ignore",
}


class Config:
    """The settings, as attributes.

    Attributes:
        floatX: the dtype of ``T.matrix()`` and its like: 'float64' as in Theano, or 'float32', which is quicker. Set it
            here, or in the environment variable THEANO_FLAGS as ``floatX=float32``.
        mode: as the argument of `function`, where that is None: 'FAST_RUN' or 'FAST_COMPILE'.
        on_unused_input: what `function` does about inputs that nothing needs: 'raise', 'warn' or 'ignore'.

    Other settings of Theano's (device, optimizer ...) can be set and read, and change nothing.

    Raises:
        ArgumentError: for a value that a setting does not take.
        AttributeError: for a name that Theano has no setting of.

    Example:
        >>> from minigrad.dialects import theano
        >>> with theano.config.change_flags(floatX="float32"):
        ...     theano.tensor.matrix().dtype
        'float32'
    """

    floatX: str
    mode: str
    on_unused_input: str

    def __init__(self, flags: str = ""):
        self.__dict__.update(_KEPT, floatX="float64", on_unused_input="raise")
        for flag in flags.split(","):
            name, separator, value = flag.partition("=")
            if separator and name.strip() in ("floatX", "on_unused_input"):
                setattr(self, name.strip(), value.strip())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.__dict__:
            raise AttributeError(f"config: there is no setting {name!r}")
        allowed = {"floatX": _FLOATS, "on_unused_input": ("raise", "warn", "ignore"), "compute_test_value": ("off",)}
        if value not in allowed.get(name, (value,)):
            raise ArgumentError(f"config: {name} is {value!r}, expected one of {allowed[name]}")
        self.__dict__[name] = value

    @contextmanager
    def change_flags(self, **settings: Any) -> Iterator[None]:
        """These settings inside a ``with`` block, or a function decorated with it, and the former ones after it."""
        before = {name: getattr(self, name) for name in settings}
        try:
            for name, value in settings.items():
                setattr(self, name, value)
            yield
        finally:
            self.__dict__.update(before)


config = Config(os.environ.get("THEANO_FLAGS", ""))
