"""The TensorFlow 1 dialect's graph: values against NumPy, shapes before values, names, sessions, order and errors."""

import numpy as np
import pytest

from minigrad import errors
from minigrad.dialects import tf1 as tf


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default() as made:
        tf.set_random_seed(1)
        yield made


@pytest.fixture
def session(graph):
    with tf.Session() as opened:
        yield opened


A = np.array([[0.5, -1.5, 2.0], [1.0, 3.0, -0.25]], np.float32)
B = np.array([[2.0, 0.5, 1.0], [-1.0, 4.0, 0.5]], np.float32)
I = np.array([[7, -7, 3], [2, 5, 9]], np.int32)  # noqa: E741
J = np.array([[2, 2, -2], [3, 4, 1]], np.int32)
E = np.exp(A.astype(float))
P = E / E.sum(-1, keepdims=True)

#: The expression of placeholders a and b, i and j, what it must be, and which lengths are known if a row is not.
VALUES = {
    "operators": (lambda a, b, i, j: (a + b) * 2 - a / b + 1.0, (A + B) * 2 - A / B + 1),
    "reflected": (lambda a, b, i, j: 1.0 - a + 2.0 / b, 1 - A + 2 / B),
    "integers": (lambda a, b, i, j: i // j, I // J),
    "remainder": (lambda a, b, i, j: i % j, I % J),
    "integers divided": (lambda a, b, i, j: i / j, I / J),
    "power": (lambda a, b, i, j: tf.square(a) ** 2.0 + tf.sqrt(tf.abs(b)), A**4 + np.sqrt(np.abs(B))),
    "compared": (lambda a, b, i, j: tf.cast(tf.logical_and(a > b, tf.logical_not(a <= 0.0)), tf.float32),
                 (A > B) & (A > 0)),
    "select": (lambda a, b, i, j: tf.where(tf.less(a, b), a, -b), np.where(A < B, A, -B)),
    "product": (lambda a, b, i, j: tf.matmul(a, b, transpose_b=True), A @ B.T),
    "rows": (lambda a, b, i, j: tf.reduce_mean(a, 1, keepdims=True) + tf.reduce_max(b, axis=[1], keep_dims=True),
             A.mean(1, keepdims=True) + B.max(1, keepdims=True)),
    "all": (lambda a, b, i, j: tf.reduce_sum(a) + tf.reduce_min(b, reduction_indices=[0, 1]), A.sum() + B.min()),
    "integer mean": (lambda a, b, i, j: tf.reduce_mean(i, 0), I.sum(0) // 2),
    "place": (lambda a, b, i, j: tf.argmax(a, 1), A.argmax(1)),
    "shape": (lambda a, b, i, j: tf.shape(a)[0] * 2 + tf.size(a), 2 * 2 + 6),
    "by shape": (lambda a, b, i, j: tf.reshape(a, [tf.shape(a)[0], 3, 1]), A[..., None]),
    "flat": (lambda a, b, i, j: tf.reshape(a, [-1]), A.ravel()),
    "parts": (lambda a, b, i, j: a[:, 1:] * b[..., 0, tf.newaxis], A[:, 1:] * B[:, :1]),
    "slice": (lambda a, b, i, j: tf.slice(a, [0, 1], [-1, 1]), A[:, 1:2]),
    "joined": (lambda a, b, i, j: tf.concat([a, tf.stack([b, b], 1)[:, 0]], 1), np.concatenate([A, B], 1)),
    "split": (lambda a, b, i, j: tf.split(a, [1, 2], 1)[1] + tf.unstack(b, axis=1)[0][:, None], A[:, 1:] + B[:, :1]),
    "moved": (lambda a, b, i, j: tf.squeeze(tf.expand_dims(tf.transpose(a), 0)), A.T),
    "tiled": (lambda a, b, i, j: tf.tile(tf.pad(a, [[0, 0], [1, 0]]), [1, 2]), np.tile(np.pad(A, ((0, 0), (1, 0))), 2)),
    "one hot": (lambda a, b, i, j: tf.one_hot(j[:, 1], 5), np.eye(5)[J[:, 1]]),
    "gathered": (lambda a, b, i, j: tf.gather(tf.transpose(a), [2, 0]), A.T[[2, 0]]),
    "softmax": (lambda a, b, i, j: tf.nn.softmax(a) + tf.exp(tf.nn.log_softmax(a)), 2 * P),
    "entropy": (lambda a, b, i, j: tf.nn.softmax_cross_entropy_with_logits(labels=b, logits=a),
                -(B * np.log(P)).sum(1)),
    "sparse": (lambda a, b, i, j: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=j[:, 0] - 1, logits=a),
               -np.log(P[[0, 1], [1, 2]])),
    "binary": (lambda a, b, i, j: tf.nn.sigmoid_cross_entropy_with_logits(labels=b, logits=a),
               np.log1p(E) - A * B),
    "clipped": (lambda a, b, i, j: tf.clip_by_value(a, -1.0, 1.0), np.clip(A, -1, 1)),
    "norm": (lambda a, b, i, j: tf.clip_by_global_norm([a, b], 1.0)[0][0], A / np.sqrt((A**2).sum() + (B**2).sum())),
    "unit": (lambda a, b, i, j: tf.nn.l2_normalize(a, 1), A / np.linalg.norm(A, axis=1, keepdims=True)),
    "added": (lambda a, b, i, j: tf.add_n([a, b, tf.ones_like(a), tf.fill(tf.shape(a), 2.0)]), A + B + 3),
    "top": (lambda a, b, i, j: tf.nn.in_top_k(a, tf.argmax(b, 1), 1), A.argmax(1) == B.argmax(1)),
    "finite": (lambda a, b, i, j: tf.reduce_all(tf.is_finite(a / (b * 0.0 + 1.0))), True),
}  # fmt: skip


@pytest.mark.parametrize("rows", [2, None])
def test_values_are_those_of_numpy(session, rows):
    a, b = (tf.placeholder(tf.float32, [rows, 3]) for _ in range(2))
    i, j = (tf.placeholder(tf.int32, [rows, 3]) for _ in range(2))
    made = {name: tf.convert_to_tensor(make(a, b, i, j)) for name, (make, _) in VALUES.items()}
    found = session.run(made, {a: A, b: B, i: I, j: J})
    for name, (_, wanted) in VALUES.items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-6, atol=1e-6, err_msg=name)
        assert np.shape(found[name]) == np.shape(wanted), name
        t = made[name]
        assert t.dtype == found[name].dtype, name
        assert len(t.shape) == np.ndim(wanted), name
        assert all(n in (None, m) for n, m in zip(t.shape.as_list(), np.shape(wanted))), name
        if rows is not None and name != "by shape":
            assert t.shape.as_list() == list(np.shape(wanted)), name


