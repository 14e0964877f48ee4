"""Tensor and Variable: conversions, immutability, NumPy's behaviour under operators, errors."""

import copy

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, GradientError, ShapeError


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1.5, "float32"),
        ([1, 2], "int64"),
        ([True], "bool"),
        (np.float64(1), "float64"),
        (np.arange(3, dtype="int16"), "int16"),
        (np.arange(3, dtype=">f8"), "float64"),
        ([[1.0], [2.0]], "float32"),
    ],
)
def test_tensor_takes_what_numpy_takes(value, dtype):
    t = mg.tensor(value)
    assert t.dtype == dtype
    assert t.dtype.isnative
    np.testing.assert_array_equal(t.numpy(), value)


def test_tensor_copies():
    a = np.ones(3)
    t = mg.tensor(a)
    a[0] = 7
    assert t.tolist() == [1.0, 1.0, 1.0]


def test_numpy_is_read_only_and_asarray_works():
    t = mg.tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="read-only"):
        t.numpy()[0] = 5
    with pytest.raises(ValueError, match="read-only"):
        np.asarray(t)[0] = 5
    np.array(t)[0] = 5
    assert t.tolist() == [1.0, 2.0]
    assert np.asarray(t, "float64").dtype == np.float64


def test_dlpack_gives_and_takes():
    t = mg.tensor([1.0, 2.0])
    back = np.from_dlpack(t)
    np.testing.assert_array_equal(back, [1.0, 2.0])

    class Foreign:
        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    source = np.arange(3.0)
    taken = mg.tensor(Foreign(source))
    source[0] = 9
    assert taken.tolist() == [0.0, 1.0, 2.0]


def test_operators_behave_as_numpy_does():
    a, b = np.array([[1.0, -2.0, 3.0]]), np.array([[2.0], [4.0]])
    x, y = mg.tensor(a), mg.tensor(b)
    pairs = [
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (y**x, b**a),
        (2 - x, 2 - a),
        (2 / y, 2 / b),
        (2**y, 2**b),
        (-x, -a),
        (abs(x), abs(a)),
        (y @ x, b @ a),
        (b @ x, b @ a),
        (a + y, a + b),
        (a * y, a * b),
        (x < y, a < b),
        (x <= 1, a <= 1),
        (x > y, a > b),
        (x >= y, a >= b),
        (x == a, a == a),
        (x != y, a != b),
    ]
    for got, want in pairs:
        assert isinstance(got, mg.Tensor)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.numpy(), want)


@pytest.mark.parametrize("left", ["float32", "float64", "int32", "int64", "bool"])
@pytest.mark.parametrize("right", ["float32", "float64", "int32", "int64", "bool"])
def test_promotion_is_numpys(left, right):
    a, b = np.ones(2, left), np.ones(2, right)
    for op in ("add", "multiply", "divide"):
        want = getattr(np, op)(a, b).dtype
        assert getattr(mg, op)(mg.tensor(a), mg.tensor(b)).dtype == want
    assert (mg.tensor(a) * 2.5).dtype == (a * 2.5).dtype
    assert (mg.tensor(a) + 1).dtype == (a + 1).dtype


def test_tensors_do_not_change_in_place():
    t = mg.tensor([1.0, 2.0])
    with pytest.raises(ArgumentTypeError, match="in place"):
        t[0] = 5.0
    u = t
    u += 1
    assert t.tolist() == [1.0, 2.0]
    assert u.tolist() == [2.0, 3.0]


def test_scalars_convert():
    assert float(mg.tensor(1.5)) == 1.5
    assert int(mg.tensor(3)) == 3
    assert [10, 20, 30][mg.tensor(1)] == 20
    assert bool(mg.tensor([True]))
    with pytest.raises(ShapeError, match=r"\(2,\), expected one element"):
        mg.tensor([1.0, 2.0]).item()
    with pytest.raises(ShapeError, match="truth value"):
        bool(mg.tensor([1.0, 2.0]))
    with pytest.raises(DTypeError, match="not an integer scalar"):
        [1, 2][mg.tensor(1.0)]


