"""Indexing: random keys against NumPy, gradients of both orders, repeated indices, errors."""

import random

import numpy as np
import pytest
from numerical_derivatives import check_derivatives

import minigrad as mg
from minigrad import Tensor, Variable, errors, on_device
from minigrad.devices.threads import WORDS
from minigrad.ops.indexing_gathers import _scatter_add, put_p, scatter_add_p, take_p
from minigrad.ops.indexing_places import flatnonzero_p, is_last_p

MASK = np.array([[True, False, True, False], [False, True, True, False], [False, False, False, True]])
KEYS = {  # of a (3, 4, 5) tensor
    "integer": 1,
    "integers": (2, -1, 0),
    "slice": slice(1, None),
    "steps": (slice(None, None, -2), slice(3, 0, -1)),
    "nothing": (slice(2, 2),),
    "empty tuple": (),
    "ellipsis": (..., 2),
    "new axes": (None, 0, ..., None),
    "list": [0, 2, 2, -1],
    "array": np.array([[1, 1], [-3, 0]]),
    "no indices": [],
    "0-d array": np.array(1),
    "second axis": (slice(None), [3, 0, 0]),
    "last axis, matrix": (..., [[4, 0], [0, -5]]),
    "pairs": ([0, 2, 0], [1, 3, 1]),
    "outer": ([[0], [2]], [3, 0, 3]),
    "apart": ([0, 2, 1], slice(None), [1, 4, 1]),
    "apart by None": ([0, 2], None, [1, 3]),
    "apart by an empty ellipsis": ([0, 2], slice(None), ..., [1, 3]),
    "integer and array": (1, slice(None), [0, 4, 0]),
    "array and integer": (slice(1, None), [1, 1], 2),
    "all axes": ([0, 1, 0], [2, 3, 2], [4, 0, 4]),
    "slice and array": (slice(None, None, -1), slice(1, 3), [1, 1, 0]),
    "mask of leading axes": MASK,
    "mask of one axis": (slice(None), [True, False, True, True]),
    "mask of trailing axes": (1, np.arange(20).reshape(4, 5) % 3 == 0),
    "mask and array": (MASK, [0, 4, 0, 1, 2]),
    "mask apart": ([True, False, True], slice(None), [1, 4]),
    "empty mask": np.zeros((3, 4), bool),
    "true": True,
    "false": (slice(None), False),
    "true and array": (True, [0, 2]),
}


def parts(key):
    return key if isinstance(key, tuple) else (key,)


def as_tensors(key):
    """The key with its arrays and lists as tensors."""
    items = tuple(mg.tensor(np.asarray(i, int if i == [] else None)) if isinstance(i, list) else i for i in parts(key))
    return tuple(mg.tensor(i) if isinstance(i, np.ndarray) else i for i in items)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool"])
@pytest.mark.parametrize("name", KEYS)
def test_values_are_numpys(name, dtype):
    key = KEYS[name]
    x = np.random.default_rng(0).integers(-9, 9, (3, 4, 5)).astype(dtype)
    for a in (x, x.T.copy().T, x[::-1, :, ::-1].copy()[::-1, :, ::-1], np.broadcast_to(x[:, :1], x.shape)):
        want = a[key]
        for device in ("cpu", "reference"):
            with on_device(device):
                for got in (Tensor(a)[key], Tensor(a)[as_tensors(key)]):
                    assert got.dtype == want.dtype
                    np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("name", KEYS)
def test_derivatives(name):
    x = np.random.default_rng(1).standard_normal((3, 4, 5))
    check_derivatives(lambda t: t[KEYS[name]], x, signal=x[KEYS[name]].size > 0)


@pytest.mark.parametrize("name", KEYS)
def test_at_set_and_at_add(name):
    key, rng = KEYS[name], np.random.default_rng(2)
    x = rng.standard_normal((3, 4, 5))
    shape = x[key].shape
    for values in [rng.standard_normal(s) for s in (shape, shape[-1:], (), tuple(1 for _ in shape))]:
        want = x.copy()
        want[key] = values
        np.testing.assert_array_equal(mg.at_set(Tensor(x), key, Tensor(values)).numpy(), want)
        want = x.copy()
        np.add.at(want, key, values)
        np.testing.assert_allclose(mg.at_add(Tensor(x), key, values).numpy(), want, rtol=1e-13)
        small = x[:, :, :3] if x[key].size and name in ("array", "pairs", "steps", "mask of leading axes") else None
        if small is not None:
            values = values[..., :3] if values.ndim and values.shape[-1] == 5 else values
            check_derivatives(lambda t, v: mg.at_set(t * t, key, v * v), small, values)
            check_derivatives(lambda t, v: mg.at_add(t, key, v * v), small, values)


