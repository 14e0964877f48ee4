"""Random primitives: every bit against a naive Philox in Python's integers, and the same for any way of computing."""

import math

import numba
import numpy as np
import pytest

from minigrad import Tensor, Variable, errors, on_device
from minigrad.devices import cpu, philox_cpu
from minigrad.devices.philox_reference import pairs, words
from minigrad.devices.threads import WORDS
from minigrad.ops import noise
from minigrad.ops.generator import advance_p

KEYS_AND_POSITIONS = [(0, 0), (7, 3), (2**64 - 1, 2**32 - 3), (0x0123456789ABCDEF, 2**40 - 1)]
TRUNCATED = {"mean": 1.0, "std": 2.0, "low": -2.0, "high": 2.0, "dtype": "float32"}
ALL = {
    "bits32": (noise.random_bits_p, {"dtype": "uint32"}),
    "bits64": (noise.random_bits_p, {"dtype": "uint64"}),
    "uniform32": (noise.random_uniform_p, {"low": -2.0, "high": 3.0, "dtype": "float32"}),
    "uniform64": (noise.random_uniform_p, {"low": -2.0, "high": 3.0, "dtype": "float64"}),
    "normal32": (noise.random_normal_p, {"mean": 1.0, "std": 2.0, "dtype": "float32"}),
    "normal64": (noise.random_normal_p, {"mean": 1.0, "std": 2.0, "dtype": "float64"}),
    "truncated32": (noise.random_truncated_normal_p, TRUNCATED),
    "truncated64": (noise.random_truncated_normal_p, {**TRUNCATED, "low": 1.0, "high": 9.0, "dtype": "float64"}),
    "integers": (noise.random_integers_p, {"low": -5, "high": 6, "dtype": "int32"}),
    "bernoulli": (noise.random_bernoulli_p, {"p": 0.3}),
}
PRIMITIVES = sorted({p for p, _ in ALL.values()} | {noise.random_permutation_p, advance_p}, key=lambda p: p.name)


