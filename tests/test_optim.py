"""Optimizers: every element against recurrences written in NumPy, schedules, clipping, and bad input."""

import copy
import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentError, ArgumentTypeError, GradientError, MissingRuleError, ShapeError
from minigrad.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop, clip_by_global_norm, cosine_decay, step_decay

SHAPES = [(3, 4), (), (0,), (7,), (131, 257)]  # the last is worked on in several chunks


def sgd(p, g, state, t, lr, momentum=0.0, nesterov=False, weight_decay=0.0):
    g = g + weight_decay * p
    state["v"] = momentum * state.get("v", 0.0) - lr * g
    return p + (momentum * state["v"] - lr * g if nesterov else state["v"])


def adam(
    p, g, state, t, lr=0.001, beta1=0.9, beta2=0.999, epsilon=1e-7, weight_decay=0.0, decoupled=False, epsilon_hat=False
):
    if decoupled:
        p = p - lr * weight_decay * p
    else:
        g = g + weight_decay * p
    state["m"] = beta1 * state.get("m", 0.0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0.0) + (1 - beta2) * g**2
    m, v = state["m"] / (1 - beta1**t), state["v"] / (1 - beta2**t)
    epsilon = epsilon / np.sqrt(1 - beta2**t) if epsilon_hat else epsilon
    return p - lr * m / (np.sqrt(v) + epsilon)


def adamw(p, g, state, t, **options):
    return adam(p, g, state, t, decoupled=True, **options)


def rmsprop(p, g, state, t, lr=0.001, rho=0.9, momentum=0.0, epsilon=1e-7, weight_decay=0.0):
    g = g + weight_decay * p
    state["s"] = rho * state.get("s", 0.0) + (1 - rho) * g**2
    state["v"] = momentum * state.get("v", 0.0) + lr * g / np.sqrt(state["s"] + epsilon)
    return p - state["v"]


def adagrad(p, g, state, t, lr=0.001, start=0.1, epsilon=1e-7, weight_decay=0.0):
    g = g + weight_decay * p
    state["a"] = state.get("a", start) + g**2
    return p - lr * g / np.sqrt(state["a"] + epsilon)


RULES = [
    (SGD, sgd, {"lr": 0.1}),
    (SGD, sgd, {"lr": 0.1, "weight_decay": 0.05}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.05}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True}),
    (SGD, sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True, "weight_decay": 0.05}),
    (Adam, adam, {}),
    (Adam, adam, {"lr": 0.1, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3}),
    (Adam, adam, {"lr": 0.1, "epsilon": 1e-3, "epsilon_hat": True}),
    (Adam, adam, {"lr": 0.1, "weight_decay": 0.05}),
    (Adam, adam, {"lr": 0.1, "beta1": 0.0, "beta2": 0.5}),
    (AdamW, adamw, {"lr": 0.1, "weight_decay": 0.05}),
    (RMSprop, rmsprop, {}),
    (RMSprop, rmsprop, {"lr": 0.1, "rho": 0.5, "momentum": 0.8, "epsilon": 1e-2, "weight_decay": 0.05}),
    (Adagrad, adagrad, {}),
    (Adagrad, adagrad, {"lr": 0.1, "start": 0.0, "epsilon": 1e-2, "weight_decay": 0.05}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("kind", "rule", "options"), RULES)
def test_against_recurrences(kind, rule, options, dtype):
    rng = np.random.default_rng(5)
    expected = [np.asarray(rng.standard_normal(shape)).astype(dtype).astype(np.float64) for shape in SHAPES]
    variables = [mg.Variable(p.astype(dtype)) for p in expected]
    states = [{} for _ in SHAPES]
    optimizer = kind(**options)
    for t in range(1, 8):
        gradients = [np.asarray(rng.standard_normal(shape)).astype(dtype) for shape in SHAPES]
        optimizer.update(variables, [mg.tensor(g) for g in gradients])
        for i, g in enumerate(gradients):
            expected[i] = rule(expected[i], g.astype(np.float64), states[i], t, **options)
        for variable, p in zip(variables, expected):
            assert variable.dtype == dtype
            tolerance = 3e-6 if dtype == "float32" else 1e-13
            np.testing.assert_allclose(variable.numpy(), p, rtol=tolerance, atol=tolerance)
    assert optimizer.steps.item() == 7


def test_strided_gradients():
    rng = np.random.default_rng(1)
    for kind in (SGD, Adam, RMSprop, Adagrad, lambda: SGD(0.1, momentum=0.9)):
        g = rng.standard_normal((6, 4))
        a, b = mg.Variable(np.zeros((3, 4))), mg.Variable(np.zeros((3, 4)))
        kind().update([a], [mg.Tensor(g[::-2])])
        kind().update([b], [mg.Tensor(g[::-2].copy())])
        np.testing.assert_array_equal(a.numpy(), b.numpy())
        assert a.numpy().all()


