"""Fake plugins for tests: modules with metadata, as an installer would leave them."""

import importlib
from pathlib import Path

WORKING = """
import minigrad as mg

MINIGRAD_API = 1


@mg.elementwise("{name}::twice")
def twice(x):
    return x + x
"""


def write_plugin(
    folder: Path, name: str, source: str = WORKING, *, module: str | None = None, distribution: str | None = None
) -> str:
    """Write a plugin into a folder that is on the path, and return its module's name.

    `source` is the module's text, in which ``{name}`` stands for the plugin's name; `module` the module's name.
    """
    module = module or f"fake_{name}"
    distribution = distribution or f"fake-{name}"
    (folder / f"{module}.py").write_text(source.replace("{name}", name))
    announce(folder, name, module, distribution)
    return module


def announce(folder: Path, name: str, module: str, distribution: str) -> None:
    """Write the metadata of a distribution that announces a module as a plugin."""
    metadata = folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[minigrad.plugins]\n{name} = {module}\n")
    importlib.invalidate_caches()
