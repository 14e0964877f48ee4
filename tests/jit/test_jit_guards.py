"""When a jitted function records anew, and what it refuses to record."""

import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, CaptureError


def test_other_shapes_and_dtypes_are_recorded_anew():
    f = mg.jit(lambda x: (x * x).sum())
    for n in (3, 4, 3, 4):
        assert f(mg.tensor(np.full(n, 2.0))).item() == 4 * n
    assert f.recordings == 2
    assert f(mg.tensor(np.full(3, 2.0), "float32")).dtype == np.float32
    assert f.recordings == 3


@pytest.mark.parametrize("pair", [(1, 2), (1, True), (1, 1.0), (0.0, -0.0), ("a", "b"), ((1, 2), [1, 2]), (None, 0)])
def test_python_arguments_count_by_value(pair):
    f = mg.jit(lambda x, option: (x * 1, option))
    x = mg.tensor([1.0])
    for option in (*pair, *pair):
        got = f(x, option)[1]
        assert repr(got) == repr(option)
    assert f.recordings == 2


def test_nan_is_one_value():
    f = mg.jit(lambda x, number: x * number)
    for _ in range(3):
        assert np.isnan(f(mg.tensor([1.0]), float("nan")).item())
    assert f.recordings == 1


def test_objects_count_by_identity():
    class Scale:
        def __init__(self, factor):
            self.factor = factor

    f = mg.jit(lambda x, scale: x * scale.factor)
    one, two = Scale(1.0), Scale(2.0)
    assert [f(mg.tensor([3.0]), s).item() for s in (one, two, one, two)] == [3.0, 6.0, 3.0, 6.0]
    assert f.recordings == 2
    one.factor = 5.0
    assert f(mg.tensor([3.0]), one).item() == 3.0  # as documented: what objects hold is read at the recording
    f.clear()
    assert f(mg.tensor([3.0]), one).item() == 15.0


def test_variables_as_arguments():
    f = mg.jit(lambda v, x: v * x)
    a, b = mg.Variable([1.0]), mg.Variable([2.0])
    x = mg.tensor([3.0])
    with mg.no_grad():
        assert [f(v, x).item() for v in (a, b, a, b)] == [3.0, 6.0, 3.0, 6.0]
        a.assign([10.0])
        assert f(a, x).item() == 30.0


def test_devices_and_no_grad_are_recorded_apart():
    v = mg.Variable([2.0])
    f = mg.jit(lambda x: v * x)
    x = mg.tensor([3.0])
    assert f(x).requires_grad
    with mg.no_grad():
        assert not f(x).requires_grad
        assert not f(x).requires_grad
    assert f(x).requires_grad
    with mg.on_device("reference"):
        assert f(x).item() == 6.0
        assert f(x).item() == 6.0
    assert f.recordings == 3


def test_too_many_signatures_warn_and_run_without_jit():
    calls = []
    f = mg.jit(lambda x: calls.append(1) or x.sum(), limit=2)
    for n in (1, 2):
        f(mg.tensor(np.ones(n)))
    with pytest.warns(
        RuntimeWarning, match=r"recorded 2 times.*test_jit_guards.py:\d+: argument 0 is float64\(3,\), was"
    ):
        assert f(mg.tensor(np.ones(3))).item() == 3.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert f(mg.tensor(np.ones(4))).item() == 4.0  # the warning comes once
        assert f(mg.tensor(np.full(2, 3.0))).item() == 6.0
    assert len(calls) == 4
    assert f.recordings == 2


# What can't be recorded


def test_a_branch_on_a_value_names_its_line():
    def step(x):
        y = x.sum()
        if y > 0:
            return y
        return -y

    line = step.__code__.co_firstlineno + 2
    with pytest.raises(
        CaptureError, match=rf"step turns a tensor of shape \(\) into a truth value at .*test_jit_guards.py:{line},"
    ):
        mg.jit(step)(mg.tensor([1.0]))


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.numpy(),
        lambda x: np.asarray(x),
        lambda x: np.asarray(x, "float64"),
        lambda x: np.array(x, copy=True),
        lambda x: np.from_dlpack(x),
        lambda x: x[0].item(),
        lambda x: float(x[0]),
        lambda x: int(x[0]),
        lambda x: bool(x[0]),
        lambda x: x.tolist(),
        lambda x: mg.tensor(x),
        lambda x: mg.Variable(x),
        lambda x: x[x > 0],
        lambda x: [1, 2, 3][x.astype("int64")[0]],
        lambda x: x.detach().numpy(),
    ],
)
@pytest.mark.parametrize("kind", ["argument", "computed", "Variable"])
def test_conversions_of_what_varies_are_refused(convert, kind):
    v = mg.Variable([1.0, 2.0])

    def step(x):
        convert({"argument": x, "computed": x + 1, "Variable": v}[kind])

    if kind == "Variable" and "Variable(x)" in str(convert):
        pytest.skip("a copy of a Variable")
    with pytest.raises(CaptureError, match=r"at .*test_jit_guards\.py:\d+, where"):
        mg.jit(step)(mg.tensor([1.0, 2.0]))
    assert mg.tensor([1.0]).item() == 1.0  # nothing is left that watches


def test_constants_may_be_converted():
    def step(x):
        table = mg.tensor([1.0, 2.0])
        return x * (table * 2).sum().item()

    f = mg.jit(step)
    assert [f(mg.tensor([n])).item() for n in (1.0, 2.0)] == [6.0, 12.0]


def test_a_differentiable_tensor_from_outside_is_refused():
    w = mg.tensor([2.0], requires_grad=True)
    with pytest.raises(CaptureError, match="from outside that requires gradients"):
        mg.jit(lambda x: x * w)(mg.tensor([1.0]))


def test_arguments_of_jit():
    with pytest.raises(ArgumentTypeError, match="takes a function, got int"):
        mg.jit(3)
    with pytest.raises(ArgumentError, match="limit is 0"):
        mg.jit(abs, limit=0)
    with pytest.raises(ArgumentError, match="no recording yet"):
        mg.jit(abs).plan()