def test_a_missing_gradient_leaves_variable_and_slots():
    a, b = mg.Variable([1.0]), mg.Variable([1.0])
    optimizer = SGD(0.1, momentum=0.5)
    optimizer.update([a, b], [mg.tensor([1.0]), mg.tensor([1.0])])
    optimizer.update([a, b], [None, mg.tensor([1.0])])
    assert a.item() == pytest.approx(0.9)
    assert optimizer.slots[0][0].item() == pytest.approx(-0.1)
    assert b.item() == pytest.approx(0.9 - 0.15)


def test_step_takes_the_gradients_of_backward_and_clears_them():
    w, unused = mg.Variable([1.0, 2.0]), mg.Variable([5.0])
    optimizer = SGD(0.25)
    for _ in range(2):
        (w * w).sum().backward()
        optimizer.step([w, unused])
        assert w.grad is None
    np.testing.assert_array_equal(w.numpy(), [0.25, 0.5])
    assert unused.item() == 5


def test_the_learning_rate_is_state():
    w = mg.Variable([1.0])
    optimizer = SGD(0.5)
    optimizer.lr.assign(0.25)
    optimizer.update([w], [mg.tensor([1.0])])
    assert w.item() == 0.75
    assert list(optimizer.variables) == ["lr", "steps"]
    adam = Adam()
    adam.build([w, mg.Variable([[1.0, 2.0]])])
    names = ["lr", "steps", "slots/0/0", "slots/0/1", "slots/1/0", "slots/1/1"]
    assert list(adam.variables) == names
    assert adam.variables["slots/1/1"].shape == (1, 2)


def test_schedules():
    schedule = step_decay(1.0, 0.5, 2)
    assert [schedule(i) for i in range(5)] == [1.0, 1.0, 0.5, 0.5, 0.25]
    schedule = cosine_decay(2.0, 4, final=1.0)
    np.testing.assert_allclose(
        [schedule(i) for i in range(6)], [2, 1.5 + math.sqrt(0.125), 1.5, 1.5 - math.sqrt(0.125), 1, 1]
    )
    w = mg.Variable(np.array([0.0]))
    optimizer = SGD(step_decay(1.0, 0.5, 2))
    seen = []
    for _ in range(5):
        optimizer.update([w], [mg.tensor(np.array([1.0]))])
        seen.append(w.item())
    assert seen == [-1.0, -2.0, -2.5, -3.0, -3.25]
    assert optimizer.lr.item() == 0.25


def test_clipping_by_the_global_norm():
    gradients = [mg.tensor([3.0, 0.0]), None, mg.tensor([[4.0]])]
    clipped = clip_by_global_norm(gradients, 2.5)
    np.testing.assert_allclose(clipped[0].numpy(), [1.5, 0.0])
    assert clipped[1] is None
    np.testing.assert_allclose(clipped[2].numpy(), [[2.0]])
    assert clipped[0].dtype == np.float32
    np.testing.assert_array_equal(clip_by_global_norm(gradients, 5.0)[0].numpy(), gradients[0].numpy())
    assert clip_by_global_norm([], 1.0) == []
    large = [mg.tensor(np.full(3, 1e30, np.float32))]  # the square overflows float32
    np.testing.assert_allclose(clip_by_global_norm(large, 1.0)[0].numpy(), np.full(3, 3**-0.5), rtol=1e-6)


def test_clip_norm_of_an_optimizer():
    a, b = mg.Variable([0.0]), mg.Variable([0.0])
    SGD(1.0, clip_norm=1.0).update([a, b], [mg.tensor([3.0]), mg.tensor([4.0])])
    assert a.item() == pytest.approx(-0.6)
    assert b.item() == pytest.approx(-0.8)


def test_a_copy_goes_on_by_itself():
    w = mg.Variable([1.0])
    optimizer = Adam(0.1)
    optimizer.update([w], [mg.tensor([1.0])])
    other_w, other = copy.deepcopy((w, optimizer))
    other.update([other_w], [mg.tensor([1.0])])
    assert (optimizer.steps.item(), other.steps.item()) == (1, 2)
    assert w.item() == pytest.approx(0.9)
    optimizer.update([w], [mg.tensor([1.0])])
    assert w.item() == other_w.item()


