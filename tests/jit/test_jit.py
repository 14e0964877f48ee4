"""The jitted function: same bits as without jit, and its gradients."""

import numpy as np
import pytest
from networks import assert_same_state, batches, network, training_step

import minigrad as mg
from minigrad.errors import GradientError

OPTIMIZERS = {
    "sgd": lambda: mg.optim.SGD(0.1),
    "decay": lambda: mg.optim.SGD(0.1, weight_decay=0.01),
    "momentum": lambda: mg.optim.SGD(0.1, momentum=0.9, nesterov=True),
    "adam": lambda: mg.optim.Adam(0.01),
    "adamw": lambda: mg.optim.AdamW(0.01, weight_decay=0.1),
    "clipped": lambda: mg.optim.SGD(0.1, clip_norm=0.5),
    "schedule": lambda: mg.optim.SGD(mg.optim.cosine_decay(0.1, 12)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_twenty_training_steps_have_the_bits_of_eager_ones(name):
    eager, jitted = network(), network()
    one, other = OPTIMIZERS[name](), OPTIMIZERS[name]()
    plain, fast = training_step(eager, one), mg.jit(training_step(jitted, other), fuse=False)
    for x, labels in batches(20):
        want, got = plain(x, labels), fast(x, labels)
        assert got.dtype == want.dtype
        np.testing.assert_array_equal(got.numpy(), want.numpy())
    assert fast.recordings == 1
    assert_same_state(eager, jitted)
    assert_same_state(one, other)
    assert all(v.grad is None for v in jitted.trainable_variables)
    assert one.steps.item() == 20


def test_a_step_with_value_and_grad():
    models, results = (network(), network()), []
    for i, model in enumerate(models):
        optimizer = mg.optim.Adam(0.01)
        variables = model.trainable_variables

        def step(x, labels, model=model, variables=variables, optimizer=optimizer):
            losses = mg.value_and_grad(
                lambda: mg.softmax_cross_entropy(model(x, True), labels).mean(), variables=variables
            )
            loss, gradients = losses()
            optimizer.update(variables, gradients)
            return {"loss": loss, "gradients": gradients}

        step = mg.jit(step, fuse=False) if i else step
        results.append([step(x, labels) for x, labels in batches(6)])
    for want, got in zip(*results):
        np.testing.assert_array_equal(got["loss"].numpy(), want["loss"].numpy())
        for a, b in zip(got["gradients"], want["gradients"], strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert_same_state(*models)


def test_random_numbers_advance_as_without_jit():
    generators = mg.random.Generator(5), mg.random.Generator(5)
    draws = [lambda g=g: mg.random.normal((3,), generator=g) + mg.random.uniform((3,), generator=g) for g in generators]
    fast = mg.jit(draws[1])
    for _ in range(4):
        np.testing.assert_array_equal(fast().numpy(), draws[0]().numpy())
    assert generators[0].get_state() == generators[1].get_state()


def test_results_are_not_overwritten_by_later_calls():
    f = mg.jit(lambda x: {"y": x * 2, "view": (x + 1).T, "same": x, "number": 3, "list": [x.sum(), None]})
    xs = [mg.tensor(np.full((2, 3), float(i))) for i in range(4)]
    kept = [f(x) for x in xs]
    for i, out in enumerate(kept):
        np.testing.assert_array_equal(out["y"].numpy(), np.full((2, 3), 2.0 * i))
        np.testing.assert_array_equal(out["view"].numpy(), np.full((3, 2), i + 1.0))
        np.testing.assert_array_equal(out["same"].numpy(), np.full((2, 3), float(i)))
        assert out["number"] == 3
        assert out["list"][1] is None
        assert out["list"][0].item() == 6.0 * i


def test_arguments_that_are_one_tensor_once_and_two_later():
    f = mg.jit(lambda x, y: x - y)
    x = mg.tensor([1.0, 2.0])
    assert f(x, x).tolist() == [0.0, 0.0]
    assert f(x, mg.tensor([0.5, 0.5])).tolist() == [0.5, 1.5]


def test_structures_of_tensors_and_numpy_arrays():
    f = mg.jit(lambda pair, options: pair[0] @ options["w"] + pair[1])
    rng = np.random.default_rng(0)
    for _ in range(3):
        a, w, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4)), rng.standard_normal(4)
        got = f((a, mg.tensor(b)), {"w": mg.tensor(w)})
        np.testing.assert_allclose(got.numpy(), a @ w + b)
    assert f.recordings == 1


def test_strided_and_read_only_arguments():
    f = mg.jit(lambda x: x * 2 + x.sum(axis=0))
    base = np.arange(24.0).reshape(4, 6)
    for x in (base[::2, ::3].copy(), base[::2, ::3], base[3::-2, 5::-3], np.broadcast_to(base[0, :2], (2, 2))):
        np.testing.assert_array_equal(f(x).numpy(), 2 * x + x.sum(0))
    assert f.recordings == 1


# Gradients that stay on Variables


def test_gradients_left_on_variables_are_those_of_eager_calls():
    w, v = mg.Variable([1.0, 2.0]), mg.Variable([1.0, 2.0])
    f = mg.jit(lambda x: (w * w * x).sum().backward())
    for n in range(1, 6):
        x = mg.tensor([1.0, float(n)])
        f(x)
        (v * v * x).sum().backward()  # adds to what is there, as the jitted one does
        assert w.grad.tolist() == v.grad.tolist()
        if n == 3:
            w.grad = v.grad = None
    assert f.recordings == 2  # with a gradient there, and without


def test_a_gradient_that_is_cleared_inside():
    w = mg.Variable([1.0])

    def step(x):
        w.grad = None
        (w * x).sum().backward()

    f = mg.jit(step)
    for n in range(4):
        f(mg.tensor([float(n)]))
        assert w.grad.tolist() == [float(n)]


def test_a_gradient_of_a_variable_that_takes_no_part_stays():
    w, other = mg.Variable([1.0]), mg.Variable([1.0])
    (other * 3).sum().backward()
    before = other.grad
    f = mg.jit(lambda x: (w * x).sum().backward())
    for _ in range(3):
        f(mg.tensor([1.0]))
    assert other.grad is before


# Derivatives of a jitted function


def test_gradients_through_a_jitted_function_by_its_arguments():
    f = mg.jit(lambda x: (x * x * x).sum())
    x = mg.tensor([1.0, 2.0])
    f(x)
    f(x)
    np.testing.assert_allclose(mg.grad(f)(x).numpy(), [3.0, 12.0])
    np.testing.assert_allclose(mg.jvp(f, (x,), (mg.tensor([1.0, 0.0]),))[1].numpy(), 3.0)
    np.testing.assert_allclose(mg.hvp(f, (x,), (mg.tensor([1.0, 1.0]),)).numpy(), [6.0, 12.0])


def test_backward_from_a_replayed_result_says_why_it_can_not():
    w = mg.Variable([2.0])
    f = mg.jit(lambda x: w * x)
    for _ in range(3):
        y = f(mg.tensor([3.0]))
        assert y.requires_grad
        with pytest.raises(GradientError, match=r"was replayed by jit.*take the gradient within"):
            y.sum().backward()
        with pytest.raises(GradientError, match="replayed by jit"):
            mg.grad(lambda: f(mg.tensor([1.0])).sum(), variables=[w])()


def test_higher_derivatives_inside():
    cube = lambda x: (x * x * x).sum()  # noqa: E731
    f = mg.jit(lambda x: mg.grad(lambda y: mg.grad(cube)(y).sum())(x))
    for values in ([1.0, 2.0], [3.0, 4.0]):
        np.testing.assert_allclose(f(mg.tensor(values)).numpy(), 6 * np.array(values))


def test_a_jitted_function_inside_another_is_part_of_it():
    inner = mg.jit(lambda x: x * 2)
    outer = mg.jit(lambda x: inner(x) + 1)
    for n in (1.0, 2.0, 3.0):
        assert outer(mg.tensor([n])).item() == 2 * n + 1
    assert inner.recordings == 0
    assert outer.recordings == 1