def random_key(chance, rng, shape):
    items, axis, ellipsis = [], 0, False
    common = chance.choice([(), (1,), (2,), (3, 1), (2, 3), (0,)])
    while axis < len(shape) and chance.random() < 0.9:
        kind, n = chance.choice("isssaaambNE"), shape[axis]
        if kind == "i" and n:
            items.append(chance.choice([int, np.int64])(chance.randint(-n, n - 1)))
            axis += 1
        elif kind == "s":
            ends = [chance.choice([None, chance.randint(-5, 5)]) for _ in range(2)]
            items.append(slice(*ends, chance.choice([None, 1, 2, -1, -2])))
            axis += 1
        elif kind == "a":
            own = chance.choice([common, common[1:], tuple(chance.choice([1, d]) for d in common)])
            index = rng.integers(-n, n, own) if n else np.zeros((*own[:-1], 0), int)
            items.append(chance.choice([index, index.tolist(), mg.tensor(index), index.astype(np.int32)]))
            axis += 1
        elif kind == "m":
            mask = rng.random(shape[axis : axis + chance.randint(1, 2)]) < chance.choice([0, 0.3, 0.6, 1])
            items.append(chance.choice([mask, mg.tensor(mask)]))
            axis += mask.ndim
        elif kind == "b" and chance.random() < 0.3:
            items.append(chance.choice([True, False]))
        elif kind == "N":
            items.append(None)
        elif kind == "E" and not ellipsis:
            ellipsis = True
            items.append(...)
            axis += chance.randint(0, len(shape) - axis)
    return tuple(items)


@pytest.mark.filterwarnings("ignore:Out of bound index found:DeprecationWarning")  # of NumPy before 2.3
@pytest.mark.parametrize("seed", range(4))
def test_random_keys(seed):
    chance, rng = random.Random(seed), np.random.default_rng(seed)
    found = {True: 0, False: 0}
    for _ in range(250):
        shape = tuple(chance.choice([0, 1, 2, 3, 4, 5, 5]) for _ in range(chance.randint(0, 4)))
        x = rng.standard_normal(shape)
        key = random_key(chance, rng, shape)
        plain = tuple(i.numpy() if isinstance(i, Tensor) else i for i in key)
        try:
            want = np.asarray(x[plain])
        except IndexError:  # index arrays that do not broadcast, mostly
            found[False] += 1
            with pytest.raises((errors.IndexRangeError, errors.ShapeError)):
                Tensor(x)[key]
            continue
        found[True] += 1
        leaf = mg.tensor(x, requires_grad=True)
        got = leaf[key]
        assert got.shape == want.shape, (shape, key)
        np.testing.assert_array_equal(got.numpy(), want)
        ct = rng.standard_normal(want.shape)
        got.backward(Tensor(ct))
        sums = np.zeros(shape)
        np.add.at(sums, plain, ct)
        np.testing.assert_allclose(leaf.grad.numpy(), sums, rtol=1e-12, atol=1e-14)
        written, added = x.copy(), x.copy()
        written[plain] = ct
        np.add.at(added, plain, ct)
        np.testing.assert_array_equal(mg.at_set(x, key, ct).numpy(), written)
        np.testing.assert_allclose(mg.at_add(x, key, ct).numpy(), added, rtol=1e-12, atol=1e-14)
    assert found[True] > 200
    assert found[False] > 0


def test_basic_keys_are_views_and_follow_a_variable():
    v = Variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    views = [v[1], v[:, ::-1], v[None, ..., 0], v[()]]
    total = sum(((w * w).sum() for w in views), mg.tensor(0.0))
    assert all(np.shares_memory(w.numpy(), v.numpy()) for w in views)
    v.assign(np.zeros((2, 3)))
    assert not any(w.numpy().any() for w in views)
    with pytest.raises(errors.MutationError, match="assigned to"):
        total.backward()


def test_gathers_are_copies_and_their_index_may_not_change():
    v, index = Variable([1.0, 2.0, 3.0]), Variable([0, 2])
    y = v[index]
    v.assign(np.zeros(3))
    assert y.tolist() == [1.0, 3.0]
    index.assign([1, 1])
    with pytest.raises(errors.MutationError, match="'index' of mg::take"):
        y.sum().backward()


