"""What the device asks of NVIDIA's driver, by functions that stand for it over the host's memory: no GPU, no Numba."""

import ctypes
import gc
import struct
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fake_api import CUresult, FakeDriver, told

import minigrad as mg
from minigrad.devices import cuda
from minigrad.devices.cuda import driver, launching
from minigrad.devices.cuda.kernels import kernel
from minigrad.errors import DeviceError, OutOfMemoryError


@pytest.fixture
def fake():
    made = FakeDriver()
    before = driver.use(made)
    yield made
    gc.collect()
    driver.use(before)


@pytest.fixture
def nothing():
    def nothing(out, x, n, k, flag, lengths, steps):
        """A kernel of all kinds of arguments; it is not run."""

    return kernel(nothing)


def launches(fake):
    return [call[1:] for call in fake._api.calls if call[0] == "cuLaunchKernel"]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int64", "bool"])
def test_values_go_there_and_back(fake, dtype):
    values = (np.arange(24) % 7).astype(dtype).reshape(2, 3, 4)
    assert (mg.tensor(values, device="cuda").numpy() == values).all()
    assert mg.tensor(values[:0], device="cuda").numpy().shape == (0, 3, 4)
    back = mg.tensor(values, device="cuda")[1:].numpy()
    np.testing.assert_array_equal(back, values[1:])


def test_memory_goes_back_to_the_pool_and_from_there_to_the_driver(fake):
    x = mg.tensor(np.ones(1000, np.float32), device="cuda")
    (address,) = fake._api.blocks
    assert x._data.pointer == address
    del x
    assert list(fake._api.blocks) == [address]
    y = mg.tensor(np.zeros(1010, np.float32), device="cuda")  # the same class of sizes
    assert y._data.pointer == address
    assert len(fake._api.blocks) == 1
    del y
    cuda.current(0).pool.release()
    assert not fake._api.blocks


def test_memory_in_garbage_with_cycles_goes_back_once(fake):
    """Python calls all finalizers of such garbage, those of objects too that others of it are about to keep."""
    stream = cuda.Stream(0)

    class Knot:
        def __init__(self, stream):
            with stream:
                self.x, self.me = mg.tensor(np.ones(1000, np.float32), device="cuda"), self

    Knot(stream)
    gc.collect()
    (address,) = fake._api.blocks
    with stream:
        y = mg.tensor(np.zeros(1000, np.float32), device="cuda")
    assert y._data.pointer == address
    assert (y.numpy() == 0).all()
    assert "cuMemFree" not in [call[0] for call in fake._api.calls]
    knot = Knot(stream)
    knot.y, knot.stream = y, stream
    with stream:
        mg.tensor(np.zeros(5000, np.float32), device="cuda")  # which is in the pool now
    del knot, y, stream  # the stream goes with them
    gc.collect()
    assert not fake._api.blocks
    assert [call[0] for call in fake._api.calls].count("cuMemFree") == 3


def test_streams_that_end_with_what_used_them(fake):
    x = mg.tensor(np.ones(1000, np.float32), device="cuda")
    stream = cuda.Stream(0)
    with stream:
        x.numpy()
    knot = [x, stream]
    knot.append(knot)
    del knot, x, stream
    gc.collect()
    y = mg.tensor(np.ones(1000, np.float32), device="cuda")
    assert (y.numpy() == 1).all()
    waits = [
        call for call in fake._api.calls if call[0] in ("cuStreamWaitEvent", "cuCtxSynchronize", "cuStreamDestroy")
    ]
    assert waits[-1][0] != "cuStreamWaitEvent"
    assert None not in [argument for call in fake._api.calls for argument in call if call[0] != "cuLaunchKernel"]