def test_nothing_is_known_of_a_placeholder_without_shape(session):
    x = tf.placeholder(tf.float32)
    y = tf.reduce_sum(x * 2.0, 0)
    assert x.shape.ndims is None
    assert y.shape.ndims is None
    assert y.dtype == tf.float32
    np.testing.assert_allclose(session.run(y, {x: A}), 2 * A.sum(0))
    assert session.run(y, {x: [1.0]}) == 2.0
    x.set_shape([None, 3])
    assert (x + 1.0).shape.as_list() == [None, 3]
    with pytest.raises(ValueError, match="not compatible"):
        x.set_shape([None, 4])


def test_shapes_are_known_before_values():
    x = tf.placeholder(tf.float32, [None, 28, 28, 3])
    y = tf.nn.conv2d(x, tf.zeros([5, 5, 3, 8]), [1, 2, 2, 1], "SAME")
    assert y.shape.as_list() == [None, 14, 14, 8]
    assert tf.nn.max_pool(y, [1, 2, 2, 1], [1, 2, 2, 1], "VALID").shape.as_list() == [None, 7, 7, 8]
    assert tf.layers.flatten(y).shape[1].value == 14 * 14 * 8
    assert tf.reduce_mean(y, [1, 2]).get_shape().as_list() == [None, 8]
    assert str(y.shape) == "(?, 14, 14, 8)"
    assert x.shape[1:].num_elements() == 28 * 28 * 3
    assert y.shape[3] * 2 == 16