def test_integers_and_booleans_are_not_recorded():
    for x in (mg.tensor([[1, 2], [3, 4]]), mg.tensor([[True, False], [False, True]])):
        for key in (0, (slice(None), 1), [1, 0], MASK[:2, :2]):
            y = x[key]
            assert y.dtype == x.dtype
            assert not y.requires_grad


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "axis", "length"),
    [((500,), 0, 40), ((300, 70), 0, 50), ((3, 90, 33), 1, 20), ((40, 60), 1, 7), ((2000, 128), 0, 3), ((5, 0), 0, 4)],
)
def test_scatter_add_sums_in_the_order_of_the_index_on_any_number_of_threads(shape, axis, length, dtype):
    rng = np.random.default_rng(3)
    x = rng.standard_normal(shape).astype(dtype)
    index = rng.integers(-length, length, shape[axis])
    want = np.zeros((*shape[:axis], length, *shape[axis + 1 :]), dtype)
    for k, at in enumerate(index):
        want[(slice(None),) * axis + (at,)] += x[(slice(None),) * axis + (k,)]
    call = lambda: scatter_add_p(Tensor(x), Tensor(index), axis=axis, length=length).numpy()  # noqa: E731
    np.testing.assert_array_equal(call(), want)
    compiled = x.reshape(int(np.prod(shape[:axis])), shape[axis], int(np.prod(shape[axis + 1 :])))
    outer, _, inner = compiled.shape
    for parts in (1, 2, 3):
        for form, team in ((_scatter_add.serial, ()), (_scatter_add.parallel, (WORDS,))):
            out = np.full((outer, length, inner), np.nan, dtype)
            form(outer * parts, *team, parts, out, compiled, index)
            np.testing.assert_array_equal(out.reshape(want.shape), want)


def test_scatter_add_keeps_nan_and_infinity():
    x = Tensor(np.array([np.nan, 1.0, np.inf, -np.inf, np.inf]))
    got = scatter_add_p(x, Tensor(np.array([0, 1, 2, 3, 3])), axis=0, length=4).numpy()
    np.testing.assert_array_equal(got, [np.nan, 1, np.inf, np.nan])


def test_half_precision_and_integers_scatter_through_numpy():
    for dtype in ("float16", "int32"):
        x = np.arange(5).astype(dtype)
        got = scatter_add_p(Tensor(x), Tensor(np.array([0, 1, 1, -1, 0])), axis=0, length=3)
        assert got.dtype == dtype
        assert got.tolist() == [4, 3, 3]
    assert mg.at_add(mg.tensor([1, 2]), [0, 0], mg.tensor([10, 20])).tolist() == [31, 2]


@pytest.mark.parametrize("transposed", [False, True])
def test_large_takes(transposed):
    rng = np.random.default_rng(4)
    x = rng.standard_normal((300, 200)).astype("float32")
    x = x.T if transposed else x
    index = rng.integers(-200, 200, 700)
    for axis in (0, 1):
        np.testing.assert_array_equal(mg.take(Tensor(x), index, axis).numpy(), np.take(x, index, axis))
    with pytest.raises(errors.IndexRangeError, match=f"index 400 is out of range for axis 1 of length {x.shape[1]}"):
        mg.take(Tensor(x), [*index, 400], 1)


def test_take():
    x = np.random.default_rng(5).standard_normal((4, 3, 5))
    for index, axis in [([1, -1, 1], None), (2, 0), ([[0, 2], [2, 2]], 1), ([4], -1), (np.array(3, "u1"), 2)]:
        np.testing.assert_array_equal(mg.take(Tensor(x), index, axis).numpy(), np.take(x, index, axis))
        check_derivatives(lambda t, i=index, a=axis: mg.take(t, i, a), x)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_take_along_axis(axis):
    rng = np.random.default_rng(6)
    x = rng.standard_normal((4, 3, 5))
    shape = list(x.shape)
    shape[axis] = 2
    index = rng.integers(-x.shape[axis], x.shape[axis], shape)
    flat = [1, 1, 1]
    flat[axis] = 3
    for i in (index, np.argsort(x, axis), np.zeros(flat, int), index[:1]):
        np.testing.assert_array_equal(mg.take_along_axis(Tensor(x), i, axis).numpy(), np.take_along_axis(x, i, axis))
    check_derivatives(lambda t: mg.take_along_axis(t, index, axis), x)
    np.testing.assert_array_equal(mg.take_along_axis(x, [7, 0], None).numpy(), x.reshape(-1)[[7, 0]])


