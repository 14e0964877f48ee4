"""Elementwise primitives of one's own: branches, derivatives, names, and the kernels that they share."""

import numpy as np
import pytest
from elementwise_parts import gradients, normal, run, same

import minigrad as mg
from minigrad import primitive, scalar
from minigrad.devices import cpu_loops
from minigrad.elementwise import Elementwise
from minigrad.errors import ArgumentError, ArgumentTypeError, RegistrationError


def test_a_primitive_with_branches():
    @mg.elementwise("test_elementwise::huber", override=True)
    def huber(x, delta):
        """Huber's loss."""
        size = scalar.abs(x)
        return scalar.select(size <= delta, 0.5 * x * x, delta * (size - 0.5 * delta))

    assert isinstance(huber, Elementwise)
    assert huber.__doc__ == "Huber's loss."
    assert huber.inputs == ("x", "delta")
    assert not huber.analytic
    x = np.array([-3.0, -0.5, 0.0, 0.25, 2.0])
    w = np.array([1.0, -2.0, 0.5, 3.0, 4.0])
    np.testing.assert_allclose(run(huber, x, 1.0), [2.5, 0.125, 0, 0.03125, 1.5], rtol=1e-6)
    dx, ddelta = gradients(huber, x, np.array(1.0), weights=w)
    np.testing.assert_allclose(dx, w * np.clip(x, -1, 1))
    np.testing.assert_allclose(ddelta, (w * np.where(abs(x) > 1, abs(x) - 1, 0)).sum())
    assert mg.gradcheck.check_primitive(huber).passed


def test_derivatives_of_ones_own():
    calls = []

    def given_derivatives(x, out):
        calls.append((x, out))
        return (out * (1 - out),)

    @mg.elementwise("test_elementwise::logistic", derivatives=given_derivatives, override=True)
    def logistic(x):
        return 1 / (1 + scalar.exp(-x))

    assert logistic.vjp_saves == ("out",)
    assert len(calls) == 1
    x, w = np.array([-1.0, 0.5]), np.array([2.0, -3.0])
    y = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(gradients(logistic, x, weights=w)[0], w * y * (1 - y), rtol=1e-14)
    assert mg.gradcheck.check_primitive(logistic).passed


def test_wrong_derivatives_are_found():
    @mg.elementwise("test_elementwise::wrong", derivatives=lambda x, out: (2 * out,), override=True)
    def wrong(x):
        return scalar.exp(x)

    assert mg.gradcheck.check_primitive(wrong).verdict == "FAILED"


def test_constant_functions():
    @mg.elementwise("test_elementwise::three", override=True)
    def three(x):
        return 3

    same(run(three, normal((2, 2))), np.full((2, 2), 3.0))
    x = mg.tensor(normal((2,)), requires_grad=True)
    (three(x) + x).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [1, 1])


def test_identity_functions():
    @mg.elementwise("test_elementwise::same", override=True)
    def identity(x):
        return x

    a = normal((3, 2))
    same(run(identity, a), a)
    np.testing.assert_array_equal(gradients(identity, a, weights=a)[0], a)


def test_a_function_that_branches_is_not_registered():
    for _ in range(2):  # the name stays free
        with pytest.raises(ArgumentTypeError, match="can't branch on a value"):

            @mg.elementwise("test_elementwise::branches")
            def branches(x):
                return x if x > 0 else 0


def test_an_input_called_out_is_refused():
    with pytest.raises(ArgumentError, match="called 'out'"):

        @mg.elementwise("test_elementwise::named")
        def named(out):
            return 2 * out


def test_a_taken_name_is_refused():
    with pytest.raises(RegistrationError, match="registered already"):
        mg.elementwise("mg::add")(lambda x, y: x + y)


def test_input_names_do_not_matter():
    @mg.elementwise("test_elementwise::names", override=True)
    def names(i, n, t0, np, chunk):
        return i + 2 * n + 3 * t0 + 4 * np + 5 * chunk

    arrays = [normal((4,)) for _ in range(5)]
    np.testing.assert_allclose(run(names, *arrays), sum((k + 1) * a for k, a in enumerate(arrays)))
    grads = gradients(names, *arrays, weights=np.ones(4))
    np.testing.assert_array_equal([g[0] for g in grads], [1, 2, 3, 4, 5])


def test_a_name_with_dots():
    @mg.elementwise("test_elementwise::a.d0.dot", override=True)
    def dotted(ct_0, out_0):
        return ct_0 * ct_0 * out_0

    a, b = np.array([2.0]), np.array([5.0])
    second = mg.grad(lambda x: mg.grad(lambda v: dotted(v, mg.tensor(b)).sum())(x).sum())
    np.testing.assert_allclose(second(mg.tensor(a)).numpy(), [10.0])


def test_equal_expressions_share_kernels():
    @mg.elementwise("test_elementwise::product", override=True)
    def product(first, second):
        return first * second

    a = normal((5,))
    run(mg.multiply, a, a)
    before = len(cpu_loops._shared)
    run(product, a, a)
    gradients(product, a, a, weights=a)  # a cotangent times a factor is a product too
    assert len(cpu_loops._shared) == before


def test_derived_primitives_are_not_listed():
    gradients(mg.multiply, normal(3), normal(3), weights=normal(3))
    assert "mg::mul" in [p.name for p in primitive.primitives("mg")]
    assert not [p.name for p in primitive.primitives("mg") if ".d" in p.name]
    assert primitive.get("mg::mul.d0").derived


def test_what_is_saved():
    saves = {n: primitive.get(f"mg::{n}").vjp_saves for n in ("add", "mul", "exp", "relu", "tanh", "sqrt", "neg")}
    assert saves == {
        "add": (),
        "mul": ("x", "y"),
        "exp": ("out",),
        "relu": ("out",),
        "tanh": ("x",),
        "sqrt": ("out",),
        "neg": (),
    }


def test_first_call_from_several_threads():
    import threading

    @mg.elementwise("test_elementwise::raced", override=True)
    def raced(x):
        return x * x + 17.25 * x

    a = normal((50,))
    results, start = [], threading.Barrier(4)

    def work():
        start.wait()
        results.append((run(raced, a), gradients(raced, a, weights=a)[0]))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 4
    for value, gradient in results:
        np.testing.assert_allclose(value, a * a + 17.25 * a, rtol=1e-12)
        np.testing.assert_allclose(gradient, a * (2 * a + 17.25), rtol=1e-12)


def test_numbers_that_are_equal_are_not_taken_for_each_other():
    x = mg.tensor([1.0, -1.0])
    for number in (0.0, -0.0, 0, 0.0):
        expected = np.array([1.0, -1.0], np.float32) * np.float32(number)
        got = (x * number).numpy()
        np.testing.assert_array_equal(np.signbit(got), np.signbit(expected))
    whole = mg.tensor([1, 2])
    assert [(whole + n).dtype.name for n in (1, True, 1.0, 1)] == ["int64", "int64", "float64", "int64"]
    assert [(x.astype(t) * 2.5).dtype.name for t in ("float32", "float64", "float32")] == [
        "float32",
        "float64",
        "float32",
    ]
