"""The TensorFlow 1 dialect's training: optimizers, batch norm in all its ways, averages, files, and replays."""

import numpy as np
import pytest

import minigrad as mg
import minigrad_norms as norms
from minigrad.dialects import tf1 as tf
from minigrad.errors import CheckpointError


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as made:
        tf.set_random_seed(1)
        yield made


@pytest.fixture
def session(graph):
    with tf.Session() as opened:
        yield opened


def descent(w, g, state, rate, step):
    return w - rate * g


def momentum(w, g, state, rate, step):
    state["v"] = 0.9 * state.get("v", 0) + g
    return w - rate * state["v"]


def nesterov(w, g, state, rate, step):
    state["v"] = 0.9 * state.get("v", 0) + g
    return w - rate * (g + 0.9 * state["v"])


def adam(w, g, state, rate, step):
    state["m"] = 0.9 * state.get("m", 0) + 0.1 * g
    state["v"] = 0.999 * state.get("v", 0) + 0.001 * g * g
    return w - rate * np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * state["m"] / (np.sqrt(state["v"]) + 1e-2)


def adagrad(w, g, state, rate, step):
    state["a"] = state.get("a", 0.1) + g * g
    return w - rate * g / np.sqrt(state["a"])


def rmsprop(w, g, state, rate, step):
    state["s"] = 0.9 * state.get("s", 0) + 0.1 * g * g
    return w - rate * g / np.sqrt(state["s"] + 1e-10)


OPTIMIZERS = {
    descent: lambda rate: tf.train.GradientDescentOptimizer(rate),
    momentum: lambda rate: tf.train.MomentumOptimizer(rate, 0.9),
    nesterov: lambda rate: tf.train.MomentumOptimizer(rate, 0.9, use_nesterov=True),
    adam: lambda rate: tf.train.AdamOptimizer(rate, epsilon=1e-2),
    adagrad: lambda rate: tf.train.AdagradOptimizer(rate),
    rmsprop: lambda rate: tf.train.RMSPropOptimizer(rate),
}


