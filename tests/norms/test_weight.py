"""Weight norm and weight standardization: the functions, and the wrapper with its data-dependent start."""

import copy

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError

LAYOUTS = {
    "dense": ((5, 3), -1, (1,)),
    "convolution": ((2, 3, 4, 5), -1, (3,)),
    "outputs first": ((5, 2, 3, 4), 0, (0,)),
    "outputs in the middle": ((2, 5, 3), 1, (1,)),
    "two axes of outputs": ((2, 3, 4, 5), (2, 3), (2, 3)),
    "one length for all": ((4, 3), (), ()),
}


def draw(layout, seed=0):
    """v with ‖v‖ ≠ 1, and a g with a zero and negative entries."""
    shape, axis, kept = LAYOUTS[layout]
    rng = np.random.default_rng(seed)
    v = 3 * rng.standard_normal(shape)
    g = np.asarray(rng.standard_normal([shape[a] for a in kept]))
    if g.size > 2:
        g.flat[1], g.flat[2] = 0.0, -2.5
    return v, g, axis, tuple(a for a in range(len(shape)) if a not in kept)


def standing(g, v, others):
    return g.reshape([1 if a in others else n for a, n in enumerate(v.shape)])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weight_norm_element_by_element(layout, dtype):
    v, g, axis, others = draw(layout)
    v, g = v.astype(dtype), g.astype(dtype)
    w = norms.weight_norm(v, g, axis)
    assert w.dtype == dtype
    wide = v.astype(np.longdouble)
    want = wide * standing(g, v, others) / np.sqrt((wide * wide).sum(others, keepdims=True))
    np.testing.assert_allclose(w.numpy(), want.astype(float), rtol=3 * np.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weight_norm_gradients(layout):
    v, g, axis, others = draw(layout, 1)
    mg.gradcheck.check(lambda v, g: norms.weight_norm(v, g, axis), [v, g]).require()
    dw = np.random.default_rng(2).standard_normal(v.shape)
    _, pull = mg.vjp(lambda v, g: norms.weight_norm(v, g, axis), v, g)
    dv, dg = (t.numpy() for t in pull(mg.tensor(dw)))
    length = np.sqrt((v * v).sum(others, keepdims=True))
    along = (dw * v / length).sum(others, keepdims=True)  # equation 3 of the paper
    np.testing.assert_allclose(dg, along.reshape(g.shape), rtol=1e-12)
    np.testing.assert_allclose(dv, standing(g, v, others) / length * (dw - along * v / length), rtol=1e-11, atol=1e-13)


def test_a_vector_of_zeros_gives_zero_with_zero_gradients():
    v = np.array([[0.0, 3.0], [0.0, 4.0]], np.float32)
    w, pull = mg.vjp(lambda v: norms.weight_norm(v, np.array([5.0, 5.0])), v)
    np.testing.assert_array_equal(w.numpy(), np.array([[0, 3], [0, 4]], np.float32))
    (dv,) = pull(mg.tensor(np.ones((2, 2), np.float32)))
    np.testing.assert_array_equal(dv.numpy()[:, 0], 0)
    assert np.isfinite(dv.numpy()).all()


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "one length for all"])
@pytest.mark.parametrize("with_gain", [True, False])
def test_weight_standardization(layout, with_gain):
    w, gain, axis, others = draw(layout)
    gain = gain if with_gain else None
    got = norms.weight_standardization(w + 10, gain, axis, epsilon=0.1).numpy()
    centred = w - w.mean(others, keepdims=True)
    want = centred / np.sqrt((centred * centred).mean(others, keepdims=True) + 0.1)
    want = want if gain is None else want * standing(gain, w, others)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)
    mg.gradcheck.check(
        lambda w, *gain: norms.weight_standardization(w, *gain, axis=axis, epsilon=0.1),
        [w] if gain is None else [w, gain],
    ).require()


def test_bad_arguments_are_named():
    v = np.ones((4, 3))
    with pytest.raises(ShapeError, match=r"weight_norm: g has shape \(4,\), expected \(3,\) to match axes \(1,\) of v"):
        norms.weight_norm(v, np.ones(4))
    with pytest.raises(ShapeError, match="weight_norm: axis 2 is out of range"):
        norms.weight_norm(v, np.ones(3), axis=2)
    with pytest.raises(ShapeError, match=r"weight_standardization: gain has shape \(3, 1\)"):
        norms.weight_standardization(v, np.ones((3, 1)))
    with pytest.raises(ArgumentError, match="weight_standardization: epsilon is -1"):
        norms.weight_standardization(v, epsilon=-1)
    with pytest.raises(ArgumentTypeError, match="WeightNormalization: layer is 3, expected a layer"):
        norms.WeightNormalization(3)
    with pytest.raises(ArgumentTypeError, match="wrappers don't nest"):
        norms.WeightNormalization(norms.SpectralNormalization(mg.nn.Dense(2)))
    with pytest.raises(ArgumentError, match="flatten has no kernel Variable"):
        norms.WeightNormalization(mg.nn.Flatten())(v)


