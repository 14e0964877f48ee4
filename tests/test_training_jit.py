"""`fit` with jit: the bits of a fit without it, whatever is changed between steps, and what it does where it can't."""

import warnings

import numpy as np
import pytest
from training_parts import assert_same, data, fit, network, values_of

import minigrad as mg
from minigrad import nn
from minigrad.callbacks import Callback
from minigrad.errors import TrainingError

CALLS = []


class Counted(nn.Layer):
    """Notes each time that Python comes by; the list is no attribute of it."""

    def call(self, x, training):
        CALLS.append(training)
        return x


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
    CALLS.clear()
    x, y = data(50)
    model = nn.Sequential([Counted(), nn.Dense(3)])
    fit(model, x, y, epochs=4, jit=True)
    assert CALLS.count(True) == 2  # once for batches of 8, once for the last, of 2


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


def test_attributes_that_change_at_every_step_end_in_a_warning():
    x, y = data(200)

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
    with pytest.warns(RuntimeWarning, match="without jit"), pytest.raises(mg.errors.ShapeError, match="the loss has"):
        fit(network(), x, y, loss=lambda outputs, y: outputs, jit=True)
