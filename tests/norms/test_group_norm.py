"""Group and instance normalization as functions: any layout and number of groups, mistakes, and their relations."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from norm_cases import close

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def by_loops(x, gamma, beta, groups, axis, epsilon):
    """Group norm as the paper says it, a sample and a group at a time."""
    x = np.moveaxis(x.astype(np.longdouble), axis, 1)
    y = np.empty_like(x)
    size = x.shape[1] // groups
    for n in range(len(x)):
        for g in range(groups):
            part = x[n, g * size : (g + 1) * size]
            y[n, g * size : (g + 1) * size] = (part - part.mean()) / np.sqrt(part.var() + epsilon)
    table = (1, -1, *[1] * (x.ndim - 2))
    return np.moveaxis(y * gamma.reshape(table) + beta.reshape(table), 1, axis)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_shape_channel_axis_and_number_of_groups(data):
    groups, size = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    rest = data.draw(st.lists(st.integers(1, 5), max_size=3))
    axis = data.draw(st.integers(1, len(rest) + 1))
    shape = [data.draw(st.integers(1, 4)), *rest]
    shape.insert(axis, groups * size)
    signed = axis - len(shape) if data.draw(st.booleans()) else axis
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x, (gamma, beta) = rng.standard_normal(shape), rng.standard_normal((2, groups * size))
    close(
        norms.group_norm(x, gamma, beta, groups, signed, 0.01), by_loops(x, gamma, beta, groups, axis, 0.01), units=64
    )
    close(
        norms.instance_norm(x, gamma, beta, signed, 0.01),
        by_loops(x, gamma, beta, groups * size, axis, 0.01),
        units=64,
    )


def test_groups_of_minus_one_and_of_one_channel_are_instance_norm():
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)
    want = norms.instance_norm(x).numpy()
    np.testing.assert_array_equal(norms.group_norm(x, groups=-1).numpy(), want)
    np.testing.assert_array_equal(norms.group_norm(x, groups=6).numpy(), want)


def test_both_data_formats_agree():
    rng = np.random.default_rng(1)
    x, gamma, beta = rng.standard_normal((2, 6, 3, 5)), rng.standard_normal(6), rng.standard_normal(6)
    last = norms.group_norm(np.moveaxis(x, 1, -1), gamma, beta, 3).numpy()
    close(np.moveaxis(last, -1, 1), norms.group_norm(x, gamma, beta, 3, 1).numpy())


def test_groups_do_not_see_each_other():
    """A change in one group leaves the others and their gradients alone."""
    x = np.random.default_rng(2).standard_normal((2, 3, 6))
    other = x.copy()
    other[1, 0, 2] -= 3
    a, b = (norms.group_norm(v, groups=3).numpy() for v in (x, other))
    own = np.zeros(x.shape, bool)
    own[1, :, 2:4] = True
    assert np.all(a[own] != b[own])
    np.testing.assert_array_equal(a[~own], b[~own])
    slope = mg.grad(lambda t: norms.group_norm(t, groups=3)[1, 0, 2])(mg.tensor(x)).numpy()
    assert np.all(slope[own] != 0)
    assert not slope[~own].any()


def test_one_position_a_channel_gives_beta():
    x = np.random.default_rng(3).standard_normal((4, 1, 1, 3)).astype(np.float32)
    beta = np.array([1.0, -2.0, 0.5], np.float32)
    np.testing.assert_array_equal(norms.instance_norm(x, np.ones(3), beta).numpy(), np.broadcast_to(beta, x.shape))


def test_mistakes_are_named():
    x = np.ones((2, 4, 4, 30), np.float32)
    message = r"group_norm: the 30 channels at axis 3 of x with shape \(2, 4, 4, 30\) can't be cut into 32 groups"
    with pytest.raises(ShapeError, match=message):
        norms.group_norm(x)
    with pytest.raises(ShapeError, match="can't be cut into 7 groups"):
        norms.group_norm(x, groups=7)
    for bad in (0, -2, 1.5, "2", True):
        with pytest.raises(ArgumentError, match=f"group_norm: groups is {bad!r}, expected a positive integer, or -1"):
            norms.group_norm(x, groups=bad)
    with pytest.raises(ShapeError, match="instance_norm: axis 4 is out of range for 4 dimensions"):
        norms.instance_norm(x, axis=4)
    with pytest.raises(ShapeError, match=r"instance_norm: axis 0 of x with shape \(2, 4, 4, 30\) is the samples'"):
        norms.instance_norm(x, axis=0)
    with pytest.raises(ShapeError, match=r"group_norm: axis 0 of x with shape \(30,\) is the samples'"):
        norms.group_norm(np.ones(30), groups=3)
    for bad in ((1, 2), [1], None):
        with pytest.raises(ArgumentTypeError, match=r"instance_norm: axis is .*, expected one integer"):
            norms.instance_norm(x, axis=bad)
    with pytest.raises(
        ShapeError, match=r"instance_norm: beta has shape \(4,\), expected \(30,\) to match the channels"
    ):
        norms.instance_norm(x, None, np.ones(4))
    with pytest.raises(ArgumentError, match="group_norm: epsilon is -1"):
        norms.group_norm(x, groups=2, epsilon=-1)