def test_full_memory_is_told_once_the_pool_has_given_what_it_has(fake):
    half = np.zeros(150_000, np.float32)
    x = mg.tensor(half, device="cuda")
    del x
    y = mg.tensor(np.zeros(200_000, np.float32), device="cuda")  # has room only without the other
    with pytest.raises(OutOfMemoryError, match=r"cuda: no memory for 0.6 MiB: 0.2 MiB of 1.0 MiB are free"):
        mg.tensor(half, device="cuda")
    del y
    fake._api.cuMemAlloc = lambda size: (CUresult.CUDA_ERROR_ILLEGAL_ADDRESS, None)
    with pytest.raises(DeviceError, match="allocating 1048576 bytes failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        mg.tensor(np.zeros(1 << 18, np.float32), device="cuda")


def test_what_a_launch_is_given(fake, nothing):
    x, out = (mg.tensor(np.zeros(5, dtype), device="cuda")._data for dtype in ("float32", "float64"))
    nothing((2, 3), 64, out, x, np.uint32(7), 1.5, True, (np.int32(4), np.int32(5)), (), shared=48)
    nothing(1, 32, out, x, np.uint32(8), 2.5, False, (np.int32(6), np.int32(7)), ())
    calls = launches(fake)
    assert len(fake.kinds) == 1  # one kernel for both
    assert [call[:9] for call in calls] == [(0, 2, 3, 1, 64, 1, 1, 48, 0), (0, 1, 1, 1, 32, 1, 1, 0, 0)]
    assert all(call[9] is None for call in calls)  # arguments are in one piece
    array = (0, 0, 5, 4, x.pointer, 5, 4)
    ((made, kinds),) = fake.kinds.values()
    assert made is nothing
    assert told(calls[1][10], kinds) == (0, 0, 5, 8, out.pointer, 5, 8, *array, 8, 2.5, False, 6, 7)


def test_other_kinds_of_arguments_are_other_kernels(fake, nothing):
    x, y = (mg.tensor(np.zeros(5, dtype), device="cuda")._data for dtype in ("float32", "float64"))
    rest = 1, 1.0, True, (1, 2), ()
    nothing(1, 1, x, x, *rest)
    nothing(1, 1, x, y, *rest)
    nothing(1, 1, x, x, np.int32(1), *rest[1:])
    nothing(1, 1, x, x, 1, 1.0, True, (1, 2, 3), ())
    nothing(1, 1, x, x, *rest)
    assert len(fake.kinds) == 4
    assert len({kinds for _, kinds in fake.kinds.values()}) == 4
    nothing(0, 1, x, x, *rest)  # no blocks
    assert len(launches(fake)) == 5


def test_what_kernels_do_not_take(fake, nothing):
    x = mg.tensor(np.zeros(5, np.float32), device="cuda")._data
    for bad, name in (("text", "str"), (np.zeros(3), "ndarray"), (None, "NoneType"), (np.float16(1), "float16")):
        with pytest.raises(TypeError, match=f"kernels take flat arrays, numbers and tuples of numbers, not {name}"):
            nothing(1, 1, x, x, bad, 1.0, True, (), ())
    with pytest.raises(struct.error, match="out of range"):
        nothing(1, 1, x, x, 1 << 70, 1.0, True, (), ())


def test_layouts_are_those_of_c():
    """Of a structure with the same members, as ctypes lays it out."""
    kinds = (np.uint8, np.dtype("float32"), float, np.float32, bool, np.int16, (np.int32, (np.uint64, bool)), int)
    types = [ctypes.c_uint8, *[ctypes.c_uint64] * 7, ctypes.c_double, ctypes.c_float, ctypes.c_bool, ctypes.c_int16]
    types += [ctypes.c_int32, ctypes.c_uint64, ctypes.c_bool, ctypes.c_int64]
    members = type("Members", (ctypes.Structure,), {"_fields_": [(f"m{i}", t) for i, t in enumerate(types)]})
    form = "@" + launching.layout(kinds)
    numbers = [1, *range(2, 9), 0.5, 0.25, True, -3, -4, 2**63, True, -5]
    packed = struct.pack(form, *numbers)
    found = members.from_buffer_copy(packed.ljust(ctypes.sizeof(members), b"\0"))
    assert [getattr(found, f"m{i}") for i in range(len(types))] == numbers


def test_launches_of_threads_do_not_share_memory_for_arguments(fake, nothing):
    """A launch that is under way in one thread keeps its arguments, whatever others launch meanwhile."""
    x = mg.tensor(np.zeros(5, np.float32), device="cuda")._data
    nothing(1, 1, x, x, 0, 1.0, True, (), ())
    ((_, kinds),) = fake.kinds.values()
    entry = nothing.entries[fake, 0, kinds]
    seen = []

    def slow(*call):
        before = told(call[-1], kinds)
        if len(seen) < 3:  # as another thread would while the driver has let go of Python's lock
            seen.append(before)
            nothing(1, 1, x, x, 100 + len(seen), 1.0, True, (), ())
        assert told(call[-1], kinds) == before
        return (0,)

    entry._launch = slow
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: nothing(1, 1, x, x, i, 1.0, True, (), ()), range(50)))
    assert len(seen) == 3


def test_a_launch_that_fails_names_the_kernel(fake, nothing):
    x = mg.tensor(np.zeros(5, np.float32), device="cuda")._data
    nothing(1, 1, x, x, 0, 1.0, True, (), ())
    fake._api.fails["cuLaunchKernel"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(DeviceError, match="cuda: launching nothing failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        nothing(1, 1, x, x, 0, 1.0, True, (), ())
    fake._api.fails["cuStreamSynchronize"] = CUresult.CUDA_ERROR_ILLEGAL_ADDRESS
    with pytest.raises(DeviceError, match="cuda: cuStreamSynchronize failed: CUDA_ERROR_ILLEGAL_ADDRESS"):
        cuda.current(0).synchronize()


def test_streams(fake):
    stream = cuda.Stream(0)
    x = mg.tensor(np.ones(5, np.float32), device="cuda")
    with stream:
        x.numpy()
    handle = stream.native.handle
    names = [call[0] for call in fake._api.calls]
    order = ["cuEventCreate", "cuEventRecord", "cuStreamWaitEvent", "cuEventDestroy", "cuMemcpyDtoHAsync"]
    assert [name for name in names if name in order] == order
    (record,) = [call for call in fake._api.calls if call[0] == "cuEventRecord"]
    (wait,) = [call for call in fake._api.calls if call[0] == "cuStreamWaitEvent"]
    assert (record[2], wait[1], wait[2]) == (0, handle, record[1])
    assert (cuda.handle_of(stream), cuda.handle_of(cuda.current(0))) == (handle, 1)
    del stream, x
    cuda.current(0).pool.release()
    gc.collect()
    assert ("cuStreamDestroy", handle) in fake._api.calls