# The wrapper


def batch(seed=0, rows=17, features=5, dtype="float32"):
    return mg.tensor(1.5 + 2 * np.random.default_rng(seed).standard_normal((rows, features)), dtype=dtype)


def wrapped(data_init=True, built=False, **options):
    inner = mg.nn.Dense(
        3, kernel_initializer=lambda s, d, g: 4 * np.random.default_rng(5).standard_normal(s), **options
    )
    if built:
        inner.build_once((None, 5))
    return norms.WeightNormalization(inner, data_init=data_init)


@pytest.mark.parametrize("built", [True, False])
def test_in_the_beginning_the_layer_computes_what_it_did(built):
    plain = wrapped().layer
    x = batch()
    want = plain(x).numpy()
    layer = wrapped(built=built)
    np.testing.assert_allclose(layer(x).numpy(), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer.g.numpy(), np.linalg.norm(plain.kernel.numpy(), axis=0), rtol=1e-6)
    without = wrapped(data_init=False, built=built)
    np.testing.assert_allclose(without(x, training=True).numpy(), want, rtol=1e-5, atol=1e-5)
    assert set(without.variables) == {"v", "g", "layer/bias"}


def test_the_effective_kernel_is_g_v_over_norm_v_and_both_are_trained():
    layer = wrapped(data_init=False, dtype="float64")
    x = batch(dtype="float64")
    layer(x)
    v, g = 3 * np.random.default_rng(1).standard_normal((5, 3)), np.array([0.0, -2.0, 0.5])
    layer.v.assign(v)
    layer.g.assign(g)
    w = g * v / np.linalg.norm(v, axis=0)
    np.testing.assert_allclose(layer.effective().numpy(), w, rtol=1e-14)
    np.testing.assert_allclose(layer(x).numpy(), x.numpy() @ w, rtol=1e-12, atol=1e-12)
    assert {id(t) for t in layer.trainable_variables} == {id(layer.v), id(layer.g), id(layer.layer.bias)}
    dy = np.random.default_rng(2).standard_normal((17, 3))
    layer(x).backward(mg.tensor(dy))
    dw, length = x.numpy().T @ dy, np.linalg.norm(v, axis=0)
    along = (dw * v / length).sum(0)
    np.testing.assert_allclose(layer.g.grad.numpy(), along, rtol=1e-11)
    np.testing.assert_allclose(layer.v.grad.numpy(), g / length * (dw - along * v / length), rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(layer.layer.bias.grad.numpy(), dy.sum(0), rtol=1e-12)
    layer.trainable = False
    assert layer.trainable_variables == []


@pytest.mark.parametrize("scale", [1e-3, 1.0, 50.0])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_the_first_batch_in_training_gives_mean_0_and_deviation_1_whatever_the_length_of_v(scale, activation):
    layer = wrapped(activation=activation, dtype="float64")
    x = batch(dtype="float64")
    layer.build_once(x.shape)
    kernel = scale * layer.v.numpy().copy()
    layer.v.assign(kernel)
    layer(x)
    assert not layer.initialized.item()
    y = layer(x, training=True).numpy()
    t = x.numpy() @ (kernel / np.linalg.norm(kernel, axis=0))
    np.testing.assert_allclose(layer.g.numpy(), 1 / t.std(0), rtol=1e-12)
    np.testing.assert_allclose(layer.layer.bias.numpy(), -t.mean(0) / t.std(0), rtol=1e-12)
    normalized = (t - t.mean(0)) / t.std(0)
    np.testing.assert_allclose(y, np.maximum(normalized, 0) if activation else normalized, rtol=1e-9, atol=1e-12)
    # It happens once.
    g = layer.g.numpy().copy()
    layer(2 * x + 1, training=True)
    np.testing.assert_array_equal(layer.g.numpy(), g)


def test_the_start_records_nothing_and_gradients_flow_in_the_same_call():
    layer = wrapped()
    x = batch()
    y = layer(x, training=True)
    (y * y * y).sum().backward()
    for variable in layer.trainable_variables:
        assert np.abs(variable.grad.numpy()).max() > 1e-3


def test_a_layer_without_a_bias_gets_its_deviation_only():
    layer = wrapped(use_bias=False)
    y = layer(batch(), training=True).numpy()
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)
    assert np.abs(y.mean(0)).max() > 0.1


