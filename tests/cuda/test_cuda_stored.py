"""The code by which kernels widen and round half types, run on the CPU: on all patterns, and where it is close."""

import ctypes
import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from minigrad import dtypes

pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'minigrad[cuda]'"
)


def functions(dtype):
    """bits → float, float → bits and double → bits, as `minigrad.devices.cuda.stored` writes them for NVVM."""
    from llvmlite import binding, ir

    from minigrad.devices.cuda import stored

    flat = stored.flat_array(dtype)
    model = (stored._BFloat16Model if dtypes.is_bfloat16(dtype) else stored._Float16Model)(None, flat.dtype)
    module = ir.Module()
    for name, kind in (("widen", stored._BITS), ("round", stored._FLOAT), ("round_double", stored._DOUBLE)):
        result = stored._FLOAT if name == "widen" else stored._BITS
        place = ir.FunctionType(ir.VoidType(), [result.as_pointer(), kind.as_pointer(), stored._LONG])
        function = ir.Function(module, place, name)
        builder = ir.IRBuilder(function.append_basic_block())
        loop, end = function.append_basic_block(), function.append_basic_block()
        start = builder.block
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(stored._LONG)
        x = builder.load(builder.gep(function.args[1], [i]))
        if name == "round_double":
            x = stored._to_odd(builder, x)
        y = model.from_data(builder, x) if name == "widen" else model.as_data(builder, x)
        builder.store(y, builder.gep(function.args[0], [i]))
        after = builder.add(i, stored._LONG(1))
        i.add_incoming(stored._LONG(0), start)
        i.add_incoming(after, loop)
        builder.cbranch(builder.icmp_unsigned("<", after, function.args[2]), loop, end)
        builder.position_at_end(end)
        builder.ret_void()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten()
    )
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()

    def caller(name, result):
        entry = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(
            engine.get_function_address(name)
        )

        def call(x):
            out = np.empty(x.size, result)
            entry(out.ctypes.data, np.ascontiguousarray(x).ctypes.data, x.size)
            assert engine
            return out

        return call

    return caller("widen", np.float32), caller("round", np.uint16), caller("round_double", np.uint16)


def same(got, want, dtype):
    """Equal bits, or both NaN."""
    nan = np.isnan(want.astype(np.float32))
    assert np.array_equal(got[~nan], want.view(np.uint16)[~nan])
    assert np.isnan(got[nan].view(dtype).astype(np.float32)).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_patterns(name):
    dtype = dtypes.as_dtype(name)
    widen, narrow, narrow_double = functions(dtype)
    bits = np.arange(2**16, dtype=np.uint16)
    exact = bits.view(dtype).astype(np.float32)
    assert np.array_equal(widen(bits), exact, equal_nan=True)
    same(narrow(exact), bits.view(dtype), dtype)
    finite = exact[np.isfinite(exact)].astype(np.float64)
    middle = (np.sort(finite)[1:] + np.sort(finite)[:-1]) / 2
    rng = np.random.default_rng(0)
    wide = np.concatenate([
        finite, middle, np.nextafter(middle, -np.inf), np.nextafter(middle, np.inf), middle * (1 + 2.0**-30),
        rng.standard_normal(10_000) * 10.0 ** rng.integers(-50, 45, 10_000),
        [np.nan, np.inf, -np.inf, 1e300, -0.0, 5e-324],
    ])  # fmt: skip
    same(narrow_double(wide), dtypes.rounded(wide, dtype), dtype)
    with np.errstate(all="ignore"):
        single = wide.astype(np.float32)
    payloads = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF], np.uint32).view(np.float32)  # NaN by their lowest bits
    single = np.concatenate([single, payloads])
    same(narrow(single), dtypes.rounded(single, dtype), dtype)


def test_numba_tells_arrays_of_the_types_apart():
    """Numba's launcher remembers kernels by a number for the type of each argument, found in C."""
    done = subprocess.run([sys.executable, "-c", _LAUNCHES], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["float32", "float16", "bfloat16", "uint16", "float16", "bfloat16"]


_LAUNCHES = """
import types, numpy as np
from numba import cuda
from numba.cuda.cudadrv import devicearray
from numba.cuda.dispatcher import CUDADispatcher
from minigrad import dtypes
from minigrad.devices.cuda import driver, stored
devicearray._driver.device_memory_size = lambda memory: 64
here = driver.NumbaDriver.__new__(driver.NumbaDriver)
here._array, here.on = devicearray.DeviceNDArray, lambda device: driver._NOTHING
block = types.SimpleNamespace(device_ctypes_pointer=None)
kernel = cuda.jit(lambda x: None)
names = ["float32", "uint16", "float16", "bfloat16"]
arrays = {name: here.flat(0, block, 0, 4, dtypes.as_dtype(name)) for name in names}
kept = [types.SimpleNamespace(name=name) for name in names]
for found in kept:
    kernel._insert([arrays[found.name]._numba_type_._code], found, cuda=True)
for name in ["float32", "float16", "bfloat16", "uint16", "float16", "bfloat16"]:
    print(super(CUDADispatcher, kernel)._cuda_call(arrays[name]).name)
"""
