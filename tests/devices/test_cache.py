"""The kernel cache: it is used, falls back, and never serves code that is not what was asked for."""

import importlib.util
import os
import subprocess
import sys
import textwrap
from functools import partial

import numpy as np
import pytest

from minigrad.devices import cache, cpu, function


@pytest.fixture
def store(tmp_path, monkeypatch):
    """A kernel folder for this test alone."""
    folder = tmp_path / "kernels"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(cache, "folder", lambda: (folder, "a test's"))
    monkeypatch.setenv("MINIGRAD_QUIET", "1")
    return folder


def module(folder, name, source, **others):
    """A freshly imported module of this source, as after an edit and a restart."""
    path = folder / f"{name}.py"
    path.write_text(textwrap.dedent(source))
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    vars(loaded).update(others)
    spec.loader.exec_module(loaded)
    return loaded


def files(folder) -> set[str]:
    return {p.name for p in folder.iterdir()}


def hits(function) -> int:
    return sum(function.entry.stats.cache_hits.values())


KERNEL = """
from minigrad.devices import cpu, function

FACTOR = 2.0

@cpu.jit
def helper(x):
    return FACTOR * x

@cpu.jit
def kernel(x):
    return helper(x) + 1
"""


def test_what_was_loaded_is_linked_into_what_is_compiled(store, tmp_path):
    first = module(tmp_path, "first", KERNEL)
    assert first.kernel(3.0) == 7
    other = KERNEL.replace("helper(x) + 1", "helper(x) - helper(1.0)")
    second = module(tmp_path, "second", other)
    assert second.kernel(3.0) == 4
    helper = second.helper.compiled()
    assert sum(helper.stats.cache_hits.values()) == 1
    light = module(tmp_path, "third", other)
    assert light.kernel(3.0) == 4
    (kernel,) = light.kernel.entry.overloads.values()
    assert kernel.library._shared_module is None  # nobody has asked for it


def test_second_process_loads_what_the_first_compiled(store, tmp_path):
    first = module(tmp_path, "work", KERNEL).kernel
    assert first(3.0) == 7
    before = files(store)
    assert {n.rpartition("-")[0] for n in before} == {"helper", "kernel"}
    assert hits(first) == 0
    again = module(tmp_path, "work", KERNEL).kernel
    assert again(3.0) == 7
    assert hits(again) == 1
    assert files(store) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("helper(x) + 1", "helper(x) + 2", 8),
        ("FACTOR * x", "FACTOR * x * x", 19),
        ("FACTOR = 2.0", "FACTOR = 4.0", 13),
        ("FACTOR = 2.0", "FACTOR = 2", 7),
        ("@cpu.jit\ndef kernel", "@cpu.jit(exact=True)\ndef kernel", 7),
        ("@cpu.jit\ndef helper", "@cpu.jit(exact=True)\ndef helper", 7),
        ("@cpu.jit\ndef helper", "@cpu.jit(inline=True)\ndef helper", 7),
    ],
)
def test_an_edit_compiles_anew(store, tmp_path, old, new, expected):
    assert module(tmp_path, "work", KERNEL).kernel(3.0) == 7
    edited = module(tmp_path, "work", KERNEL.replace(old, new)).kernel
    assert edited(3.0) == expected
    assert hits(edited) == 0
    back = module(tmp_path, "work", KERNEL).kernel
    assert back(3.0) == 7
    assert hits(back) == 1


def test_a_comment_does_not(store, tmp_path):
    assert module(tmp_path, "work", KERNEL).kernel(3.0) == 7
    edited = module(tmp_path, "work", KERNEL.replace("@cpu.jit", "# remarkable\n@cpu.jit")).kernel
    assert edited(3.0) == 7
    assert hits(edited) == 1


def test_a_helper_of_another_module_counts(store, tmp_path):
    source = "from minigrad.devices import cpu\n@cpu.jit\ndef helper(x):\n    return {} * x\n"
    user = "from minigrad.devices import cpu\n@cpu.jit\ndef kernel(x):\n    return helper(x) + 1\n"
    for factor, cached in ((2, 0), (3, 0), (2, 1)):
        other = module(tmp_path, "other", source.format(factor))
        kernel = module(tmp_path, "work", user, helper=other.helper).kernel
        assert kernel(5.0) == factor * 5 + 1
        assert hits(kernel) == cached


def test_a_constant_of_another_module_counts(store, tmp_path):
    user = "from minigrad.devices import cpu\n@cpu.jit\ndef kernel(x):\n    return settings.FACTOR * x\n"
    for factor, cached in ((2.0, 0), (3.0, 0), (2.0, 1)):
        settings = module(tmp_path, "settings", f"FACTOR = {factor}\n")
        kernel = module(tmp_path, "work", user, settings=settings).kernel
        assert kernel(5.0) == factor * 5
        assert hits(kernel) == cached