def test_channels_without_spread_keep_their_length():
    layer = wrapped(dtype="float64")
    layer.build_once((None, 5))
    kernel = layer.v.numpy().copy()
    kernel[:, 1] = 0  # t is 0
    kernel[:4, 2] = 0  # t is the last feature, which is constant
    layer.v.assign(kernel)
    x = batch(dtype="float64").numpy().copy()
    x[:, 4] = 7.0
    y = layer(mg.tensor(x), training=True).numpy()
    np.testing.assert_allclose(y[:, 0].std(), 1, rtol=1e-12)
    np.testing.assert_allclose(y[:, 1:], 0, atol=1e-12)
    np.testing.assert_allclose(layer.g.numpy()[1:], [0, abs(kernel[4, 2])], rtol=1e-15)


@pytest.mark.filterwarnings("ignore:invalid value encountered")  # NumPy's product of matrices with an infinity
@pytest.mark.parametrize("spoilt", ["empty", "nan", "inf"])
def test_a_batch_that_says_nothing_sets_nothing(spoilt):
    layer = wrapped()
    x = batch().numpy().copy()
    if spoilt == "empty":
        x = x[:0]
    else:
        x[3, 2] = float(spoilt)
    layer.build_once(x.shape)
    before = {name: v.numpy().copy() for name, v in layer.variables.items()}
    assert layer(mg.tensor(x), training=True).shape == (len(x), 3)
    for name, v in layer.variables.items():
        np.testing.assert_array_equal(v.numpy(), before[name])
    y = layer(batch(), training=True).numpy()
    np.testing.assert_allclose(y.std(0), 1, rtol=1e-5)


def test_one_value_a_channel_is_an_error_in_training_only():
    layer = wrapped()
    x = batch(rows=1)
    assert layer(x).shape == (1, 3)
    with pytest.raises(
        ArgumentError, match=r"weightnormalization_dense: the first batch of shape \(1, 5\) gives one val"
    ):
        layer(x, training=True)
    layer(batch(), training=True)
    assert layer(x, training=True).shape == (1, 3)


class Channels(mg.nn.Layer):
    """A 1×1 convolution without a bias, with channels at axis 1 and a kernel of (outputs, inputs)."""

    data_format = "NCHW"
    kernel_axis = 0

    def build(self, shape):
        self.kernel = self.add_variable("kernel", (3, shape[1]), "glorot_uniform")

    def call(self, x, training):
        n, c, *space = x.shape
        y = mg.matmul(self.kernel, x.reshape(n, c, -1))
        return y.reshape(n, 3, *space)


def test_layers_say_where_their_outputs_are():
    x = np.random.default_rng(0).standard_normal((2, 5, 4, 6))
    layer = norms.WeightNormalization(Channels(dtype="float64"))
    y = layer(mg.tensor(x), training=True).numpy()
    np.testing.assert_allclose(y.std((0, 2, 3)), 1, rtol=1e-12)
    np.testing.assert_allclose(layer.effective().numpy(), layer.layer.replaced(kernel=layer.effective()).kernel.numpy())
    length = np.linalg.norm(layer.effective().numpy(), axis=1)
    np.testing.assert_allclose(length, layer.g.numpy(), rtol=1e-12)


def trained(seed=3):
    model = mg.nn.Sequential([wrapped(), norms.SpectralNormalization(mg.nn.Dense(4)), mg.nn.Dense(2)])
    optimizer = mg.optim.SGD(0.01)
    for step in range(3):
        x = batch(seed + step)
        loss = mg.mean(mg.square(model(x, training=True) - 1.0))
        loss.backward()
        optimizer.step(model.trainable_variables)
    return model


def steps(model, count=2):
    """Some more training, for which state has to be right too."""
    optimizer = mg.optim.SGD(0.01)
    for step in range(count):
        mg.mean(mg.square(model(batch(20 + step), training=True))).backward()
        optimizer.step(model.trainable_variables)
    return model(batch(30)).numpy()


