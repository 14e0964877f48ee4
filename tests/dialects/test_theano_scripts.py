"""Scripts as users of Theano write them: logistic regression, a perceptron, LeNet, an autoencoder. They must learn."""

from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
import minigrad.dialects.theano.tensor as T
from minigrad.dialects import theano
from minigrad.dialects.theano.tensor.nnet import conv2d
from minigrad.dialects.theano.tensor.shared_randomstreams import RandomStreams
from minigrad.dialects.theano.tensor.signal import pool


@pytest.fixture(scope="module")
def digits():
    data = mg.data.glyph_dataset(2000, 500, seed=1)
    flat = [(x.reshape(len(x), -1) / 255.0, y) for x, y in data]
    return flat[0], flat[1]


@pytest.fixture(params=["float32", "float64"])
def float_x(request):
    with theano.config.change_flags(floatX=request.param):
        yield request.param


def shared_dataset(data_xy, borrow=True):
    data_x, data_y = data_xy
    shared_x = theano.shared(np.asarray(data_x, dtype=theano.config.floatX), borrow=borrow)
    shared_y = theano.shared(np.asarray(data_y, dtype=theano.config.floatX), borrow=borrow)
    return shared_x, T.cast(shared_y, "int32")


class LogisticRegression:
    def __init__(self, input, n_in, n_out):
        self.W = theano.shared(np.zeros((n_in, n_out), dtype=theano.config.floatX), name="W", borrow=True)
        self.b = theano.shared(np.zeros((n_out,), dtype=theano.config.floatX), name="b", borrow=True)
        self.p_y_given_x = T.nnet.softmax(T.dot(input, self.W) + self.b)
        self.y_pred = T.argmax(self.p_y_given_x, axis=1)
        self.params = [self.W, self.b]

    def negative_log_likelihood(self, y):
        return -T.mean(T.log(self.p_y_given_x)[T.arange(y.shape[0]), y])

    def errors(self, y):
        assert y.ndim == self.y_pred.ndim
        assert y.dtype.startswith("int")
        return T.mean(T.neq(self.y_pred, y))


class HiddenLayer:
    def __init__(self, rng, input, n_in, n_out, activation=T.tanh):
        bound = np.sqrt(6.0 / (n_in + n_out))
        values = np.asarray(rng.uniform(-bound, bound, (n_in, n_out)), dtype=theano.config.floatX)
        self.W = theano.shared(value=values, name="W", borrow=True)
        self.b = theano.shared(value=np.zeros((n_out,), dtype=theano.config.floatX), name="b", borrow=True)
        self.output = activation(T.dot(input, self.W) + self.b)
        self.params = [self.W, self.b]


class ConvPoolLayer:
    def __init__(self, rng, input, filter_shape, image_shape, poolsize=(2, 2)):
        fan_in = np.prod(filter_shape[1:])
        bound = np.sqrt(6.0 / (fan_in + filter_shape[0] * np.prod(filter_shape[2:]) / np.prod(poolsize)))
        values = np.asarray(rng.uniform(-bound, bound, filter_shape), dtype=theano.config.floatX)
        self.W = theano.shared(values, borrow=True)
        self.b = theano.shared(value=np.zeros((filter_shape[0],), dtype=theano.config.floatX), borrow=True)
        maps = conv2d(input=input, filters=self.W, filter_shape=filter_shape, input_shape=image_shape)
        pooled = pool.pool_2d(input=maps, ds=poolsize, ignore_border=True)
        self.output = T.tanh(pooled + self.b.dimshuffle("x", 0, "x", "x"))
        self.params = [self.W, self.b]


def sgd(cost, params, learning_rate):
    gparams = [T.grad(cost, param) for param in params]
    return [(param, param - learning_rate * gparam) for param, gparam in zip(params, gparams)]


def compiled(x, y, cost, errors, updates, train, test, batch_size):
    index = T.lscalar("index")
    (train_x, train_y), (test_x, test_y) = train, test
    step = theano.function(
        inputs=[index],
        outputs=cost,
        updates=updates,
        givens={
            x: train_x[index * batch_size : (index + 1) * batch_size],
            y: train_y[index * batch_size : (index + 1) * batch_size],
        },
    )
    check = theano.function(
        [index],
        errors,
        givens={
            x: test_x[index * batch_size : (index + 1) * batch_size],
            y: test_y[index * batch_size : (index + 1) * batch_size],
        },
    )
    return step, check


def trained(step, check, n_train, n_test, epochs):
    losses = [[float(step(i)) for i in range(n_train)] for _ in range(epochs)]
    return np.mean(losses[0]), np.mean(losses[-1]), np.mean([check(i) for i in range(n_test)])