def test_take_along_axis_broadcasts_x():
    x, index = np.random.default_rng(7).standard_normal((1, 5)), np.array([[0, 4], [1, 1], [-2, 0]])
    np.testing.assert_array_equal(mg.take_along_axis(x, index, 1).numpy(), x[0][index])
    check_derivatives(lambda t: mg.take_along_axis(t, index, 1), x)


def test_one_hot():
    labels = np.array([[2, 0], [1, 2]])
    for given in (labels, labels.tolist(), mg.tensor(labels), labels.astype("u1")):
        got = mg.one_hot(given, 3)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.numpy(), np.eye(3)[labels])
    assert mg.one_hot(1, 2, "int64").tolist() == [0, 1]
    assert mg.one_hot(np.zeros((0,), int), 4, "float64").shape == (0, 4)


def test_the_last_of_several_values_stays_and_has_the_gradient():
    v = mg.tensor([10.0, 20.0, 30.0], requires_grad=True)
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = mg.at_set(x, [0, 0, -2], v)
    assert y.tolist() == [30.0, 2.0]
    y.backward(mg.tensor([5.0, 7.0]))
    assert x.grad.tolist() == [0.0, 7.0]
    assert v.grad.tolist() == [0.0, 0.0, 5.0]
    assert is_last_p(mg.tensor([0, 2, 0, -1]), length=3).tolist() == [False, False, True, True]


def test_at_set_casts_to_xs_dtype():
    x = mg.tensor([1.0, 2.0])
    assert mg.at_set(x, 0, np.float64(0.1)).dtype == np.float32
    assert mg.at_set(mg.tensor([1.0, 2.0], dtype="float64"), [0], 0.1).tolist() == [0.1, 2.0]
    assert mg.at_set(mg.tensor([1, 2]), 0, True).tolist() == [1, 2]
    assert x.tolist() == [1.0, 2.0]


def test_iteration_gives_rows():
    assert [row.tolist() for row in mg.tensor([[1, 2], [3, 4]])] == [[1, 2], [3, 4]]


def test_a_masks_count_is_held_to():
    with pytest.raises(errors.ArgumentError, match="2 true elements, expected 1"):
        flatnonzero_p(mg.tensor([True, True]), count=1)


