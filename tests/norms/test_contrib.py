"""batch_norm: every argument of tf.contrib.layers.batch_norm."""

import inspect

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.errors import ArgumentError, ArgumentTypeError, ShapeError
from minigrad_norms import batch_norm

AUTO = {"reuse": norms.AUTO_REUSE, "scope": "bn"}
NOW = {"updates_collections": None, **AUTO}


@pytest.fixture(autouse=True)
def store():
    with norms.VariableStore() as store:
        yield store


def batch(shape, seed=0):
    rng = np.random.default_rng(seed)
    return 1.5 + 2 * rng.standard_normal(shape)


def standardized(x, axes, epsilon, weights=1.0):
    w = np.broadcast_to(weights, x.shape)
    mean = (w * x).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)
    var = (w * (x - mean) ** 2).sum(axes, keepdims=True) / w.sum(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon), mean.squeeze(axes), var.squeeze(axes)


def test_the_signature_is_that_of_contrib():
    found = {name: p.default for name, p in inspect.signature(batch_norm).parameters.items() if name != "inputs"}
    assert found == {
        "decay": 0.999, "center": True, "scale": False, "epsilon": 0.001, "activation_fn": None,
        "param_initializers": None, "param_regularizers": None, "updates_collections": "update_ops",
        "is_training": True, "reuse": None, "variables_collections": None, "outputs_collections": None,
        "trainable": True, "batch_weights": None, "fused": None, "data_format": "NHWC",
        "zero_debias_moving_mean": False, "scope": None, "renorm": False, "renorm_clipping": None,
        "renorm_decay": 0.99,
    }  # fmt: skip


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("ndim", [2, 3, 4, 5])
@pytest.mark.parametrize(("center", "scale"), [(True, True), (True, False), (False, True), (False, False)])
def test_training_and_inference(store, data_format, ndim, center, scale):
    spatial = (3, 2, 4)[: ndim - 2]
    shape = (6, *spatial, 5) if data_format == "NHWC" else (6, 5, *spatial)
    axis = len(shape) - 1 if data_format == "NHWC" else 1
    axes = tuple(a for a in range(ndim) if a != axis)
    x, rng = batch(shape), np.random.default_rng(1)
    initial = {"beta": rng.standard_normal(5), "gamma": rng.standard_normal(5)}
    options = {
        "decay": 0.9, "center": center, "scale": scale, "epsilon": 0.01, "data_format": data_format,
        "param_initializers": {n: lambda s, d, g, v=v: v.astype(d) for n, v in initial.items()}, **NOW,
    }  # fmt: skip
    standing = [1] * ndim
    standing[axis] = 5
    gamma = initial["gamma"].reshape(standing) if scale else 1.0
    beta = initial["beta"].reshape(standing) if center else 0.0
    standard, mean, var = standardized(x, axes, 0.01)
    y = batch_norm(mg.tensor(x), **options)
    np.testing.assert_allclose(y.numpy(), standard * gamma + beta, rtol=1e-11, atol=1e-12)
    assert set(store.variables) == {
        "bn/moving_mean", "bn/moving_variance", *(["bn/beta"] * center), *(["bn/gamma"] * scale),
    }  # fmt: skip
    n = x.size / 5
    bessel = n / (n - 1) if ndim in (2, 4) else 1.0  # where the fused path is possible
    moving_mean, moving_var = 0.1 * mean, 0.9 + 0.1 * bessel * var
    np.testing.assert_allclose(store.variables["bn/moving_mean"].numpy(), moving_mean, rtol=1e-12)
    np.testing.assert_allclose(store.variables["bn/moving_variance"].numpy(), moving_var, rtol=1e-12)
    y = batch_norm(mg.tensor(x), is_training=False, **options)
    want = (x - moving_mean.reshape(standing)) / np.sqrt(moving_var.reshape(standing) + 0.01) * gamma + beta
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(store.variables["bn/moving_mean"].numpy(), moving_mean, rtol=1e-12)


@pytest.mark.parametrize(("fused", "ndim", "corrected"), [(None, 2, True), (True, 4, True), (False, 2, False),
                                                          (False, 4, False), (True, 3, False)])  # fmt: skip
def test_the_fused_path_takes_an_unbiased_variance(store, fused, ndim, corrected):
    x = batch((4, 2, 3, 5)[4 - ndim :])
    batch_norm(mg.tensor(x), decay=0.0, fused=fused, **NOW)
    want = x.var(tuple(range(ndim - 1)), ddof=int(corrected))
    np.testing.assert_allclose(store.variables["bn/moving_variance"].numpy(), want, rtol=1e-12)