def test_a_deep_copy_is_the_same_and_shares_nothing():
    model = trained()
    twin = copy.deepcopy(model)
    x = batch(9)
    np.testing.assert_array_equal(twin(x).numpy(), model(x).numpy())
    assert not {id(v) for v in model.variables.values()} & {id(v) for v in twin.variables.values()}
    before = model(x).numpy().copy()
    after = steps(twin)
    np.testing.assert_array_equal(model(x).numpy(), before)
    np.testing.assert_array_equal(steps(model), after)


def test_save_and_load_bring_back_the_effective_kernel_and_the_start(tmp_path):
    model = trained()
    mg.save(tmp_path / "model.npz", model=model)
    other = mg.nn.Sequential([wrapped(), norms.SpectralNormalization(mg.nn.Dense(4)), mg.nn.Dense(2)])
    other.build_once((None, 5))
    assert list(other.variables) == list(model.variables)
    mg.load(tmp_path / "model.npz", model=other)
    x = batch(9)
    np.testing.assert_array_equal(other(x).numpy(), model(x).numpy())
    np.testing.assert_array_equal(steps(other), steps(model))  # the first batch was long ago: nothing starts again
    fresh = wrapped()
    fresh.build_once((None, 5))
    mg.save(tmp_path / "fresh.npz", layer=fresh)
    mg.load(tmp_path / "fresh.npz", layer=model[0])
    np.testing.assert_allclose(model[0](x, training=True).numpy().std(0), 1, rtol=1e-5)  # here it has to start again


def test_remove_gives_the_plain_layer_back_with_the_same_outputs():
    model = trained()
    x = batch(9)
    want = model(x).numpy()
    bias, v, given = model[0].layer.bias, model[0].v, model[0].layer
    wrapper = model[0]
    model.items[0] = wrapper.remove()
    model.items[1] = model[1].remove()
    np.testing.assert_array_equal(model(x).numpy(), want)
    assert model[0] is given
    assert model[0].bias is bias
    assert model[0].kernel is v
    assert v.trainable
    assert list(model.variables) == [f"items/{i}/{name}" for i in range(3) for name in ("kernel", "bias")]
    steps(model)
    for call in (lambda: wrapper(x), wrapper.remove):
        with pytest.raises(ArgumentError, match="was removed"):
            call()


def test_remove_before_the_first_input():
    layer = mg.nn.Dense(2)
    assert norms.WeightNormalization(layer).remove() is layer
    assert layer(batch()).shape == (17, 2)


def test_an_error_inside_leaves_the_layer_as_it_was():
    layer = wrapped()
    x = batch()
    want = layer(x).numpy()
    with pytest.raises(ShapeError, match="dense: the input has shape"):
        layer(mg.tensor(np.ones((2, 4), np.float32)))
    np.testing.assert_array_equal(layer(x).numpy(), want)
    assert layer.layer.kernel is None


def test_two_threads_may_call_it_at_once():
    from concurrent.futures import ThreadPoolExecutor

    layer = wrapped(data_init=False)
    inputs = [batch(seed) for seed in range(20)]
    want = [layer(x).numpy() for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for got, expected in zip(pool.map(lambda x: layer(x).numpy(), inputs), want, strict=True):
            np.testing.assert_array_equal(got, expected)


def test_wrapped_layers_learn_a_regularizer_and_take_options():
    layer = norms.WeightNormalization(mg.nn.Dense(2, kernel_regularizer="l2"), data_init=False)
    layer(batch())
    assert len(layer.losses) == 1

    class Shifted(mg.nn.Dense):
        def call(self, x, training, by=0.0):
            return super().call(x, training) + by

    shifted = norms.WeightNormalization(Shifted(2), data_init=False)
    plain = shifted(batch()).numpy()
    np.testing.assert_allclose(shifted(batch(), by=2.0).numpy(), plain + 2, rtol=1e-5)


def test_under_jit_as_without_the_first_batch_included():
    def losses(compiled):
        inner = mg.nn.Dense(4, kernel_initializer=lambda s, d, g: np.random.default_rng(6).standard_normal(s))
        model = mg.nn.Sequential([wrapped(), norms.SpectralNormalization(inner)])
        model.set_generator(mg.random.Generator(0))
        optimizer = mg.optim.SGD(0.1)

        def step(x):
            loss = mg.mean(mg.square(model(x, training=True) - 1.0))
            loss.backward()
            optimizer.step(model.trainable_variables)
            return loss

        run = mg.jit(step) if compiled else step
        return [run(batch(seed)).item() for seed in range(5)]

    np.testing.assert_allclose(losses(True), losses(False), rtol=1e-6)
