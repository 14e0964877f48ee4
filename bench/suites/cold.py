"""What it takes before the first number: installing, importing, and the first training step of a fresh process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from bench.case import Case

TITLE = "before the first number: size of the installation with all that it needs, import, the first training step"

_MODULES = {"minigrad": "minigrad, minigrad_norms", "torch": "torch", "jax": "jax"}
_SIZE = "from bench.suites import cold; print(cold.installed({peer!r}))"
_IMPORT = "import time; start = time.perf_counter(); import {modules}; print(time.perf_counter() - start)"
_STEP = (
    "import os, time; from bench.suites import train; train.{peer}_step()();"
    " print(time.monotonic() - float(os.environ['BENCH_START']))"
)


def cases(quick: bool) -> list[Case]:
    """Sizes and times, all in fresh processes."""
    sizes = {peer: _SIZE.format(peer=peer) for peer in _MODULES}
    return [Case("installed", commands=sizes, unit="MiB", repeat=1), *starts(quick)]


def starts(quick: bool) -> list[Case]:
    """The rows of importing and of first steps."""
    imports = {peer: _IMPORT.format(modules=modules) for peer, modules in _MODULES.items()}
    rows = [Case("import", commands=imports, below=0.4, repeat=1 if quick else 7)]
    if not quick:
        steps = {peer: _STEP.format(peer=peer) for peer in _MODULES}
        first = "process start to the end of the first step"
        rows.append(Case(f"{first}, kernels cached", commands=steps, cache="kept", below=1.5, repeat=7))
        cold = {"minigrad": steps["minigrad"]}
        rows.append(Case(f"{first}, no kernel cached", commands=cold, cache="fresh", below=25.0, repeat=3))
    return rows


def installed(name: str) -> float:
    """MiB of a distribution and of all that it requires."""
    return sum(_size(each) for each in needed(name)) / 2**20


def needed(name: str) -> list[str]:
    """A distribution and those that it requires, extras left out, as far as they are installed."""
    found: dict[str, None] = {}
    waiting = [name]
    while waiting:
        each = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if each in found:
            continue
        try:
            requirements = distribution(each).requires or []
        except PackageNotFoundError:  # for another system or Python
            continue
        found[each] = None
        waiting += [re.split(r"[^\w.-]", r, maxsplit=1)[0] for r in requirements if "extra ==" not in r]
    return list(found)


def _size(name: str) -> int:
    """Bytes of the files of a distribution; of one that is installed in place, those of its packages."""
    files = [Path(str(f.locate())) for f in distribution(name).files or []]
    if name == "minigrad" and not any(f.name == "tensor.py" for f in files):
        files = list(_sources("minigrad", "minigrad_norms"))
    return sum(f.stat().st_size for f in files if f.suffix != ".pyc" and f.exists())


def _sources(*packages: str) -> Iterator[Path]:
    for package in packages:
        spec = find_spec(package)
        assert spec is not None
        for folder in spec.submodule_search_locations or []:
            yield from (f for f in Path(folder).rglob("*") if f.is_file())
