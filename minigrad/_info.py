"""What is in force on this machine, as lines of text: `python -m minigrad info`."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import numpy as np

from minigrad import _blas, plugins, primitive
from minigrad.devices import blas, blas_library, cache, cpu, cuda, threads


def lines() -> list[str]:
    """The report: a fact a line, long ones continued below, indented."""
    import numba

    kernels, why = cache.folder()
    files = list(kernels.glob("*.kernel")) if kernels else []
    held = f", {len(files)} kernels, {sum(f.stat().st_size for f in files) / 2**20:.1f} MiB" if kernels else ""
    free, limit = cpu.pool.free_bytes() / 2**20, cpu.pool.limit / 2**20
    facts = [
        ("minigrad", f"{_version()} in {Path(__file__).parent}"),
        ("python", f"{sys.version.split()[0]} on {platform.system()} {platform.machine()}"),
        ("packages", f"numpy {np.__version__}, numba {numba.__version__}"),
        ("devices", "reference (NumPy), cpu (Numba), cuda (numba.cuda)"),
        ("cuda", cuda.status()),
        ("threads", f"{threads.count()} for kernels, of {os.cpu_count()} processors"),
        ("blas", f"{_multiplier()}{blas_name()}, kernels for {blas_kernels()}; {_blas.REPORT}"),
        ("cache", f"{kernels or 'none'} ({why}{held})"),
        ("memory", f"{free:.1f} MiB free in the pool, which keeps at most {limit:.0f}"),
        ("built in", f"mg: {_listed('mg')}"),
    ]
    for plugin in plugins.load_all():
        what = f"BROKEN: {plugin.error}" if plugin.error else _listed(plugin.name)
        facts.append(("plugin", f"{plugin.name} ({plugin.module}, {plugin.distribution}): {what}"))
    return [line for head, text in facts for line in _wrapped(head, " ".join(text.split()))]


def blas_name() -> str:
    """The BLAS that NumPy was built with."""
    config = np.show_config(mode="dicts")
    found = config.get("Build Dependencies", {}).get("blas", {}) if isinstance(config, dict) else {}
    return f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()


def blas_kernels() -> str:
    """The kernel set that NumPy's own OpenBLAS picked for this processor, or ``unknown``."""
    for library in blas_library.bundled("*openblas*"):
        for symbol in ("scipy_openblas_get_corename64_", "scipy_openblas_get_corename", "openblas_get_corename"):
            try:
                function = getattr(ctypes.CDLL(str(library)), symbol)
            except (OSError, AttributeError):
                continue
            function.restype = ctypes.c_char_p
            return function().decode()
    return "unknown"


def _multiplier() -> str:
    """What kernels multiply with, where NumPy's OpenBLAS isn't what they do."""
    if blas.LIBRARY is None or blas.LIBRARY.name == blas_library.OPENBLAS:
        return ""
    return f"{blas.LIBRARY.name} in kernels (MINIGRAD_BLAS=openblas turns this off); NumPy has "


def _listed(namespace: str) -> str:
    found = [p.name.partition("::")[2] for p in primitive.primitives(namespace)]
    return f"{len(found)} primitives: {', '.join(found)}"


def _wrapped(head: str, text: str) -> list[str]:
    lines = textwrap.wrap(text, 109, break_long_words=False, break_on_hyphens=False)
    return [f"{start:<11}{line}" for start, line in zip([head, *[""] * len(lines)], lines)]


def _version() -> str:
    try:
        return metadata.version("minigrad")
    except metadata.PackageNotFoundError:
        return "(not installed)"
