"""`fit` with jit: the bits of a fit without it, whatever is changed between steps, and what it does where it can't."""

import sys
import warnings

import numpy as np
import pytest
from training_parts import assert_same, data, fit, network, values_of

import minigrad as mg
from minigrad import _replayed, nn
from minigrad.callbacks import Callback
from minigrad.errors import TrainingError

CALLS = 0


@pytest.fixture(autouse=True)
def _recorded_early(monkeypatch):
    monkeypatch.setattr(_replayed, "FIRST", 1)  # one step as written, for each shape of a batch


class Counted(nn.Layer):
    """Notes each time that Python comes by, where nothing watches."""

    def call(self, x, training):
        counted()
        return x


def counted():
    setattr(sys.modules[__name__], "CALLS", vars(sys.modules[__name__])["CALLS"] + 1)  # noqa: B010


class Reader(nn.Layer):
    """Branches on a value: can't be captured."""

    def call(self, x, training):
        return x * 2.0 if float(x.sum()) > 0 else x * 3.0


class At(Callback):
    """Does something after one step."""

    def __init__(self, step, action):
        super().__init__()
        self.step, self.action = step, action

    def on_step_end(self, step, values):
        if step == self.step:
            self.action(self.model, self.optimizer)


def pair(x, y, make=network, optimizer=lambda: mg.optim.Adam(0.01), callbacks=list, **options):
    """Values and History of the same fit, without jit and with it."""
    found = []
    for jit in (False, True):
        model, used = make(), optimizer()
        history = fit(model, x, y, used, callbacks=callbacks(), jit=jit, **options)
        found.append((values_of(model, used), history))
    (want, eager), (got, jitted) = found
    assert_same(want, got)
    assert eager.losses == jitted.losses
    return jitted


def regularized():
    dense = nn.Dense(5, kernel_regularizer=nn.regularizers.L2(0.01), kernel_constraint="non_neg")
    model = nn.Sequential([dense, nn.Activation("relu"), nn.Dense(3)])
    model.set_generator(mg.random.Generator(0))
    return model


def frozen():
    model = network()
    model.items[0].trainable = False
    return model


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": ["accuracy"], "epochs": 3},
        {"make": regularized},
        {"make": frozen},
        {"class_weight": {1: 3.0}, "validation_split": 0.2},
        {"optimizer": lambda: mg.optim.SGD(mg.optim.step_decay(0.1, 0.5, every=3), momentum=0.9, clip_norm=1.0)},
        {"optimizer": lambda: mg.optim.SGD(0.1), "drop_last": True, "max_steps": 9, "epochs": 5},
    ],
    ids=["metrics", "penalties", "frozen", "weights", "schedule", "max_steps"],
)
def test_the_bits_are_those_of_a_fit_without(options):
    x, y = data(50)  # batches of 8: the last one is smaller
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = pair(x, y, **{"epochs": 2, **options})
    assert len(history.losses) > 8


def test_steps_are_replayed():
    x, y = data(50)
    model = nn.Sequential([Counted(), nn.Dense(3)])
    before = CALLS
    fit(model, x, y, epochs=4)
    assert CALLS - before == 1 + 2 * 2  # to make Variables; as written and recorded, batches of 8 and the last, of 2


def _rate(model, optimizer):
    optimizer.lr.assign(0.003)


def _decay(model, optimizer):
    optimizer.weight_decay = 0.1


def _dropout(model, optimizer):
    model.items[1].rate = 0.6


def _averages(model, optimizer):
    model.items[2].momentum = 0.5


def _activation(model, optimizer):
    model.items[0].activation = nn.activations.get("relu")


def _assign(model, optimizer):
    model.items[0].kernel.assign(0.5 * model.items[0].kernel.detach())


@pytest.mark.parametrize("action", [_rate, _decay, _dropout, _averages, _activation, _assign])
@pytest.mark.parametrize("step", [3, 7])  # within an epoch, and before the next one
def test_what_callbacks_change_takes_effect(action, step):
    x, y = data(50)
    untouched = fit(network(), x, y, mg.optim.Adam(0.01), epochs=3).losses
    history = pair(x, y, callbacks=lambda: [At(step, action)], epochs=3)
    assert history.losses[:step] == untouched[:step]
    assert (history.losses != untouched) is (action is not _averages)  # those are not used in training


def test_a_resumed_run_has_the_bits_of_one_that_was_not_interrupted(tmp_path):
    x, y = data(50)
    model, optimizer = network(), mg.optim.Adam(0.01)
    whole = fit(model, x, y, optimizer, epochs=3, jit=True)
    path = tmp_path / "run.npz"
    fit(network(), x, y, mg.optim.Adam(0.01), epochs=3, max_steps=10, save_to=path, jit=True)
    again, other = network(seed=5), mg.optim.Adam(0.01)
    resumed = fit(again, x, y, other, epochs=3, save_to=path, resume=True, jit=True)
    assert resumed.losses == whole.losses
    assert_same(values_of(model, optimizer), values_of(again, other))