def test_updates_wait_until_they_are_run(store):
    x = batch((8, 3))
    moving = lambda: store.variables["bn/moving_mean"].numpy().copy()  # noqa: E731
    batch_norm(mg.tensor(x), decay=0.5, **AUTO)
    batch_norm(mg.tensor(3 * x), decay=0.5, **AUTO)
    assert moving().tolist() == [0.0] * 3
    assert len(norms.get_collection(norms.UPDATE_OPS)) == 2
    assert norms.run_updates() == 2
    np.testing.assert_allclose(moving(), 0.25 * x.mean(0) + 1.5 * x.mean(0), rtol=1e-12)
    assert norms.run_updates() == 0
    batch_norm(mg.tensor(x), decay=0.0, updates_collections="mine", **AUTO)
    batch_norm(mg.tensor(x), decay=0.0, updates_collections=["mine", "yours"], is_training=False, **AUTO)
    assert norms.run_updates() == 0
    assert norms.run_updates("mine") == 1
    np.testing.assert_allclose(moving(), x.mean(0), rtol=1e-12)
    batch_norm(mg.tensor(2 * x), decay=0.0, **NOW)
    np.testing.assert_allclose(moving(), 2 * x.mean(0), rtol=1e-12)


def test_waiting_updates_hold_no_tape():
    import gc
    import weakref

    x = mg.tensor(batch((8, 3)), requires_grad=True)
    inside = x * 2.0
    seen = weakref.ref(inside)
    y = batch_norm(inside, **AUTO)
    del inside, y
    gc.collect()
    assert seen() is None
    assert norms.run_updates() == 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("extra", [{}, {"renorm": True}, {"batch_weights": np.array([1.0, 0.5, 2, 3, 1, 1])},
                                   {"zero_debias_moving_mean": True}, {"fused": False, "scale": True}])  # fmt: skip
def test_a_tensor_decides_as_a_boolean_does(extra, training):
    x, ct = batch((6, 3)), np.random.default_rng(1).standard_normal((6, 3))

    def run(is_training):
        with norms.VariableStore() as store:
            results = []
            batch_norm(mg.tensor(0.5 * x + 1), decay=0.8, **extra, **NOW)  # so that the averages are no longer plain
            for _ in range(2):
                f = lambda x: batch_norm(x, decay=0.8, is_training=is_training, **extra, **NOW)  # noqa: E731
                y, pull = mg.vjp(f, mg.tensor(x))
                results += [y.numpy().copy(), pull(mg.tensor(ct))[0].numpy().copy()]
            return results + [v.numpy().copy() for v in store.variables.values()]

    for got, want in zip(run(mg.tensor(training)), run(training)):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)


