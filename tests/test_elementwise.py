"""Elementwise primitives: broadcasting, layouts, promotion, derivatives, and primitives of one's own."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg
from minigrad import primitive, scalar
from minigrad.devices import cpu, cpu_loops
from minigrad.elementwise import Elementwise, promoted
from minigrad.errors import ArgumentError, ArgumentTypeError, DTypeError, RegistrationError, ShapeError

RNG = np.random.default_rng(0)


@mg.elementwise("test_elementwise::chosen", override=True)
def chosen(x, y, z):
    return scalar.select(x > y, y, z)


def normal(shape, dtype="float64"):
    return np.asarray(RNG.standard_normal(shape)).astype(dtype)


def run(function, *arrays):
    return function(*[mg.tensor(a) for a in arrays]).numpy()


def same(got, expected):
    assert got.dtype == expected.dtype
    assert got.shape == expected.shape
    np.testing.assert_array_equal(got, expected)


# Broadcasting

SHAPES = [
    ((), ()),
    ((5,), (5,)),
    ((5,), ()),
    ((), (5,)),
    ((1,), (5,)),
    ((2, 3), (3,)),
    ((2, 1), (2, 3)),
    ((2, 1), (1, 3)),
    ((1, 1), (2, 3)),
    ((4, 1, 3), (2, 1)),
    ((2, 3, 4), (3, 1)),
    ((2, 3, 4), (2, 1, 4)),
    ((2, 1, 4, 1), (3, 1, 5)),
    ((2, 1, 2, 1, 2, 1, 2), (1, 3, 1, 3, 1, 3, 1)),
    ((1,) * 20 + (3,), (2,) + (1,) * 20),
    ((0,), (0,)),
    ((0,), (1,)),
    ((0, 3), (3,)),
    ((3, 0), (3, 1)),
    ((2, 0, 4), (1, 1)),
    ((), (2, 0)),
]


@pytest.mark.parametrize(("a", "b"), SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_broadcasting(a, b, dtype):
    x, y = normal(a, dtype), normal(b, dtype)
    same(run(mg.subtract, x, y), np.asarray(x - y))
    same(run(mg.greater, x, y), np.asarray(x > y))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans(), st.booleans()), max_size=5), st.integers(0, 5)
)
def test_broadcasting_of_three_in_any_pattern(dims, dropped):
    shapes = [tuple(1 if dim[k] else dim[0] for dim in dims) for k in (1, 2, 3)]
    shapes[2] = shapes[2][min(dropped, len(dims)) :]
    x, y, z = (normal(s) for s in shapes)
    same(run(chosen, x, y, z), np.asarray(np.where(x > y, y, z)))


@pytest.mark.parametrize("kinds", ["".join(k) for k in itertools.product("vs", repeat=3)])
@pytest.mark.parametrize("nested", [False, True])
def test_every_combination_of_varying_and_staying_operands(kinds, nested):
    inner = [(6,) if k == "v" else (1,) for k in kinds]
    outer = [(2,), (2,), (2,)] if nested and "v" in kinds else [()] * 3
    arrays = [normal(a + b, "float32") for a, b in zip(outer, inner)]
    if nested and "v" in kinds:  # an operand that stays along a middle axis keeps the axes from being merged
        arrays = [a[:, None] for a in arrays[:2]] + [np.repeat(arrays[2][:, None], 5, 1)]
    same(run(chosen, *arrays), np.where(arrays[0] > arrays[1], arrays[1], arrays[2]))


@pytest.mark.parametrize(
    ("a", "b"), [((301, 1009), (1009,)), ((301, 1009), (301, 1)), ((700, 1, 90), (13, 1)), ((299, 5, 97), (5, 1))]
)
def test_broadcasting_over_chunks(a, b):
    x, y = normal(a, "float32"), normal(b, "float32")
    assert np.broadcast(x, y).size > cpu.PARALLEL_WORK
    same(run(mg.subtract, x, y), x - y)
    same(run(mg.subtract, y, x), y - x)


@pytest.mark.parametrize("offset", [-1, 0, 1])
@pytest.mark.parametrize("size", [cpu.PARALLEL_WORK, 1 << 18])
def test_sizes_around_the_parallel_threshold(size, offset):
    x, y = normal(size + offset, "float32"), normal(size + offset, "float32")
    same(run(mg.subtract, x, y), x - y)
    same(run(mg.subtract, x, y[:1]), x - y[:1])


@pytest.mark.parametrize(
    ("operands", "kinds", "inner", "outer"),
    [
        (((2, 3), (2, 3)), "vv", 6, None),
        (((2, 3), ()), "vs", 6, None),
        (((2, 3), (3,)), "vv", 3, [2]),
        (((2, 1), (2, 3)), "sv", 3, [2]),
        (((2, 3, 4), (3, 4)), "vv", 12, [2]),
        (((2, 3, 4), (2, 1, 1)), "vs", 12, [2]),
        (((2, 3, 4), (2, 1, 4)), "vv", 4, [2, 3]),
        (((2, 1, 3, 1, 4), (1,)), "vs", 24, None),
        (((1, 1), (1,)), "ss", 1, None),
    ],
)
def test_axes_that_are_walked_alike_are_merged(operands, kinds, inner, outer):
    found = cpu_loops.layout(np.broadcast_shapes(*operands), operands)
    assert found[:2] == (kinds, inner)
    assert (None if found[2] is None else found[2].tolist()) == outer


@pytest.mark.parametrize("shape", [(61, 331, 3), (20_000, 1), (4097, 6), (2, 8192, 63)])
def test_narrow_rows_are_repeated(shape):
    x, b = normal(shape, "float32"), normal(shape[-1:], "float32")
    repeats = cpu_loops.walk(shape, (shape, shape[-1:])).repeats
    assert (repeats[1] > 1) == (shape[-1] > 1)
    same(mg.subtract(mg.Tensor(x), mg.Tensor(b)).numpy(), x - b)
    f = mg.jit(lambda x, b: x - b)
    for values in (b, b + 1):  # the second call replays with another row
        same(f(mg.Tensor(x), mg.Tensor(values)).numpy(), x - values)


# Memory layouts


def layouts_of(a):
    wide = np.zeros([2 * n for n in a.shape], a.dtype)
    wide[tuple(slice(None, None, 2) for _ in a.shape)] = a
    yield np.asfortranarray(a)
    yield a[::-1].copy()[::-1]
    yield a[:, ::-1].copy()[:, ::-1]
    yield wide[tuple(slice(None, None, 2) for _ in a.shape)]


@pytest.mark.parametrize("shape", [(7, 5), (301, 211)])
def test_strided_inputs(shape):
    x, y = normal(shape, "float32"), normal(shape, "float32")
    expected = x - y
    for a, b in itertools.product([x, *layouts_of(x)], [y, *layouts_of(y)]):
        same(mg.subtract(mg.Tensor(a), mg.Tensor(b)).numpy(), expected)


def test_strided_inputs_need_no_kernel_of_their_own():
    x, y = normal(9), normal(9)
    mg.subtract(mg.tensor(x), mg.tensor(y))
    loop = primitive.get("mg::sub")._kernel("cpu")[0]
    kernel = loop._kernel(x.dtype, "vv", False)
    compiled = len(kernel.body.entry.signatures)
    same(mg.subtract(mg.Tensor(x[::-1]), mg.Tensor(y[::-1])).numpy(), x[::-1] - y[::-1])
    assert len(kernel.body.entry.signatures) == compiled


def test_broadcast_views_as_inputs():
    row, column, number = normal((1, 6)), normal((4, 1)), normal(())
    for a, b in itertools.permutations([row, column, number], 2):
        x, y = np.broadcast_to(a, (4, 6)), np.broadcast_to(b, (4, 6))
        same(mg.subtract(mg.Tensor(x), mg.Tensor(y)).numpy(), x - y)
        same(mg.subtract(mg.Tensor(x[:, ::2]), mg.Tensor(y[::-1, ::2])).numpy(), x[:, ::2] - y[::-1, ::2])
    empty = np.broadcast_to(np.zeros((1, 0)), (3, 0))
    same(mg.exp(mg.Tensor(empty)).numpy(), np.exp(empty))


def test_results_are_contiguous_and_fresh():
    x = mg.Tensor(np.asfortranarray(normal((3, 4))))
    y = mg.negative(x)
    assert y._data.flags.c_contiguous
    assert not np.shares_memory(y._data, x._data)


# Dtypes

DTYPES = ["bool", "uint8", "int32", "int64", "float16", "float32", "float64", "complex64", "complex128"]
BINARY = [
    (mg.add, np.add),
    (mg.subtract, np.subtract),
    (mg.multiply, np.multiply),
    (mg.divide, np.true_divide),
    (mg.maximum, np.maximum),
    (mg.greater, np.greater),
    (mg.equal, np.equal),
]


def outcome(function, *args):
    """The dtype and values, or the kind of error."""
    try:
        with np.errstate(all="ignore"):
            result = function(*args)
    except (TypeError, ValueError) as error:
        return TypeError if isinstance(error, TypeError) else ValueError
    return np.asarray(result)


def agree(got, expected, note):
    if isinstance(expected, type):
        assert got is expected, note
        return
    assert not isinstance(got, type), note
    assert got.dtype == expected.dtype, note
    rtol = 4 * np.finfo(expected.dtype).eps if expected.dtype.kind in "fc" else 0
    np.testing.assert_allclose(got, expected, rtol=rtol, err_msg=note)


@pytest.mark.parametrize(("function", "reference"), BINARY, ids=lambda f: getattr(f, "__name__", ""))
def test_promotion_of_arrays_is_numpys(function, reference):
    for a, b in itertools.product(DTYPES, repeat=2):
        x, y = np.array([0, 1, 3]).astype(a), np.array([1, 1, 2]).astype(b)
        expected = outcome(reference, x, y)
        if reference is np.true_divide and np.result_type(a, b).kind in "biu":
            expected = expected.astype("float64")
        agree(outcome(function, mg.tensor(x), mg.tensor(y)), expected, f"{a} {b}")


@pytest.mark.parametrize(("function", "reference"), BINARY[:4], ids=lambda f: getattr(f, "__name__", ""))
@pytest.mark.parametrize("number", [True, 2, 2.5, 2j])
def test_python_numbers_take_part_with_their_kind_alone(function, reference, number):
    for dtype in DTYPES:
        x = np.array([1, 0, 3]).astype(dtype)
        expected = outcome(reference, x, number)
        if reference is np.true_divide and not isinstance(expected, type) and np.result_type(x, number).kind in "biu":
            expected = expected.astype("float64")
        agree(outcome(function, mg.tensor(x), number), expected, f"{dtype} {number}")
        reflected = outcome(reference, number, x)
        if reference is np.true_divide and not isinstance(reflected, type) and np.result_type(x, number).kind in "biu":
            reflected = reflected.astype("float64")
        agree(outcome(function, number, mg.tensor(x)), reflected, f"{number} {dtype}")


def test_numpys_own_numbers_and_arrays_are_typed():
    x = mg.tensor([1.0, 2.0])
    assert (x * np.float64(2)).dtype == np.float64
    assert (x * np.float32(2)).dtype == np.float32
    assert (np.float64(2) * x).dtype == np.float64
    assert (np.ones(2) - x).dtype == np.float64
    assert mg.power(x, np.float64(2)).dtype == np.float64
    assert (x**2).dtype == np.float32


def test_python_numbers_alone():
    assert mg.add(2, 3).dtype == np.int64
    assert mg.add(2.0, 3).dtype == mg.add(2, 3.0).dtype == np.float32
    assert mg.add(True, False).dtype == np.bool_
    assert mg.exp(1).dtype == np.float64
    assert mg.add(2, 3.5).item() == 5.5


@pytest.mark.parametrize(("dtype", "number"), [("uint8", 300), ("uint8", -1), ("int32", 2**31), ("float32", 10**400)])
def test_a_number_that_does_not_fit(dtype, number):
    with pytest.raises(ArgumentError, match=f"mg::add: the number {number} does not fit {dtype}"):
        mg.add(mg.tensor(np.ones(2, dtype)), number)


def test_integers_become_floats_where_the_result_is_one():
    for dtype in ("bool", "int32", "uint8"):
        x = np.array([0, 1, 1]).astype(dtype)
        for f, g in ((mg.exp, np.exp), (mg.sqrt, np.sqrt), (mg.tanh, np.tanh)):
            got = run(f, x)
            assert got.dtype == np.float64
            np.testing.assert_allclose(got, g(x.astype("float64")), rtol=1e-15)


def test_integer_arithmetic_is_exact():
    x, y = np.array([2**53 + 1, -7, 0]), np.array([1, 3, -5])
    for f, g in ((mg.add, np.add), (mg.multiply, np.multiply), (mg.minimum, np.minimum), (mg.power, None)):
        if g is None:
            same(run(f, x[1:], abs(y[1:])), x[1:] ** abs(y[1:]))
        else:
            same(run(f, x, y), g(x, y))
    same(run(mg.square, y), y * y)
    same(run(mg.absolute, y), abs(y))
    same(run(mg.sign, y), np.sign(y))
    same(run(mg.negative, y), -y)
    same(mg.clip(mg.tensor(y), -2, 2).numpy(), np.clip(y, -2, 2))


def test_complex_arithmetic():
    z = np.array([1 + 2j, -0.5j], "complex64")
    same(run(mg.absolute, z), np.abs(z))
    np.testing.assert_allclose(run(mg.exp, z), np.exp(z), rtol=1e-6)
    same(run(mg.multiply, z, z), z * z)


def test_half_precision():
    x = np.array([0.1, -2, 60000, np.inf, np.nan], "float16")
    with np.errstate(all="ignore"):
        same(run(mg.add, x, x), x + x)
        same(run(mg.exp, x), np.exp(x))
        same(run(mg.relu, x), np.where(x <= 0, np.float16(0), x))


# Errors


def test_shapes_that_do_not_broadcast():
    with pytest.raises(ShapeError, match=r"mg::add: shapes \(2, 3\) and \(4,\) do not broadcast"):
        mg.add(mg.tensor(np.ones((2, 3))), mg.tensor(np.ones(4)))


@pytest.mark.parametrize("bad", [None, "text", object(), [1.0, "a"], np.array(["a"]), {}])
def test_what_is_no_number(bad):
    with pytest.raises(TypeError):
        mg.add(mg.tensor([1.0]), bad)


def test_wrong_calls():
    with pytest.raises(ArgumentTypeError, match=r"takes \('x', 'y'\), got 1 inputs"):
        primitive.get("mg::add")(mg.tensor([1.0]))
    with pytest.raises(ArgumentTypeError, match="got 3 inputs and \\['axis'\\]"):
        chosen(1.0, 2.0, 3.0, axis=1)
    with pytest.raises(DTypeError, match="mg::neg: x has dtype bool"):
        mg.negative(mg.tensor([True]))
    with pytest.raises(DTypeError, match="mg::sub: x has dtype bool"):
        mg.subtract(mg.tensor([True]), mg.tensor([False]))
    with pytest.raises(ArgumentError, match="mg::pow: Integers to negative integer powers"):
        mg.power(mg.tensor([1, 2]), mg.tensor([-1, 2]))


def test_promoted_refuses_and_names_the_operation():
    with pytest.raises(ArgumentTypeError, match="stack: takes tensors, arrays and numbers, got None"):
        promoted("stack", [mg.tensor([1.0]), None])


# Gradients


def gradients(function, *arrays, weights):
    tensors = [mg.tensor(a, requires_grad=True) for a in arrays]
    function(*tensors).backward(mg.tensor(weights))
    return [t.grad.numpy() for t in tensors]


@pytest.mark.parametrize(("a", "b"), SHAPES)
def test_gradients_are_summed_over_what_was_broadcast(a, b):
    x, y = normal(a), normal(b)
    w = normal(np.broadcast_shapes(a, b))
    full = np.broadcast_shapes(a, b)

    def summed(g, shape):
        for _ in range(len(full) - len(shape)):
            g = g.sum(0)
        for axis, n in enumerate(shape):
            if n == 1:
                g = g.sum(axis, keepdims=True)
        return np.asarray(g)

    dx, dy = gradients(mg.multiply, x, y, weights=w)
    assert (dx.shape, dy.shape) == (a, b)
    np.testing.assert_allclose(dx, summed(w * y, a), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dy, summed(w * x, b), rtol=1e-13, atol=1e-13)
    if 0 in full:
        assert not np.isnan(dx).any()
        assert (dx == 0).all()
    dx, dy = gradients(mg.subtract, x, y, weights=w)
    np.testing.assert_allclose(dx, summed(w, a), rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(dy, -summed(w, b), rtol=1e-13, atol=1e-13)


def test_gradients_of_strided_cotangents():
    x, y, w = normal((4, 6)), normal((4, 6)), normal((6, 4))
    (dx, dy) = (
        mg.vjp(mg.multiply, mg.tensor(x), mg.tensor(y))[1](ct)
        for ct in (mg.Tensor(w.T), mg.Tensor(np.broadcast_to(w[0, 0], (4, 6))))
    )
    np.testing.assert_array_equal(dx[0].numpy(), w.T * y)
    np.testing.assert_array_equal(dy[1].numpy(), w[0, 0] * x)


def test_forward_mode_broadcasts_tangents():
    x, y = normal((3, 1)), normal((1, 4))
    tx, ty = normal((3, 1)), normal((1, 4))
    value, tangent = mg.jvp(mg.multiply, [mg.tensor(x), mg.tensor(y)], [mg.tensor(tx), mg.tensor(ty)])
    np.testing.assert_array_equal(value.numpy(), x * y)
    np.testing.assert_allclose(tangent.numpy(), tx * y + x * ty, rtol=1e-14)
    _, tangent = mg.jvp(lambda v: mg.add(v, mg.tensor(y)), [mg.tensor(x)], [mg.tensor(tx)])
    np.testing.assert_array_equal(tangent.numpy(), np.broadcast_to(tx, (3, 4)))


def test_comparisons_carry_no_gradient():
    x = mg.tensor([1.0, -1.0], requires_grad=True)
    for f in (mg.greater, mg.less, mg.equal, mg.not_equal, mg.greater_equal, mg.less_equal):
        y = f(x, 0.0)
        assert y.dtype == np.bool_
        assert not y.requires_grad


@pytest.mark.parametrize(
    ("function", "derivatives"),
    [
        (mg.exp, [np.exp] * 3),
        (
            mg.tanh,
            [
                lambda v: 1 - np.tanh(v) ** 2,
                lambda v: -2 * np.tanh(v) * (1 - np.tanh(v) ** 2),
                lambda v: (6 * np.tanh(v) ** 2 - 2) * (1 - np.tanh(v) ** 2),
            ],
        ),
        (lambda x: x * x * x / 6, [lambda v: v * v / 2, lambda v: v, lambda v: 1 + 0 * v]),
        (mg.log, [lambda v: 1 / v, lambda v: -1 / v**2, lambda v: 2 / v**3]),
    ],
)
def test_derivatives_to_third_order(function, derivatives):
    v = np.array([0.3, 0.9, 1.7])
    f = function
    for derivative in derivatives:
        f = mg.grad(lambda x, f=f: f(x).sum())
        np.testing.assert_allclose(f(mg.tensor(v)).numpy(), derivative(v), rtol=1e-13)


# Primitives of one's own


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


def test_large_views_that_repeat_or_run_backwards():
    row, square = normal((1, 512), "float32"), normal((512, 512), "float32")
    assert square.size > cpu.PARALLEL_WORK
    x, y = np.broadcast_to(row, square.shape), square[::-1, ::-1]
    for a, b in [(x, square), (square, x), (y, square), (x, y), (x, x)]:
        same(mg.subtract(mg.Tensor(a), mg.Tensor(b)).numpy(), a - b)
