"""Generators and the functions that draw from them: state, statistics, errors."""

import copy
import math
import pickle
import random as python_random
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import errors, random
from minigrad.tape import state as tape_state

N = 200_000

DRAWS = {
    "uniform": lambda g, n: random.uniform(n, generator=g),
    "uniform64": lambda g, n: random.uniform(n, dtype="float64", generator=g),
    "normal": lambda g, n: random.normal(n, generator=g),
    "normal64": lambda g, n: random.normal(n, dtype="float64", generator=g),
    "truncated_normal": lambda g, n: random.truncated_normal(n, generator=g),
    "truncated_normal64": lambda g, n: random.truncated_normal(n, dtype="float64", generator=g),
    "integers": lambda g, n: random.integers(n, 0, 1000, generator=g),
    "bernoulli": lambda g, n: random.bernoulli(n, 0.3, generator=g),
    "permutation": lambda g, n: random.permutation(n, generator=g),
    "bits": lambda g, n: random.bits(n, "uint64", generator=g),
}


@pytest.fixture(autouse=True)
def _restore_default():
    before = random.default_generator.get_state()
    yield
    random.default_generator.set_state(before)


def kolmogorov_smirnov(x, cdf):
    """√n times the greatest distance of the empirical distribution from `cdf`."""
    x, n = np.sort(x.astype(np.float64)), x.size
    f = cdf(x)
    return math.sqrt(n) * max(np.max(np.arange(1, n + 1) / n - f), np.max(f - np.arange(n) / n))


def normal_cdf(x):
    return np.array([math.erfc(-v / math.sqrt(2)) / 2 for v in np.ravel(x)])


def truncated_cdf(x):
    low, high = normal_cdf([-2.0, 2.0])
    return (normal_cdf(x) - low) / (high - low)