X = Tensor(np.arange(12.0).reshape(3, 4))
RANGE, SHAPE, DTYPE = errors.IndexRangeError, errors.ShapeError, errors.DTypeError
ERRORS = [
    (lambda: X[3], RANGE, "getitem: index 3 is out of range for axis 0 of length 3"),
    (lambda: X[..., None, -5], RANGE, "getitem: index -5 is out of range for axis 1 of length 4"),
    (lambda: X[0, 0, 0], RANGE, r"getitem: the key has 3 indices for a tensor of shape \(3, 4\)"),
    (lambda: X[[0], 0, 0], RANGE, r"the key has 3 indices for a tensor of shape \(3, 4\)"),
    (lambda: X[..., ...], RANGE, "more than one Ellipsis"),
    (lambda: X[..., [0], ...], RANGE, "more than one Ellipsis"),
    (lambda: X[1.0], DTYPE, "getitem: the key has 1.0, expected"),
    (lambda: X["a"], DTYPE, "the key has 'a'"),
    (lambda: [X[0:2], X[0:2.0]], DTYPE, "the key has 2.0"),
    (lambda: X[::0], errors.ArgumentError, "step 0"),
    (lambda: X[[0, 3]], RANGE, "getitem: index 3 is out of range for axis 0 of length 3"),
    (lambda: X[:, [0, -5]], RANGE, "getitem: index -5 is out of range for axis 1 of length 4"),
    (lambda: X[None, 0, [4]], RANGE, "getitem: index 4 is out of range for axis 1 of length 4"),
    (lambda: X[[0, 1], [0, 7]], RANGE, "getitem: index 7 is out of range for axis 1 of length 4"),
    (lambda: X[[0], 5], RANGE, "getitem: index 5 is out of range for axis 1 of length 4"),
    (lambda: Tensor(np.ones((3, 0)))[[3]], RANGE, "index 3 is out of range for axis 0 of length 3"),
    (lambda: Tensor(np.ones((0, 3)))[[0]], RANGE, "index 0 is out of range for axis 0 of length 0"),
    (lambda: mg.tensor(1.0)[[0]], RANGE, r"1 indices for a tensor of shape \(\)"),
    (lambda: X[[0.5]], DTYPE, "getitem: indices have dtype float64"),
    (lambda: X[X], DTYPE, "getitem: indices have dtype float64"),
    (lambda: X[np.ones(4, bool)], SHAPE, r"the mask has shape \(4,\), expected \(3,\) as of axis 0"),
    (lambda: X[:, np.ones((4, 1), bool)], RANGE, "3 indices"),
    (lambda: X[np.ones((3, 3), bool)], SHAPE, r"the mask has shape \(3, 3\), expected \(3, 4\) as of axis 0"),
    (lambda: X[[0, 1], [0, 1, 2]], SHAPE, r"index arrays of shapes \(2,\) and \(3,\) do not broadcast"),
    (lambda: X[[[1, 2], [1]]], SHAPE, "unequal length"),
    (lambda: mg.take(X, [12]), RANGE, "take: index 12 is out of range for axis 0 of length 12"),
    (lambda: mg.take(X, [0], 2), SHAPE, "take: axis 2 is out of range"),
    (lambda: mg.take(X, [0], 0.5), errors.ArgumentTypeError, "take: axis is 0.5"),
    (lambda: mg.take(X, [True]), DTYPE, "take: indices has dtype bool"),
    (lambda: mg.take(X, [1.0]), DTYPE, "take: indices have dtype float64"),
    (lambda: mg.take_along_axis(X, [[4]], 1), RANGE, "take_along_axis: index 4 is out of range for axis 1 of length 4"),
    (lambda: mg.take_along_axis(X, [[0, 3], [0, 0]], 0), SHAPE, "which do not broadcast but for axis 0"),
    (lambda: mg.take_along_axis(X, [0], 0), SHAPE, r"indices has shape \(1,\), expected 2 dimensions"),
    (lambda: mg.one_hot([0, 3], 3), RANGE, "one_hot: labels has 3, expected labels from 0 to 2"),
    (lambda: mg.one_hot([-1], 3), RANGE, "one_hot: labels has -1"),
    (lambda: mg.one_hot([0.0], 3), DTYPE, "one_hot: labels has dtype float32"),
    (lambda: mg.one_hot([0], 0), errors.ArgumentError, "one_hot: classes is 0"),
    (lambda: mg.one_hot([0], 1.5), errors.ArgumentTypeError, "one_hot: classes is 1.5"),
    (lambda: mg.at_set(X, 3, 0), RANGE, "at_set: index 3 is out of range for axis 0"),
    (lambda: mg.at_set(X, [3], 0), RANGE, "at_set: index 3 is out of range for axis 0"),
    (lambda: mg.at_set(X, ([0], 4), 0), RANGE, "at_set: index 4 is out of range for axis 1 of length 4"),
    (lambda: mg.at_add(X, 3, 0), RANGE, "at_add: index 3 is out of range for axis 0"),
    (lambda: mg.at_add(X, ([0], [4]), 0), RANGE, "at_add: index 4 is out of range for axis 1 of length 4"),
    (lambda: mg.at_add(X, 1.0, 0), DTYPE, "at_add: the key has 1.0"),
    (lambda: mg.at_set(X, 0, np.ones(3)), SHAPE, r"at_set: values has shape \(3,\), expected \(4,\)"),
    (lambda: mg.at_set(X, [0], np.ones(3)), SHAPE, r"at_set: values has shape \(3,\), expected \(1, 4\)"),
    (lambda: mg.at_add(X, 0, np.ones((1, 4))), SHAPE, r"at_add: values has shape \(1, 4\), expected \(4,\)"),
    (lambda: mg.at_set(mg.tensor([1, 2]), 0, 0.5), DTYPE, "values has dtype float64, which int64 can't hold"),
    (lambda: put_p(X, mg.tensor([5]), X[:1], axis=0), RANGE, "put: index 5"),
    (lambda: take_p(X, mg.tensor([0]), axis=-1), SHAPE, "take: axis -1"),
]


@pytest.mark.parametrize("i", range(len(ERRORS)))
def test_errors(i):
    call, kind, match = ERRORS[i]
    with pytest.raises(kind, match=match):
        call()