def test_a_constant_array_counts(store, tmp_path):
    user = "from minigrad.devices import cpu\n@cpu.jit\ndef kernel(i):\n    return TABLE[i]\n"
    for value, cached in ((2.0, 0), (3.0, 0), (2.0, 1)):
        kernel = module(tmp_path, "work", user, TABLE=np.array([1.0, value])).kernel
        assert kernel(1) == value
        assert hits(kernel) == cached


def test_enclosing_variables_and_defaults_count(store):
    def make(factor, helper):
        def kernel(x, power=factor):
            return helper(x) * factor + power

        return cpu.jit(kernel)

    one, two = cpu.jit(lambda x: x + 1), cpu.jit(lambda x: x + 2)
    for factor, helper, cached in ((2, one, 0), (3, one, 0), (2, two, 0), (2, one, 1)):
        kernel = make(factor, helper)
        assert kernel(5) == factor * (6 if helper is one else 7) + factor
        assert hits(kernel) == cached


def test_the_fastmath_policy_counts(store, tmp_path, monkeypatch):
    assert module(tmp_path, "work", KERNEL).kernel(3.0) == 7
    monkeypatch.setattr(function, "FASTMATH", frozenset({"nsz"}))
    kernel = module(tmp_path, "work", KERNEL).kernel
    assert kernel(3.0) == 7
    assert hits(kernel) == 0


def test_argument_types_count(store, tmp_path):
    kernel = module(tmp_path, "work", KERNEL).kernel
    kernel(3.0)
    assert isinstance(kernel(3), float)
    assert kernel(np.float32(3)) == 7
    assert len(files(store)) == 6
    again = module(tmp_path, "work", KERNEL).kernel
    again(3)
    assert hits(again) == 1


def test_versions_and_processor_count(store, tmp_path, monkeypatch):
    module(tmp_path, "work", KERNEL).kernel(3.0)
    monkeypatch.setattr(cache, "_versions", lambda: "another Numba")
    kernel = module(tmp_path, "work", KERNEL).kernel
    kernel(3.0)
    assert hits(kernel) == 0
    monkeypatch.undo()
    assert sys.version in cache._versions()
    assert np.__version__ in cache._versions()


def test_source_edited_after_import_is_not_confused_with_the_code_that_runs(store, tmp_path):
    old = module(tmp_path, "work", KERNEL)
    (tmp_path / "work.py").write_text(KERNEL.replace("+ 1", "+ 2"))  # an editor saves before the first call
    assert old.kernel(3.0) == 7
    new = module(tmp_path, "work", KERNEL.replace("+ 1", "+ 2")).kernel
    assert new(3.0) == 8


def test_what_cannot_be_told_apart_is_not_stored(store):
    class Opaque:
        pass

    assert function.text_of_value(Opaque()) is None
    assert function.text_of_value((1, Opaque())) is None
    assert function.text_of_value(np.array([None])) is None
    scope = {"thing": Opaque()}
    kernel = cpu.jit(
        cpu.from_source("opaque", "def opaque(x):\n    return x if x > 0 else unused(x)\n", {"unused": abs})
    )
    assert kernel.stamp() is not None
    exec("def opaque(x):\n    thing\n    return x + 1\n", scope)
    assert cpu.jit(scope["opaque"]).stamp() is None


def test_values_that_print_alike_are_told_apart():
    values = [1, 1.0, True, "1", np.float32(1), np.float64(1), np.int32(1), (1,), (1.0,), None, 1j, b"1"]
    texts = [function.text_of_value(v) for v in values]
    assert len(set(texts)) == len(values)
    assert function.text_of_value(0.0) != function.text_of_value(-0.0)
    a = np.arange(6.0)
    arrays = [a, a.reshape(2, 3), a.astype("f4"), a + 1]
    assert len({function.text_of_value(v) for v in arrays}) == len(arrays)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "garbage", "pickle of something else"])
def test_a_damaged_file_is_compiled_anew(store, tmp_path, damage):
    import hashlib
    import pickle

    module(tmp_path, "work", KERNEL).kernel(3.0)
    whole = {p: p.read_bytes() for p in store.iterdir()}
    for path, content in whole.items():
        if damage == "truncate":
            path.write_bytes(content[:-10])
        elif damage == "flip":
            path.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
        elif damage == "empty":
            path.write_bytes(b"")
        elif damage == "garbage":
            path.write_bytes(b"\0" * 1000)
        else:
            payload = pickle.dumps({"not": "a kernel"})
            path.write_bytes(hashlib.sha256(payload).digest() + payload)
    kernel = module(tmp_path, "work", KERNEL).kernel
    assert kernel(3.0) == 7
    assert hits(kernel) == 0
    assert {p.name for p in whole} == files(store)
    again = module(tmp_path, "work", KERNEL).kernel
    assert again(3.0) == 7
    assert hits(again) == 1


