"""Exponential moving averages of Variables and tensors."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError


def test_variables_start_at_their_value_and_tensors_at_0():
    rng = np.random.default_rng(0)
    w = mg.Variable(rng.standard_normal((2, 3)), name="w")
    averages = norms.ExponentialMovingAverage(0.9)
    shadow, of_tensor = w.numpy().copy(), np.zeros(4)
    for _ in range(5):
        w.assign(rng.standard_normal((2, 3)))
        value = mg.tensor(rng.standard_normal(4))
        if _ == 0:
            shadow = w.numpy().copy()
        averages.apply([w, value])
        shadow -= 0.1 * (shadow - w.numpy())
        of_tensor -= 0.1 * (of_tensor - value.numpy())
        np.testing.assert_allclose(averages.average(w).numpy(), shadow, rtol=1e-13)
        np.testing.assert_allclose(averages.average(value).numpy(), of_tensor, rtol=1e-13)
    assert isinstance(averages.average(w), mg.Variable)
    assert not averages.average(w).trainable
    np.testing.assert_array_equal(averages.average(1).numpy(), averages.average(value).numpy())


@pytest.mark.parametrize("as_variable", [True, False])
def test_num_updates_shortens_the_memory(as_variable):
    n = mg.Variable(0, name="step") if as_variable else 0
    averages = norms.ExponentialMovingAverage(0.5, num_updates=n)
    shadow = 0.0
    for step in range(12):
        if as_variable:
            n.assign(step)
        else:
            averages.num_updates = step
        averages.apply({"loss": mg.tensor(float(step + 1), "float64")})
        d = min(0.5, (1 + step) / (10 + step))
        shadow -= (1 - d) * (shadow - (step + 1))
        assert averages.average("loss").item() == pytest.approx(shadow, rel=1e-14)


@pytest.mark.parametrize("num_updates", [None, 3])
def test_zero_debias_frees_tensors_of_their_start(num_updates):
    rng = np.random.default_rng(1)
    averages = norms.ExponentialMovingAverage(0.999, num_updates, zero_debias=True)
    d = 0.999 if num_updates is None else 4 / 13
    values, w = rng.standard_normal((4, 3)), mg.Variable([1.0, 2.0])
    for t in range(1, 5):
        averages.apply({"v": mg.tensor(values[t - 1]), "w": w})
        weights = d ** np.arange(t)[::-1]
        want = (weights[:, None] * values[:t]).sum(0) / weights.sum()
        np.testing.assert_allclose(averages.average("v").numpy(), want, rtol=1e-11)
    assert averages.average(w).tolist() == [1.0, 2.0]  # a Variable's needs no debiasing


def test_zero_debias_keeps_its_digits_in_float32():
    averages = norms.ExponentialMovingAverage(0.9999, zero_debias=True)
    averages.apply({"v": mg.tensor([0.1, 3.0])})
    np.testing.assert_allclose(averages.average("v").numpy(), np.array([0.1, 3.0], np.float32), rtol=3e-7)


@pytest.mark.parametrize("zero_debias", [True, False])
def test_what_is_not_finite_leaves_its_average(zero_debias):
    averages = norms.ExponentialMovingAverage(0.5, zero_debias=zero_debias)
    averages.apply([mg.tensor([1.0, 1.0, 1.0])])
    averages.apply([mg.tensor([1.0, np.nan, np.inf])])
    got = averages.average(0).numpy()
    assert got.tolist() == ([1.0, 1.0, 1.0] if zero_debias else [0.75, 0.5, 0.5])
    averages.apply([mg.tensor([1.0, 1.0, 1.0])])
    assert averages.average(0).numpy().tolist() == ([1.0] * 3 if zero_debias else [0.875, 0.75, 0.75])


def test_names_and_what_is_not_there():
    averages = norms.ExponentialMovingAverage(0.9, name="ema")
    w, twin, nameless = mg.Variable([1.0], name="w"), mg.Variable([2.0], name="w"), mg.Variable([3.0])
    assert averages.average(w) is None
    assert averages.average("w") is None
    assert averages.average_name(w) == "w/ema"
    with pytest.raises(ArgumentError, match="has no name"):
        averages.average_name(nameless)
    averages.apply([w, twin, nameless])
    assert list(averages.variables) == ["w/ema", "w_1/ema", "2/ema"]
    assert averages.variables["w_1/ema"] is averages.average(twin)
    assert averages.average_name(twin) == "w_1/ema"
    assert averages.average_name(nameless) == "2/ema"


def test_the_default_is_what_trains_in_the_store():
    with norms.VariableStore():
        w = norms.get_variable("w", (2,))
        norms.get_variable("state", (2,), trainable=False)
        averages = norms.ExponentialMovingAverage(0.9)
        averages.apply()
    assert list(averages.variables) == ["w/ExponentialMovingAverage"]
    np.testing.assert_array_equal(averages.average(w).numpy(), w.numpy())


def test_tensors_are_not_kept_alive():
    import gc
    import weakref

    averages = norms.ExponentialMovingAverage(0.9)
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    value = x * x
    seen = weakref.ref(value)
    averages.apply([value])
    del value
    gc.collect()
    assert seen() is None


def test_bad_arguments():
    with pytest.raises(ArgumentError, match=r"decay is 1.5, expected a number in \[0, 1\]"):
        norms.ExponentialMovingAverage(1.5)
    with pytest.raises(ArgumentTypeError, match="num_updates is 'many'"):
        norms.ExponentialMovingAverage(0.9, num_updates="many")
    averages = norms.ExponentialMovingAverage(0.9)
    with pytest.raises(ArgumentTypeError, match="0 has dtype int64, expected a float"):
        averages.apply([mg.tensor([1, 2])])
    averages.apply([mg.tensor([1.0, 2.0])])
    with pytest.raises(ShapeError, match=r"'0' is float32\(3,\), expected float32\(2,\) as before"):
        averages.apply([mg.tensor([1.0, 2.0, 3.0])])
