"""What `python -m minigrad info` says of this machine, and that nothing installed can make it fail."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest
from fake_plugins import announce, write_plugin

from minigrad import _info, plugins, primitive
from minigrad.devices.vectors import vector_bytes


def facts():
    """The report as pairs, continued lines put together again."""
    found = []
    for line in _info.lines():
        if line.startswith(" "):
            found[-1][1] += " " + line.strip()
        else:
            head, _, text = line.partition("  ")
            found.append([head, text.strip()])
    return [tuple(pair) for pair in found]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_loaded", dict(plugins._loaded))
    modules, registered = set(sys.modules), primitive.registered()
    yield tmp_path
    for name in set(sys.modules) - modules:
        if name.startswith("fake_"):
            del sys.modules[name]
    primitive.restore(registered)


def info(**variables):
    done = subprocess.run(
        [sys.executable, "-m", "minigrad", "info"],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_versions_devices_threads_and_vectors():
    report = dict(facts())
    assert report["python"].startswith(sys.version.split()[0])
    assert report["packages"] == f"numpy {np.__version__}, numba {numba.__version__}"
    assert "reference (NumPy)" in report["devices"]
    assert "cpu (Numba)" in report["devices"]
    assert report["threads"] == f"{numba.get_num_threads()} for kernels, of {os.cpu_count()} processors"
    assert report["vectors"] == f"{vector_bytes()} bytes in products and convolutions"
    assert report["minigrad"].endswith(str(Path(_info.__file__).parent))


def test_all_built_in_primitives_are_listed_in_lines_that_fit():
    words = dict(facts())["built in"]
    names = [p.name.removeprefix("mg::") for p in primitive.primitives("mg")]
    assert words == f"mg: {len(names)} primitives: {', '.join(names)}"
    assert len(names) > 50
    assert all(len(line) <= 120 for line in _info.lines() if line.startswith(("built in", " ")))


def test_plugins_and_broken_plugins_are_listed_and_the_broken_with_why(folder):
    write_plugin(folder, "sound")
    write_plugin(folder, "broken", "raise ValueError('because\\nof this')\n")
    announce(folder, "twofold", "fake_one", "fake-one")
    announce(folder, "twofold", "fake_two", "fake-two")
    listed = [text for head, text in facts() if head == "plugin"]
    assert "sound (fake_sound, fake-sound 1.0): 1 primitives: twice" in listed
    (broken,) = [text for text in listed if text.startswith("broken ")]
    why = "BROKEN: plugin 'broken': importing 'fake_broken' failed: ValueError: because of this"
    assert broken == f"broken (fake_broken, fake-broken 1.0): {why}"
    (twofold,) = [text for text in listed if text.startswith("twofold ")]
    assert "BROKEN: plugin 'twofold': the name is claimed by" in twofold
    assert any(text.startswith("norms (minigrad_norms, minigrad ") for text in listed)


def test_the_cache_and_why_there_is_none(tmp_path):
    set_by_user = info(MINIGRAD_CACHE_DIR=str(tmp_path))
    assert f"cache {tmp_path} (set by MINIGRAD_CACHE_DIR, 0 kernels, 0.0 MiB)" in " ".join(set_by_user.split())
    assert "cache      none (off: MINIGRAD_CACHE_DIR is empty)" in info(MINIGRAD_CACHE_DIR="")


def test_threads_are_what_the_environment_says():
    assert "1 for kernels" in info(NUMBA_NUM_THREADS="1")