def test_batch_weights(store):
    x, weights = batch((6, 2, 3)), np.array([3.0, 0.0, 1.0, 2.0, 0.5, 1.0])
    y = batch_norm(mg.tensor(x), decay=0.0, epsilon=0.01, batch_weights=weights, **NOW)
    want, mean, var = standardized(x, (0, 1), 0.01, weights[:, None, None])
    np.testing.assert_allclose(y.numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(store.variables["bn/moving_mean"].numpy(), mean, rtol=1e-12)
    np.testing.assert_allclose(store.variables["bn/moving_variance"].numpy(), var, rtol=1e-12)
    with pytest.raises(ArgumentError, match=r"add up to 0\.0"):
        batch_norm(mg.tensor(x), batch_weights=np.zeros(6), **AUTO)
    with pytest.raises(ShapeError, match=r"batch_weights has shape \(5,\), expected \(6,\)"):
        batch_norm(mg.tensor(x), batch_weights=np.zeros(5), **AUTO)


def test_gradients_with_weights_to_second_order():
    x, weights = batch((5, 2, 3)), np.array([1.0, 0.2, 3.0, 0.7, 1.0])

    def f(x, weights):
        return batch_norm(x, epsilon=0.1, batch_weights=weights, **NOW)

    mg.gradcheck.check(f, [x, weights]).require()


def test_zero_debias_moving_mean(store):
    rng, biased = np.random.default_rng(0), np.zeros(3)
    for t in range(1, 5):
        x = rng.standard_normal((6, 3)) + 4
        batch_norm(mg.tensor(x), decay=0.99, zero_debias_moving_mean=True, fused=False, **NOW)
        biased -= 0.01 * (biased - x.mean(0))
        np.testing.assert_allclose(store.variables["bn/moving_mean/biased"].numpy(), biased, rtol=1e-12)
        assert store.variables["bn/moving_mean/local_step"].item() == t
        np.testing.assert_allclose(store.variables["bn/moving_mean"].numpy(), biased / (1 - 0.99**t), rtol=1e-12)
    assert store.variables["bn/moving_variance"].numpy().min() > 0.95  # as ever


def test_renorm_is_that_of_the_layer(store):
    rng = np.random.default_rng(0)
    clipping = {"rmax": 1.5, "dmax": 0.5}
    layer = norms.BatchNormalization(
        momentum=0.9, epsilon=0.01, scale=False, dtype="float64", renorm=True, renorm_clipping=clipping,
        renorm_momentum=0.8,
    )  # fmt: skip
    for step in range(4):
        x = mg.tensor(rng.standard_normal((6, 3)) * (1 + step) + step)
        y = batch_norm(x, decay=0.9, epsilon=0.01, renorm=True, renorm_clipping=clipping, renorm_decay=0.8, **NOW)
        np.testing.assert_allclose(y.numpy(), layer(x, training=True).numpy(), rtol=1e-12)
    for name in ("moving_mean", "moving_variance", "renorm_mean", "renorm_stddev", "renorm_weight"):
        np.testing.assert_allclose(store.variables[f"bn/{name}"].numpy(), layer.variables[name].numpy(), rtol=1e-12)


@pytest.mark.parametrize(
    "extra", [{}, {"renorm": True}, {"batch_weights": np.arange(1.0, 7.0)}, {"is_training": False}]
)
@pytest.mark.parametrize(
    ("function", "plain"),
    [
        (mg.relu, lambda z: np.maximum(z, 0)),
        ("tanh", np.tanh),
        (mg.sigmoid, lambda z: 1 / (1 + np.exp(-z))),
        (mg.softplus, lambda z: np.log1p(np.exp(z))),
        (lambda t: t * 2.0, lambda z: 2 * z),
    ],
)
def test_the_activation_comes_last(function, plain, extra):
    x, ct = batch((6, 3)), np.random.default_rng(1).standard_normal((6, 3))
    y = batch_norm(mg.tensor(x), activation_fn=function, **extra, **AUTO)
    z = batch_norm(mg.tensor(x), **extra, **AUTO)
    np.testing.assert_allclose(y.numpy(), plain(z.numpy()), rtol=1e-12, atol=1e-15)

    def fused(x):
        return batch_norm(x, activation_fn=function, **extra, **AUTO)

    def apart(x):
        z = batch_norm(x, **extra, **AUTO)
        return mg.nn.activations.get(function)(z)

    grads = [mg.vjp(f, mg.tensor(x))[1](mg.tensor(ct))[0].numpy() for f in (fused, apart)]
    np.testing.assert_allclose(*grads, rtol=1e-9, atol=1e-12)


def test_initializers_and_regularizers(store):
    batch_norm(
        mg.tensor(batch((6, 3))), scale=True, scope="bn",
        param_initializers={"beta": "ones", "gamma": mg.nn.initializers.constant(2.0), "moving_mean": "ones",
                            "moving_variance": "zeros"},
        param_regularizers={"gamma": lambda v: mg.sum(v * v)},
    )  # fmt: skip
    values = {name: v.tolist() for name, v in store.variables.items()}
    assert values == {
        "bn/beta": [1.0] * 3, "bn/gamma": [2.0] * 3, "bn/moving_mean": [1.0] * 3, "bn/moving_variance": [0.0] * 3
    }  # fmt: skip
    assert [p.item() for p in norms.get_collection(norms.REGULARIZATION_LOSSES)] == [12.0]
    assert store.variables["bn/gamma"].dtype == np.float64  # as of the input


def test_variables_are_shared_by_scope(store):
    x = mg.tensor(batch((6, 3)))
    batch_norm(x, scope="bn")
    with pytest.raises(ArgumentError, match="'bn/beta' exists already"):
        batch_norm(x, scope="bn")
    batch_norm(x, scope="bn", reuse=True)
    with pytest.raises(ArgumentError, match="'bn2/beta' does not exist"):
        batch_norm(x, scope="bn2", reuse=True)
    with pytest.raises(ArgumentError, match="reuse=True needs a name"):
        batch_norm(x, reuse=True)
    with pytest.raises(ShapeError, match=r"'bn/beta' has shape \(3,\), expected \(2,\)"):
        batch_norm(mg.tensor(batch((6, 2))), scope="bn", reuse=True)
    batch_norm(x)
    batch_norm(x)
    assert {name.split("/")[0] for name in store.variables} == {"bn", "BatchNorm", "BatchNorm_1"}
    with norms.variable_scope("net"):
        batch_norm(x)
    assert "net/BatchNorm/beta" in store.variables


def test_collections_of_variables_and_outputs():
    x = mg.tensor(batch((6, 3)))
    batch_norm(x, scope="a", variables_collections="all", trainable=False)
    batch_norm(x, scope="b", variables_collections={"beta": ["betas"], "moving_mean": "means"})
    names = lambda c: [v.name for v in norms.get_collection(c)]  # noqa: E731
    assert names("all") == ["a/beta", "a/moving_mean", "a/moving_variance"]
    assert (names("betas"), names("means")) == (["b/beta"], ["b/moving_mean"])
    assert names(norms.TRAINABLE_VARIABLES) == ["b/beta"]
    y = batch_norm(x, scope="c", outputs_collections="ends")
    z = batch_norm(x, scope="d", outputs_collections=["ends", "last"])
    assert [t is u for t, u in zip(norms.get_collection("ends"), (y, z))] == [True, True]
    again = batch_norm(x, scope="c", reuse=True, outputs_collections="ends")
    assert [t is u for t, u in zip(norms.get_collection("ends"), (again, z))] == [True, True]
    assert norms.get_collection("last")[0] is z


def test_a_kept_tape_moves_what_the_eager_call_moves():
    def run(wrap):
        with norms.VariableStore() as store:

            def step(x, is_training):
                y = batch_norm(x, decay=0.9, is_training=is_training, zero_debias_moving_mean=True, **AUTO)
                norms.run_updates()
                return y

            step, results = wrap(step), []
            for i in range(5):
                results.append(step(mg.tensor(batch((6, 3), i)), mg.tensor(i != 2)).numpy().copy())
            return results + [v.numpy().copy() for v in store.variables.values()]

    for got, want in zip(run(mg.jit), run(lambda f: f)):
        np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-14)