def test_logistic_regression(digits, float_x):
    train, test = (shared_dataset(part) for part in digits)
    batch_size = 100
    n_train = train[0].get_value(borrow=True).shape[0] // batch_size
    x, y = T.matrix("x"), T.ivector("y")
    classifier = LogisticRegression(input=x, n_in=28 * 28, n_out=10)
    cost = classifier.negative_log_likelihood(y)
    updates = sgd(cost, classifier.params, 0.5)
    step, check = compiled(x, y, cost, classifier.errors(y), updates, train, test, batch_size)
    first, last, wrong = trained(step, check, n_train, 5, 8)
    assert float(step(0)) < first
    assert last < 0.5 * first
    assert wrong < 0.25
    assert classifier.W.get_value().dtype == float_x
    predict = theano.function(inputs=[classifier.p_y_given_x], outputs=classifier.y_pred)
    assert predict(np.eye(10, dtype=float_x)[:3]).tolist() == [0, 1, 2]
    label = theano.function(inputs=[x], outputs=classifier.y_pred)
    images = test[0].get_value()[:200]
    assert np.mean(label(images) == digits[1][1][:200]) > 0.7


def test_logistic_regression_takes_the_steps_that_its_formula_says(float_x):
    """Two steps, against the gradient written out by hand."""
    rng = np.random.default_rng(0)
    a, labels = rng.standard_normal((6, 5)).astype(float_x), np.array([0, 2, 1, 1, 0, 2])
    x, y = T.matrix("x"), T.ivector("y")
    classifier = LogisticRegression(x, 5, 3)
    cost = classifier.negative_log_likelihood(y)
    step = theano.function([x, y], cost, updates=sgd(cost, classifier.params, 0.3))
    w, b = np.zeros((5, 3)), np.zeros(3)
    for _ in range(2):
        logits = a @ w + b
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        got = step(a, labels.astype("int32"))
        tolerance = 1e-5 if float_x == "float32" else 1e-12
        np.testing.assert_allclose(got, -np.log(p[np.arange(6), labels]).mean(), rtol=tolerance)
        error = (p - np.eye(3)[labels]) / 6
        w, b = w - 0.3 * a.T @ error, b - 0.3 * error.sum(0)
        np.testing.assert_allclose(classifier.W.get_value(), w, rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(classifier.b.get_value(), b, rtol=tolerance, atol=tolerance)


def test_perceptron_with_regularization(digits, float_x):
    train, test = (shared_dataset(part) for part in digits)
    rng = np.random.RandomState(1234)
    x, y = T.matrix("x"), T.ivector("y")
    hidden = HiddenLayer(rng, x, 28 * 28, 100)
    output = LogisticRegression(hidden.output, 100, 10)
    l1 = abs(hidden.W).sum() + abs(output.W).sum()
    l2_sqr = (hidden.W**2).sum() + (output.W**2).sum()
    cost = output.negative_log_likelihood(y) + 0.00001 * l1 + 0.0001 * l2_sqr
    updates = sgd(cost, hidden.params + output.params, np.asarray(0.3, float_x))
    step, check = compiled(x, y, cost, output.errors(y), updates, train, test, 50)
    first, last, wrong = trained(step, check, 40, 10, 6)
    assert last < 0.5 * first
    assert wrong < 0.12


def test_lenet(digits):
    with theano.config.change_flags(floatX="float32"):
        train, test = (shared_dataset(part) for part in digits)
        rng = np.random.RandomState(23455)
        batch_size, kernels = 100, (6, 12)
        x, y = T.matrix("x"), T.ivector("y")
        images = x.reshape((batch_size, 1, 28, 28))
        layer0 = ConvPoolLayer(rng, images, (kernels[0], 1, 5, 5), (batch_size, 1, 28, 28))
        shape = (kernels[1], kernels[0], 5, 5)
        layer1 = ConvPoolLayer(rng, layer0.output, shape, (batch_size, kernels[0], 12, 12))
        layer2 = HiddenLayer(rng, layer1.output.flatten(2), kernels[1] * 4 * 4, 60)
        layer3 = LogisticRegression(layer2.output, 60, 10)
        cost = layer3.negative_log_likelihood(y)
        params = layer3.params + layer2.params + layer1.params + layer0.params
        grads = T.grad(cost, params)
        updates = [(p, p - 0.2 * g) for p, g in zip(params, grads)]
        step, check = compiled(x, y, cost, layer3.errors(y), updates, train, test, batch_size)
        first, last, wrong = trained(step, check, 20, 5, 5)
    assert last < 0.5 * first
    assert wrong < 0.12


def test_rmsprop_and_dropout_with_one_hot_labels(digits, float_x):
    """A script in another style: rmsprop in an OrderedDict, masks in place, one-hot targets."""
    (images, labels), (test_images, test_labels) = digits
    srng = RandomStreams(seed=12345)
    floatx = lambda a: np.asarray(a, dtype=theano.config.floatX)  # noqa: E731
    rng = np.random.default_rng(0)
    w_h = theano.shared(floatx(rng.standard_normal((784, 80)) * 0.05))
    w_o = theano.shared(floatx(rng.standard_normal((80, 10)) * 0.05))
    x, y = T.matrix(), T.matrix()

    def dropout(a, p):
        if p > 0:
            keep = 1 - p
            a *= srng.binomial(a.shape, p=keep, dtype=theano.config.floatX)
            a /= keep
        return a

    def model(a, p):
        return T.nnet.softmax(T.dot(dropout(T.nnet.relu(T.dot(a, w_h)), p), w_o))

    def rmsprop(cost, params, lr=0.001, rho=0.9, epsilon=1e-6):
        updates = OrderedDict()
        for p, g in zip(params, T.grad(cost=cost, wrt=params)):
            acc = theano.shared(p.get_value() * floatx(0.0))
            acc_new = rho * acc + (1 - rho) * g**2
            updates[acc] = acc_new
            updates[p] = p - lr * g / T.sqrt(acc_new + epsilon)
        return updates

    noisy, clean = model(x, 0.3), model(x, 0.0)
    cost = T.mean(T.nnet.categorical_crossentropy(noisy, y))
    train = theano.function([x, y], cost, updates=rmsprop(cost, [w_h, w_o]), allow_input_downcast=True)
    predict = theano.function(inputs=[x], outputs=T.argmax(clean, axis=1), allow_input_downcast=True)
    one_hot = np.eye(10)[labels]
    for _ in range(5):
        for start in range(0, 2000, 50):
            train(images[start : start + 50], one_hot[start : start + 50])
    assert np.mean(predict(test_images) == test_labels) > 0.88
    np.testing.assert_array_equal(predict(test_images), predict(test_images))


def test_denoising_autoencoder_with_tied_weights(digits):
    with theano.config.change_flags(floatX="float32"):
        data = theano.shared(np.asarray(digits[0][0], dtype="float32"), borrow=True)
        rng = np.random.RandomState(123)
        theano_rng = RandomStreams(rng.randint(2**30))
        x, index = T.matrix("x"), T.lscalar()
        w = theano.shared(np.asarray(rng.uniform(-0.08, 0.08, (784, 60)), dtype="float32"), name="W")
        b, b_prime = (theano.shared(np.zeros(n, dtype="float32")) for n in (60, 784))
        tilde = theano_rng.binomial(size=x.shape, n=1, p=1 - 0.3, dtype="float32") * x
        z = T.nnet.sigmoid(T.dot(T.nnet.sigmoid(T.dot(tilde, w) + b), w.T) + b_prime)
        cost = T.mean(-T.sum(x * T.log(z) + (1 - x) * T.log(1 - z), axis=1))
        params = [w, b, b_prime]
        step = theano.function(
            [index], cost, updates=sgd(cost, params, 0.1), givens={x: data[index * 20 : (index + 1) * 20]}
        )
        losses = [np.mean([step(i) for i in range(100)]) for _ in range(3)]
    assert all(np.isfinite(losses))
    assert losses[2] < 0.8 * losses[0]


def test_a_recurrent_network_unrolled_by_a_loop():
    """Adds up a sequence of bits; Python's loop builds the steps."""
    rng = np.random.default_rng(0)
    shape = [(1, 8), (8, 8), (8, 1)]
    params = [theano.shared(rng.standard_normal(s) * 0.4) for s in shape]
    w_in, w, w_out = params
    x, y = T.tensor3("x"), T.vector("y")
    h = T.zeros((x.shape[1], 8), dtype="float64")
    for t in range(6):
        h = T.tanh(T.dot(x[t], w_in) + T.dot(h, w))
    cost = ((T.dot(h, w_out).flatten() - y) ** 2).mean()
    train = theano.function([x, y], cost, updates=sgd(cost, params, 0.1), allow_input_downcast=True)
    bits = rng.integers(0, 2, (6, 64, 1))
    costs = [float(train(bits, bits.sum((0, 2)) / 6.0)) for _ in range(300)]
    assert costs[-1] < 0.1 * costs[0]
