"""The code by which kernels widen and round half types, run on the CPU: on all patterns, and where it is close."""

import ctypes
import importlib.util

import numpy as np
import pytest

from minigrad import dtypes

pytest.importorskip("ml_dtypes")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None, reason="needs numba-cuda: pip install 'minigrad[cuda]'"
)


def functions(dtype):
    """bits → float, float → bits, double → bits, and of pairs, as `minigrad.devices.cuda.stored` writes them."""
    from llvmlite import binding, ir

    from minigrad.devices.cuda import stored

    half, word, single, double = stored._BITS, stored._WORD, stored._FLOAT, stored._DOUBLE
    flat = stored.flat_array(dtype)
    model = (stored._BFloat16Model if dtypes.is_bfloat16(dtype) else stored._Float16Model)(None, flat.dtype)
    module = ir.Module()

    def loop(name, given, made, body):
        """A function of (out, x, n) that runs `body` for each number below n."""
        form = ir.FunctionType(ir.VoidType(), [made.as_pointer(), given.as_pointer(), stored._LONG])
        function = ir.Function(module, form, name)
        builder = ir.IRBuilder(function.append_basic_block())
        start, inside, end = builder.block, function.append_basic_block(), function.append_basic_block()
        builder.branch(inside)
        builder.position_at_end(inside)
        i = builder.phi(stored._LONG)
        twice = builder.add(i, i)

        def place(array, index, step=0):
            return builder.gep(function.args[array], [builder.add(index, stored._LONG(step))])

        body(builder, place, i, twice)
        after = builder.add(i, stored._LONG(1))
        i.add_incoming(stored._LONG(0), start)
        i.add_incoming(after, inside)
        builder.cbranch(builder.icmp_unsigned("<", after, function.args[2]), inside, end)
        builder.position_at_end(end)
        builder.ret_void()

    def widen(b, place, i, twice):
        b.store(model.from_data(b, b.load(place(1, i))), place(0, i))

    def narrow(b, place, i, twice):
        b.store(model.as_data(b, b.load(place(1, i))), place(0, i))

    def narrow_double(b, place, i, twice):
        b.store(model.as_data(b, stored._to_odd(b, b.load(place(1, i)))), place(0, i))

    def widen_pairs(b, place, i, twice):
        for k, value in enumerate(model.from_pair(b, b.load(place(1, i)))):
            b.store(value, place(0, twice, k))

    def narrow_pairs(b, place, i, twice):
        b.store(model.as_pair(b, *[b.load(place(1, twice, k)) for k in (0, 1)]), place(0, i))

    kinds = {
        widen: (half, single), narrow: (single, half), narrow_double: (double, half),
        widen_pairs: (word, single), narrow_pairs: (single, word),
    }  # fmt: skip
    for body, (given, made) in kinds.items():
        loop(body.__name__, given, made, body)
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten()
    )
    engine = binding.create_mcjit_compiler(binding.parse_assembly(str(module)), machine)
    engine.finalize_object()

    def caller(body, result, each):
        form = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        entry = form(engine.get_function_address(body.__name__))

        def call(x):
            out = np.empty(x.size, result)
            entry(out.ctypes.data, np.ascontiguousarray(x).ctypes.data, x.size // each)
            assert engine
            return out

        return call

    return (
        caller(widen, np.float32, 1), caller(narrow, np.uint16, 1), caller(narrow_double, np.uint16, 1),
        caller(widen_pairs, np.float32, 2), caller(narrow_pairs, np.uint16, 2),
    )  # fmt: skip


def same(got, want, dtype):
    """Equal bits, or both NaN."""
    nan = np.isnan(want.astype(np.float32))
    assert np.array_equal(got[~nan], want.view(np.uint16)[~nan])
    assert np.isnan(got[nan].view(dtype).astype(np.float32)).all()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_patterns(name):
    dtype = dtypes.as_dtype(name)
    widen, narrow, narrow_double, widen_pairs, narrow_pairs = functions(dtype)
    bits = np.arange(2**16, dtype=np.uint16)
    exact = bits.view(dtype).astype(np.float32)
    for read in (widen, widen_pairs):
        assert np.array_equal(read(bits), exact, equal_nan=True)
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
    single = np.concatenate([single, payloads, payloads])
    single = single[: single.size // 2 * 2]
    for write in (narrow, narrow_pairs):
        same(write(single), dtypes.rounded(single, dtype), dtype)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_eight_neighbours_are_one_access(name):
    from numba import cuda

    from minigrad.devices.cuda import stored, vector

    load, store = vector.load(8)._build(), vector.store(8)._build()

    def double(out, x):
        a, b, c, d, e, f, g, h = load(x, 0)
        store(out, 0, (a + a, b + b, c + c, d + d, e + e, f + f, g + g, h + h))

    flat = stored.flat_array(dtypes.as_dtype(name))
    ptx, _ = cuda.compile_ptx(double, (flat, flat), cc=(8, 0))
    assert (ptx.count("ld.global"), ptx.count("ld.global.v4.u32")) == (1, 1)
    assert (ptx.count("st.global"), ptx.count("st.global.v4.u32")) == (1, 1)
