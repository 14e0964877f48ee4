"""Axes: normalization, and the merged form of reductions."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigrad import axes
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


@pytest.mark.parametrize(
    ("given_axes", "ndim", "expected"),
    [
        (None, 3, (0, 1, 2)),
        (None, 0, ()),
        ((), 3, ()),
        (1, 3, (1,)),
        (-1, 3, (2,)),
        ((2, 0), 3, (0, 2)),
        ([-1, 0], 3, (0, 2)),
        (np.int64(1), 2, (1,)),
        ((np.int32(-2),), 2, (0,)),
        (range(2), 3, (0, 1)),
    ],
)
def test_normalize(given_axes, ndim, expected):
    found = axes.normalize("mean", given_axes, ndim)
    assert found == expected
    assert all(type(a) is int for a in found)


@pytest.mark.parametrize(
    ("given_axes", "ndim", "error", "match"),
    [
        (3, 3, ShapeError, "mean: axis 3 is out of range for 3 dimensions"),
        (-4, 3, ShapeError, "mean: axis -4 is out of range"),
        (0, 0, ShapeError, "mean: axis 0 is out of range for 0 dimensions"),
        ((0, 0), 2, ArgumentError, "names an axis twice"),
        ((0, -2), 2, ArgumentError, "names an axis twice"),
        (1.0, 2, ArgumentTypeError, "expected integers or None"),
        ("01", 2, ArgumentTypeError, "expected integers or None"),
        ((0, "1"), 2, ArgumentTypeError, "expected integers or None"),
    ],
)
def test_normalize_refuses(given_axes, ndim, error, match):
    with pytest.raises(error, match=match):
        axes.normalize("mean", given_axes, ndim)


def test_normalize_names_the_argument():
    with pytest.raises(ShapeError, match="batch_norm: axes 7"):
        axes.normalize("batch_norm", 7, 2, argument="axes")


@pytest.mark.parametrize(
    ("shape", "reduced", "expected"),
    [
        ((32, 64), (0,), (1, 32, 64, 1)),  # batch norm
        ((32, 8, 9, 64), (0, 1, 2), (1, 32 * 72, 64, 1)),
        ((32, 64, 8, 9), (0, 2, 3), (1, 32, 64, 72)),
        ((5, 7), (1,), (5, 1, 1, 7)),  # layer norm
        ((6, 8, 9, 4), (1, 2), (6, 72, 4, 1)),  # instance norm
        ((6, 4, 8, 9), (2, 3), (24, 1, 1, 72)),
        ((6, 8, 9, 4, 5), (1, 2, 4), (6, 72, 4, 5)),  # group norm
        ((), (), (1, 1, 1, 1)),
        ((5,), (0,), (1, 1, 1, 5)),
        ((5,), (), (5, 1, 1, 1)),
        ((1, 1), (0,), (1, 1, 1, 1)),
        ((1, 5, 1, 3), (1,), (1, 5, 3, 1)),
        ((0, 3), (0,), (1, 0, 3, 1)),
    ],
)
def test_canonical(shape, reduced, expected):
    form = axes.canonical(shape, reduced)
    assert tuple(form[:4]) == expected
    assert form.permutation is None
    assert form.groups == expected[0] * expected[2]
    assert form.extent == expected[1] * expected[3]


def check_form(shape, reduced):
    """Reducing in the merged form gives what reducing the array does."""
    x = np.random.default_rng(len(shape)).standard_normal(shape)
    form = axes.canonical(shape, reduced)
    moved = x if form.permutation is None else x.transpose(form.permutation)
    got = moved.reshape(form[:4]).sum((1, 3))
    expected = x.sum(reduced)
    np.testing.assert_allclose(got.reshape(expected.shape), expected, atol=1e-12)
    assert (form.groups, form.extent) == (expected.size, int(np.prod([shape[a] for a in reduced])))
    assert axes.reduced_shape(shape, reduced, False) == expected.shape
    assert axes.reduced_shape(shape, reduced, True) == x.sum(reduced, keepdims=True).shape


@pytest.mark.parametrize("kept", list(product([False, True], repeat=6)))
def test_every_pattern_of_six_axes(kept):
    check_form((2, 3, 2, 3, 2, 2), tuple(i for i, k in enumerate(kept) if not k))


@given(st.lists(st.integers(1, 4), max_size=6), st.data())
def test_any_shape(shape, data):
    reduced = data.draw(st.sets(st.sampled_from(range(len(shape)))) if shape else st.just(set()))
    check_form(tuple(shape), tuple(sorted(reduced)))


def test_at_most_one_transposition_is_asked_for():
    form = axes.canonical((2, 3, 5, 7, 11), (0, 2, 4))
    assert form.permutation == (1, 3, 0, 2, 4)
    assert form[:4] == (21, 1, 1, 110)