@pytest.mark.parametrize("formula", OPTIMIZERS, ids=lambda f: f.__name__)
def test_optimizers_follow_their_formulas_at_a_rate_that_falls(session, formula):
    start, target = np.array([1.0, -2.0, 3.0]), np.array([0.5, 0.5, 0.5])
    w = tf.Variable(start.astype(np.float32))
    count = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.1, count, 2, 0.5, staircase=True)
    step = OPTIMIZERS[formula](rate).minimize(tf.reduce_sum(tf.square(w - target.astype(np.float32))), count)
    for again in range(2):  # initializing begins anew, the optimizer's memory too
        session.run(tf.global_variables_initializer())
        wanted, state = start.copy(), {}
        for n in range(1, 6):
            wanted = formula(wanted, 2 * (wanted - target), state, 0.1 * 0.5 ** ((n - 1) // 2), n)
            session.run(step)
            np.testing.assert_allclose(session.run(w), wanted, rtol=1e-5, err_msg=f"step {n} of round {again}")
        assert tf.train.global_step(session, count) == 5


def test_gradients_may_be_changed_before_they_are_applied(session):
    w, other = tf.Variable([3.0, 4.0]), tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    pairs = optimizer.compute_gradients(tf.reduce_sum(w * w) / 2.0)
    assert [g is None for g, _ in pairs] == [False, True]
    clipped, norm = tf.clip_by_global_norm([g for g, _ in pairs], 1.0)
    step = optimizer.apply_gradients(zip(clipped, [v for _, v in pairs]))
    session.run(tf.global_variables_initializer())
    assert session.run([norm, step])[0] == 5.0
    np.testing.assert_allclose(session.run(w), [3 - 0.6, 4 - 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.minimize(tf.constant(1.0) * 2.0, var_list=[other])
    with pytest.raises(TypeError, match=r"not a tf\.Variable"):
        optimizer.minimize(tf.reduce_sum(w), var_list=[w + 1.0])


def test_rates(session):
    n = tf.placeholder(tf.int64, [])
    rates = {
        "exponential": tf.train.exponential_decay(0.1, n, 10, 0.5),
        "inverse": tf.train.inverse_time_decay(0.1, n, 10, 0.5),
        "polynomial": tf.train.polynomial_decay(0.1, n, 10, 0.01),
        "piecewise": tf.train.piecewise_constant(n, [3, 6], [1.0, 0.5, 0.1]),
    }
    for k in (0, 3, 4, 7, 20):
        found = session.run(rates, {n: k})
        wanted = [0.1 * 0.5 ** (k / 10), 0.1 / (1 + 0.05 * k), 0.09 * max(0, 1 - k / 10) + 0.01]
        wanted.append(1.0 if k <= 3 else 0.5 if k <= 6 else 0.1)
        np.testing.assert_allclose(list(found.values()), wanted, rtol=1e-5)


# Batch norm

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32) * 3 + 2
#: Ways to call it, whether its moving variance is that of samples (n/(n − 1)), and the prefix of its Variables.
WAYS = {
    "contrib": (lambda x, t: tf.contrib.layers.batch_norm(x, 0.9, scale=True, is_training=t), 0.9, False, "BatchNorm"),
    "at once": (
        lambda x, t: tf.contrib.layers.batch_norm(x, 0.9, scale=True, is_training=t, updates_collections=None),
        0.9, False, "BatchNorm",
    ),
    "fused": (
        lambda x, t: tf.contrib.layers.batch_norm(x, 0.9, scale=True, is_training=t, fused=True), 0.9, True, "BatchNorm"
    ),
    "layers": (lambda x, t: tf.layers.batch_normalization(x, training=t), 0.99, True, "batch_normalization"),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_batch_norm_moves_with_its_update_alone(session, way):
    make, decay, of_samples, prefix = WAYS[way]
    x, training = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.bool)
    y = make(x, training)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert len(updates) == (0 if way == "at once" else 1)
    names = ["beta", "gamma", "moving_mean", "moving_variance"]
    assert sorted(v.op.name for v in tf.global_variables()) == [f"{prefix}/{n}" for n in names]
    assert sorted(v.op.name for v in tf.trainable_variables()) == [f"{prefix}/{n}" for n in names[:2]]
    moving = sorted((v for v in tf.global_variables() if "moving" in v.name), key=lambda v: v.name)
    session.run(tf.global_variables_initializer())
    mean, var, n = X.mean(0, dtype=float), X.var(0, dtype=float), len(X)
    taken = var * n / (n - 1) if of_samples else var
    wanted = [np.zeros(4), np.ones(4)]
    for i in range(5):
        found = session.run([y, *updates], {x: X, training: True})[0]
        np.testing.assert_allclose(found, (X - mean) / np.sqrt(var + 1e-3), rtol=1e-4, atol=1e-5)
        wanted = [decay * w + (1 - decay) * new for w, new in zip(wanted, (mean, taken))]
        np.testing.assert_allclose(session.run(moving), wanted, rtol=1e-6, err_msg=f"run {i}")
        if updates:
            session.run(y, {x: 5 * X, training: True})  # without the update
            np.testing.assert_allclose(session.run(moving), wanted, rtol=1e-6)
        found = session.run([y, *updates], {x: X, training: False})[0]
        np.testing.assert_allclose(found, (X - wanted[0]) / np.sqrt(wanted[1] + 1e-3), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(session.run(moving), wanted, rtol=1e-6)


def test_every_argument_of_batch_norm_reaches_minigrad_norms(session):
    """The dialect and the function that it stands on agree, on images and in every mode."""
    images = np.random.default_rng(1).standard_normal((3, 4, 2, 5)).astype(np.float32)
    shares = np.array([1.0, 2.0, 0.5], np.float32)
    cases = [
        {"data_format": "NCHW", "center": False, "scale": True},
        {"batch_weights": shares, "epsilon": 0.1},
        {"zero_debias_moving_mean": True, "decay": 0.5},
        {"renorm": True, "renorm_clipping": {"rmax": 1.2, "dmax": 0.3}, "renorm_decay": 0.8},
        {"activation_fn": "relu", "trainable": False},
    ]
    for i, options in enumerate(cases):
        theirs = {**options}
        if "activation_fn" in options:
            theirs["activation_fn"] = tf.nn.relu
        y = tf.contrib.layers.batch_norm(
            tf.constant(images), updates_collections=None, is_training=True, scope=f"n{i}", **theirs
        )
        session.run(tf.global_variables_initializer())
        with norms.VariableStore() as store:
            for _ in range(2):
                wanted = norms.batch_norm(
                    images, updates_collections=None, scope=f"n{i}", reuse=norms.AUTO_REUSE, fused=False, **options
                )
                np.testing.assert_allclose(session.run(y), wanted.numpy(), rtol=1e-5, atol=1e-5, err_msg=str(options))
        mine = {v.op.name: session.run(v) for v in tf.global_variables() if v.op.name.startswith(f"n{i}/")}
        assert sorted(mine) == sorted(store.variables)
        for name, value in mine.items():
            np.testing.assert_allclose(value, store.variables[name].numpy(), rtol=1e-6, atol=1e-7, err_msg=name)
    assert not any(v.op.name.startswith("n4/") for v in tf.trainable_variables())


def test_batch_norm_shares_its_variables_and_says_what_is_wrong():
    x = tf.placeholder(tf.float32, [None, 3])
    with tf.variable_scope("net", regularizer=tf.contrib.layers.l2_regularizer(1.0)):
        tf.contrib.layers.batch_norm(x, scope="bn", outputs_collections="outputs")
        with pytest.raises(ValueError, match="net/bn/beta already exists"):
            tf.contrib.layers.batch_norm(x, scope="bn")
        tf.contrib.layers.batch_norm(x, scope="bn", reuse=True)
    assert len(tf.global_variables()) == 3
    assert len(tf.get_collection("outputs")) == 1
    assert [t.op.name.split("/")[2] for t in tf.losses.get_regularization_losses()] == ["beta"]
    with pytest.raises(ValueError, match="undefined channels"):
        tf.contrib.layers.batch_norm(tf.placeholder(tf.float32, [3, None]))
    with pytest.raises(ValueError, match="undefined rank"):
        tf.layers.batch_normalization(tf.placeholder(tf.float32))
    with pytest.raises(ValueError, match="NCHW or NHWC"):
        tf.contrib.layers.batch_norm(x, data_format="CN")


def test_moments_and_fused_batch_norm(session):
    images = np.random.default_rng(2).standard_normal((3, 4, 2, 5)).astype(np.float32) + 4
    x, (scale, offset) = tf.constant(images), (tf.constant(np.arange(5, dtype=np.float32) + k) for k in (1, 2))
    mean, variance = tf.nn.moments(x, [0, 1, 2], keep_dims=True)
    assert mean.shape.as_list() == [1, 1, 1, 5]
    y, m, v = tf.nn.fused_batch_norm(x, scale, offset)
    z, _, _ = tf.nn.fused_batch_norm(x, scale, offset, m, v, is_training=False)
    found = session.run([mean, variance, y, m, v, z])
    flat = images.reshape(-1, 5).astype(float)
    np.testing.assert_allclose(found[0].ravel(), flat.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found[1].ravel(), flat.var(0), rtol=1e-5)
    np.testing.assert_allclose(found[4], flat.var(0, ddof=1), rtol=1e-5)
    for got, var in ((found[2], flat.var(0)), (found[5], flat.var(0, ddof=1))):
        wanted = (flat - flat.mean(0)) / np.sqrt(var + 1e-3) * np.arange(1, 6) + np.arange(2, 7)
        np.testing.assert_allclose(got.reshape(-1, 5), wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="batch_normalization of mean"):
        tf.nn.batch_normalization(x, tf.zeros([4]), variance, None, None, 1e-3)


def test_averages_of_moments_inside_cond(session):
    """The usual way by hand: averages of the batch's moments, moved inside the way of training."""
    x, training = tf.placeholder(tf.float32, [None, 4]), tf.placeholder(tf.bool, [])
    mean, variance = tf.nn.moments(x, [0])
    averages = tf.train.ExponentialMovingAverage(0.5, zero_debias=True)

    def moved():
        with tf.control_dependencies([averages.apply([mean, variance])]):
            return tf.identity(mean), tf.identity(variance)

    m, v = tf.cond(training, moved, lambda: (averages.average(mean), averages.average(variance)))
    y = tf.nn.batch_normalization(x, m, v, None, None, 1e-3)
    session.run(tf.global_variables_initializer())
    total = 0.0
    for i in range(1, 5):
        session.run(y, {x: i * X, training: True})
        total = 0.5 * total + 0.5 * i * X.mean(0)
        np.testing.assert_allclose(session.run(m, {x: X, training: False}), total / (1 - 0.5**i), rtol=1e-5)


def test_averages_of_variables(session):
    w, n = tf.Variable([1.0], name="w"), tf.Variable(0, trainable=False)
    averages = tf.train.ExponentialMovingAverage(0.999, num_updates=n)
    assert averages.average(w) is None
    assert averages.average_name(w) == "w/ExponentialMovingAverage"
    with tf.control_dependencies([tf.assign(w, [9.0])]):
        step = averages.apply()
    session.run(tf.global_variables_initializer())
    session.run(step)
    np.testing.assert_allclose(session.run(averages.average(w)), [0.1 * 1 + 0.9 * 9], rtol=1e-6)
    assert averages.variables_to_restore()["w/ExponentialMovingAverage"] is w
    with pytest.raises(ValueError, match="already computed for: w:0"):
        averages.apply([w])
    with pytest.raises(TypeError, match="must be half, float, or double"):
        averages.apply([n])
    with pytest.raises(ValueError, match="decay"):
        tf.train.ExponentialMovingAverage(1.5)


# Networks, files, data


def network():
    x, y = tf.placeholder(tf.float32, [None, 4], "x"), tf.placeholder(tf.int32, [None], "y")
    h = tf.layers.dense(x, 5, tf.nn.relu, kernel_initializer=tf.glorot_normal_initializer(seed=1))
    h = tf.layers.dropout(h, 0.25, training=True, seed=3)
    logits = tf.layers.dense(h, 3, kernel_initializer=tf.glorot_normal_initializer(seed=2))
    loss = tf.losses.sparse_softmax_cross_entropy(y, logits)
    return loss, tf.train.AdamOptimizer(0.05).minimize(loss)


def test_training_goes_on_from_a_file(tmp_path):
    def go(session, step, loss, count):
        feed = {"x:0": X, "y:0": [0, 1, 2, 0, 1, 2]}
        return [session.run([loss, step], feed)[0] for _ in range(count)]

    with tf.Graph().as_default(), tf.Session() as session:
        loss, step = network()
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(max_to_keep=2)
        first = go(session, step, loss, 4)
        paths = [saver.save(session, str(tmp_path / "model"), n) for n in (1, 2, 3)]
        drawn = [g.get_state() for g in session._generators.values()]
        rest = go(session, step, loss, 4)
        kernel = session.run("dense/kernel:0")
    assert paths[2] == str(tmp_path / "model-3") == tf.train.latest_checkpoint(str(tmp_path))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint", "model-2", "model-3"]
    assert rest[-1] != first[-1]
    with tf.Graph().as_default(), tf.Session() as session:
        loss, step = network()
        tf.train.Saver().restore(session, paths[2])  # no initializing before
        op = next(op for op in session.graph.operations if op.type == "Dropout")
        session.generator_of(op, 3).set_state(drawn[-1])
        assert go(session, step, loss, 4) == rest
        np.testing.assert_array_equal(session.run("dense/kernel:0"), kernel)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("other", [2])
        with pytest.raises(tf.errors.NotFoundError, match="Key other not found"):
            tf.train.Saver().restore(session, paths[2])
        with pytest.raises(tf.errors.NotFoundError, match="there is no such file"):
            tf.train.Saver().restore(session, str(tmp_path / "nothing"))
    with tf.Graph().as_default(), tf.Session() as session:
        with pytest.raises(ValueError, match="No variables to save"):
            tf.train.Saver()
        w = tf.get_variable("w", [3, 5])
        with pytest.raises(CheckpointError, match="expected float32"):
            tf.train.Saver({"dense/kernel": w}).restore(session, paths[2])
        with pytest.raises(tf.errors.FailedPreconditionError):
            session.run(w)
    assert tf.train.latest_checkpoint(str(tmp_path / "nowhere")) is None


def test_runs_are_replayed(graph):
    _, step = network()
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        for rows in (6, 6, 6, 6, 4, 6):
            session.run(step, {"x:0": X[:rows], "y:0": [0, 1, 2, 0, 1, 2][:rows]})
        programs = {len(p.order): p for p in session._programs.values()}
        assert programs[max(programs)]._jitted.recordings == 2
    # A computed predicate is another matter.
    v = tf.Variable(0.0)
    y = tf.cond(v > 2.0, lambda: tf.assign(v, 0.0), lambda: tf.assign_add(v, 1.0))
    with tf.Session() as session:
        session.run(v.initializer)
        assert [session.run(y) for _ in range(8)] == [1, 2, 3, 0, 1, 2, 3, 0]


def test_what_cannot_be_recorded_runs_step_by_step_and_once(session):
    """A predicate fed as an array is read when the graph runs; the try to record that leaves no trace."""
    way, count, noise = tf.placeholder(tf.bool), tf.Variable(0), tf.random_uniform([])
    with tf.control_dependencies([tf.assign_add(count, 1)]):
        y = tf.cond(way, lambda: tf.identity(count), lambda: -tf.identity(count))
    session.run(count.initializer)
    state = session.generator.get_state()
    found = [session.run([y, noise], {way: [n % 2 == 0]}) for n in range(1, 7)]
    assert [value for value, _ in found] == [-1, 2, -3, 4, -5, 6]
    session.generator.set_state(state)
    assert [session.run(noise) for _ in range(6)] == [drawn for _, drawn in found]
    (program,) = (p for p in session._programs.values() if len(p.fetches) == 2)
    assert program._jitted.recordings == 0


def test_layers_and_losses_on_images(session):
    x = tf.placeholder(tf.float32, [None, 8, 8, 2])
    params = {"is_training": True, "updates_collections": None}
    h = tf.contrib.layers.conv2d(x, 3, 3, normalizer_fn=tf.contrib.layers.batch_norm, normalizer_params=params)
    h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.conv2d(h, 4, [3, 3], padding="same", activation=tf.nn.elu)
    h = tf.layers.average_pooling2d(h, 4, 4)
    logits = tf.contrib.layers.fully_connected(tf.layers.flatten(h), 3, activation_fn=None)
    assert logits.shape.as_list() == [None, 3]
    assert not [v for v in tf.global_variables() if v.op.name == "Conv/biases"]
    assert len(tf.get_collection("model_variables")) == 3 + 1 + 2
    loss = tf.losses.softmax_cross_entropy(tf.one_hot([0, 1], 3), logits, weights=[1.0, 0.0])
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.losses.get_total_loss())
    session.run(tf.global_variables_initializer())
    images = np.random.default_rng(3).standard_normal((2, 8, 8, 2)).astype(np.float32)
    values = [session.run([loss, step], {x: images})[0] for _ in range(6)]
    assert values[-1] < 0.5 * values[0]
    logarithms = session.run(tf.nn.log_softmax(logits), {x: images})
    assert session.run(loss, {x: images}) == pytest.approx(-logarithms[0, 0], rel=1e-3)


def test_mnist_comes_in_batches(monkeypatch):
    from minigrad.dialects.tf1.examples.tutorials.mnist import input_data

    monkeypatch.setattr(mg.data, "mnist", lambda: mg.data.glyph_dataset(50, 20, seed=0))
    found = input_data.read_data_sets("MNIST_data/", one_hot=True, validation_size=10, seed=1)
    assert [part.num_examples for part in found] == [40, 10, 20]
    assert found.train.images.shape == (40, 784)
    assert found.train.images.max() == 1
    assert found.test.labels.shape == (20, 10)
    seen = [found.train.next_batch(16) for _ in range(5)]
    assert [len(x) for x, _ in seen] == [16] * 5
    assert found.train.epochs_completed == 1  # the 80 are twice the 40, and the third pass has not begun
    rows = np.concatenate([x for x, _ in seen])
    for half in (rows[:40], rows[40:]):
        np.testing.assert_array_equal(np.sort(half.sum(1)), np.sort(found.train.images.sum(1)))
    with pytest.raises(ValueError, match="between 0 and 50"):
        input_data.read_data_sets("MNIST_data/", validation_size=51)