@pytest.mark.parametrize(
    ("make", "kind", "words"),
    [
        (lambda x: tf.matmul(x, tf.zeros([5, 2])), ValueError, r"must be equal, but are 3 and 5 .*\(\?, 3\)"),
        (lambda x: x + tf.zeros([4]), ValueError, r"Dimensions must be equal, but are 3 and 4 for 'Add'"),
        (lambda x: x + tf.zeros([3], tf.int32), TypeError, "type int32 .* does not match type float32"),
        (lambda x: tf.zeros([2], tf.int32) + 0.5, TypeError, "Expected int32, got 0.5 of type 'float'"),
        (lambda x: tf.concat([x, tf.zeros([2, 2])], 0), ValueError, "concat.*a length that is not known was taken as"),
        (lambda x: tf.reshape(tf.zeros([2, 3]), [4, -1]), ValueError, r"Cannot reshape a tensor with 6 .* \[4, -1\]"),
        (lambda x: tf.reduce_sum(x, 2), ValueError, "Sum.*axis"),
        (lambda x: tf.nn.conv2d(x, x, [1, 1, 1, 1], "SAME"), ValueError, r"Conv2D: .*expected \(batch, rows, columns"),
        (lambda x: tf.nn.softmax_cross_entropy_with_logits(x, x), ValueError, "named arguments"),
        (lambda x: tf.nn.softmax_cross_entropy_with_logits(labels=tf.zeros([1, 4]), logits=x), ValueError,
         r"logits and labels must have the same shape, got \(\?, 3\) and \(1, 4\)"),
        (lambda x: tf.nn.max_pool(x, [2, 2, 2, 1], 1, "SAME"), ValueError, "1 for the axes of batch and channels"),
        (lambda x: tf.layers.dense(tf.placeholder(tf.float32, [2, None]), 3), ValueError, "should be defined"),
        (lambda x: tf.concat(0, [x, x]), TypeError, "values first"),
        (lambda x: tf.cond(True, lambda: x, lambda: x), TypeError, "must not be a Python bool"),
        (lambda x: tf.nn.dropout(x, 1.5), ValueError, r"range \(0, 1\], got 1.5"),
        (lambda x: tf.layers.dense(x, 0), ValueError, "dense: units is 0, expected a positive integer"),
        (lambda x: tf.layers.dense(x, 4, activation="relu"), TypeError, "activation is 'relu', expected a function"),
        (lambda x: tf.contrib.layers.batch_norm(x, decay=2.0), ValueError, r"^batch_norm: decay is 2.0, .*\(\?, 3\)"),
        (lambda x: tf.contrib.layers.batch_norm(x, is_training="yes"), TypeError, "expected .*bool"),
        (lambda x: tf.one_hot(x, 3), TypeError, "one_hot: indices .* expected integers"),
        (lambda x: tf.stack([]), ValueError, "stack: got no tensors"),
        (lambda x: tf.random_normal([3], stddev=-1.0), ValueError, "std is -1.0"),
        (lambda x: bool(x > 0.0), TypeError, "no truth value before the graph runs"),
        (lambda x: list(x), TypeError, "can't be iterated"),
        (lambda x: np.asarray(x), TypeError, "session.run or eval"),
        (lambda x: int(x.shape[0]), TypeError, r"use tf.shape\(x\)\[axis\]"),
        (lambda x: tf.Variable(x), ValueError, "must have a shape specified"),
        (lambda x: tf.Variable(), ValueError, "initial_value must be specified"),
        (lambda x: tf.assign(x, 1.0), TypeError, "takes a tf.Variable"),
        (lambda x: tf.assign(tf.Variable([1.0]), [1.0, 2.0]), ValueError, r"Assign to Variable:0: Shapes \(2,\) and"),
        (lambda x: tf.gradients(tf.cast(x, tf.int32), x), TypeError, "floating-point"),
        (lambda x: tf.train.AdamOptimizer().minimize(tf.reduce_sum(x)), ValueError, "No variables to optimize"),
    ],
)  # fmt: skip
def test_mistakes_are_told_where_they_are_made(make, kind, words):
    with pytest.raises(kind, match=words) as caught:
        make(tf.placeholder(tf.float32, [None, 3], "x"))
    assert isinstance(caught.value, errors.MinigradError)