def test_half_inputs_are_computed_in_float32(store):
    x = batch((40, 3)).astype(np.float16)
    y = batch_norm(mg.tensor(x), scale=True, **NOW)
    assert y.dtype == np.float16
    assert store.variables["bn/gamma"].dtype == np.float32
    want = standardized(x.astype(float), 0, 1e-3)[0]
    np.testing.assert_allclose(y.numpy().astype(float), want, rtol=1e-3, atol=1e-3)


def test_empty_and_spoilt_batches_leave_the_averages(store):
    for extra in ({}, {"zero_debias_moving_mean": True}, {"renorm": True}):
        batch_norm(mg.tensor(np.empty((0, 3))), **extra, **NOW)
        batch_norm(mg.tensor(np.full((4, 3), np.nan)), **extra, **NOW)
    assert store.variables["bn/moving_mean"].tolist() == [0.0] * 3
    assert store.variables["bn/moving_variance"].tolist() == [1.0] * 3
    assert store.variables["bn/moving_mean/local_step"].item() == 0


def test_bad_arguments():
    x = mg.tensor(batch((6, 3)))
    for options, match in [
        ({"decay": 1.5}, r"decay is 1.5, expected a number in \[0, 1\]"),
        ({"renorm_decay": -1}, "renorm_decay is -1"),
        ({"epsilon": -1}, "epsilon is -1"),
        ({"data_format": "NWHC"}, "data_format is 'NWHC', expected 'NHWC' or 'NCHW'"),
        ({"renorm": True, "batch_weights": np.ones(6)}, "renorm and batch_weights exclude one another"),
        ({"renorm": True, "zero_debias_moving_mean": True}, "renorm and zero_debias_moving_mean exclude"),
        ({"renorm": True, "renorm_clipping": {"rmaks": 2}}, r"unknown keys \['rmaks'\]"),
        ({"param_initializers": {"delta": "zeros"}}, r"param_initializers has unknown keys \['delta'\]"),
        ({"param_regularizers": {"moving_mean": "l2"}}, "param_regularizers has unknown keys"),
        ({"activation_fn": "rely"}, "'rely' is unknown"),
    ]:
        with pytest.raises(ArgumentError, match=match):
            batch_norm(x, **options)
    with pytest.raises(ShapeError, match=r"inputs has shape \(3,\), expected at least two axes"):
        batch_norm(mg.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(ArgumentTypeError, match="is_training is 'yes'"):
        batch_norm(x, is_training="yes")
    with pytest.raises(ArgumentTypeError, match=r"is_training is float32\(\), expected a boolean scalar"):
        batch_norm(x, is_training=mg.tensor(1.0))
    with pytest.raises(ArgumentTypeError, match="collections is 3, expected names"):
        batch_norm(x, updates_collections=3)
    with pytest.raises(ArgumentError, match="one value a channel"):
        batch_norm(mg.tensor(batch((1, 3))))