def philox(counter, key):
    """Philox 4x32-10 in Python's integers, from the paper."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1 & 0xFFFFFFFF, (p0 >> 32) ^ c3 ^ k1, p0 & 0xFFFFFFFF
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return [c0, c1, c2, c3]


def naive_words(key, position, count):
    found = []
    for block in range(position, position + -(-count // 4)):
        found += philox([block & 0xFFFFFFFF, block >> 32, 0, 0], [key & 0xFFFFFFFF, key >> 32])
    return found[:count]


def naive_pairs(key, position, count):
    drawn = naive_words(key, position, 2 * count)
    return [low + (high << 32) for low, high in zip(drawn[::2], drawn[1::2])]


def start_of(key, position):
    return Tensor(np.array([key, position], np.uint64))


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def ulps(got, want):
    return np.abs(got.astype(np.longdouble) - want) / np.spacing(np.abs(want))


# The generator


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
        ),
    ],
)
def test_published_known_answers_of_philox(counter, key, expected):
    assert [int(w) for w in philox_cpu.philox(*map(np.uint64, counter + key))] == expected
    assert philox(counter, key) == expected


@pytest.mark.parametrize(("key", "position"), KEYS_AND_POSITIONS)
def test_bits_are_philox_of_consecutive_counters(key, position):
    start = start_of(key, position)
    assert noise.random_bits_p(start, shape=(23,), dtype="uint32").tolist() == naive_words(key, position, 23)
    assert noise.random_bits_p(start, shape=(23,), dtype="uint64").tolist() == naive_pairs(key, position, 23)
    assert words(start.numpy(), 23).tolist() == naive_words(key, position, 23)
    assert pairs(start.numpy(), 23).tolist() == naive_pairs(key, position, 23)


# Each distribution from the bits, in Python's numbers


@pytest.mark.parametrize(("key", "position"), KEYS_AND_POSITIONS)
def test_uniform_is_the_upper_bits_scaled(key, position):
    start = start_of(key, position)
    params = {"shape": (101,), "low": 0.0, "high": 1.0}
    got32 = noise.random_uniform_p(start, dtype="float32", **params).tolist()
    assert got32 == [(w >> 8) / 2**24 for w in naive_words(key, position, 101)]
    got64 = noise.random_uniform_p(start, dtype="float64", **params).tolist()
    assert got64 == [(w >> 11) / 2**53 for w in naive_pairs(key, position, 101)]
    shifted = noise.random_uniform_p(start, dtype="float64", shape=(101,), low=-3.0, high=5.0).tolist()
    assert shifted == [-3 + 8 * u for u in got64]


@pytest.mark.parametrize(("key", "position"), KEYS_AND_POSITIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_is_box_muller_of_the_bits(key, position, dtype):
    start, n = start_of(key, position), 103
    if dtype == "float32":
        drawn, turns = naive_words(key, position, n + 1), 2**32
        # the radius' uniform is rounded to float32, and so is the expectation
        radii = [float(np.float32(w >> 1) * np.float32(2**-31) + np.float32(2**-32)) for w in drawn[::2]]
    else:
        drawn, turns = naive_pairs(key, position, n + 1), 2**64
        radii = [((w >> 11) + 1) / 2**53 for w in drawn[::2]]
    want = []
    for u, turn in zip(radii, drawn[1::2]):
        r, angle = math.sqrt(-2 * math.log(u)), 2 * math.pi * ((turn - turns if 2 * turn >= turns else turn) / turns)
        want += [r * math.cos(angle), r * math.sin(angle)]
    got = noise.random_normal_p(start, shape=(n,), mean=0.0, std=1.0, dtype=dtype).numpy()
    assert got.dtype == dtype
    np.testing.assert_allclose(got, want[:n], rtol=0, atol=16 * np.finfo(dtype).eps)
    scaled = noise.random_normal_p(start, shape=(n,), mean=-3.0, std=0.25, dtype=dtype).numpy()
    assert same_bits(scaled, np.dtype(dtype).type(-3) + np.dtype(dtype).type(0.25) * got)


@pytest.mark.parametrize(
    ("low", "high"), [(-2.0, 2.0), (-1.0, 3.0), (2.5, 4.0), (-math.inf, 0.5), (6.0, math.inf), (-math.inf, math.inf)]
)
def test_truncated_normal_is_the_inverse_of_the_distribution(low, high):
    start, n = start_of(3, 9), 301
    got = noise.random_truncated_normal_p(
        start, shape=(n,), mean=0.0, std=1.0, low=low, high=high, dtype="float64"
    ).numpy()
    assert got.min() >= low
    assert got.max() <= high
    sign = -1 if low + high > 0 else 1  # limits above 0 are mirrored
    a, b = sorted((sign * low, sign * high))
    below, above = (math.erfc(-x / math.sqrt(2)) / 2 for x in (a, b))
    u = [((w >> 12) + 0.5) / 2**52 for w in naive_pairs(3, 9, n)]
    reached = [(math.erfc(-sign * z / math.sqrt(2)) / 2 - below) / (above - below) for z in got]
    np.testing.assert_allclose(reached, u, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("low", "high", "dtype"),
    [
        (0, 10, "int64"),
        (-7, 250, "int32"),
        (-(2**63), 2**63, "int64"),
        (0, 2**64, "uint64"),
        (-1, 2**62 + 12345, "int64"),
    ],
)
def test_integers_are_the_scaled_fraction_of_a_block(low, high, dtype):
    drawn = naive_words(5, 2**32 - 2, 4 * 57)
    want = []
    for w0, w1, w2, w3 in zip(drawn[::4], drawn[1::4], drawn[2::4], drawn[3::4]):
        u = (w1 << 96) + (w0 << 64) + (w3 << 32) + w2
        want.append(low + (u * (high - low) >> 128))
    start = start_of(5, 2**32 - 2)
    got = noise.random_integers_p(start, shape=(57,), low=low, high=high, dtype=dtype)
    assert got.dtype == dtype
    assert got.tolist() == want


@pytest.mark.parametrize("p", [0.0, 2**-31, 0.3, 1 - 2**-31, 1.0])
def test_bernoulli_compares_words(p):
    got = noise.random_bernoulli_p(start_of(1, 1), shape=(203,), p=p)
    assert got.tolist() == [w < round(p * 2**32) for w in naive_words(1, 1, 203)]


def test_permutation_is_fisher_yates_from_the_inside_out():
    want = []
    for i, w in enumerate(naive_pairs(2, 6, 41)):
        j = w * (i + 1) >> 64
        want.append(i)
        want[i], want[j] = want[j], want[i]
    got = noise.random_permutation_p(start_of(2, 6), n=41).tolist()
    assert got == want
    assert sorted(got) == list(range(41))


# The same for any way of computing


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda p: p.name)
def test_samples_give_the_same_by_every_kernel(primitive):
    good = [s for s in primitive.draw_samples() if s.error is None]
    assert len(good) >= 3
    for sample in good:
        want = primitive.reference(*sample.inputs, **sample.params)[0]
        if primitive.mutates:
            got = sample.inputs[0].copy()
            primitive._kernel("cpu")[0](got, got, **sample.params)
        else:
            got = primitive(*map(Tensor, sample.inputs), **sample.params).numpy()
        if "normal" in primitive.name:
            assert got.dtype == want.dtype
            assert got.shape == want.shape
            assert np.all(ulps(got, want) <= 8)
        else:
            assert same_bits(got, want)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normal_kernels_are_precise(dtype):
    params = {"shape": (100_003,), "mean": 0.0, "std": 1.0, "dtype": dtype}
    got = noise.random_normal_p(start_of(11, 0), **params).numpy()
    with on_device("reference"):
        want = noise.random_normal_p(start_of(11, 0), **params).numpy()
    assert ulps(got, want).max() <= 4


@pytest.mark.parametrize("primitive", PRIMITIVES, ids=lambda p: p.name)
def test_bad_samples_raise(primitive):
    bad = [s for s in primitive.draw_samples() if s.error is not None]
    assert bad
    for sample in bad:
        values = [Tensor(np.asarray(a)) for a in sample.inputs]
        with pytest.raises(sample.error, match=sample.match):
            primitive(*values, **sample.params)


@pytest.mark.parametrize("name", ALL)
def test_an_element_depends_on_start_and_index_alone(name):
    """A prefix, a fill that begins later, and whatever mix of vector loops and remainders gives the same bits."""
    primitive, params = ALL[name]
    whole = primitive(start_of(9, 100), shape=(70_001,), **params).numpy()
    for n in (1, 2, 3, 4, 5, 7, 31, 64, 8191, 16_386, 40_003):
        assert same_bits(primitive(start_of(9, 100), shape=(n,), **params).numpy(), whole[:n])
    per_block = {"integers": 1}.get(name, 4 if name in ("bits32", "uniform32", "normal32", "bernoulli") else 2)
    later = primitive(start_of(9, 100 + 777), shape=(1001,), **params).numpy()
    assert same_bits(later, whole[777 * per_block : 777 * per_block + 1001])


@pytest.fixture
def threads():
    before = numba.get_num_threads()
    if numba.config.NUMBA_NUM_THREADS < 2:
        pytest.skip("one thread is all there is")
    yield numba.set_num_threads
    numba.set_num_threads(before)


@pytest.mark.parametrize("name", ALL)
def test_bits_do_not_depend_on_threads(name, threads):
    primitive, params = ALL[name]
    drawn = []
    for count in (1, 2):
        threads(count)
        drawn.append(primitive(start_of(4, 2), shape=(3, 33_335), **params).numpy())
    assert same_bits(*drawn)


@pytest.mark.parametrize("chunks", [1, 5, 64])
def test_serial_and_parallel_kernels_agree(chunks, monkeypatch):
    start = np.array([8, 8], np.uint64)
    outs = [np.zeros(50_003, np.float32) for _ in range(2)]
    arguments = (start, np.float32(0), np.float32(1))
    philox_cpu.normal32.serial(1, 1, outs[0], *arguments)
    philox_cpu.normal32.parallel(chunks, WORDS, chunks, outs[1], *arguments)
    assert same_bits(*outs)
    assert cpu.chunks_of(50_003) > 1


def test_uniform_stays_below_high_whatever_is_rounded():
    start = start_of(0, 0)
    low, high = 1.0, 1.0 + 3 * 2.0**-23  # three float32 numbers, and a product that rounds to the fourth
    got = noise.random_uniform_p(start, shape=(10_000,), low=low, high=high, dtype="float32").numpy()
    assert sorted(set(got.tolist())) == [1.0, 1.0 + 2.0**-23, 1.0 + 2 * 2.0**-23]


def test_advance_changes_the_position_alone_and_needs_a_variable():
    state = Variable(np.array([3, 2**32 - 1], np.uint64), trainable=False)
    advance_p(state, blocks=2)
    assert state.tolist() == [3, 2**32 + 1]
    with on_device("reference"):
        advance_p(state, blocks=5)
    assert state.tolist() == [3, 2**32 + 6]
    with pytest.raises(errors.ArgumentTypeError, match="state must be a Variable"):
        advance_p(Tensor(np.array([3, 5], np.uint64)), blocks=1)


def test_random_numbers_have_no_derivative():
    for primitive in PRIMITIVES:
        assert not primitive.is_differentiable