def test_a_subclass_with_a_rule_of_its_own():
    class Sign(Optimizer):
        def change(self, variable, gradient, slots):
            variable.assign(variable - self.lr.astype(variable.dtype) * mg.sign(gradient))

    w = mg.Variable([1.0, 1.0])
    Sign(0.5).update([w], [mg.tensor([-3.0, 0.1])])
    np.testing.assert_array_equal(w.numpy(), [1.5, 0.5])
    with pytest.raises(MissingRuleError, match="Optimizer: defines no change"):
        Optimizer(0.5).update([w], [mg.tensor([1.0, 1.0])])

    class Halved(SGD):  # of an optimizer that changes all Variables in one call
        def change(self, variable, gradient, slots):
            variable.assign(variable - 0.5 * self.lr.astype(variable.dtype) * gradient)

    w.assign([1.0, 1.0])
    Halved(1.0).update([w], [mg.tensor([1.0, 2.0])])
    np.testing.assert_array_equal(w.numpy(), [0.5, 0.0])


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: SGD(-0.1), ArgumentError, "SGD: lr is -0.1"),
        (lambda: SGD(math.nan), ArgumentError, "SGD: lr is nan"),
        (lambda: SGD(math.inf), ArgumentError, "SGD: lr is inf"),
        (lambda: SGD("0.1"), ArgumentTypeError, "SGD: lr is '0.1', expected a number"),
        (lambda: SGD(lambda step: -1.0), ArgumentError, "SGD: lr is -1"),
        (lambda: SGD(momentum=1.0), ArgumentError, r"momentum is 1.0, expected a number in \[0, 1\)"),
        (lambda: SGD(momentum=-0.1), ArgumentError, "momentum is -0.1"),
        (lambda: SGD(nesterov=True), ArgumentError, "nesterov needs a momentum"),
        (lambda: SGD(weight_decay=-1), ArgumentError, "weight_decay is -1"),
        (lambda: SGD(clip_norm=0), ArgumentError, "clip_norm is 0, expected a positive"),
        (lambda: Adam(beta1=1.0), ArgumentError, "Adam: beta1 is 1.0"),
        (lambda: AdamW(beta2=-0.5), ArgumentError, "AdamW: beta2 is -0.5"),
        (lambda: RMSprop(rho=1.0), ArgumentError, "RMSprop: rho is 1.0"),
        (lambda: RMSprop(momentum=1.0), ArgumentError, "RMSprop: momentum is 1.0"),
        (lambda: Adagrad(start=-0.1), ArgumentError, "Adagrad: start is -0.1"),
        (lambda: Adam(epsilon=-1e-8), ArgumentError, "Adam: epsilon is -1e-08"),
        (lambda: step_decay(1.0, 0.5, 0), ArgumentError, "step_decay: every is 0"),
        (lambda: cosine_decay(1.0, 0), ArgumentError, "cosine_decay: steps is 0"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_bad_updates_change_nothing():
    a, b = mg.Variable([1.0, 2.0], name="a"), mg.Variable([3.0], name="b")
    one, two = mg.tensor([1.0]), mg.tensor([1.0, 1.0])
    for kind in (SGD, Adam):
        optimizer = kind(0.1)
        with pytest.raises(GradientError, match=f"{kind.__name__}: got 1 gradients for 2 Variables"):
            optimizer.update([a, b], [two])
        with pytest.raises(ShapeError, match=r"gradient 1 has float32\(2,\), expected float32\(1,\) as of b"):
            optimizer.update([a, b], [two, two])
        with pytest.raises(ShapeError, match=r"gradient 1 has float64\(1,\)"):
            optimizer.update([a, b], [two, mg.tensor(np.array([1.0]))])
        with pytest.raises(GradientError, match="listed twice"):
            optimizer.update([a, a], [two, two])
        assert optimizer.steps.item() == 0
        assert a.tolist() == [1.0, 2.0]
        assert b.tolist() == [3.0]
        optimizer.build([a, b])
        with pytest.raises(GradientError, match="was built for 2 Variables and got others"):
            optimizer.update([b, a], [one, two])
        assert b.tolist() == [3.0]


def test_what_is_no_variable_or_gradient_is_named_and_nothing_is_lost():
    a, b = mg.Variable([1.0]), mg.Variable([2.0])
    constant, leaf, one = mg.tensor([1.0]), mg.tensor([1.0], requires_grad=True), mg.tensor([1.0])
    for wrong in (constant, leaf, 3):
        kind = type(wrong).__name__
        with pytest.raises(ArgumentTypeError, match=f"SGD: changes Variables, got {kind}"):
            SGD(0.5).update([a, wrong], [one, one])
        with pytest.raises(ArgumentTypeError, match=f"SGD: changes Variables, got {kind}"):
            SGD(0.5).step([a, wrong])
    with pytest.raises(ArgumentTypeError, match="SGD: gradient 0 is ndarray, expected a Tensor or None"):
        SGD(0.5).update([a], [np.ones(1, np.float32)])
    assert a.item() == 1.0
    optimizer = SGD(0.5)
    optimizer.build([a])
    (b * 3.0).sum().backward()
    with pytest.raises(GradientError, match="was built for 1 Variables and got others"):
        optimizer.step([b])
    assert b.grad.item() == 3.0


def test_a_schedule_that_goes_wrong_is_told_before_anything_changes():
    w = mg.Variable([1.0])
    optimizer = SGD(lambda step: 0.5 - step)
    optimizer.update([w], [mg.tensor([1.0])])
    with pytest.raises(ArgumentError, match="SGD: the schedule's rate is -"):
        optimizer.update([w], [mg.tensor([1.0])])
    assert w.item() == 0.5
    assert optimizer.steps.item() == 1


def test_step_wants_trainable_variables():
    a, b = mg.Variable([1.0], name="a"), mg.Variable([2.0], trainable=False, name="b")
    (a * 2.0).sum().backward()
    with pytest.raises(GradientError, match="SGD: b is not trainable"):
        SGD(0.5).step([a, b])
    assert a.grad.item() == 2.0
    SGD(0.5).step([a])
    assert a.item() == 0.0
    assert a.grad is None