# mean, variance and fourth central moment, the distribution
EXACT = {
    "uniform": (0.5, 1 / 12, 1 / 80, lambda x: x),
    "normal": (0.0, 1.0, 3.0, normal_cdf),
    # of a standard normal within ±2: 1 − 4φ(2)/(2Φ(2) − 1), and 3 − (2·2³ + 6·2)φ(2)/(2Φ(2) − 1)
    "truncated_normal": (0.0, 0.7737413035499232, 1.4161891248494627, truncated_cdf),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("suffix", ["", "64"])
def test_moments_and_distribution(name, suffix):
    mean, variance, fourth, cdf = EXACT[name]
    x = DRAWS[name + suffix](random.Generator(2024), N).numpy()
    assert x.dtype == ("float64" if suffix else "float32")
    x = x.astype(np.float64)
    assert abs(x.mean() - mean) < 4 * math.sqrt(variance / N)
    assert abs(((x - mean) ** 2).mean() - variance) < 4 * math.sqrt((fourth - variance**2) / N)
    assert kolmogorov_smirnov(x, cdf) < 1.95  # one seed in a thousand would fail
    # odd and even places, which Box and Muller make by sine and by cosine
    assert kolmogorov_smirnov(x[::2], cdf) < 1.95
    assert kolmogorov_smirnov(x[1::2], cdf) < 1.95


def test_the_distribution_test_can_fail():
    x = random.normal(N, mean=0.01, generator=random.Generator(2024)).numpy()
    assert kolmogorov_smirnov(x, normal_cdf) > 1.95
    assert kolmogorov_smirnov(np.round(x, 2), normal_cdf) > 1.95


def test_pairs_of_normals_are_independent_in_radius_and_direction():
    x = random.normal((N, 2), generator=random.Generator(8)).numpy().astype(np.float64)
    assert kolmogorov_smirnov((x**2).sum(1), lambda r: 1 - np.exp(-r / 2)) < 1.95
    assert kolmogorov_smirnov(np.arctan2(x[:, 1], x[:, 0]), lambda a: (a + np.pi) / (2 * np.pi)) < 1.95
    assert abs((x[:, 0] * x[:, 1]).mean()) < 4 / math.sqrt(N)


def test_normal_tails():
    x = np.abs(random.normal(4_000_000, generator=random.Generator(1)).numpy())
    for limit in (3.0, 4.0, 5.0):
        expected = x.size * math.erfc(limit / math.sqrt(2))
        assert abs((x > limit).sum() - expected) < 5 * math.sqrt(expected)


def chi_squared(counts, expected):
    """Its excess over the degrees of freedom, in standard deviations."""
    free = counts.size - 1
    return (((counts - expected) ** 2 / expected).sum() - free) / math.sqrt(2 * free)


@pytest.mark.parametrize("span", [2, 10, 1000])
def test_integers_are_equally_likely(span):
    x = random.integers(N, -3, span - 3, generator=random.Generator(3)).numpy()
    counts = np.bincount(x + 3, minlength=span)
    assert counts.size == span
    assert abs(chi_squared(counts, N / span)) < 4


def test_bits_are_balanced_one_by_one():
    x = random.bits(N, "uint32", random.Generator(4)).numpy()
    ones = np.array([((x >> np.uint32(k)) & np.uint32(1)).sum() for k in range(32)])
    assert np.all(np.abs(ones - N / 2) < 4 * math.sqrt(N / 4))


def test_permutations_are_equally_likely():
    g = random.Generator(5)
    counts = {}
    for _ in range(4800):
        order = tuple(random.permutation(4, g).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert abs(chi_squared(np.array(list(counts.values())), 200)) < 4


@pytest.mark.parametrize("p", [0.001, 0.3, 0.5, 0.98])
def test_bernoulli_rate(p):
    x = random.bernoulli(N, p, random.Generator(6)).numpy()
    assert x.dtype == np.bool_
    assert abs(x.mean() - p) < 4 * math.sqrt(p * (1 - p) / N)


def test_nothing_repeats_between_successive_draws():
    g = random.Generator(7)
    drawn = np.concatenate([random.bits(n, "uint64", g).numpy() for n in (1, 2, 3, 1000, 1, 50_001, 7)])
    assert np.unique(drawn).size == drawn.size


@pytest.mark.parametrize("name", ["uniform", "normal", "uniform64", "normal64"])
def test_streams_of_different_seeds_are_uncorrelated(name):
    streams = np.array([DRAWS[name](random.Generator(seed), 100_000).numpy() for seed in (0, 1, 2, 2**32, 2**63)])
    correlations = np.corrcoef(streams.astype(np.float64))
    off = correlations[~np.eye(5, dtype=bool)]
    assert np.abs(off).max() < 4.5 / math.sqrt(100_000)


def test_an_autocorrelation_of_any_small_lag_is_absent():
    x = random.normal(N, generator=random.Generator(9)).numpy().astype(np.float64)
    for lag in (1, 2, 3, 4, 5, 8, 64):
        assert abs((x[lag:] * x[:-lag]).mean()) < 4.5 / math.sqrt(N)


# State


@pytest.mark.parametrize("name", DRAWS)
def test_state_goes_back_and_forth(name):
    draw, g = DRAWS[name], random.Generator(12)
    draw(g, 5)
    state = g.get_state()
    assert state[0] == 12
    assert state[1] > 0
    first = draw(g, 1001).numpy()
    assert not np.array_equal(draw(g, 1001).numpy(), first)
    g.set_state(state)
    np.testing.assert_array_equal(draw(g, 1001).numpy(), first)


def test_seed_restarts_the_default_generator():
    random.seed(17)
    assert random.default_generator.get_state() == (17, 0)
    first = random.uniform((4,)).tolist()
    assert random.uniform((4,)).tolist() != first
    random.seed(17)
    assert random.uniform((4,)).tolist() == first
    assert random.uniform((4,), generator=random.Generator(17)).tolist() == first


def test_seed_none_draws_a_seed():
    seeds = {random.Generator(None).get_state()[0] for _ in range(3)}
    assert len(seeds) == 3


def test_neither_numpy_nor_python_is_used_or_changed():
    numpy_before, python_before = np.random.get_state()[1].copy(), python_random.getstate()
    random.seed(1)
    first = [random.normal(9).tolist(), random.permutation(9).tolist(), mg.dropout(mg.tensor([1.0] * 9), 0.5).tolist()]
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)
    assert python_random.getstate() == python_before
    np.random.seed(5)
    python_random.seed(5)
    random.seed(1)
    again = [random.normal(9).tolist(), random.permutation(9).tolist(), mg.dropout(mg.tensor([1.0] * 9), 0.5).tolist()]
    assert first == again


@pytest.mark.parametrize("clone", [copy.deepcopy, copy.copy, lambda g: pickle.loads(pickle.dumps(g))])
def test_copies_go_their_own_way_from_the_same_place(clone):
    g = random.Generator(3, name="noise")
    random.uniform(10, generator=g)
    other = clone(g)
    assert other.name == "noise"
    assert other.get_state() == g.get_state()
    assert random.uniform(10, generator=other).tolist() == random.uniform(10, generator=g).tolist()
    random.uniform(10, generator=g)
    assert other.get_state() != g.get_state()


def test_threads_share_a_generator_without_drawing_twice():
    g, starts = random.Generator(1), []

    def draw():
        starts.extend([g.next(3).tolist()[1] for _ in range(300)])

    workers = [threading.Thread(target=draw) for _ in range(4)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert sorted(starts) == list(range(0, 3 * 1200, 3))
    assert g.get_state() == (1, 3600)


def test_what_was_handed_out_does_not_change():
    g = random.Generator(1)
    start = g.next(4)
    g.next(4)
    g.seed(5)
    assert start.tolist() == [1, 0]


def test_a_draw_is_seen_as_primitives_that_can_be_replayed():
    g, calls = random.Generator(1), []

    def observe(primitive, inputs, outputs, params):
        calls.append((primitive, list(inputs), outputs, params))

    tape_state.observers.append(observe)
    try:
        first = random.uniform(6, generator=g)
    finally:
        tape_state.observers.remove(observe)
    assert [c[0].name for c in calls] == ["mg::copy", "mg::advance", "mg::random_uniform"]

    def replay():
        known = {}
        for primitive, inputs, outputs, params in calls:
            results = primitive(*[known.get(id(t), t) for t in inputs], **params)
            for recorded in outputs:
                known[id(recorded)] = results
        return results.numpy()

    second = replay()
    assert not np.array_equal(second, first.numpy())
    g.set_state((1, 0))
    np.testing.assert_array_equal(replay(), first.numpy())
    np.testing.assert_array_equal(replay(), second)


def test_state_is_not_trainable_and_random_tensors_need_no_gradient():
    g = random.Generator(1)
    assert not g.state.trainable
    assert not random.normal(3, generator=g).requires_grad
    w = mg.tensor(2.0, requires_grad=True)
    noise = random.normal(5, generator=g)
    (w * noise).sum().backward()
    assert w.grad.item() == pytest.approx(float(noise.numpy().sum()), rel=1e-6)


# Shapes, dtypes and errors


@pytest.mark.parametrize("shape", [(), 3, (0,), (2, 0, 3), [2, 3], (np.int64(2), 5)])
def test_shapes(shape):
    want = np.empty(shape).shape
    for draw in (random.uniform, random.normal, random.truncated_normal, random.bernoulli, random.bits):
        assert draw(shape).shape == want
    assert random.integers(shape, 0, 5).shape == want


def test_blocks_are_counted_by_what_a_draw_takes():
    for draw, n, blocks in [
        (random.uniform, 9, 3),
        (lambda n, generator: random.uniform(n, dtype="float64", generator=generator), 9, 5),
        (random.normal, 5, 2),
        (random.truncated_normal, 5, 3),
        (random.bernoulli, 4, 1),
        (random.permutation, 3, 2),
        (lambda n, generator: random.integers(n, 0, 9, generator=generator), 3, 3),
        (random.uniform, 0, 0),
    ]:
        g = random.Generator(0)
        draw(n, generator=g)
        assert g.get_state() == (0, blocks)


BAD = [
    (lambda g: random.uniform((2, -1), generator=g), errors.ShapeError, r"shape is \(2, -1\), expected lengths of 0"),
    (lambda g: random.normal(-1, generator=g), errors.ShapeError, "expected lengths of 0 or more"),
    (lambda g: random.permutation(-1, g), errors.ShapeError, "expected lengths of 0 or more"),
    (
        lambda g: random.uniform(2.5, generator=g),
        errors.ArgumentTypeError,
        "uniform: shape is 2.5, expected an integer",
    ),
    (lambda g: random.uniform("ab", generator=g), errors.ArgumentTypeError, "uniform: shape is 'ab'"),
    (lambda g: random.permutation(2.0, g), errors.ArgumentTypeError, "permutation: n is 2.0, expected an integer"),
    (lambda g: random.uniform(2, 1.0, 1.0, generator=g), errors.ArgumentError, "low is 1.0 and high is 1.0"),
    (lambda g: random.uniform(2, 2, 1, generator=g), errors.ArgumentError, "expected finite low < high"),
    (
        lambda g: random.uniform(2, -3e38, 3e38, generator=g),
        errors.ArgumentError,
        "expected finite low < high in float32",
    ),
    (lambda g: random.uniform(2, "a", generator=g), errors.ArgumentTypeError, "uniform: low is 'a', expected a number"),
    (lambda g: random.normal(2, mg.tensor(1.0), generator=g), errors.ArgumentTypeError, "normal: mean is tensor"),
    (
        lambda g: random.normal(2, std=-1, generator=g),
        errors.ArgumentError,
        "std is -1.0, expected a finite number of 0",
    ),
    (lambda g: random.normal(2, dtype="int64", generator=g), errors.DTypeError, "dtype is 'int64', expected 'float32'"),
    (lambda g: random.normal(2, dtype="complex64", generator=g), errors.DTypeError, "dtype is 'complex64'"),
    (lambda g: random.normal(2, dtype="nonsense", generator=g), errors.DTypeError, "names no dtype"),
    (lambda g: random.truncated_normal(2, low=2, high=-2, generator=g), errors.ArgumentError, "expected low < high"),
    (lambda g: random.truncated_normal(2, low=60, high=61, generator=g), errors.ArgumentError, "nothing of the dist"),
    (lambda g: random.integers(2, 5, 5, generator=g), errors.ArgumentError, "low is 5 and high is 5"),
    (lambda g: random.integers(2, 0, 300, "uint8", generator=g), errors.ArgumentError, "more than uint8 holds"),
    (lambda g: random.integers(2, 0, 3.5, generator=g), errors.ArgumentTypeError, "integers: high is 3.5"),
    (lambda g: random.integers(2, 0, 3, "float32", generator=g), errors.DTypeError, "expected an integer dtype"),
    (lambda g: random.bernoulli(2, 1.5, g), errors.ArgumentError, "p is 1.5, expected a probability"),
    (lambda g: random.bits(2, "float32", g), errors.DTypeError, "expected 'uint32' or 'uint64'"),
    (
        lambda g: random.uniform(2, generator=np.random.default_rng()),
        errors.ArgumentTypeError,
        "generator is Generator",
    ),
]


@pytest.mark.parametrize(("call", "error", "match"), BAD)
def test_bad_arguments_raise_and_leave_the_state_alone(call, error, match):
    g = random.Generator(6)
    with pytest.raises(error, match=match):
        call(g)
    assert g.get_state() == (6, 0)


@pytest.mark.parametrize(
    ("seed", "error"),
    [(-1, errors.ArgumentError), (2**64, errors.ArgumentError), (1.5, errors.ArgumentTypeError), ("x", TypeError)],
)
def test_bad_seeds(seed, error):
    with pytest.raises(error, match="seed: got"):
        random.Generator(seed)
    g = random.Generator(2**64 - 1)
    with pytest.raises(error, match="seed: got"):
        g.seed(seed)
    assert g.get_state() == (2**64 - 1, 0)


@pytest.mark.parametrize("state", [3, (1, 2, 3), ("a", 1), (1, -1), (1, 2**63), (-1, 0)])
def test_bad_states(state):
    g = random.Generator(4)
    with pytest.raises((errors.ArgumentError, errors.ArgumentTypeError), match=r"set_state|seed"):
        g.set_state(state)
    assert g.get_state() == (4, 0)