def test_a_full_disk_costs_nothing_but_the_file(store, tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    kernel = module(tmp_path, "work", KERNEL).kernel
    assert kernel(3.0) == 7
    assert files(store) == set()


def test_the_wait_is_announced_once_on_stderr(store, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MINIGRAD_QUIET")
    monkeypatch.setattr(cache, "_announced", False)
    module(tmp_path, "work", KERNEL).kernel(3.0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("compiling kernels") == 1
    assert str(store) in err


def test_a_bar_counts_what_is_compiled(store, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MINIGRAD_QUIET")
    monkeypatch.setattr(cache, "_announced", True)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(cache, "_PATIENCE", 0)
    make, told = partial(module, tmp_path, "work"), []
    with cache.shown("here"), cache.shown("inside"):
        make(KERNEL).kernel(3.0)
    shown = capsys.readouterr().err
    assert "here: 1 kernels" in shown
    assert "inside" not in shown
    with cache.shown("here"):
        make(KERNEL).kernel(3.0)  # from the cache
    with cache.reported(told.append), cache.shown("here"):
        make(KERNEL).kernel(np.float32(3))
    assert told == ["kernel", "helper"]
    assert capsys.readouterr().err == ""


# The folder


def folder_with(monkeypatch, **environment):
    for name in ("MINIGRAD_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return cache.folder.__wrapped__()


def test_folder_of_the_users_choice(monkeypatch, tmp_path):
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(tmp_path / "a" / "b"))
    assert path == tmp_path / "a" / "b"
    assert "MINIGRAD_CACHE_DIR" in why
    assert path.stat().st_mode & 0o777 == 0o700
    assert list(path.iterdir()) == []


def test_default_folder(monkeypatch, tmp_path):
    path, why = folder_with(monkeypatch, XDG_CACHE_HOME=str(tmp_path))
    assert path == tmp_path / "minigrad" / "kernels"
    assert "user" in why


def test_empty_turns_it_off(monkeypatch):
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR="")
    assert path is None
    assert "empty" in why


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722])
def test_a_folder_that_others_can_write_to_is_refused(monkeypatch, tmp_path, mode):
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(mode)
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(shared))
    assert path is None
    assert "others" in why


def test_a_folder_of_somebody_else_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(tmp_path))
    assert path is None
    assert "others" in why


def test_where_nothing_can_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(tmp_path / "file" / "below"))
    assert path is None
    assert "not writable" in why


@pytest.mark.skipif(getattr(os, "getuid", lambda: 0)() == 0, reason="root writes everywhere")
def test_a_read_only_folder(monkeypatch, tmp_path):
    (tmp_path / "kernels").mkdir(mode=0o500)
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(tmp_path / "kernels"))
    assert path is None
    assert "not writable" in why


def test_a_folder_that_turns_read_only(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache.tempfile, "TemporaryFile", refuse)
    path, why = folder_with(monkeypatch, MINIGRAD_CACHE_DIR=str(tmp_path))
    assert path is None
    assert "Permission denied" in why


def test_kernels_run_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "folder", lambda: (None, "off"))
    assert module(tmp_path, "work", KERNEL).kernel(3.0) == 7


PROCESS = """
import sys, numpy as np, minigrad as mg
a = mg.tensor(np.arange(6, dtype="float64").reshape(2, 3))
print(((a * 0.125 + a) * 0.5).numpy().sum(), flush=True)
import minigrad.devices.cpu_loops as loops
used = [k.body.compiled() for k in loops._shared.values()]
print(sum(sum(kernel.stats.cache_hits.values()) for kernel in used))
"""


def test_two_processes_compile_at_once_and_a_third_loads(tmp_path):
    folder = tmp_path / "kernels"
    env = {**os.environ, "MINIGRAD_CACHE_DIR": str(folder), "MINIGRAD_QUIET": ""}
    start = [sys.executable, "-c", PROCESS]
    both = [
        subprocess.Popen(start, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    for process in both:
        out, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
        assert out.splitlines()[0] == "8.4375"
    kept = files(folder)
    assert kept
    assert all(name.endswith(".kernel") for name in kept)  # no half-written file stays behind
    third = subprocess.run(start, env=env, capture_output=True, text=True, timeout=300)
    assert third.stdout.splitlines() == ["8.4375", str(len(kept))]
    assert third.stderr == ""
    assert files(folder) == kept
