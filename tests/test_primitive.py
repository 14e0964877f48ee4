"""Primitive and registry: rules, calls, plans, and the errors of an author's mistakes."""

import numpy as np
import pytest

import minigrad as mg
from minigrad.errors import (
    ArgumentError,
    ArgumentTypeError,
    DeviceError,
    MissingRuleError,
    RegistrationError,
    ShapeError,
)


def made(name="tests::thing", **options):
    p = mg.Primitive(name, override=True, **options)
    p.infer(lambda x, *, factor=1: x)
    p.kernel("reference")(lambda x, *, factor=1: x * factor)

    @p.kernel("cpu")
    def _(out, x, *, factor=1):
        np.multiply(x, factor, out=out)

    p.vjp()(lambda ct, saved, needs, *, factor=1: p(ct, factor=factor))
    return p


def test_names_are_namespaced_and_unique():
    for name in ("thing", "::thing", "tests::", ""):
        with pytest.raises(RegistrationError, match="namespace::name"):
            mg.Primitive(name)
    first = made("tests::once")
    with pytest.raises(RegistrationError, match="registered already"):
        mg.Primitive("tests::once")
    assert mg.primitive.get("tests::once") is first
    second = made("tests::once")
    assert mg.primitive.get("tests::once") is second


def test_an_unknown_name_lists_the_namespace():
    made("tests::known")
    with pytest.raises(ArgumentError, match="tests::known"):
        mg.primitive.get("tests::unknown")


def test_calls_convert_arrays_and_remember_plans():
    p = made()
    assert p(np.ones(3), factor=2).tolist() == [2.0, 2.0, 2.0]
    assert p([1.0], factor=3).tolist() == [3.0]
    assert p(mg.tensor([1.0, 2.0]), factor=3).dtype == np.float32


def test_arguments_are_checked():
    p = made()
    with pytest.raises(ArgumentTypeError, match="takes 1 inputs"):
        p(mg.tensor(1.0), mg.tensor(2.0))
    with pytest.raises(ArgumentTypeError, match=r"unknown argument \['size'\]"):
        p(mg.tensor(1.0), size=3)
    with pytest.raises(ArgumentTypeError, match="hashable"):
        p(mg.tensor(1.0), factor=[1])


def test_equal_keys_of_different_order_are_not_confused():
    p = mg.Primitive("tests::order", override=True)
    p.infer(lambda x, *, a, b: mg.Abstract((a, b), x.dtype))
    p.kernel("reference", "cpu")(lambda x, *, a, b: np.full((a, b), x))
    x = mg.tensor(1.0)
    assert p(x, a=2, b=3).shape == (2, 3)
    assert p(x, b=2, a=3).shape == (3, 2)


def test_saves_name_inputs_and_outputs_only():
    p = made()
    with pytest.raises(RegistrationError, match=r"saves names \['hidden'\]"):
        p.vjp(saves=("hidden",))
    with pytest.raises(RegistrationError, match="unknown device"):
        p.kernel("tpu")
    with pytest.raises(RegistrationError, match="name no input or output"):
        mg.Primitive("tests::frozen", frozen=("nothing",), override=True).infer(lambda x: x)


def test_a_vjp_with_the_wrong_number_of_cotangents():
    p = made()
    p.vjp()(lambda ct, saved, needs, *, factor=1: (ct, ct))
    with pytest.raises(ShapeError, match="returned 2 cotangents for 1 inputs"):
        mg.grad(lambda x: p(x).sum())(mg.tensor([1.0]))


def test_missing_rules_and_kernels_are_named():
    p = mg.Primitive("tests::bare", override=True)
    with pytest.raises(MissingRuleError, match="tests::bare: has no infer rule"):
        p(mg.tensor(1.0))
    p.infer(lambda x: x)
    with pytest.raises(DeviceError, match="no kernel for 'cpu'"):
        p(mg.tensor(1.0))
    assert mg.gradcheck.check_primitive(p).verdict == "INCONCLUSIVE"


def test_mutating_primitives_want_variables():
    p = mg.Primitive("tests::bump", mutates=("state",), override=True)
    p.infer(lambda state: None)
    p.kernel("reference")(lambda state: state + 1)

    @p.kernel("cpu")
    def _(out, state):
        out += 1

    v = mg.Variable([1.0])
    assert p(v) is None
    assert v.tolist() == [2.0]
    with mg.on_device("reference"):
        p(v)
    assert v.tolist() == [3.0]
    with pytest.raises(ArgumentTypeError, match="state must be a Variable"):
        p(mg.tensor([1.0]))


