"""grad, value_and_grad, vjp, jvp, hvp: values, nesting, and errors."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import ArgumentTypeError, DTypeError, GradientError, ShapeError


def f64(*values):
    return mg.tensor(np.array(values))


def cube(x):
    return (x * x * x).sum()


def test_grad_to_fourth_order():
    x = mg.tensor(2.0, dtype="float64")
    expected = [12.0, 12.0, 6.0, 0.0]
    f = cube
    for want in expected:
        f = mg.grad(f)
        assert f(x).item() == want


def test_grad_of_several_arguments():
    gx, gz = mg.grad(lambda x, y, z: (x * y * z).sum(), (0, 2))(f64(2.0), f64(3.0), f64(5.0))
    assert (gx.item(), gz.item()) == (15.0, 6.0)
    assert mg.grad(lambda x, y: (x * y).sum(), -1)(f64(2.0), f64(3.0)).item() == 2.0


def test_grad_of_variables_and_aux():
    w = mg.Variable(np.array([3.0]))
    (value, aux), (dw,) = mg.value_and_grad(lambda x: ((w * x).sum(), "aux"), variables=[w], has_aux=True)(f64(2.0))
    assert (value.item(), aux, dw.item()) == (6.0, "aux", 2.0)
    assert w.grad is None
    assert not value.requires_grad


def test_an_argument_without_influence_gets_zeros():
    np.testing.assert_array_equal(mg.grad(lambda x, y: x.sum(), 1)(f64(1.0), f64(2.0, 3.0)).numpy(), [0.0, 0.0])


def test_the_same_tensor_twice_is_two_arguments():
    x = f64(3.0)
    dx, dy = mg.grad(lambda a, b: (a * a * b).sum(), (0, 1))(x, x)
    assert (dx.item(), dy.item()) == (18.0, 9.0)
    _, tangent = mg.jvp(lambda a, b: a * b, (x, x), (f64(1.0), None))
    assert tangent.item() == 3.0


def test_perturbations_are_not_confused():
    x = mg.tensor(1.0, dtype="float64")
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(x))(x).item() == 1.0
    assert mg.jvp(lambda x: x * mg.jvp(lambda y: x + y, (x,), (x * 0 + 1,))[1], (x,), (x,))[1].item() == 1.0


def test_an_inner_gradient_depends_on_what_it_closes_over():
    w = mg.Variable(np.array([2.0]))
    g = mg.grad(lambda x: (w * x * x).sum())(f64(3.0))
    assert g.item() == 12.0
    (g * g).sum().backward()
    assert w.grad.item() == 144.0  # d/dw (2wx)² = 8wx²


def test_grad_works_inside_no_grad_and_records_nothing_outside():
    with mg.no_grad():
        assert mg.grad(cube)(f64(2.0)).item() == 12.0
        w = mg.Variable(np.array([2.0]))
        g = mg.grad(lambda x: (w * x).sum())(f64(1.0))
    assert not g.requires_grad
    assert mg.tape.is_recording()


def test_vjp_can_be_pulled_many_times_and_takes_tuples():
    (s, p), pull = mg.vjp(lambda x, y: (x + y, x * y), f64(2.0), f64(5.0))
    assert (s.item(), p.item()) == (7.0, 10.0)
    for _ in range(2):
        dx, dy = pull((f64(1.0), f64(10.0)))
        assert (dx.item(), dy.item()) == (51.0, 21.0)
    with pytest.raises(ShapeError, match="got 1 cotangents for 2"):
        pull((f64(1.0),))


def test_jvp_of_several_results():
    (a, b), (ta, tb) = mg.jvp(lambda x: (mg.exp(x), x * 0 + 1), (f64(0.0),), (f64(2.0),))
    assert (a.item(), b.item(), ta.item(), tb.item()) == (1.0, 1.0, 2.0, 0.0)


@pytest.mark.parametrize("activation", [mg.tanh, mg.sigmoid, mg.softplus, mg.exp, mg.gelu, mg.silu])
def test_hvp_forward_over_reverse_equals_reverse_over_reverse_and_over_forward(activation):
    rng = np.random.default_rng(0)
    w = mg.tensor(rng.standard_normal((3, 4)))
    x, v = (mg.tensor(rng.standard_normal(4)) for _ in range(2))

    def f(x):
        return mg.square(activation(w @ x)).sum()

    forward_reverse = mg.hvp(f, (x,), (v,)).numpy()
    reverse_reverse = mg.grad(lambda x: (mg.grad(f)(x) * v).sum())(x).numpy()
    reverse_forward = mg.grad(lambda x: mg.jvp(f, (x,), (v,))[1])(x).numpy()
    np.testing.assert_allclose(forward_reverse, reverse_reverse, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(forward_reverse, reverse_forward, rtol=1e-12, atol=1e-13)


def test_jvp_of_jvp():
    x, one = mg.tensor(0.5, dtype="float64"), mg.tensor(1.0, dtype="float64")
    second = mg.jvp(lambda x: mg.jvp(mg.sin, (x,), (one,))[1], (x,), (one,))[1]
    np.testing.assert_allclose(second.item(), -np.sin(0.5), rtol=1e-15)


def test_forward_mode_passes_a_long_chain():
    def f(x):
        for _ in range(20_000):
            x = -x
        return x

    assert mg.jvp(f, (f64(1.0),), (f64(3.0),))[1].item() == 3.0


def test_detached_and_copied_values():
    assert mg.grad(lambda x: (x * x.detach()).sum())(f64(3.0)).item() == 3.0
    assert mg.grad(lambda x: (x * mg.stop_gradient(x)).sum())(f64(3.0)).item() == 3.0
    assert mg.grad(lambda x: (x * mg.copy(x)).sum())(f64(3.0)).item() == 6.0
    assert mg.jvp(lambda x: x * x.detach(), (f64(3.0),), (f64(1.0),))[1].item() == 3.0


def test_what_has_no_derivative_is_refused_by_name():
    with pytest.raises(DTypeError, match="argument 0 has dtype int64"):
        mg.grad(lambda x: x.sum())(mg.tensor([1, 2]))
    with pytest.raises(ShapeError, match=r"returned a tensor of shape \(2,\)"):
        mg.grad(lambda x: x)(f64(1.0, 2.0))
    with pytest.raises(ShapeError, match="returned float"):
        mg.grad(lambda x: 1.0)(f64(1.0))
    with pytest.raises(ArgumentTypeError, match="grad: argnums is 'x', expected an integer"):
        mg.grad(lambda x: x.sum(), "x")(mg.tensor([1.0]))
    with pytest.raises(ArgumentTypeError, match="argnums names argument 3"):
        mg.grad(lambda x: x.sum(), 3)(f64(1.0))
    with pytest.raises(GradientError, match="expected trainable Variables"):
        mg.grad(lambda: None, variables=[mg.tensor([1.0])])()
    with pytest.raises(ShapeError, match="2 tangents for 1 primals"):
        mg.jvp(cube, (f64(1.0),), (f64(1.0), f64(1.0)))
    with pytest.raises(ShapeError, match=r"\(2,\), expected \(1,\)"):
        mg.jvp(cube, (f64(1.0),), (f64(1.0, 2.0),))
    with pytest.raises(ArgumentTypeError, match="returned str"):
        mg.jvp(lambda x: "no", (f64(1.0),), (f64(1.0),))


def test_an_exception_inside_leaves_everything_as_it_was():
    def broken(x):
        raise KeyError

    for transform in (lambda: mg.grad(broken)(f64(1.0)), lambda: mg.jvp(broken, (f64(1.0),), (f64(1.0),))):
        with pytest.raises(KeyError):
            transform()
        assert mg.tape.state.observers == []
        assert mg.tape.is_recording()


def test_missing_zero_and_undefined_derivatives_differ():
    def made(name):
        p = mg.Primitive(f"tests::{name}", override=True)
        p.infer(lambda x: x)
        p.kernel("reference", "cpu")(lambda x: x * 1)
        return p

    missing, zero, undefined = made("missing"), made("zero"), made("undefined")
    zero.vjp()(lambda ct, saved, needs: None)
    zero.jvp(lambda tangents, primals, outputs: None)
    undefined.no_derivative("it jumps everywhere")
    x = f64(1.0)
    with pytest.raises(mg.errors.MissingRuleError, match="tests::missing: has no vjp rule"):
        mg.grad(lambda x: missing(x).sum())(x)
    with pytest.raises(mg.errors.MissingRuleError, match="tests::missing: has no jvp rule"):
        mg.jvp(missing, (x,), (x,))
    assert mg.grad(lambda x: zero(x).sum())(x).item() == 0.0
    assert mg.jvp(zero, (x,), (x,))[1].item() == 0.0
    with pytest.raises(mg.errors.UndefinedDerivativeError, match="it jumps everywhere"):
        mg.grad(lambda x: undefined(x).sum())(x)
