"""The CUDA device besides its kernels: places, moves, memory, streams, other libraries' arrays, errors."""

import gc
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import _info
from minigrad.devices import cuda
from minigrad.devices.cuda import driver, simulator
from minigrad.errors import ArgumentError, DeviceError, OutOfMemoryError


@pytest.fixture
def two():
    """A simulator of two GPUs with 1 MiB each."""
    made = simulator.Simulator(devices=2, total=1 << 20)
    before = driver.use(made)
    yield made
    driver.use(before)


def test_places_and_moves(two):
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    assert x.to("cpu") is x
    y = x.to("cuda:1")
    assert (x.device, y.device, y.to("cuda:1") is y) == ("cpu", "cuda:1", True)
    z = (y.to("cuda") * 3).to("cpu")
    assert z.tolist() == [3.0, 6.0]
    z.sum().backward()
    assert x.grad.device == "cpu"
    assert x.grad.tolist() == [3.0, 3.0]
    w = mg.Variable([1.0], device="cuda:1", name="w")
    assert repr(w) == "<Variable w: tensor([1.], dtype=float32, device='cuda:1', requires_grad=True)>"
    assert mg.tensor(w).device == "cuda:1"
    assert mg.tensor(w, device="cpu").device == "cpu"
    w.assign(w * 2)
    w.assign([5.0])
    assert w.numpy() == [5.0]
    assert cuda.index_of("cuda") == 0
    for name in ("gpu", "cuda:", "cuda:x", 0, None):
        with pytest.raises(ArgumentError, match="names no device, expected 'cpu', 'cuda' or 'cuda:<index>'"):
            x.to(name)
    with pytest.raises(DeviceError, match="GPU 2 was asked for, there are 2"):
        x.to("cuda:2")


def test_devices_do_not_mix_but_numbers_and_arrays_join(two):
    x = mg.tensor([1.0, 2.0], device="cuda:1")
    for other in (2, 2.5, np.ones(2, np.float32), np.float32(3)):
        assert (x * other).device == (other - x).device == "cuda:1"
    assert mg.where(x > 1, x, 0).device == "cuda:1"
    assert mg.concatenate([x, x]).device == "cuda:1"
    assert x[np.array([1, 0])].tolist() == [2.0, 1.0]
    assert x[[True, False]].tolist() == [1.0]
    with pytest.raises(DeviceError, match="mg::add: x is on 'cuda:1', y on 'cpu'"):
        x + mg.tensor([1.0, 2.0])
    with pytest.raises(DeviceError, match="x is on 'cuda:1', y on 'cuda'"):
        x + x.to("cuda")


def test_a_missing_kernel_is_named():
    p = mg.Primitive("test_cuda::nowhere", override=True)
    p.infer(lambda x: x)
    p.kernel("cpu")(lambda out, x: None)
    with pytest.raises(DeviceError, match=r"test_cuda::nowhere: has no kernel for 'cuda', only for \['cpu'\]; move"):
        p(mg.tensor([1.0], device="cuda"))
    with pytest.raises(DeviceError, match="tensors on a GPU are computed with there"):
        mg.on_device("cuda")


def test_values_are_read_as_copies():
    x = mg.tensor([[1.0, 2.0]], device="cuda")
    values = x.numpy()
    assert not values.flags.writeable
    assert np.array_equal(np.asarray(x), values)
    assert x.tolist() == [[1.0, 2.0]]
    assert x[0, 1].item() == float(x[0, 1]) == 2.0
    assert bool(x[0, 0] == 1)
    with pytest.raises(ArgumentError, match="from cuda to the CPU needs a copy"):
        np.asarray(x, copy=False)


def test_random_numbers_are_the_same_on_every_device():
    for draw in (mg.random.uniform, mg.random.bits, mg.random.bernoulli):
        one, other = (draw((257,), generator=mg.random.Generator(seed=3), device=d) for d in ("cpu", "cuda"))
        assert (one.device, other.device) == ("cpu", "cuda")
        assert one.tolist() == other.tolist()


def test_memory_is_used_again_and_runs_out_with_words(two):
    x = mg.tensor(np.zeros(1 << 15, np.float32), device="cuda")  # 128 KiB
    pool = cuda.current(0).pool
    held = pool.held_bytes()
    for _ in range(20):
        x = x + 1
    assert pool.held_bytes() == held + (1 << 17) + 512  # one more buffer, and the number 1
    assert x.numpy()[0] == 20
    with pytest.raises(OutOfMemoryError, match=r"no memory for 2.0 MiB: 0\.\d MiB of 1.0 MiB are free, 0\.\d MiB"):
        mg.tensor(np.zeros(1 << 19, np.float32), device="cuda")
    assert issubclass(OutOfMemoryError, MemoryError)
    del x
    gc.collect()
    mg.tensor(np.zeros(240_000, np.float32), device="cuda")  # needs what the pool kept
    pool.release()
    assert pool.free_bytes() == 0


