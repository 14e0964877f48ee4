"""The articles whose code uses Theano run here with their import lines changed and nothing else."""

import re
import textwrap

import numpy as np
import pytest
from article_code import articles, code

import minigrad as mg
import minigrad.dialects.theano.tensor as T
from minigrad.dialects import theano


def code_blocks(text):
    """The parts of an article that are Python with `theano.` in them: a class or function and its indented body."""
    blocks = []
    lines = text.splitlines()
    i = 0
    while i < len(lines):
        if re.match(r"(class|def) \w+.*:\s*$", lines[i]):
            end = i + 1
            while end < len(lines) and (not lines[end].strip() or lines[end][0] in " \t"):
                end += 1
            block = textwrap.dedent("\n".join(lines[i:end])).rstrip()
            if "theano" in block:
                blocks.append(block)
            i = end
        else:
            i += 1
    return blocks


def with_our_imports(block):
    """The code with the dialect imported in the place of Theano."""
    changed = re.sub(
        r"(?m)^(\s*)import theano\.tensor as (\w+)$", r"\1import minigrad.dialects.theano.tensor as \2", block
    )
    changed = re.sub(r"(?m)^(\s*)import theano$", r"\1from minigrad.dialects import theano", changed)
    changed = re.sub(r"(?m)^(\s*)from theano(\S*) import", r"\1from minigrad.dialects.theano\2 import", changed)
    # Articles that leave their imports out mean these.
    usual = "import numpy as np\nfrom minigrad.dialects import theano\nimport minigrad.dialects.theano.tensor as T\n"
    return usual + changed


def run(block):
    scope = {}
    exec(compile(with_our_imports(block), "article", "exec"), scope)
    return scope


@pytest.fixture(params=["float32", "float64"])
def float_x(request):
    with theano.config.change_flags(floatX=request.param):
        yield request.param


@pytest.fixture
def layer_class():
    if not articles("theano"):
        pytest.skip("the articles are not here")
    blocks = [b for text in articles("theano").values() for b in code_blocks(text)]
    assert blocks
    found = [v for b in blocks for n, v in run(b).items() if isinstance(v, type) and "Normalization" in n]
    assert len(found) == 1
    return found[0]


def test_import_lines_are_changed_and_nothing_else():
    block = (
        "import theano\nimport theano.tensor as T\nfrom theano.tensor.signal import pool\nx = T.dot  # import theano"
    )
    changed = with_our_imports(block).splitlines()[3:]
    assert changed[:3] == [
        "from minigrad.dialects import theano",
        "import minigrad.dialects.theano.tensor as T",
        "from minigrad.dialects.theano.tensor.signal import pool",
    ]
    assert changed[3:] == block.splitlines()[3:]
    assert run(block)["pool"].pool_2d


def expected(a, gamma, beta, axes):
    mean, var = a.mean(axes, keepdims=True), a.var(axes, keepdims=True)
    return gamma * (a - mean) / np.sqrt(var + 1e-5) + beta