def test_feeds_are_checked(session):
    x, y = tf.placeholder(tf.float32, [None, 3], "x"), tf.placeholder(tf.float32, name="y")
    total = tf.reduce_sum(x) + tf.reduce_sum(y)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"feed a value .*'y' with dtype float32 and shape <u"):
        session.run(total, {x: A})
    with pytest.raises(ValueError, match=r"value of shape \(3,\) for Tensor 'x:0', which has shape '\(\?, 3"):
        session.run(total, {x: [1, 2, 3], y: 0})
    with pytest.raises(TypeError, match=r"cannot be a tf\.Tensor object"):
        session.run(total, {x: tf.zeros([1, 3]), y: 0})
    with pytest.raises(TypeError, match="Cannot feed 'words' for Tensor 'y:0'"):
        session.run(total, {x: A, y: "words"})
    with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor: 3"):
        session.run(total, {3: A})
    with pytest.raises(TypeError, match="Fetch argument None has invalid type NoneType"):
        session.run([total, None], {x: A, y: 0})
    with pytest.raises(ValueError, match="'z' refers to an Operation not in the graph"):
        session.run("z:0")
    assert session.run("Add:0", {"x:0": A, "y:0": 1}) == pytest.approx(A.sum() + 1)
    session.close()
    with pytest.raises(ValueError, match="closed Session"):
        session.run(total)


def test_any_tensor_may_be_fed(session):
    x = tf.placeholder(tf.float32, [])
    double = x * 2.0
    assert session.run(double + 1.0, {double: 5.0}) == 6.0
    given = tf.placeholder_with_default(3.0, [])
    assert session.run(given + 1.0) == 4.0
    assert session.run(given + 1.0, {given: 1.0}) == 2.0


def test_fetches_keep_their_structure(session):
    a, b = tf.constant(1.0), tf.constant([2, 3])
    found = session.run({"a": a, "rest": (b, [a, tf.no_op()])})
    assert found["a"] == 1
    assert isinstance(found["a"], np.float32)
    assert isinstance(found["rest"], tuple)
    assert found["rest"][0].tolist() == [2, 3]
    assert found["rest"][1] == [1, None]
    assert session.run([]) == []


def test_names(graph):
    a = tf.constant(1.0, name="a")
    again = tf.constant(1.0, name="a")
    with tf.name_scope("outer") as scope, tf.name_scope("inner"):
        c = tf.add(a, a, name="c")
    with tf.name_scope("outer"):
        d = tf.add(a, a, name="c")
    assert scope == "outer/"
    assert [t.name for t in (a, again, c, d)] == ["a:0", "a_1:0", "outer/inner/c:0", "outer_1/c:0"]
    assert graph.get_tensor_by_name("outer_1/c:0") is d
    assert graph.get_operation_by_name("a").outputs == [a]
    for bad in ("a", "a:1", "b:0"):
        with pytest.raises(ValueError, match="The name "):
            graph.get_tensor_by_name(bad)
    with tf.Graph().as_default():
        other = tf.constant(1.0)
        with pytest.raises(ValueError, match="same graph"):
            tf.add(other, a)
    with pytest.raises(ValueError, match="nested graphs"):
        tf.reset_default_graph()


# Variables and scopes