def test_streams_keep_memory_apart_and_wait(two, monkeypatch):
    waits = []
    monkeypatch.setattr(two, "wait", lambda *args: waits.append(args))
    stream = cuda.Stream(0)
    x = mg.tensor([1.0], device="cuda")
    default = cuda.current(0)
    with stream:
        y = x + 1
        assert cuda.current(0) is stream
        seen = []
        thread = threading.Thread(target=lambda: seen.append(cuda.current(0)))
        thread.start()
        thread.join()
    assert seen == [default]
    assert cuda.current(0) is default
    assert y._data.lease.stream is stream
    assert waits[0] == (0, stream.native, 0, default.native)  # the stream waits for x
    waits.clear()
    del x
    gc.collect()
    default.pool.free_bytes()
    assert (0, default.native, 0, stream.native) in waits  # before x's memory is used again
    stream.synchronize()
    assert y.item() == 2.0


class _Foreign:
    def __init__(self, x):
        self.x = x

    def __dlpack__(self, **options):
        return self.x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


def test_dlpack_shares_memory_both_ways():
    from minigrad.devices.cuda import dlpack

    x = mg.tensor(np.arange(12.0).reshape(3, 4), device="cuda").T
    assert x.__dlpack_device__() == (2, 0)
    held = len(dlpack._given)
    y = mg.from_dlpack(_Foreign(x))
    assert y.device == "cuda"
    assert y._data.pointer == x._data.pointer
    assert y._data.strides == x._data.strides
    assert np.array_equal((y + 0).numpy(), x.numpy())
    del y
    gc.collect()
    capsule = x.__dlpack__()
    assert len(dlpack._given) == held + 1
    del capsule  # that nobody took
    assert len(dlpack._given) == held
    with pytest.raises(BufferError, match="move it with"):
        x.__dlpack__(dl_device=(1, 0))
    flags = mg.from_dlpack(_Foreign(mg.tensor([True, False], device="cuda")))
    assert flags.tolist() == [True, False]
    with pytest.raises(DeviceError, match="device of type 8, expected the CPU or CUDA"):
        mg.from_dlpack(type("Odd", (), {"__dlpack_device__": lambda self: (8, 0)})())


def test_the_cuda_array_interface():
    x = mg.tensor(np.arange(6, dtype=np.int32).reshape(2, 3), device="cuda")
    told = x[:, ::2].__cuda_array_interface__
    assert (told["shape"], told["typestr"], told["strides"], told["version"]) == ((2, 2), "<i4", (12, 8), 3)
    assert told["data"] == (x._data.pointer, True)
    assert not hasattr(mg.tensor([1.0]), "__cuda_array_interface__")
    foreign = type("Array", (), {"__cuda_array_interface__": told})()
    y = mg.tensor(foreign)
    assert (y.device, y.tolist()) == ("cuda", [[0, 2], [3, 5]])


def test_info_says_what_there_is(two):
    assert cuda.is_available()
    assert cuda.count() == 2
    assert cuda.status().startswith("cuda: Numba's CUDA simulator, 0.0 of 0.0 GiB free; cuda:1: ")
    assert any(line.startswith("cuda       cuda: Numba's CUDA simulator") for line in _info.lines())


def test_threads_at_different_barriers_are_an_error():
    from minigrad.devices.cuda import gpu

    @cuda.kernel
    def divided(out):
        if gpu.threadIdx.x < 16:
            gpu.syncthreads()
        else:
            out[0] = 1
            gpu.syncthreads()

    with pytest.raises(RuntimeError, match="wait at different barriers"):
        divided(1, 32, cuda.empty((1,), np.dtype(np.float32)))


def test_what_lacks_a_barrier_depends_on_the_order():
    from minigrad.devices.cuda import gpu

    def neighbours(wait):
        @cuda.kernel
        def shift(out):
            shared = gpu.shared.array(32, np.float32)
            me = gpu.threadIdx.x
            shared[me] = me
            if wait:
                gpu.syncthreads()
            out[me] = shared[me - 1 if me else 31]
            gpu.syncthreads()

        results = []
        for backwards in (False, True):
            out = cuda.empty((32,), np.dtype(np.float32))
            driver.get().backwards = backwards
            try:
                shift(1, 32, out)
            finally:
                driver.get().backwards = False
            results.append(cuda.to_host(out).tolist())
        return results

    one, other = neighbours(True)
    assert one == other == [31, *range(31)]
    one, other = neighbours(False)
    assert one != other


def test_numbers_join_the_condition_of_where():
    condition = mg.tensor(np.array([True, False, True])).to("cuda")
    found = mg.where(condition, 0.5, 2)
    assert found.device == "cuda"
    np.testing.assert_array_equal(found.numpy(), np.array([0.5, 2.0, 0.5], np.float32))
