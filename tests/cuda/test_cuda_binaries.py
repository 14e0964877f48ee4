"""Machine code on disk, without a GPU: what a kernel's name in the cache is made of, and what is done with the file."""

import types

import numpy as np
import pytest

from minigrad.devices import cache, cuda
from minigrad.devices.cuda import binaries, gpu, vector
from minigrad.devices.cuda.kernels import kernel

KINDS = (np.dtype("float32"), int)


def made(helper, number):
    @cuda.jit
    def twice(x):
        return helper(x) * number

    def double(out, n):
        if gpu.grid(1) < n:
            out[gpu.grid(1)] = twice(out[gpu.grid(1)])

    return kernel(double)


@cuda.jit
def plus(x):
    return x + 1


@cuda.jit
def minus(x):
    return x - 1


def test_stamps_tell_all_that_a_kernel_is_made_of():
    assert made(plus, 2).stamp() == made(plus, 2).stamp()
    others = [made(plus, 2), made(minus, 2), made(plus, 3), made(plus, 2.0), made(plus, np.float32(2)), kernel(other)]
    assert len({k.stamp() for k in others}) == len(others)


def other(out, n):
    out[0] = n


def test_stamps_of_what_is_written_for_llvm():
    stamps = {f.stamp() for f in (vector.load(2), vector.load(4), vector.store(4), vector.pointed(np.dtype("f4")))}
    assert len(stamps) == 4
    assert None not in stamps
    assert vector.load(2).stamp() in stamps
    assert vector.pointed(np.dtype("f8")).stamp() not in stamps


def test_what_can_not_be_told_apart_is_not_kept():
    assert made(plus, object()).stamp() is None


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """A kernel that notes its compilations, in a cache of its own."""
    monkeypatch.setattr(cache, "folder", lambda: (tmp_path, "a test's"))
    monkeypatch.setattr(binaries, "signature", lambda kinds: kinds)
    counted = []

    def compile_(signature):
        counted.append(signature)
        image = b"\x7fELF\0" + repr(signature).encode()
        library = types.SimpleNamespace(get_cubin=lambda: types.SimpleNamespace(code=image))
        return types.SimpleNamespace(library=library, entry_name="name_of_it")

    def fresh(number=2):
        found = made(plus, number)
        found.compiled = lambda: types.SimpleNamespace(compile=compile_)
        return found

    return types.SimpleNamespace(fresh=fresh, counted=counted, folder=tmp_path)


def test_another_process_loads_what_one_compiled(compiled, capsys):
    first = binaries.binary_of(compiled.fresh(), KINDS, (9, 0))
    assert first == (b"\x7fELF\0" + repr(KINDS).encode(), "name_of_it")
    assert binaries.binary_of(compiled.fresh(), KINDS, (9, 0)) == first
    assert len(compiled.counted) == 1
    for kernel_, kinds, capability in [
        (compiled.fresh(3), KINDS, (9, 0)), (compiled.fresh(), KINDS[::-1], (9, 0)), (compiled.fresh(), KINDS, (8, 0)),
    ]:  # fmt: skip
        binaries.binary_of(kernel_, kinds, capability)
    assert len(compiled.counted) == 4
    assert len(list(compiled.folder.iterdir())) == 4


def test_files_that_are_not_whole_are_made_anew(compiled):
    first = binaries.binary_of(compiled.fresh(), KINDS, (9, 0))
    (file,) = compiled.folder.iterdir()
    file.write_bytes(file.read_bytes()[:-1])
    assert binaries.binary_of(compiled.fresh(), KINDS, (9, 0)) == first
    assert binaries.binary_of(compiled.fresh(), KINDS, (9, 0)) == first
    assert len(compiled.counted) == 2


def test_without_a_folder_or_a_stamp_nothing_is_kept(compiled, monkeypatch):
    binaries.binary_of(compiled.fresh(object()), KINDS, (9, 0))
    monkeypatch.setattr(cache, "folder", lambda: (None, "off"))
    binaries.binary_of(compiled.fresh(), KINDS, (9, 0))
    assert len(compiled.counted) == 2
    assert not list(compiled.folder.iterdir())