def test_variables_have_values_in_a_session_alone(graph):
    w = tf.Variable([1.0, 2.0], name="w")
    twice = tf.Variable(w.initialized_value() * 2.0, name="w")
    assert [v.name for v in tf.global_variables()] == ["w:0", "w_1:0"]
    with tf.Session() as one, tf.Session() as two:
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value w;"):
            one.run(w)
        for opened in (one, two):
            opened.run(tf.global_variables_initializer())
        assert one.run(twice).tolist() == [2.0, 4.0]
        assert one.run(tf.assign_add(w, [1.0, 1.0])).tolist() == [2.0, 3.0]
        assert two.run(w).tolist() == [1.0, 2.0]
        w.load([7.0, 8.0], one)
        assert w.eval(session=one).tolist() == [7.0, 8.0]
        one.run(w.initializer)
        assert one.run(w).tolist() == [1.0, 2.0]


def test_what_runs_runs_in_the_order_of_the_graph(session):
    v = tf.Variable(1.0)
    before = tf.identity(v)
    change = tf.assign(v, 5.0)
    with tf.control_dependencies([change]):
        after = tf.identity(v)
    session.run(tf.global_variables_initializer())
    for _ in range(4):  # the later runs are replayed
        session.run(v.initializer)
        assert session.run([before, after]) == [1.0, 5.0]
    assert session.run(before) == 5.0


def test_scopes_share_variables_by_name():
    with tf.variable_scope("a") as scope:
        w = tf.get_variable("w", [2, 3])
        with tf.variable_scope("b", initializer=tf.constant_initializer(3.0)):
            b = tf.get_variable("w", [2], regularizer=tf.contrib.layers.l2_regularizer(0.5))
    assert [w.name, b.name] == ["a/w:0", "a/b/w:0"]
    exists = r"Variable a/w already exists, disallowed.*reuse=tf.AUTO_REUSE.*test_tf1_graph"
    with tf.variable_scope("a"), pytest.raises(ValueError, match=exists):
        tf.get_variable("w", [2, 3])
    with tf.variable_scope(scope, reuse=True):
        assert tf.get_variable("w", [2, 3]) is w
        with pytest.raises(ValueError, match="Variable a/v does not exist"):
            tf.get_variable("v", [1])
        with pytest.raises(ValueError, match=r"shape \(3,\) and found shape \(2, 3\)"):
            tf.get_variable("w", [3])
    with tf.variable_scope("a"):
        tf.get_variable_scope().reuse_variables()
        assert tf.get_variable("w") is w
    with tf.variable_scope("c", reuse=tf.AUTO_REUSE):
        first = tf.get_variable("w", initializer=[1, 2])
        assert tf.get_variable("w") is first
    assert first.dtype == tf.int32
    assert first not in tf.trainable_variables()
    with pytest.raises(ValueError, match="must be fully defined"):
        tf.get_variable("n")
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        assert session.run(b).tolist() == [3.0, 3.0]
        assert session.run(tf.losses.get_regularization_loss()) == 0.5 * (9 + 9) / 2


def test_default_names_count_up():
    x = tf.zeros([2, 3])
    for _ in range(2):
        tf.layers.dense(x, 4)
    with tf.variable_scope("net"):
        tf.layers.dense(x, 4)
        tf.contrib.layers.fully_connected(x, 2)
    names = [v.op.name for v in tf.trainable_variables() if "bias" not in v.name]
    assert names == ["dense/kernel", "dense_1/kernel", "net/dense/kernel", "net/fully_connected/weights"]
    with tf.variable_scope("net", reuse=True):
        tf.layers.dense(x, 4)
    assert len(tf.trainable_variables()) == 8


