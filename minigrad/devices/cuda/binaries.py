"""Kernels as machine code of a GPU: compiled by Numba once, and kept on disk under all that they are made of.

A file's name is a hash of the code of the kernel and of all that it calls, of what both close over, of the kinds of
arguments, the GPU's generation and the compilers' versions; as for the CPU, see `minigrad.devices.cache`.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from minigrad.devices import cache as files
from minigrad.devices.cuda.launching import signature

_PACKAGES = (
    "numba", "numba-cuda", "numpy", "llvmlite", "cuda-core", "cuda-bindings", "cuda-toolkit", "nvidia-nvvm",
    "nvidia-nvjitlink", "nvidia-cuda-nvcc",
)  # fmt: skip


class Binary(NamedTuple):
    """Machine code, and the name of the kernel in it."""

    image: bytes
    name: str


def binary_of(kernel: Any, kinds: tuple, capability: tuple[int, int]) -> Binary:
    """A kernel's machine code for arguments of these kinds: as it lies on disk, or compiled for the current GPU."""
    folder, _ = files.folder()
    stamp = kernel.stamp() if folder is not None else None
    file = None if folder is None or stamp is None else folder / f"{kernel.__name__}-{_key(stamp, kinds, capability)}"
    if file is not None and (payload := files.read(file)):
        name, _, image = payload.partition(b"\0")
        return Binary(image, name.decode())
    files.told(kernel.__name__, None if file is None else folder)
    found = kernel.compiled().compile(signature(kinds))
    made = Binary(bytes(found.library.get_cubin().code), found.entry_name)
    if file is not None:
        files.write(file, made.name.encode() + b"\0" + made.image)
    return made


def _key(stamp: str, kinds: tuple, capability: tuple[int, int]) -> str:
    text = "\n".join([stamp, repr(kinds), repr(capability), _versions()])
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.cubin"


@cache
def _versions() -> str:
    from importlib import metadata

    found = [sys.version, platform.machine()]
    for name in _PACKAGES:
        try:
            found.append(metadata.version(name))
        except metadata.PackageNotFoundError:
            found.append("")
    return " ".join(found)


@cache
def text_of_file(path: str) -> str | None:
    """A hash of a source file; None if it can't be read."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return None
