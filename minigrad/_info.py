"""What is in force on this machine, as lines of text: `python -m minigrad info`."""

from __future__ import annotations

import os
import platform
import sys
import textwrap
from importlib import metadata
from pathlib import Path

import numpy as np

from minigrad import plugins, primitive
from minigrad.devices import cache, cpu, cuda, threads
from minigrad.devices.vectors import vector_bytes


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
        ("vectors", f"{vector_bytes()} bytes in products and convolutions"),
        ("cache", f"{kernels or 'none'} ({why}{held})"),
        ("memory", f"{free:.1f} MiB free in the pool, which keeps at most {limit:.0f}"),
        ("built in", f"mg: {_listed('mg')}"),
    ]
    for plugin in plugins.load_all():
        what = f"BROKEN: {plugin.error}" if plugin.error else _listed(plugin.name)
        facts.append(("plugin", f"{plugin.name} ({plugin.module}, {plugin.distribution}): {what}"))
    return [line for head, text in facts for line in _wrapped(head, " ".join(text.split()))]


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