def test_random_values_follow_the_seed():
    def drawn(seed, op_seed=None):
        with tf.Graph().as_default():
            tf.set_random_seed(seed)
            x = tf.truncated_normal([50], stddev=2.0, seed=op_seed)
            with tf.Session() as session:
                return session.run(x), session.run(x)

    first, second = drawn(1)
    assert np.abs(first).max() <= 4
    assert (first != second).all()
    np.testing.assert_array_equal(first, drawn(1)[0])
    assert (first != drawn(2)[0]).all()
    np.testing.assert_array_equal(drawn(1, 5)[0], drawn(2, 5)[0])


# Choice


def test_cond_takes_one_way(session):
    way = tf.placeholder(tf.bool, name="way")
    counts = [tf.Variable(0, name="yes"), tf.Variable(0, name="no")]
    shared = tf.Variable(0, name="shared")
    outside = tf.assign_add(shared, 1)

    def counted(i):
        with tf.control_dependencies([tf.assign_add(counts[i], 1)]):
            return tf.cast(outside, tf.float32) * (1.0 if i == 0 else -1.0), tf.constant(i)

    value, which = tf.cond(way, lambda: counted(0), lambda: counted(1))
    session.run(tf.global_variables_initializer())
    for n, taken in enumerate([True, True, True, True, False, False, False, True], 1):
        assert session.run([value, which], {way: taken}) == [n if taken else -n, 0 if taken else 1]
    assert session.run([*counts, shared]) == [5, 3, 8]
    negated = tf.cond(tf.logical_not(way), lambda: tf.constant(1), lambda: tf.constant(2))
    assert session.run(negated, {way: False}) == 1


def test_cond_of_a_computed_predicate_has_gradients(session):
    x = tf.placeholder(tf.float32, [])
    w = tf.Variable(3.0)
    y = tf.cond(x * 2.0 > 1.0, lambda: w * w * x, lambda: w)
    (slope,) = tf.gradients(y, w)
    session.run(w.initializer)
    assert [session.run([y, slope], {x: value}) for value in (2.0, 0.0, 2.0, 0.0)] == [[18.0, 12.0], [3.0, 1.0]] * 2
    with pytest.raises(ValueError, match="same structure"):
        tf.cond(x > 0.0, lambda: [w], lambda: w)
    with pytest.raises(TypeError, match="same type: float32, int32"):
        tf.cond(x > 0.0, lambda: w, lambda: tf.constant(1))


def test_gradients(session):
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.Variable(B.T.copy(), trainable=False)
    h = tf.tanh(tf.matmul(x, w))
    seed = tf.ones_like(h) * 2.0
    found = tf.gradients([h], [x, w, h, tf.Variable(1.0)], grad_ys=[seed])
    assert found[3] is None
    (second,) = tf.gradients(tf.reduce_sum(tf.square(found[0])), x)
    session.run(tf.global_variables_initializer())
    dx, dw, dh, dxx = session.run([*found[:3], second], {x: A})
    wide, kernel = A.astype(float), B.T.astype(float)
    outer = 2 * (1 - np.tanh(wide @ kernel) ** 2)
    np.testing.assert_allclose(dx, outer @ kernel.T, rtol=1e-5)
    np.testing.assert_allclose(dw, wide.T @ outer, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(dh, np.full((2, 2), 2.0))

    def objective(a):
        return ((2 * (1 - np.tanh(a @ kernel) ** 2) @ kernel.T) ** 2).sum()

    for place in np.ndindex(2, 3):
        step = np.zeros((2, 3))
        step[place] = 1e-5
        slope = (objective(wide + step) - objective(wide - step)) / 2e-5
        np.testing.assert_allclose(dxx[place], slope, rtol=1e-3, atol=1e-3)


def test_an_interactive_session_is_the_one_in_use():
    x = tf.placeholder(tf.float32, [])
    w = tf.Variable(1.0)
    with pytest.raises(ValueError, match="no default session is registered"):
        w.eval()
    session = tf.InteractiveSession()
    tf.global_variables_initializer().run()
    w.assign_add(x).op.run(feed_dict={x: 2.0})
    assert (w * x).eval({x: 3.0}) == 9.0
    assert tf.get_default_session() is session
    session.close()
    assert tf.get_default_session() is None