def test_workspaces_follow_the_outputs():
    p = mg.Primitive("tests::work", override=True)
    p.infer(lambda x: x)
    p.workspace(lambda x: [mg.Abstract((2, *x.shape), np.dtype("float64"))])

    @p.kernel("cpu")
    def _(buffers, x):
        out, scratch = buffers
        scratch[...] = x
        np.sum(scratch, axis=0, out=out)

    y = p(mg.tensor([1.0, 2.0]))
    assert isinstance(y, mg.Tensor)
    assert y.tolist() == [2.0, 4.0]


def test_frozen_inputs_and_outputs_get_no_gradient():
    p = mg.Primitive("tests::frost", outputs=("y", "r"), frozen=("u", "r"), override=True)
    p.infer(lambda x, u: (x, x))
    p.kernel("reference", "cpu")(lambda x, u: (x * u, x + u))
    p.vjp(saves=("x", "u"))(lambda ct, saved, needs: (ct[0] * saved.u, ct[0] * saved.x))
    p.jvp(lambda t, primals, outputs: (t[0] * primals[1], t[0]))
    x, u = mg.tensor([3.0], requires_grad=True), mg.tensor([5.0], requires_grad=True)
    y, r = p(x, u)
    assert y.requires_grad
    assert not r.requires_grad
    y.backward(mg.tensor([1.0]))
    assert x.grad.tolist() == [5.0]
    assert u.grad is None
    _, (ty, tr) = mg.jvp(lambda u: p(mg.tensor([3.0]), u), (mg.tensor([5.0]),), (mg.tensor([1.0]),))
    assert (ty.tolist(), tr.tolist()) == ([0.0], [0.0])


def test_on_device_takes_complex_and_extended_precision_and_is_left():
    with mg.on_device("reference"):
        y = mg.exp(mg.Tensor(np.array([1j * np.pi])))
        assert mg.Tensor(np.ones(2, np.longdouble)).sum().dtype == np.longdouble
    np.testing.assert_allclose(y.numpy(), [-1], atol=1e-15)
    assert mg.tape.state.device == "cpu"
    with pytest.raises(DeviceError, match="unknown device 'tpu'"):
        mg.on_device("tpu")


def test_derived_primitives_are_registered_and_not_listed():
    mg.grad(lambda x: mg.tanh(x).sum())(mg.tensor([1.0]))
    assert mg.primitive.get("mg::tanh.d0").derived
    assert "mg::tanh.d0" not in [p.name for p in mg.primitive.primitives()]


def test_derivatives_made_meanwhile_survive_a_restore():
    f = mg.elementwise("tests::cubed", override=True)(lambda x: x * x * x)
    before = mg.primitive.registered()
    mg.grad(lambda x: mg.grad(lambda t: f(t).sum())(x).sum())(mg.tensor([2.0]))
    made("tests::gone")
    mg.primitive.restore(before)
    assert mg.primitive.get("tests::cubed.d0").derived
    assert mg.primitive.get("tests::cubed.d0.d1").derived
    assert "tests::gone" not in mg.primitive.registered()


def test_the_plan_cache_is_bounded():
    p = made("tests::many")
    for n in range(5000):
        p(mg.Tensor(np.zeros(n % 7 + 1)), factor=n)
    assert len(p._plans) <= 4096


def test_a_planned_kernel_is_made_once_for_each_combination_of_shapes_dtypes_and_params():
    made = []
    scaled = mg.Primitive("tests::scaled", override=True)

    @scaled.infer
    def _(x, *, factor):
        return mg.Abstract(x.shape, x.dtype)

    @scaled.kernel("cpu", planned=True)
    def _(x, *, factor):
        made.append((x.shape, x.dtype.name, factor))

        def fill(out, x):
            np.multiply(x, factor, out)

        return fill

    x = mg.tensor([1.0, 2.0])
    for _ in range(3):
        assert scaled(x, factor=3.0).tolist() == [3.0, 6.0]
    assert scaled(mg.tensor([1.0]), factor=3.0).tolist() == [3.0]
    assert scaled(x.astype("float64"), factor=2.0).tolist() == [2.0, 4.0]
    assert made == [((2,), "float32", 3.0), ((1,), "float32", 3.0), ((2,), "float64", 2.0)]


def test_a_reference_kernel_is_not_planned():
    with pytest.raises(RegistrationError, match="tests::reference: the reference kernel"):
        mg.Primitive("tests::reference", override=True).kernel("reference", planned=True)