@pytest.mark.parametrize(("shape", "axes"), [((7, 5), (0,)), ((6, 3, 4, 5), (0, 2, 3))])
def test_the_layer_normalizes(layer_class, float_x, shape, axes):
    """Fully connected, and on images, where gamma and beta have one entry a position."""
    rng = np.random.default_rng(0)
    x = T.TensorType("floatX", [False] * len(shape))("x")
    layer = layer_class(x, shape=shape)
    gamma, beta = layer.params
    assert gamma.get_value().shape == beta.get_value().shape == (shape[1:] if len(shape) == 4 else shape[1:2])
    values = [rng.uniform(0.5, 2, gamma.get_value().shape), rng.standard_normal(gamma.get_value().shape)]
    for variable, value in zip(layer.params, values):
        variable.set_value(value.astype(float_x))
    a = (3 * rng.standard_normal(shape) + 2).astype(float_x)
    weight = rng.standard_normal(shape).astype(float_x)
    grads = T.grad((layer.output * weight).sum(), [x, gamma, beta])
    out, gx, g_gamma, g_beta = theano.function([x], [layer.output, *grads])(a)
    assert out.dtype == float_x
    wide = a.astype(np.float64)
    values = [v.astype(float_x).astype(np.float64) for v in values]
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if float_x == "float32" else {"rtol": 1e-9, "atol": 1e-10}
    np.testing.assert_allclose(out, expected(wide, *values, axes), **tolerance)
    np.testing.assert_allclose(g_beta, weight.sum(0), **tolerance)
    np.testing.assert_allclose(g_gamma, (weight * expected(wide, 1.0, 0.0, axes)).sum(0), **tolerance)
    got = gx.ravel()[:10]
    for i in range(10):
        ends = []
        for step in (1e-5, -1e-5):
            moved = wide.copy()
            moved.ravel()[i] += step
            ends.append((weight * expected(moved, *values, axes)).sum())
        np.testing.assert_allclose(got[i], (ends[0] - ends[1]) / 2e-5, rtol=1e-3, atol=1e-4)


def test_the_layer_is_used_as_the_article_uses_it(layer_class, float_x):
    """Its pseudo-code, with something for what it leaves open; its ``...`` stand for parameters of other layers."""
    (text,) = (t for t in articles("theano").values() if layer_class.__name__ in t)
    lines = [line for line in code(text) if "h." in line or "previous_layer" in line or layer_class.__name__ in line]
    assert len(lines) == 4
    previous = type("Previous", (), {"output": T.matrix("x")})
    scope = {layer_class.__name__: layer_class, "previous_layer": previous, "batchsize": 6, "activation": T.tanh}
    for line in lines:
        exec(compile(line.replace("... +", "[] +").replace("+ ...", "+ []"), "article", "exec"), scope)
    a = np.random.default_rng(0).standard_normal((6, 784)).astype(float_x)
    out = theano.function([previous.output], scope["h"].output)(a)
    np.testing.assert_allclose(out, np.tanh(expected(a.astype(float), 1.0, 0.0, (0,))), rtol=1e-3, atol=1e-5)
    assert scope["params"] == scope["h"].params


def test_ten_layers_learn_with_it_and_not_without(layer_class):
    """The article's network, narrower: (fully connected, normalization, sigmoid) ten times, then a softmax."""
    data = mg.data.glyph_dataset(1500, 300, seed=3)
    (train_x, train_y), (test_x, test_y) = ((x.reshape(len(x), -1) / np.float32(255), y) for x, y in data)
    accuracy = {}
    with theano.config.change_flags(floatX="float32"):
        for normalized in (True, False):
            rng = np.random.default_rng(1)
            x, y = T.matrix("x"), T.lvector("y")
            h, size, params = x, 784, []
            for _ in range(10):
                w = theano.shared((rng.standard_normal((size, 40)) / np.sqrt(size)).astype("float32"), name="W")
                h, size = T.dot(h, w), 40
                params.append(w)
                if normalized:
                    layer = layer_class(h, shape=(50, 40))
                    h = layer.output
                    params += layer.params
                h = T.nnet.sigmoid(h)
            w = theano.shared((rng.standard_normal((40, 10)) / np.sqrt(40)).astype("float32"), name="W")
            params.append(w)
            p = T.nnet.softmax(T.dot(h, w))
            cost = T.nnet.categorical_crossentropy(p, y).mean()
            updates = [(v, v - np.float32(0.5) * g) for v, g in zip(params, T.grad(cost, params))]
            train = theano.function([x, y], cost, updates=updates)
            right = theano.function([x, y], T.eq(p.argmax(axis=1), y).mean())
            for _ in range(8):
                for start in range(0, 1500, 50):
                    train(train_x[start : start + 50], train_y[start : start + 50])
            accuracy[normalized] = float(right(test_x, test_y))
    assert accuracy[True] > 0.8
    assert accuracy[False] < 0.3