def test_length_iteration_and_hash():
    t = mg.tensor([[1.0], [2.0]])
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1.0], [2.0]]
    assert len({t, t}) == 1
    with pytest.raises(ShapeError, match="no length"):
        len(mg.tensor(1.0))


def test_what_is_no_number_is_refused():
    with pytest.raises(DTypeError, match="expected numbers"):
        mg.tensor(["a"])
    with pytest.raises(DTypeError, match="expected numbers"):
        mg.tensor(None)
    with pytest.raises(ShapeError, match="unequal length"):
        mg.tensor([[1.0], [1.0, 2.0]])
    with pytest.raises(DTypeError, match="names no dtype"):
        mg.tensor([1.0], dtype="nonsense")
    with pytest.raises(DTypeError, match="numbers and booleans"):
        mg.tensor([1.0], dtype="datetime64[s]")
    with pytest.raises(ArgumentTypeError, match=r"minigrad\.tensor converts"):
        mg.Tensor([1.0])


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64"])
def test_only_floats_require_gradients(dtype):
    with pytest.raises(DTypeError, match="requires_grad needs a floating-point dtype"):
        mg.tensor(np.ones(2, dtype), requires_grad=True)
    assert not mg.Variable(np.ones(2, dtype)).trainable


def test_grad_can_be_set_to_what_fits():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    x.grad = mg.tensor([1.0, 1.0])
    (2 * x).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]
    x.grad = None
    with pytest.raises(ShapeError, match=r"expected float32\(2,\)"):
        x.grad = mg.tensor([1.0])
    with pytest.raises(GradientError, match="only a leaf"):
        mg.tensor([1.0]).grad = mg.tensor([1.0])
    assert (2 * x).grad is None


def test_what_can_not_be_assigned_is_told_and_changes_nothing():
    v = mg.Variable([1.0, 2.0])
    for value, error in [
        ("a", DTypeError),
        (None, DTypeError),
        ([[1.0], [2.0, 3.0]], ShapeError),
        ([1.0] * 3, ShapeError),
    ]:
        with pytest.raises(error):
            v.assign(value)
    with pytest.raises(ArgumentTypeError, match="grad: got ndarray, expected a Tensor"):
        v.grad = np.ones(2, np.float32)
    assert v.tolist() == [1.0, 2.0]
    assert v.grad is None
    wide = mg.Variable(np.array([0.0]))
    wide.assign(0.1)  # not by way of float32
    assert wide.item() == 0.1


def test_variables_assign_in_place_and_broadcast():
    v = mg.Variable([[1.0, 2.0], [3.0, 4.0]], name="v")
    view = v.numpy()
    v.assign([5.0, 6.0])
    assert view.tolist() == [[5.0, 6.0], [5.0, 6.0]]
    v.assign(mg.tensor(0, dtype="int64"))
    assert v.numpy().sum() == 0
    with pytest.raises(ShapeError, match=r"value has shape \(3,\), expected \(2, 2\)"):
        v.assign([1.0, 2.0, 3.0])
    with pytest.raises(ArgumentTypeError, match="takes a Variable"):
        mg.ops.assign(mg.tensor([1.0]), [2.0])


def test_assigning_a_variable_to_its_own_view():
    v = mg.Variable([1.0, 2.0, 3.0])
    v.assign(v[::-1])
    assert v.tolist() == [3.0, 2.0, 1.0]


def test_variables_deepcopy_and_show():
    v = mg.Variable([1.0], name="scale")
    twin = copy.deepcopy(v)
    twin.assign([2.0])
    assert v.tolist() == [1.0]
    assert twin.name == "scale"
    assert twin.trainable
    assert repr(v) == "<Variable scale: tensor([1.], dtype=float32, requires_grad=True)>"


def test_dlpack_of_a_wrong_copy_request():
    with pytest.raises(ArgumentError, match="needs a copy"):
        mg.tensor([1.0]).__array__(np.float64, copy=False)