def test_a_layer_that_reads_values_runs_without_jit_and_one_warning_says_so():
    x, y = data(50)

    def make():
        model = nn.Sequential([network(), Reader()])
        model.set_generator(mg.random.Generator(0))
        return model

    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        pair(x, y, make=make, epochs=2)
    texts = [str(w.message) for w in seen]
    assert len(texts) == 1
    assert "fit: goes on without jit" in texts[0]
    assert "test_training_jit.py:" in texts[0]
    assert "jit=False" in texts[0]
    assert seen[0].filename.endswith("training_parts.py")  # where fit was called


FACTOR = [1.0]


def weighted(outputs, y):
    return FACTOR[0] * nn.losses.softmax_cross_entropy(outputs, y)


def smoothed(factor):
    return lambda outputs, y: factor.value * nn.losses.softmax_cross_entropy(outputs, y)


class Factor:
    value = 1.0


@pytest.mark.parametrize("where", ["a global", "an object in a closure"])
def test_what_the_users_functions_refer_to_may_change(where):
    x, y = data(50)
    factor = Factor()

    def make():
        FACTOR[0] = factor.value = 1.0
        return network()

    def action(model, optimizer):
        FACTOR[0] = factor.value = 3.0

    loss = weighted if where == "a global" else smoothed(factor)
    untouched = fit(make(), x, y, mg.optim.Adam(0.01), epochs=2, loss=loss).losses
    history = pair(x, y, make=make, callbacks=lambda: [At(5, action)], epochs=2, loss=loss)
    assert history.losses[:5] == untouched[:5]
    assert history.losses[5] != untouched[5]


class Warming(nn.Layer):
    """Counts its calls, and computes with the count."""

    def __init__(self):
        super().__init__("warming")
        self.count = 0

    def call(self, x, training):
        self.count += training
        return x * min(1.0, self.count / 10)


class Noisy(nn.Layer):
    """Draws from NumPy."""

    def call(self, x, training):
        return x + np.random.standard_normal(x.shape).astype(np.float32)


class OwnNoise(nn.Layer):
    """Draws from a generator of its own."""

    def __init__(self):
        super().__init__("own")
        self.rng = np.random.default_rng(0)

    def call(self, x, training):
        return x + self.rng.standard_normal(x.shape).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (Warming, "each step changes attribute 'count' of layer 'warming'"),
        (Noisy, "each step draws random numbers from NumPy or Python"),
        (OwnNoise, "each step changes what is seen by layer 'own'"),
    ],
)
def test_steps_that_change_what_they_read_are_not_replayed(kind, why):
    x, y = data(50)

    def make():
        np.random.seed(0)
        model = nn.Sequential([nn.Dense(5), kind(), nn.Dense(3)])
        model.set_generator(mg.random.Generator(0))
        return model

    with pytest.warns(RuntimeWarning, match=why):
        pair(x, y, make=make, epochs=3)


def test_gradients_of_variables_that_are_not_the_models():
    x, y = data(50)
    found = []
    for jit in (False, True):
        centre = mg.Variable(np.zeros(3, np.float32), name="centre")

        def loss(outputs, y, centre=centre):
            return nn.losses.softmax_cross_entropy(outputs, y) + ((outputs - centre) ** 2).mean()

        def step(model, optimizer, centre=centre):
            centre.assign(centre - 0.1 * centre.grad)
            centre.grad = None

        each = At(0, step)
        each.on_step_end = lambda n, values, step=step: step(None, None)
        fit(network(), x, y, loss=loss, callbacks=[each], jit=jit, epochs=2)
        found.append(centre.numpy().copy())
    assert found[0].any()
    np.testing.assert_array_equal(*found)


def test_attributes_that_change_at_every_step_end_in_a_warning():
    x, y = data(400)

    class Restless(Callback):
        def on_step_end(self, step, values):
            self.model.items[1].rate = 0.1 + step / 1000

    with pytest.warns(RuntimeWarning, match="goes on without jit: attributes of the model or the optimizer changed"):
        pair(x, y, callbacks=lambda: [Restless()], epochs=1)


@pytest.mark.parametrize("bad", ["input", "gradient"])
def test_what_is_not_finite_leaves_the_parameters_from_before(bad):
    x, y = data(50)
    found = []
    for jit in (False, True):
        model, optimizer = network(norm=False), mg.optim.SGD(0.1)
        given = x.copy()
        if bad == "input":
            given[-1] = np.nan
        loss = "softmax_cross_entropy" if bad == "input" else lambda outputs, y: mg.sqrt(outputs * 0.0).sum()
        with pytest.raises(TrainingError) as caught:
            fit(model, given, y, optimizer, loss=loss, shuffle=False, jit=jit, epochs=3)
        found.append((values_of(model, optimizer), caught.value.step, str(caught.value), caught.value.history.losses))
    assert_same(found[0][0], found[1][0])
    assert found[0][1:] == found[1][1:]


def test_what_is_no_loss_is_said_as_without_jit():
    x, y = data(20)
    with pytest.raises(mg.errors.ShapeError, match="the loss has"):
        fit(network(), x, y, loss=lambda outputs, y: outputs)
